//! Statements in the simple protocol: the host's own commands, and a guest's texts without arguments.
//!
//! Promises: what the host puts before a guest's text, in the same message or in one of its own, is not
//! taken for the guest's when it fails.

use postgres_protocol::message::backend as tags;

use super::Connection;
use crate::config::Prepare;
use crate::database::error::{Error, Result};
use crate::database::sql::kinds::statements;
use crate::database::sql::lexer::Tokens;
use crate::database::sql::outside_transactions::runs_outside_transactions;
use crate::database::sql::words::Words;
use crate::database::statement::Effects;
use crate::database::wire::reply;

/// Whether a server that refuses something with this code does not know what it is: class 42, what it does not support
/// (0A000), and what those say that only speak PostgreSQL's protocol. Everything else is about the moment.
fn is_unfamiliar(code: &str) -> bool {
    code.starts_with("42") || matches!(code, "0A000" | "08P01" | "XX000")
}

impl Connection {
    /// Executes statements of the host's own, whose effect on the session it answers for.
    pub async fn command(&mut self, sql: &str) -> Result<()> {
        self.begin_command(sql)?;
        self.finish().await
    }

    /// Sends such statements.
    pub fn begin_command(&mut self, sql: &str) -> Result<()> {
        self.wire.begin();
        let out = self.wire.output();
        let start = out.len();
        // First of all: a portal that was read to its end holds its tables until it is closed.
        out.extend_from_slice(&self.forgetting);
        if let Err(error) = self.wire.simple_query(sql) {
            self.wire.output().truncate(start);
            return Err(error);
        }
        self.savepoints.end();
        self.begin_request();
        std::mem::swap(&mut self.forgetting, &mut self.in_flight.forgotten);
        (self.in_flight.executing, self.in_flight.bound) = (true, true);
        self.in_flight.due = true;
        Ok(())
    }

    /// Executes statements without arguments.
    pub async fn batch_execute(&mut self, sql: &str) -> Result<()> {
        let outside = self.is_outside();
        // What is put in force ends with its transaction, and outside of one with its message.
        let prelude = self.per_loan.terms.prelude.take_if(|_| outside);
        let (effects, had_sequences) = (Effects::of(sql), self.per_loan.has_sequences);
        let number = match self.per_loan.call_timeout {
            Some(_) => statements(&Tokens::words(sql).collect::<Vec<_>>()).count(),
            None => 1,
        };
        self.allow(number);
        self.watch(&effects, || number);
        // It is for the batch, and not for what leads it.
        let cancel_after = self.per_loan.cancel_after.take();
        let timeout = outside.then(|| self.take_call_timeout()).flatten();
        self.lead(effects).await?;
        self.per_loan.cancel_after = cancel_after;
        if let Some(timeout) = timeout {
            // Within the message, what takes no transaction around it would be refused.
            let set = self.timeouts.of_batch(timeout);
            self.lead_by(&set).await?;
        }
        self.note_redefinition_again(&effects);
        match prelude {
            Some(prelude) => {
                self.begin_command(&prelude.before(sql))?;
                self.in_flight.had_sequences = had_sequences;
                self.in_flight.leading = 1;
                // Of a text without a statement the server says nothing behind another one.
                self.in_flight.due = !Words::of(sql).statement().is_empty();
                let done = self.finish().await;
                done.map_err(|error| match self.in_flight.leading {
                    0 if runs_outside_transactions(sql) => prelude.around(error),
                    0 => prelude.unshifted(error),
                    // A text that cannot even be read is refused before any of it is executed.
                    _ => prelude.refused(prelude.unshifted(error)),
                })
            }
            None => {
                self.begin_command(sql)?;
                self.in_flight.had_sequences = had_sequences;
                self.finish().await
            }
        }
    }

    /// Does what goes before a statement that may commit on its way in requests of its own. What holds for its
    /// transaction stays with it. Behind a pooler the next request may come to another session.
    pub async fn lead_call(&mut self, sql: &str) -> Result<()> {
        if self.prepare == Prepare::Never {
            return Ok(());
        }
        let effects = Effects::of(sql);
        // Where the server is not told, the host sees to the request of the statement itself.
        let told = !self.timeouts.are_left_alone(&effects);
        let left = self.per_loan.call_timeout.take_if(|_| !told);
        let (timeout, prelude) = (self.take_call_timeout(), self.per_loan.terms.prelude.take());
        let led = self.lead(effects).await;
        self.per_loan.terms.prelude = prelude;
        self.per_loan.call_timeout = left;
        led?;
        match timeout.map(|timeout| self.timeouts.of_call_alone(timeout)) {
            Some(set) => self.lead_by(&set).await,
            None => Ok(()),
        }
    }

    /// Asks what limits of time the session began with, unless that is known: none is to be made longer. What the
    /// server is to be told of time goes along.
    pub async fn know_limits(&mut self) -> Result<()> {
        let Some(question) = self.timeouts.question(self.per_loan.terms.time) else {
            return Ok(());
        };
        self.begin_command(&question)?;
        // If the connection ends by it, nothing of the guest's has begun.
        (self.in_flight.executing, self.in_flight.bound) = (false, false);
        loop {
            match self.reply().await {
                Ok(tags::DATA_ROW_TAG) => self.timeouts.learn(reply::text(&self.wire)),
                Ok(tags::READY_FOR_QUERY_TAG) => return Ok(()),
                Ok(_) => {}
                // Something that speaks the protocol and has no such settings.
                Err(Error::Server(error)) if is_unfamiliar(&error.code) => {
                    self.timeouts.learn_nothing();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Does what goes before statements that cannot be sent in the same request. Of those nothing has left by then.
    pub async fn lead(&mut self, effects: Effects) -> Result<()> {
        self.forget_parsing();
        // They wait for a request that is not taken back.
        let forgetting = std::mem::take(&mut self.forgetting);
        let written = self.send(effects, |_| Ok(()));
        let forgotten_since = std::mem::replace(&mut self.forgetting, forgetting);
        self.forgetting.extend_from_slice(&forgotten_since);
        written?;
        if self.in_flight.leading == 0 {
            // There is nothing to do first, and so nothing to wait for.
            self.wire.unsend();
            return Ok(());
        }
        self.finish().await.map_err(Error::unexecuted)?;
        self.go_on().await
    }

    /// Executes one of the host's own that goes before a statement of the guest's.
    async fn lead_by(&mut self, sql: &str) -> Result<()> {
        self.command(sql).await.map_err(Error::unexecuted)?;
        self.go_on().await
    }
}
