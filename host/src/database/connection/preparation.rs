//! How a connection comes to know a statement: prepares it, finds out what its types are, and
//! remembers it.
//!
//! Promises: no more statements than the configuration says are prepared at a time, the least
//! recently used going first; a statement whose answer never came is forgotten on the server too.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use postgres_protocol::message::backend as tags;

use super::Connection;
use super::catalog::{self, Catalog};
use crate::config::Prepare;
use crate::database::connection::batch::Batch;
use crate::database::error::{Error, Result};
use crate::database::sql::kinds;
use crate::database::sql::outside_transactions::runs_outside_savepoints;
use crate::database::sql::varying_columns::{needs_no_savepoint, varies};
use crate::database::statement::{Description, Effects, Key, Prepared};
use crate::database::wire::Status;
use crate::database::wire::reply::{self, Shape};
use crate::database::wire::request::{self, Command, Format, Formats};
use crate::limits;

/// The host's own savepoint, before statements of which something is assumed.
const OWN_SAVEPOINT: &str = "SAVEPOINT \"hearth: before a statement\"";

impl Connection {
    /// What the server says of statements, in their order; one flush for those that it has not said
    /// it of.
    pub async fn prepare_each(&mut self, keys: &[Key]) -> Result<Vec<Arc<Description>>> {
        let of_call = |index: usize, error: Error| match keys.len() {
            1 => error,
            _ => error.of_call(index),
        };
        self.heed_redefinition(keys);
        let mut described: Vec<Option<Arc<Description>>> = Vec::with_capacity(keys.len());
        let mut first: HashMap<&Key, usize> = HashMap::new();
        let mut missing = Vec::new();
        for (index, key) in keys.iter().enumerate() {
            let prepared = self.statements.get(key);
            let prepared = prepared.filter(|known| known.is_believed());
            described.push(prepared.map(|prepared| prepared.description.clone()));
            if *first.entry(key).or_insert(index) == index && described[index].is_none() {
                missing.push(index);
            }
        }
        if !missing.is_empty() {
            let unknown: Vec<&Key> = missing.iter().map(|index| &keys[*index]).collect();
            let prepared = self.prepare_all(&unknown).await;
            let prepared = prepared.map_err(|(nth, error)| of_call(missing[nth], error))?;
            for (index, prepared) in missing.iter().zip(prepared) {
                described[*index] = Some(prepared.description);
            }
        }
        let of_first = |(index, key)| {
            let own: &Option<_> = &described[index];
            own.clone().or_else(|| described[first[key]].clone())
        };
        let all: Option<Vec<_>> = keys.iter().enumerate().map(of_first).collect();
        all.ok_or(Error::Ended)
    }

    /// What the server says of a statement that is to be executed.
    pub async fn prepare(&mut self, key: &Key) -> Result<Prepared> {
        let prepared = self.statements.get(key);
        if let Some(prepared) = prepared.filter(|known| known.is_believed()) {
            return Ok(prepared.clone());
        }
        let prepared = self.prepare_all(&[key]).await;
        let mut prepared = prepared.map_err(|(_, error)| error)?;
        self.go_on().await?;
        prepared.pop().ok_or(Error::Ended)
    }

    /// Prepares statements in one flush. An error comes with the number of the statement.
    pub async fn prepare_all(
        &mut self,
        keys: &[&Key],
    ) -> std::result::Result<Vec<Prepared>, (usize, Error)> {
        let names = keys.iter().map(|key| self.statement_name(key));
        let names: Vec<Arc<str>> = names.collect();
        let call_timeout = self.per_loan.call_timeout;
        let sent = self.send(Effects::NONE, |out| {
            keys.iter().zip(&names).try_for_each(|(key, name)| {
                request::parse(name, &key.sql, &key.types, out)?;
                request::describe(name, out)
            })
        });
        sent.map_err(|error| (0, error))?;
        self.parses(&names);
        let mut shapes = Vec::with_capacity(keys.len());
        for index in 0..keys.len() {
            let shape = self.described().await;
            shapes.push(shape.map_err(|error| (index, error.unexecuted()))?);
        }
        let last = keys.len() - 1;
        let done = self.finish().await;
        done.map_err(|error| (last, error.unexecuted()))?;
        let mut prepared = Vec::with_capacity(keys.len());
        for (index, (name, shape)) in names.into_iter().zip(&shapes).enumerate() {
            let described = self.resolve(shape, None).await;
            let description = described.map_err(|error| (index, error))?;
            let effects = judged(&keys[index].sql).await;
            prepared.push(self.remember(keys[index], name, Arc::new(description), effects));
        }
        // The execution that follows has the same.
        self.per_loan.call_timeout = call_timeout;
        Ok(prepared)
    }

    /// What the server says of one of the statements that are being prepared.
    async fn described(&mut self) -> Result<Shape> {
        let mut shape = Shape::default();
        loop {
            let tag = self.reply().await?;
            self.describe(tag, &mut shape).await?;
            if matches!(tag, tags::ROW_DESCRIPTION_TAG | tags::NO_DATA_TAG) {
                return Ok(shape);
            }
        }
    }

    /// Takes what a message says of the statement that is being prepared.
    pub async fn describe(&mut self, tag: u8, shape: &mut Shape) -> Result<()> {
        match tag {
            tags::PARAMETER_DESCRIPTION_TAG => {
                let taken = reply::parameters(&mut self.wire, shape);
                if let Err(Error::Invalid(_)) = &taken {
                    // Nobody can execute it. If the server refuses that as well, what it says is what counts.
                    Box::pin(self.finish()).await?;
                }
                taken
            }
            tags::ROW_DESCRIPTION_TAG => reply::columns(&mut self.wire, shape),
            tags::PARSE_COMPLETE_TAG | tags::NO_DATA_TAG => Ok(()),
            tags::READY_FOR_QUERY_TAG => Err(self.wire.garbage("an early end of the answer")),
            tag => {
                let what = format!(
                    "{:?} where a statement's description was due",
                    char::from(tag)
                );
                Err(self.wire.garbage(&what))
            }
        }
    }

    /// The first rows of a statement that is not known yet. If types of it have to be looked up, they are as
    /// many as leave the connection free for that, within reason.
    pub async fn first_rows(
        &mut self,
        shape: &Shape,
        bytes: usize,
        flowing: bool,
    ) -> Result<Batch> {
        if catalog::unknown(shape).is_none() {
            return self.rows(bytes, flowing).await;
        }
        if bytes > 0 {
            return self.rows(limits::BATCH_BYTES_MAX, false).await;
        }
        loop {
            let batch = self.rows(0, flowing).await?;
            if batch.last || batch.failed.is_some() {
                return Ok(batch);
            }
        }
    }

    /// Finds out what the types of a statement are. `sent` is how its columns travel already.
    pub async fn resolve(&mut self, shape: &Shape, sent: Option<&Formats>) -> Result<Description> {
        let catalog = match catalog::unknown(shape) {
            None => Catalog::default(),
            Some(oids) if self.is_busy() => {
                // More rows are on their way here, and reading them first could take any memory.
                let one = NonZeroUsize::MIN;
                let opened = Self::open(self.address.clone(), one, self.prepare).await;
                if let Err(Error::Connect(why)) = &opened {
                    self.unconnected = Some(why.clone());
                }
                let mut other = opened?;
                let catalog = other.look_up(&oids).await;
                other.close().await;
                catalog?
            }
            Some(oids) => self.look_up(&oids).await?,
        };
        catalog.describe(shape, sent)
    }

    async fn look_up(&mut self, oids: &[u8]) -> Result<Catalog> {
        self.go_on().await?;
        let binary = Formats::All(Format::Binary);
        self.send_meanwhile(Effects::NONE, |out| {
            request::parse("", catalog::QUERY, &[], out)?;
            request::bind("", "", &binary, oids, &binary, out)?;
            request::execute("", 0, out)
        })?;
        self.in_flight.due = true;
        let mut rows = self
            .rows(usize::MAX, false)
            .await
            .map_err(Error::unexecuted)?;
        if let Some(error) = rows.failed.take() {
            return Err(*error);
        }
        Catalog::read(&rows.cells)
    }

    /// The name by which a statement is prepared; none if it is parsed anew for each execution.
    pub fn statement_name(&mut self, key: &Key) -> Arc<str> {
        match self.prepare {
            Prepare::Never => Arc::default(),
            Prepare::Always if varies(&key.sql) => Arc::default(),
            Prepare::Always => {
                self.names += 1;
                format!("s{:x}", self.names).into()
            }
        }
    }

    /// Notes that the server may parse statements by these names. What has none is gone with the next one.
    pub fn parses<'a>(&mut self, names: impl IntoIterator<Item = &'a Arc<str>>) {
        let named = names.into_iter().filter(|name| !name.is_empty());
        self.parsing.extend(named.cloned());
    }

    /// Notes that a statement is prepared, unless it may be another one by the next time, and has the
    /// server forget the one that makes room.
    pub fn remember(
        &mut self,
        key: &Key,
        name: Arc<str>,
        description: Arc<Description>,
        effects: Effects,
    ) -> Prepared {
        self.parsing.retain(|parsing| *parsing != name);
        let renamed = self.per_loan.renamed;
        let naming = self.redefining.naming();
        let is_known = |own: &&Prepared| {
            let is_same = Arc::ptr_eq(&own.description, &description) && own.name == name;
            is_same && own.renamed == renamed && own.naming == naming && !own.doubted
        };
        if let Some(own) = self.statements.get(key).filter(is_known) {
            return own.clone();
        }
        let prepared = Prepared {
            name,
            description,
            effects,
            renamed,
            naming,
            doubted: false,
        };
        if varies(&key.sql) {
            return prepared;
        }
        let bytes = prepared.description.bytes();
        let gone = self.statements.put(key.clone(), prepared.clone(), bytes);
        for gone in gone {
            self.forget_statement(&gone.name);
        }
        prepared
    }

    /// On what statements are executed next.
    pub fn ground(&self) -> Ground {
        match &self.beginning {
            Some(begin) => Ground::Beginning(begin.clone()),
            None if self.is_outside() => Ground::Outside,
            None => Ground::Within,
        }
    }

    /// Whether something may be assumed of statements that turns out to be wrong: that their values
    /// have a binary form. Where it would fail a transaction in which something was done, a savepoint
    /// goes before them in the same flush; the next request releases it.
    pub fn may_assume(&mut self, ground: Option<&Ground>, keys: &[&Key]) -> bool {
        match ground {
            None => false,
            Some(Ground::Outside | Ground::Beginning(_)) => true,
            Some(Ground::Within) if keys.iter().all(|key| needs_no_savepoint(&key.sql)) => true,
            Some(Ground::Within) => {
                let has_data = |key: &&Key| {
                    let sql = &key.sql;
                    (kinds::has_data(sql) || varies(sql)) && !runs_outside_savepoints(sql)
                };
                self.securing = self.status() == Some(Status::Open) && keys.iter().all(has_data);
                self.securing
            }
        }
    }

    /// What becomes of the host's own savepoint with this request.
    pub fn secures(&self) -> impl Iterator<Item = Command> + use<> {
        let release = self
            .secured
            .then(|| Command::new(format!("RELEASE {OWN_SAVEPOINT}")));
        let set = self.securing.then(|| Command::new(OWN_SAVEPOINT));
        release.into_iter().chain(set)
    }

    /// Whether statements that failed can be prepared anew and executed again: they did nothing, or
    /// what they did is undone, and with it no more than they did. If they were taken for what they are
    /// not, that is forgotten in any case. `known` says whether others have told of them.
    pub async fn heals(
        &mut self,
        keys: &[&Key],
        known: bool,
        ground: &Ground,
        error: &Error,
    ) -> bool {
        // What it has bound was there: what is not is a name of the guest's own, or a function's.
        if error.kind() == "26000" && self.in_flight.bound {
            return false;
        }
        let remembered = known || keys.iter().any(|key| self.statements.contains(key));
        if !(error.is_stale_plan() || remembered && self.is_outdated(error)) {
            return false;
        }
        // Also where nothing can be done again: the next one is not to fail for the same reason.
        match error.kind() {
            // Something had the session forget what is prepared there, and hardly this one alone.
            "26000" => self.forget_statements(),
            _ => {
                keys.iter().for_each(|key| self.forget_description(key));
            }
        }
        // Once begun, a procedure may have committed, whatever its error looks like.
        let undone = || {
            keys.iter()
                .all(|key| kinds::is_data(&key.sql) || varies(&key.sql))
        };
        let firm = ground.is_firm() || self.secured;
        if !firm || (self.in_flight.executing && !undone()) {
            return false;
        }
        if !self.cancelling.is_over() {
            // The time of the call is over, and what is executed now could be hit.
            return false;
        }
        match ground {
            Ground::Outside if !self.is_outside() => return false,
            Ground::Outside => {}
            Ground::Beginning(begin) => {
                if self.command("ROLLBACK").await.is_err() {
                    return false;
                }
                self.beginning = Some(begin.clone());
            }
            Ground::Within => {
                let back = format!("ROLLBACK TO {OWN_SAVEPOINT}; RELEASE {OWN_SAVEPOINT}");
                if self.begin_command(&back).is_err() {
                    return false;
                }
                // Whoever gives up the wait for it has it brought to its end, or taken back and this with it.
                self.secured = false;
                if self.finish().await.is_err() {
                    return false;
                }
            }
        }
        true
    }

    /// Whether a statement may have failed for what was remembered of it: its plan, or the types that
    /// it had, which the server then refuses before it has bound the arguments.
    pub fn is_outdated(&self, error: &Error) -> bool {
        error.is_stale_plan()
            || (self.in_flight.leading == 0 && !self.in_flight.bound && error.is_misfit())
    }
}

/// Judges a text. Where that takes long, whoever else has something to do comes first.
pub async fn judged(sql: &str) -> Effects {
    let effects = Effects::of(sql);
    if sql.len() > limits::SQL_BYTES_AT_ONCE {
        tokio::task::yield_now().await;
    }
    effects
}

/// On what statements are executed: what a failure of theirs would undo.
pub enum Ground {
    /// In a transaction of their own.
    Outside,
    /// In a transaction that they begin, with this statement before them.
    Beginning(Command),
    /// In a transaction in which something was done before.
    Within,
}

impl Ground {
    /// Whether a failure of theirs would undo nothing else.
    pub fn is_firm(&self) -> bool {
        !matches!(self, Self::Within)
    }
}
