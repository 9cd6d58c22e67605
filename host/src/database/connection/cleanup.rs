//! How a connection gets rid of what nobody waits for: a request, rows, a transaction, all that a guest
//! has left in its session.
//!
//! Promises: each of these may be given up and begun again; when one of them has succeeded, the server
//! is done with it.

use uuid::Uuid;

use super::Connection;
use crate::config::Prepare;
use crate::database::error::{Error, Result};
use crate::database::sql::residue::Residue;
use crate::database::wire::Status;
use crate::limits;

/// What is done to a connection whose session may have been changed. One message, so one round
/// trip; in the order of PostgreSQL's own `DISCARD ALL`, but the statements that this host has
/// prepared stay, and `random()` goes on from where nobody knows.
pub(super) fn reset() -> String {
    // 53 bits are what the fraction of such a number has.
    let seed = (Uuid::new_v4().as_u64_pair().1 & ((1 << 53) - 1)) as f64 / (1_u64 << 53) as f64;
    format!("{RESET}; SELECT pg_catalog.setseed({seed})")
}

const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
    SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES; \
    DO $$ DECLARE name text; BEGIN \
    FOR name IN SELECT p.name FROM pg_prepared_statements p WHERE from_sql LOOP \
    EXECUTE pg_catalog.format('DEALLOCATE %I', name); END LOOP; END $$";

/// What the server refuses, and with it all that follows in the transaction. Its log says why.
const FAIL: &str = "ROLLBACK TO SAVEPOINT \"hearth: a result was too large\"";

impl Connection {
    /// Ends the rows that nobody will read, without harm to an open transaction. A `COPY` has no
    /// portal to be left in: unless it is about to end, its transaction fails with it.
    pub async fn abandon_rows(&mut self) -> Result<()> {
        if self.is_busy() {
            match self.reads_on() {
                true => self.wire.drain().await?,
                false => self.interrupt().await?,
            }
        }
        self.outlast_cancellations().await;
        Ok(())
    }

    /// Whether rows that nobody will read are read to their end all the same: no more than one fetch is under way,
    /// and cancelling would fail the transaction. By a `COPY` that nobody ends that has failed in any case, or is about
    /// to end.
    pub fn reads_on(&self) -> bool {
        let in_transaction = self.wire.in_transaction() || self.in_flight.began.is_some();
        in_transaction && !self.in_flight.copying && !self.fails_later
    }

    /// A guest is told that a request has failed, though for the server it has succeeded: so its transaction is made to
    /// fail as well ([`Self::fail_transaction`]).
    pub fn fail_later(&mut self) {
        self.fails_later = true;
    }

    /// Sees to it that a transaction that is open has failed, if a guest was told that what it asked for in it
    /// has: it would otherwise be committed with the rest.
    pub async fn fail_transaction(&mut self) -> Result<()> {
        if self.fails_later && self.status() == Some(Status::Open) {
            match self.command(FAIL).await {
                Ok(()) | Err(Error::Server(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.fails_later = false;
        Ok(())
    }

    /// Ends the request under way, for whose answer nobody waits. A transaction that was open stays
    /// open, or has failed by that.
    pub async fn give_up(&mut self) -> Result<()> {
        if self.is_busy() {
            self.interrupt().await?;
        }
        self.outlast_cancellations().await;
        Ok(())
    }

    /// Rolls back a transaction that is open, or was to begin.
    pub async fn roll_back(&mut self) -> Result<()> {
        if self.begin_never() || self.is_outside() {
            return Ok(());
        }
        self.timeouts.refused();
        match self.resets_at_end() {
            true => self.end_and_reset("ROLLBACK").await.map(|_| ()),
            false => self.command("ROLLBACK").await,
        }
    }

    /// Makes the connection clean: gives up what is running, rolls back, resets. False if it
    /// cannot be lent again.
    pub async fn settle(&mut self) -> bool {
        self.per_loan.request_time = None;
        if self.wire.is_dead() || self.doomed || self.residue == Residue::Connection {
            return false;
        }
        if self.is_busy() && self.interrupt().await.is_err() {
            return false;
        }
        self.outlast_cancellations().await;
        (self.beginning, self.fails_later) = (None, false);
        if self.status() != Some(Status::Idle) {
            self.timeouts.refused();
        }
        self.forget_parsing();
        let sql = match (self.status(), self.residue) {
            (Some(Status::Idle), Residue::Nothing) => return self.is_clean(),
            (Some(Status::Idle), _) if self.prepare == Prepare::Never => {
                // Another session would be reset: see `ending`.
                self.residue = Residue::Nothing;
                return self.is_clean();
            }
            (Some(Status::Idle), _) => reset(),
            (_, Residue::Nothing) => "ROLLBACK".to_owned(),
            _ => format!("ROLLBACK; {}", reset()),
        };
        if self.command(&sql).await.is_err() {
            return false;
        }
        self.was_reset();
        self.is_clean()
    }

    /// The session is as it was when the connection was made.
    pub fn was_reset(&mut self) {
        self.timeouts.forget();
        self.wire.forget_notifications();
        self.residue = Residue::Nothing;
    }

    /// Ends what a call that was given up has begun, and waits until the server owes nothing. A request to cancel may be
    /// under way by then.
    async fn interrupt(&mut self) -> Result<()> {
        self.timeouts.forget();
        if self.wire.unsend() {
            // One that took none along has left it where it waits.
            if let Some(began) = self.in_flight.began.take() {
                self.beginning = Some(began);
            }
            self.per_loan.has_sequences = self.in_flight.had_sequences;
            self.secured = self.in_flight.was_secured;
            self.savepoints.take_back();
            self.forgetting.extend_from_slice(&self.in_flight.forgotten);
            self.in_flight.forgotten.clear();
            return Ok(());
        }
        if let Ok(drained) = tokio::time::timeout(limits::CANCEL_AFTER, self.wire.drain()).await {
            return drained;
        }
        // Somebody may have asked already.
        if !self.cancelling.is_under_way() {
            drop(self.canceller().cancel());
        }
        self.wire.drain().await
    }
}
