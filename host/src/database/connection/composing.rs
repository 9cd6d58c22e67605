//! One request: what the host puts before a guest's statements, and what it takes note of meanwhile.
//!
//! Promises: what the host puts first (`BEGIN`, settings, a role, limits of time) goes in the same flush, and
//! if it fails, nothing of the guest's is executed; a request that cannot be written leaves nothing behind.

use std::time::Duration;

use bytes::BytesMut;

use super::Connection;
use super::patience::Until;
use crate::database::error::Result;
use crate::database::sql::residue::Residue;
use crate::database::statement::Effects;
use crate::database::wire::Status;
use crate::database::wire::request::Command;

impl Connection {
    /// Sends one request: what the host puts first, what `write` writes, what is to be forgotten.
    pub fn send(
        &mut self,
        effects: Effects,
        write: impl FnOnce(&mut BytesMut) -> Result<()>,
    ) -> Result<()> {
        self.forget_parsing();
        self.send_meanwhile(effects, write)
    }

    /// The same, while statements are being prepared: it is not what they would be forgotten with.
    pub fn send_meanwhile(
        &mut self,
        effects: Effects,
        write: impl FnOnce(&mut BytesMut) -> Result<()>,
    ) -> Result<()> {
        self.compose(effects, write)?;
        self.wire.sync();
        Ok(())
    }

    /// Sends one as well, but leaves the request open for the data of a `COPY`.
    pub fn send_open(
        &mut self,
        effects: Effects,
        write: impl FnOnce(&mut BytesMut) -> Result<()>,
    ) -> Result<()> {
        self.forget_parsing();
        self.compose(effects, write)?;
        self.wire.sync_later();
        Ok(())
    }

    fn compose(
        &mut self,
        effects: Effects,
        write: impl FnOnce(&mut BytesMut) -> Result<()>,
    ) -> Result<()> {
        self.wire.begin();
        let leaders = self.leaders(effects);
        let out = self.wire.output();
        let start = out.len();
        // First of all: what follows a statement that fails is skipped by the server.
        out.extend_from_slice(&self.forgetting);
        let mut written = leaders.iter().try_for_each(|leader| leader.write(out));
        written = written.and_then(|()| write(out));
        if let Err(error) = written {
            out.truncate(start);
            self.securing = false;
            self.per_loan.cancel_after = None;
            self.savepoints.take_back();
            self.timeouts.refused();
            return Err(error);
        }
        self.begin_request();
        std::mem::swap(&mut self.forgetting, &mut self.in_flight.forgotten);
        self.in_flight.leading = leaders.len() as u32;
        self.note_redefinition(&effects);
        self.in_flight.began = self.beginning.take();
        self.flowing = None;
        self.secured = std::mem::take(&mut self.securing);
        // A failed transaction executes nothing.
        self.per_loan.has_sequences |=
            effects.sequences.moves && self.status() != Some(Status::Failed);
        self.add_residue(effects.residue);
        self.per_loan.renamed |= effects.renames;
        if self.per_loan.renamed && effects.names_something {
            // The names may have led to where temporary tables are, if only for one transaction.
            self.add_residue(Residue::Session);
        }
        self.per_loan.asked_to_read |= effects.only_reads;
        if effects.limits {
            self.timeouts.are_guests();
        }
        if effects.resets {
            // What the host has said as well.
            self.timeouts.forget();
        }
        if effects.goes_back {
            // Which of them that ends is not known here.
            self.portals.clear();
        }
        if effects.forgets {
            self.forget_statements();
        }
        Ok(())
    }

    /// What is known of the last request is over, and what the next one changes can be undone.
    pub fn begin_request(&mut self) {
        self.in_flight.renew();
        self.in_flight.was_secured = self.secured;
        self.in_flight.had_sequences = self.per_loan.has_sequences;
        let cancel_after = self.per_loan.cancel_after.take();
        self.in_flight.until = Until::new(self.per_loan.request_time, cancel_after);
    }

    /// How long the next request may take, if that is less than its terms say.
    pub fn take_call_timeout(&mut self) -> Option<Duration> {
        let timeout = self.per_loan.call_timeout.take()?;
        match self.per_loan.terms.time {
            Some(time) if time <= timeout => None,
            _ => Some(timeout),
        }
    }

    /// Where the server is told nothing of the time that the next request has, the host sees to it. Each of its
    /// statements has so much.
    pub fn watch(&mut self, effects: &Effects, statements: impl FnOnce() -> usize) {
        if self.timeouts.are_left_alone(effects)
            && let Some(timeout) = self.take_call_timeout()
        {
            self.per_loan.cancel_after = Some(times(timeout, statements()));
        }
    }

    /// Gives the requests that follow the time of so many statements, of which each has as much as one call.
    pub fn allow(&mut self, statements: usize) {
        let timeout = self.per_loan.call_timeout;
        self.per_loan.request_time = timeout.map(|timeout| times(timeout, statements));
    }

    /// What the host itself executes first.
    fn leaders(&mut self, effects: Effects) -> Vec<Command> {
        let mut leaders = Vec::new();
        self.watch(&effects, || 1);
        let call_timeout = self.take_call_timeout();
        let releasing = self.savepoints.begin();
        if self.status() == Some(Status::Failed) {
            // The server takes nothing any more but the end of the transaction.
            return leaders;
        }
        if !self.per_loan.has_sequences && effects.sequences.reads {
            // An insert is not taken to change the session, although it may leave this.
            leaders.push(Command::new("DISCARD SEQUENCES"));
        }
        let in_block = !self.is_outside();
        let due = self.timeouts.due(self.per_loan.terms.time, in_block);
        leaders.extend(due.into_iter().flatten());
        leaders.extend(self.beginning.clone());
        // After a query, which the settings are, a transaction takes no isolation level any more.
        let prelude = self
            .per_loan
            .terms
            .prelude
            .iter()
            .filter(|_| !effects.only_modes);
        leaders.extend(prelude.map(|prelude| prelude.command.clone()));
        let timeouts = &mut self.timeouts;
        let shorter = timeouts.of_call(call_timeout, in_block, effects.begins);
        leaders.extend(shorter);
        if in_block && self.beginning.is_none() {
            leaders.extend(releasing);
            leaders.extend(self.secures());
        }
        leaders
    }
}

/// How long so many statements may take, if each may take so long.
fn times(timeout: Duration, statements: usize) -> Duration {
    timeout.saturating_mul(u32::try_from(statements.max(1)).unwrap_or(u32::MAX))
}
