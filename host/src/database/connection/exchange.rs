//! Statements on a connection: how they are asked for, and how their answers are read.
//!
//! Promises:
//! - a statement that is known, on this connection or another one of its database, is one flush and
//!   one answer; so is one whose arguments' types the guest names all;
//! - a statement that the server has forgotten, or whose plan no longer fits, is prepared anew and
//!   executed again, if it ran in a transaction of its own or was the first of one, and so did nothing.
//!
//! Left to others: what goes before it in its request ([`super::composing`]); whose connection it is, and
//! what becomes of it ([`crate::database::session`]).

use std::sync::Arc;

use postgres_protocol::message::backend as tags;

use super::Connection;
use super::preparation::Ground;
use crate::config::Prepare;
use crate::database::connection::batch::{Batch, Rest};
use crate::database::error::{Error, Result};
use crate::database::sql::outside_transactions::may_commit;
use crate::database::statement::{Call, Description, Effects};
use crate::database::wire::reply::{self, Shape};
use crate::database::wire::request::{self, Command, Format, Formats};
use crate::limits;

/// What a statement has answered so far.
pub struct Started {
    /// What the server says of the statement.
    pub description: Arc<Description>,
    /// Its first rows.
    pub first: Batch,
    /// Those that follow, if any do.
    pub rest: Option<Rest>,
}

impl Started {
    /// That of a statement that was executed otherwise, and has no rows.
    pub fn without_rows() -> Self {
        Self {
            description: Arc::new(Description::new(Vec::new(), Vec::new())),
            first: Batch {
                last: true,
                ..Batch::default()
            },
            rest: None,
        }
    }
}

/// How the rows of a statement are asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rows {
    /// All of them, as they come.
    All,
    /// The first ones, if the transaction lets the portal outlive this request.
    First,
}

/// What is on its way to the server.
struct Execution {
    /// What the statement is for certain, or else is assumed to be.
    description: Option<Arc<Description>>,
    /// The name under which it is being prepared; none if it is already.
    parsed_as: Option<Arc<str>>,
    formats: Formats,
    portal: String,
    effects: Effects,
}

impl Connection {
    /// Executes a statement and reads its first rows, about `bytes` of them. `known` is what is
    /// believed of the statement, if this connection has not prepared it.
    pub async fn query(
        &mut self,
        call: &Call,
        known: Option<Arc<Description>>,
        bytes: usize,
    ) -> Result<Started> {
        self.run(call, known, Rows::First, bytes).await
    }

    /// Executes a statement and returns how many rows it affected.
    pub async fn execute(&mut self, call: &Call, known: Option<Arc<Description>>) -> Result<u64> {
        let mut total = self.run(call, known, Rows::All, 0).await?.first;
        while !total.last {
            if let Some(error) = total.failed {
                return Err(*error);
            }
            // Their number is in the statement's tag: the rows themselves are dropped.
            total = self.rows(0, true).await?;
        }
        Ok(total.affected)
    }

    /// Fetches more rows, about `bytes` of them: from those that are on their way, or else from the
    /// portal.
    pub async fn fetch(&mut self, rest: &Rest, rows_max: u32, bytes: usize) -> Result<Batch> {
        if !self.is_busy() {
            let portal = &rest.name;
            if !rest.is_portal || !self.portals.fetch(portal, self.wire.transactions) {
                return Err(Error::Ended);
            }
            self.send(Effects::NONE, |out| request::execute(portal, rows_max, out))?;
            self.in_flight.due = true;
        }
        let batch = self.rows(bytes, !rest.is_portal).await?;
        self.note_flow(rest);
        Ok(batch)
    }

    /// Notes whose rows are on their way, if any are.
    fn note_flow(&mut self, rest: &Rest) {
        if self.is_busy() {
            self.flowing = Some(rest.clone());
        }
    }

    async fn run(
        &mut self,
        call: &Call,
        known: Option<Arc<Description>>,
        rows: Rows,
        bytes: usize,
    ) -> Result<Started> {
        self.heed_redefinition([&call.key]);
        let (ground, is_known) = (self.ground(), known.is_some());
        let attempted = self.attempt(call, known, rows, bytes, Some(&ground)).await;
        let done = match attempted {
            Err(error) if Box::pin(self.heals(&[&call.key], is_known, &ground, &error)).await => {
                self.attempt(call, None, rows, bytes, None).await
            }
            result => result,
        };
        self.timeouts.end_call();
        done
    }

    async fn attempt(
        &mut self,
        call: &Call,
        known: Option<Arc<Description>>,
        rows: Rows,
        bytes: usize,
        assuming: Option<&Ground>,
    ) -> Result<Started> {
        self.per_loan.call_timeout = call.timeout;
        if may_commit(&call.key.sql) && self.is_outside() {
            Box::pin(self.lead_call(&call.key.sql)).await?;
        }
        let execution = self.start(call, known, rows, assuming).await?;
        self.in_flight.due = true;
        let mut shape = Shape::default();
        loop {
            match self.reply().await? {
                tags::BIND_COMPLETE_TAG => break,
                tag => self.describe(tag, &mut shape).await?,
            }
        }
        (self.in_flight.executing, self.in_flight.bound) = (true, true);
        let portal = (!execution.portal.is_empty()).then_some(execution.portal);
        let Some(name) = execution.parsed_as else {
            let description = execution.description.ok_or(Error::Ended)?;
            let first = self.rows(bytes, portal.is_none()).await?;
            return Ok(self.started(description, first, portal));
        };
        let fitting = execution.description.filter(|known| known.fits(&shape));
        let first = match &fitting {
            Some(_) => self.rows(bytes, portal.is_none()).await?,
            None => Box::pin(self.first_rows(&shape, bytes, portal.is_none())).await?,
        };
        let description = match fitting {
            Some(description) => description,
            None => {
                let resolved = Box::pin(self.resolve(&shape, Some(&execution.formats))).await;
                Arc::new(resolved.map_err(Error::executed)?)
            }
        };
        if first.failed.is_none() {
            self.remember(&call.key, name, description.clone(), execution.effects);
        }
        Ok(self.started(description, first, portal))
    }

    fn started(
        &mut self,
        description: Arc<Description>,
        first: Batch,
        portal: Option<String>,
    ) -> Started {
        let is_portal = portal.is_some();
        let rest = match portal {
            Some(portal) if first.last => {
                self.forget_portal(&portal);
                None
            }
            None if first.last => None,
            Some(portal) => {
                self.portals.open(&portal, self.wire.transactions);
                Some(portal)
            }
            None => {
                self.names += 1;
                Some(format!("r{:x}", self.names))
            }
        };
        let rest = rest.map(|name| Rest { name, is_portal });
        rest.iter().for_each(|rest| self.note_flow(rest));
        Started {
            description,
            first,
            rest,
        }
    }

    /// Sends a statement, prepared or to be prepared on the way; `assuming` on what ground something
    /// may be assumed of it that turns out to be wrong.
    async fn start(
        &mut self,
        call: &Call,
        known: Option<Arc<Description>>,
        rows: Rows,
        assuming: Option<&Ground>,
    ) -> Result<Execution> {
        let given = request::count(&call.arguments).ok_or_else(request::not_whole)?;
        let (portal, rows_max) = match rows {
            Rows::First if !self.is_outside() => {
                self.names += 1;
                (format!("c{:x}", self.names), limits::PORTAL_ROWS_FIRST)
            }
            _ => (String::new(), 0),
        };
        let own = self.statements.get(&call.key);
        let effects = own.map(|own| own.effects);
        let assumed = match own {
            // What the host has been told since, the guest knows already.
            Some(prepared) if !prepared.still_serves(call, known.as_ref()) => {
                Ok(known.filter(|known| known.version == call.version))
            }
            Some(prepared) if self.prepare == Prepare::Always => Err(prepared.clone()),
            Some(prepared) => Ok(Some(prepared.description.clone())),
            None => Ok(known.filter(|known| known.version == call.version || given == 0)),
        };
        let prepared = match assumed {
            Err(prepared) => prepared,
            Ok(Some(description)) => {
                check(call, &description, given)?;
                let oids = description.parameter_oids();
                let asked = (portal, rows_max);
                self.secure_redefined(assuming, &[&call.key]);
                return self.start_parsing(call, Some(description), &oids, asked, effects);
            }
            Ok(None) if call.names_all() && self.may_assume(assuming, &[&call.key]) => {
                let asked = (portal, rows_max);
                return self.start_parsing(call, None, &call.key.types, asked, effects);
            }
            // Boxed as is all that is seldom needed: the common case then moves less memory.
            Ok(None) => Box::pin(self.prepare(&call.key)).await?,
        };
        check(call, &prepared.description, given)?;
        if prepared.name.is_empty() {
            self.secure_redefined(assuming, &[&call.key]);
            let (oids, asked) = (prepared.description.parameter_oids(), (portal, rows_max));
            let (description, effects) = (Some(prepared.description), Some(prepared.effects));
            return self.start_parsing(call, description, &oids, asked, effects);
        }
        let description = prepared.description;
        self.send(prepared.effects, |out| {
            let (arguments, columns) = (&description.argument_formats, &description.column_formats);
            request::bind(
                &portal,
                &prepared.name,
                arguments,
                &call.arguments,
                columns,
                out,
            )?;
            request::execute(&portal, rows_max, out)
        })?;
        Ok(Execution {
            formats: description.column_formats.clone(),
            description: Some(description),
            parsed_as: None,
            portal,
            effects: prepared.effects,
        })
    }

    /// Sends a statement that this connection has not prepared, to be parsed for these types.
    fn start_parsing(
        &mut self,
        call: &Call,
        description: Option<Arc<Description>>,
        types: &[u32],
        (portal, rows_max): (String, u32),
        effects: Option<Effects>,
    ) -> Result<Execution> {
        let name = self.statement_name(&call.key);
        let (arguments, columns) = formats(description.as_ref());
        let effects = effects.unwrap_or_else(|| Effects::of(&call.key.sql));
        self.send(effects, |out| {
            request::parse(&name, &call.key.sql, types, out)?;
            request::describe(&name, out)?;
            request::bind(&portal, &name, &arguments, &call.arguments, &columns, out)?;
            request::execute(&portal, rows_max, out)
        })?;
        self.parses([&name]);
        Ok(Execution {
            description,
            parsed_as: Some(name),
            formats: columns,
            portal,
            effects,
        })
    }

    /// Executes one statement of the host's own in the extended protocol, so that a `BEGIN` can go
    /// before it. Whether the server did what it says: a commit may turn out to be a rollback.
    pub async fn control(&mut self, sql: &str) -> Result<bool> {
        let command = Command::new(sql);
        self.send(Effects::NONE, |out| command.write(out))?;
        (self.in_flight.executing, self.in_flight.due) = (true, true);
        let mut done = false;
        loop {
            match self.reply().await? {
                tags::COMMAND_COMPLETE_TAG => {
                    let tag = reply::tag(&self.wire);
                    done = sql.starts_with(tag.split(' ').next().unwrap_or_default());
                }
                tags::READY_FOR_QUERY_TAG => return Ok(done),
                _ => {}
            }
        }
    }
}

/// How a statement's arguments and columns travel; in binary if nothing is known of them.
pub fn formats(known: Option<&Arc<Description>>) -> (Formats, Formats) {
    let binary = Formats::All(Format::Binary);
    known.map_or((binary.clone(), binary), |known| {
        (known.argument_formats.clone(), known.column_formats.clone())
    })
}

/// Refuses arguments that are not encoded for a statement, before they could fail a transaction.
pub fn check(call: &Call, description: &Arc<Description>, given: usize) -> Result<()> {
    let wanted = description.parameters.len();
    let typed = call.version == 0 && call.key.types == description.parameter_oids();
    if call.version != description.version && wanted > 0 && !typed {
        return Err(Error::StatementChanged(description.clone()));
    }
    if given != wanted {
        return Err(Error::Invalid(format!(
            "the statement has {wanted} parameters, but {given} arguments were given"
        )));
    }
    Ok(())
}
