//! What an invocation may do to a server's session that a pooler shares with others (`prepare = "never"`). Such a pooler
//! gives the session to whoever begins a transaction.
//!
//! Nothing can be undone there later, since the next request may go to another session. So a transaction that may have
//! changed its session is reset together with its end ([`crate::database::connection::ending`]).
//!
//! Promises: a statement that certainly needs the session for longer than its transaction is refused before it is sent.
//! So is a statement that would end its transaction without that reset.

use super::work::Work;
use crate::database::Database;
use crate::database::error::{Error, Result};
use crate::database::sql::ending::ends_somewhere;
use crate::database::sql::session_state::outlasts_its_transaction;

/// Refuses, outside of a transaction, what certainly changes a session for longer than that, or relies
/// on one.
pub fn permit(database: &Database, work: &impl Work) -> Result<()> {
    if database.shares_sessions && work.texts().any(outlasts_its_transaction) {
        return Err(Error::Unsupported(
            "the statement changes its session, which a pooler shares with others (`prepare = \"never\"`): \
             do it in a transaction, at whose end it is undone"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Refuses, within a transaction, what would end it without the reset of its session.
pub fn permit_within(database: &Database, work: &impl Work) -> Result<()> {
    if database.shares_sessions && work.texts().any(ends_somewhere) {
        return Err(Error::Unsupported(
            "the statement ends its transaction, and what that has changed in its session would stay for others, with \
             whom a pooler shares that (`prepare = \"never\"`): end it by `commit` or `rollback` of its handle"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Refuses to wait for notifications.
pub fn permit_notifications(database: &Database) -> Result<()> {
    if database.shares_sessions {
        return Err(Error::Unsupported(
            "there are no notifications behind a pooler that shares the server's sessions \
             (`prepare = \"never\"`): use a database whose address leads to the server itself"
                .to_owned(),
        ));
    }
    Ok(())
}
