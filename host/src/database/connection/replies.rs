//! The server's answers, as a connection reads them.
//!
//! Promises: what answers the host's own leading statements is not taken for the guest's; after the
//! server has refused a statement, its word on the transaction has been read too; that it is ready for more is
//! not taken for its word that it has done what it was asked.

use postgres_protocol::message::backend as tags;

use super::Connection;
use super::copying::misused_copy;
use crate::database::connection::batch::Batch;
use crate::database::error::{Error, Result};
use crate::database::server_error::Verdict;
use crate::database::wire::reply;
use crate::limits;

/// The code with which a server warns of the host's own `SET LOCAL` before a guest's `BEGIN`.
const NO_TRANSACTION: &str = "25P01";

impl Connection {
    /// Waits for the next message that answers the guest's own statement. An error of the server's
    /// is returned once it has said what became of the transaction, to whoever waits by then.
    pub async fn reply(&mut self) -> Result<u8> {
        loop {
            if self.in_flight.refusal.is_some() {
                return Err(self.refused().await);
            }
            match self.message().await? {
                tags::ERROR_RESPONSE_TAG => {
                    self.in_flight.refusal = Some(reply::error(&mut self.wire))
                }
                tags::COMMAND_COMPLETE_TAG | tags::EMPTY_QUERY_RESPONSE_TAG
                    if self.in_flight.leading > 0 =>
                {
                    self.in_flight.leading -= 1;
                    self.wire.drop_notice(NO_TRANSACTION);
                }
                tags::CLOSE_COMPLETE_TAG => {}
                tags::READY_FOR_QUERY_TAG if self.in_flight.leading > 0 || self.in_flight.due => {
                    return Err(self
                        .wire
                        .garbage("an end of the answer before what it is about"));
                }
                tags::READY_FOR_QUERY_TAG => return Ok(tags::READY_FOR_QUERY_TAG),
                _ if self.in_flight.leading > 0 => {}
                tag @ (tags::COMMAND_COMPLETE_TAG
                | tags::EMPTY_QUERY_RESPONSE_TAG
                | tags::PORTAL_SUSPENDED_TAG) => {
                    self.in_flight.due = false;
                    return Ok(tag);
                }
                tag => return Ok(tag),
            }
        }
    }

    /// Takes the refusal, once the server has said what became of the transaction. Until then it stays
    /// here: whoever waits may give that up, and without it the rows before it would look like all of them.
    async fn refused(&mut self) -> Error {
        let is_fatal = match &self.in_flight.refusal {
            Some(Error::Server(server)) => server.is_fatal(),
            _ => return self.in_flight.refusal.take().unwrap_or(Error::Ended),
        };
        self.timeouts.refused();
        if !is_fatal {
            self.forget_parsing();
            // The refusal says more than a loss that came after it.
            let _ = self.drain().await;
        }
        let error = self.in_flight.refusal.take().unwrap_or(Error::Ended);
        if is_fatal {
            self.wire.end();
            return self.last_words(error);
        }
        match &self.per_loan.terms.prelude {
            Some(prelude) if self.in_flight.leading > 0 => prelude.refused(error),
            _ => error,
        }
    }

    /// What the last words of a connection mean to the request under way.
    ///
    /// A server sends what it has said of the statement before them: if it has not said that it has bound
    /// that, it has not begun with it. Whoever stands in between (a pooler) says something in the server's
    /// place, and knows nothing of what the server is doing.
    fn last_words(&mut self, error: Error) -> Error {
        let Error::Server(server) = error else {
            return error;
        };
        let lost = match (self.wire.lost(), self.in_flight.executing) {
            (lost @ Error::ConnectionLost { maybe_executed }, false) if maybe_executed => {
                match server.is_said_while_idle() {
                    true => lost.unexecuted(),
                    false => lost,
                }
            }
            (_, true) if !server.is_of_the_way() => return Error::Server(server),
            (lost, _) => lost,
        };
        self.wire.add_notice(*server);
        lost
    }

    /// Reads rows until there are about `bytes` of them, or no more to come. `flowing` says that the
    /// server sends all of them without being asked again: those that are there need not wait then.
    pub async fn rows(&mut self, bytes: usize, flowing: bool) -> Result<Batch> {
        let mut batch = Batch::default();
        let more = self.more_rows(&mut batch, bytes, flowing).await;
        self.wire.traffic.rows += u64::from(batch.rows);
        match more {
            Ok(()) => Ok(batch),
            Err(error) => batch.or_failed(error),
        }
    }

    /// Reads more rows into a batch that was begun, and keeps what they failed with.
    pub async fn read_on(&mut self, batch: &mut Batch) -> Result<()> {
        if batch.failed.is_none() {
            let before = batch.rows;
            let more = self.more_rows(batch, limits::BATCH_BYTES, false).await;
            self.wire.traffic.rows += u64::from(batch.rows - before);
            match more {
                Err(error) if error.verdict() == Verdict::Usable => {
                    batch.failed = Some(Box::new(error));
                }
                more => more?,
            }
        }
        match batch.failed {
            // Nothing is read beyond that, though more may be on its way.
            Some(_) => self.drain().await,
            None => Ok(()),
        }
    }

    async fn more_rows(&mut self, batch: &mut Batch, bytes: usize, flowing: bool) -> Result<()> {
        loop {
            let tag = match self.reply().await {
                // Nobody wants the rows.
                Err(Error::TooLarge(_)) if bytes == 0 => continue,
                reply => reply?,
            };
            match tag {
                tags::DATA_ROW_TAG => {
                    batch.cells.extend_from_slice(reply::cells(&self.wire));
                    batch.rows += 1;
                    batch.rows += self.wire.rows_arrived(&mut batch.cells, bytes);
                    let enough = flowing && batch.cells.len() >= limits::BATCH_BYTES_EAGER;
                    if enough && self.wire.arrived().is_none() && !self.wire.read_now() {
                        return Ok(());
                    }
                    let full = batch.cells.len() >= bytes || batch.rows >= limits::BATCH_ROWS_MAX;
                    // If the end has arrived as well, there is no need to ask for it.
                    if full
                        && self
                            .wire
                            .arrived()
                            .is_none_or(|tag| tag == tags::DATA_ROW_TAG)
                    {
                        return Ok(());
                    }
                }
                tags::COMMAND_COMPLETE_TAG => batch.affected = reply::affected(&self.wire),
                tags::PORTAL_SUSPENDED_TAG => self.in_flight.suspended = true,
                tag @ (tags::COPY_IN_RESPONSE_TAG | tags::COPY_OUT_RESPONSE_TAG) => {
                    return Err(self.misused_copy(tag).await);
                }
                tags::READY_FOR_QUERY_TAG => {
                    batch.last = !self.in_flight.suspended;
                    return Ok(());
                }
                _ => {}
            }
        }
    }

    /// Reads what is left of an answer, and drops its rows.
    pub async fn finish(&mut self) -> Result<()> {
        loop {
            match self.reply().await {
                Ok(tags::READY_FOR_QUERY_TAG) => return Ok(()),
                Ok(tag @ (tags::COPY_IN_RESPONSE_TAG | tags::COPY_OUT_RESPONSE_TAG)) => {
                    return Err(self.misused_copy(tag).await);
                }
                Ok(_) | Err(Error::TooLarge(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The error that a `COPY` is where none was asked for, once the server is done with it; `tag`
    /// is its word for the direction.
    pub async fn misused_copy(&mut self, tag: u8) -> Error {
        self.end_misused_copy(tag).await;
        misused_copy()
    }

    /// Refuses the data that a server waits for, or reads away what it sends. What was wrong is known
    /// already, whatever becomes of the connection.
    pub async fn end_misused_copy(&mut self, tag: u8) {
        if tag == tags::COPY_IN_RESPONSE_TAG {
            self.wire.refuse_copy();
        }
        let _ = self.drain().await;
    }

    /// Reads what is left of an answer and drops all of it, for as long as the request may take.
    async fn drain(&mut self) -> Result<()> {
        Box::pin(self.in_time(async |wire| wire.drain().await)).await
    }
}
