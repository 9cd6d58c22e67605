//! A transaction that the guest has begun.
//!
//! Promises: its calls run one after another on one connection; a commit that was in truth a
//! rollback is an error; however it ends, its connection is made clean before it is lent again.

use std::sync::Arc;

use super::error::{Error, Result};
use super::seat::Seat;
use super::session::{Answer, Session};
use super::statement::{Call, Description, Key, check_sql};

/// How a transaction runs; what is not given is the database's default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The isolation level, in SQL's words.
    pub isolation_level: Option<&'static str>,
    /// Whether it may not write.
    pub read_only: Option<bool>,
    /// Whether it may wait for a moment without conflicts.
    pub deferrable: Option<bool>,
}

impl Options {
    /// The statement that begins such a transaction.
    pub fn sql(&self) -> String {
        let mut modes = Vec::new();
        if let Some(level) = self.isolation_level {
            modes.push(format!("ISOLATION LEVEL {level}"));
        }
        if let Some(read_only) = self.read_only {
            modes.push(if read_only { "READ ONLY" } else { "READ WRITE" }.to_owned());
        }
        if let Some(deferrable) = self.deferrable {
            modes.push(
                if deferrable {
                    "DEFERRABLE"
                } else {
                    "NOT DEFERRABLE"
                }
                .to_owned(),
            );
        }
        format!("BEGIN {}", modes.join(", "))
    }
}

/// An open transaction. Dropping it rolls it back.
pub struct Transaction {
    session: Arc<Session>,
    seat: Arc<Seat>,
}

impl Transaction {
    pub(super) fn new(session: Arc<Session>, seat: Arc<Seat>) -> Self {
        Self { session, seat }
    }

    /// What the server says of a statement.
    pub async fn prepare(&self, key: &Key) -> Result<Arc<Description>> {
        check_sql(&key.sql, &key.types)?;
        self.session
            .work(&self.seat, async |loan| {
                Ok(loan.prepare(key).await?.description)
            })
            .await
    }

    /// Executes a statement and reads its first rows.
    pub async fn query(&self, call: &Call) -> Result<Answer> {
        check_sql(&call.key.sql, &call.key.types)?;
        self.session.query_on(&self.seat, call).await
    }

    /// Executes a statement and counts the rows it affected.
    pub async fn execute(&self, call: &Call) -> Result<u64> {
        check_sql(&call.key.sql, &call.key.types)?;
        self.session.execute_on(&self.seat, call).await
    }

    /// Executes statements without arguments.
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        check_sql(sql, &[])?;
        self.session
            .work(&self.seat, async |loan| loan.batch_execute(sql).await)
            .await
    }

    /// Sets a savepoint.
    pub async fn savepoint(&self, name: &str) -> Result<()> {
        self.command(&format!("SAVEPOINT {}", quote(name)?)).await
    }

    /// Undoes everything since the newest savepoint of this name.
    pub async fn rollback_to(&self, name: &str) -> Result<()> {
        self.command(&format!("ROLLBACK TO SAVEPOINT {}", quote(name)?))
            .await
    }

    /// Forgets the newest savepoint of this name.
    pub async fn release(&self, name: &str) -> Result<()> {
        self.command(&format!("RELEASE SAVEPOINT {}", quote(name)?))
            .await
    }

    /// Commits. An error if the server rolled back instead, or if nobody knows what it did.
    pub async fn commit(&self) -> Result<()> {
        let had_failed = self.seat.has_failed();
        let committed = self.command("COMMIT").await;
        self.session.leave(&self.seat);
        match committed {
            Ok(()) if had_failed => Err(Error::Aborted),
            result => result,
        }
    }

    /// Rolls back.
    pub async fn rollback(&self) -> Result<()> {
        let rolled_back = self.command("ROLLBACK").await;
        self.session.leave(&self.seat);
        rolled_back
    }

    async fn command(&self, sql: &str) -> Result<()> {
        self.session
            .work(&self.seat, async |loan| loan.command(sql).await)
            .await
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        self.session.settle_later(&self.seat);
    }
}

/// A name as an SQL identifier.
fn quote(name: &str) -> Result<String> {
    check_sql(name, &[])?;
    if name.is_empty() {
        return Err(Error::Invalid(
            "a savepoint's name cannot be empty".to_owned(),
        ));
    }
    Ok(format!("\"{}\"", name.replace('"', "\"\"")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_begins_as_its_options_say() {
        let all = Options {
            isolation_level: Some("SERIALIZABLE"),
            read_only: Some(true),
            deferrable: Some(false),
        };
        assert_eq!(
            all.sql(),
            "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, NOT DEFERRABLE"
        );
        assert_eq!(Options::default().sql().trim(), "BEGIN");
    }

    #[test]
    fn a_savepoint_cannot_smuggle_sql() {
        assert_eq!(
            quote("a\"; drop table t; --").unwrap(),
            "\"a\"\"; drop table t; --\""
        );
        assert!(quote("").is_err() && quote("a\0b").is_err());
    }
}
