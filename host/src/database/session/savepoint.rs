//! A savepoint of the guest's own, and what is done with it: it is set, gone back to or released.

use std::time::Duration;

use super::work::Work;
use crate::database::Database;
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;
use crate::database::sql::text::check_sql;
use crate::database::wire::Status;
use crate::limits;

/// What is done to the newest savepoint of a name.
pub(super) enum Savepoint<'a> {
    Set(&'a str),
    GoBack(&'a str),
    Release(&'a str),
}

impl Savepoint<'_> {
    fn sql(&self) -> Result<String> {
        Ok(match self {
            Self::Set(name) => format!("SAVEPOINT {}", quote(name)?),
            Self::GoBack(name) => format!("ROLLBACK TO SAVEPOINT {}", quote(name)?),
            Self::Release(name) => format!("RELEASE SAVEPOINT {}", quote(name)?),
        })
    }
}

/// The work of doing it.
pub(super) struct Control<'a>(pub(super) Savepoint<'a>, pub(super) Option<Duration>);

impl Work for Control<'_> {
    type Done = ();

    fn check(&self) -> Result<()> {
        self.0.sql().map(|_| ())
    }

    fn timeout(&self) -> Option<Duration> {
        self.1
    }

    fn operation(&self) -> Option<&str> {
        Some(match self.0 {
            Savepoint::Set(_) => "SAVEPOINT",
            Savepoint::GoBack(_) => "ROLLBACK TO SAVEPOINT",
            Savepoint::Release(_) => "RELEASE SAVEPOINT",
        })
    }

    async fn carry_out(&self, loan: &mut Loan, _: &Database) -> Result<()> {
        let sql = self.0.sql()?;
        if matches!(self.0, Savepoint::Set(_)) {
            loan.portals.check_room(loan.wire.transactions)?;
        }
        let later = match self.0 {
            Savepoint::Release(name) if loan.status() == Some(Status::Open) => {
                loan.savepoints.release_later(name, &sql)
            }
            _ => false,
        };
        if matches!(self.0, Savepoint::GoBack(_)) {
            // Before it has gone: that may be given up when the server has done it.
            loan.doubt_redefined();
        }
        if !later {
            // The server's own limit would come back with the savepoint, for calls that have more time.
            loan.per_loan.cancel_after = loan.per_loan.call_timeout.take();
            loan.control(&sql).await?;
        }
        let transaction = loan.wire.transactions;
        match self.0 {
            Savepoint::Set(name) => loan.portals.set(name, transaction),
            Savepoint::GoBack(name) => {
                loan.savepoints.went_back(name);
                loan.portals.go_back(name, transaction);
            }
            Savepoint::Release(name) => loan.portals.release(name, transaction),
        }
        Ok(())
    }
}

/// What the server looks at of a name. The host tells names apart by it, as the server does.
pub(super) fn seen(name: &str) -> &str {
    &name[..name.floor_char_boundary(limits::IDENTIFIER_BYTES_MAX)]
}

/// A name as an SQL identifier.
fn quote(name: &str) -> Result<String> {
    check_sql(name)?;
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
    fn names_are_told_apart_as_the_server_does() {
        let long = "ü".repeat(40);
        assert_eq!(seen(&long), "ü".repeat(31));
        assert_eq!(seen(&format!("{long}!")), seen(&long));
        assert_eq!(seen("a"), "a");
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
