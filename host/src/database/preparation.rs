//! How a connection comes to know a statement: prepares it, finds out what its types are, and
//! remembers it.
//!
//! Promises: no more statements than the configuration says are prepared at a time, the least
//! recently used going first; a statement whose answer never came is forgotten on the server too.

use std::num::NonZeroUsize;
use std::sync::Arc;

use postgres_protocol::message::backend as tags;

use super::catalog::{self, Catalog};
use super::connection::Connection;
use super::error::{Error, Result};
use super::statement::{Description, Effects, Key, Prepared};
use super::wire::Status;
use super::wire::reply::{self, Shape};
use super::wire::request::{self, Format, Formats};
use crate::config::Prepare;

impl Connection {
    /// What the server says of a statement.
    pub async fn prepare(&mut self, key: &Key) -> Result<Prepared> {
        if let Some(prepared) = self.statements.get(key) {
            return Ok(prepared.clone());
        }
        let name = self.statement_name();
        // The time is that of the execution that follows.
        let call_timeout = self.call_timeout.take();
        self.send(Effects::NONE, |out| {
            request::parse(&name, &key.sql, &key.types, out)?;
            request::describe(&name, out)
        })?;
        self.call_timeout = call_timeout;
        self.parsing = Some(name.clone());
        let mut shape = Shape::default();
        loop {
            let tag = self.reply().await.map_err(Error::unexecuted)?;
            match tag {
                tags::READY_FOR_QUERY_TAG => break,
                tag => self.describe(tag, &mut shape)?,
            }
        }
        let description = self.resolve(&shape, None).await?;
        Ok(self.remember(key, name, Arc::new(description)))
    }

    /// Takes what a message says of the statement that is being prepared.
    pub(super) fn describe(&mut self, tag: u8, shape: &mut Shape) -> Result<()> {
        match tag {
            tags::PARAMETER_DESCRIPTION_TAG => reply::parameters(&mut self.wire, shape),
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

    /// Finds out what the types of a statement are. `sent` is how its columns travel already.
    pub(super) async fn resolve(
        &mut self,
        shape: &Shape,
        sent: Option<&Formats>,
    ) -> Result<Description> {
        let catalog = match catalog::unknown(shape) {
            None => Catalog::default(),
            Some(oids) if self.is_busy() => {
                // Rows are on their way here, and reading them first could take any memory.
                let one = NonZeroUsize::MIN;
                let mut other = Self::open(self.address.clone(), one, self.prepare).await?;
                let catalog = other.look_up(&oids).await;
                other.close().await;
                catalog?
            }
            Some(oids) => {
                // This request is not the one for which it would have to be forgotten.
                let parsing = self.parsing.take();
                let catalog = self.look_up(&oids).await;
                self.parsing = parsing;
                catalog?
            }
        };
        catalog.describe(shape, sent)
    }

    async fn look_up(&mut self, oids: &[u8]) -> Result<Catalog> {
        let binary = Formats::All(Format::Binary);
        self.send(Effects::NONE, |out| {
            request::parse("", catalog::QUERY, &[], out)?;
            request::bind("", "", &binary, oids, &binary, out)?;
            request::execute("", 0, out)
        })?;
        let mut rows = self
            .rows(usize::MAX, false)
            .await
            .map_err(Error::unexecuted)?;
        if let Some(error) = rows.failed.take() {
            return Err(*error);
        }
        Catalog::read(&rows.cells)
    }

    pub(super) fn statement_name(&mut self) -> String {
        match self.prepare {
            Prepare::Never => String::new(),
            Prepare::Always => {
                self.names += 1;
                format!("s{}", self.names)
            }
        }
    }

    /// Notes that a statement is prepared, and has the server forget the one that makes room.
    pub(super) fn remember(
        &mut self,
        key: &Key,
        name: String,
        description: Arc<Description>,
    ) -> Prepared {
        self.parsing = None;
        let prepared = Prepared {
            name,
            description,
            effects: Effects::of(&key.sql),
        };
        if let Some((_, evicted)) = self.statements.push(key.clone(), prepared.clone()) {
            self.forget_statement(&evicted.name);
        }
        prepared
    }

    /// Whether a statement that failed outside a transaction can be prepared anew and executed
    /// again: it did not run, and there is no transaction that its failure could have ended.
    pub(super) fn heals(&mut self, key: &Key, error: &Error) -> bool {
        if !error.is_stale_plan() || self.status() != Some(Status::Idle) {
            return false;
        }
        if let Some(stale) = self.statements.pop(key) {
            self.forget_statement(&stale.name);
        }
        true
    }
}
