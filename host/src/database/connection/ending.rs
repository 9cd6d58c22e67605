//! The end of a transaction together with the reset of its session, behind a pooler that shares the server's sessions
//! (`prepare = "never"`).
//!
//! They leave together, as two messages: while a pooler owes an answer, it gives the session to nobody else. They are
//! not one message, since of a commit that fails the server skips the rest of that.
//!
//! Promises: a commit is told as what it was, whatever becomes of the reset behind it.

use postgres_protocol::message::backend as tags;

use super::Connection;
use super::cleanup::reset;
use crate::config::Prepare;
use crate::database::error::{Error, Result};
use crate::database::sql::residue::Residue;
use crate::database::wire::reply;

impl Connection {
    /// Whether the session is to be reset together with the end of the transaction.
    pub fn resets_at_end(&self) -> bool {
        self.prepare == Prepare::Never && self.residue == Residue::Session
    }

    /// Ends a transaction with this statement, and resets the session, in one flush. Whether the
    /// server did what the statement says.
    pub async fn end_and_reset(&mut self, sql: &str) -> Result<bool> {
        self.begin_command(sql)?;
        self.wire.simple_query(&reset())?;
        let ended = self.ended(sql).await;
        if self.wire.is_dead() {
            return ended;
        }
        // It has its own answer, also where the transaction's end has failed.
        match self.wire.owed() > 0 && self.finish().await.is_ok() {
            true => self.was_reset(),
            false => self.doom(),
        }
        ended
    }

    /// The answer to the statement that ends a transaction, and to nothing behind it.
    async fn ended(&mut self, sql: &str) -> Result<bool> {
        let (mut done, mut refused) = (None, None);
        loop {
            let error = match self.message().await {
                Ok(tags::ERROR_RESPONSE_TAG) => reply::error(&mut self.wire),
                Ok(tags::COMMAND_COMPLETE_TAG) => {
                    let tag = reply::tag(&self.wire);
                    done = Some(sql.starts_with(tag.split(' ').next().unwrap_or_default()));
                    continue;
                }
                Ok(tags::READY_FOR_QUERY_TAG) => match (refused, done) {
                    (Some(refused), _) => return Err(refused),
                    (None, Some(done)) => return Ok(done),
                    (None, None) => {
                        return Err(self
                            .wire
                            .garbage("no word of how the transaction has ended"));
                    }
                },
                Ok(_) => continue,
                Err(error) => error,
            };
            match &error {
                Error::Server(server) if !server.is_fatal() => refused = Some(error),
                _ => {
                    self.wire.end();
                    return done.ok_or(error);
                }
            }
        }
    }
}
