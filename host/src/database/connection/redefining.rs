//! Statements that are prepared, and transactions that change what they are about: a table has another column, or its
//! name leads to another one.
//!
//! A server refuses to execute a plan whose result has changed, and with it fails the transaction. Outside of one, or
//! at its beginning, a statement is then prepared anew ([`super::exchange`]). In the middle of one that would be too
//! late: so whatever was prepared before such a change is parsed anew behind it, in the flush in which it is executed.
//!
//! Promises: what a transaction has changed by a text is heeded until it has ended, and if it is rolled back, if only
//! in part, once more. Left to others: what a function changes that a statement calls, which no text tells.

use super::Connection;
use super::preparation::Ground;
use crate::database::statement::{Effects, Key};
use crate::database::wire::Status;

/// What the transaction that is open has changed.
#[derive(Debug, Default)]
pub struct Redefining {
    /// The last transaction that has changed what statements are about, by its number on the connection.
    transaction: Option<u64>,
    /// Whether it has changed more than where names lead. Tables that take each other's place mostly look alike.
    is_deep: bool,
}

impl Connection {
    /// A request with these effects is sent.
    pub(super) fn note_redefinition(&mut self, effects: &Effects) {
        if effects.redefines && (!self.is_outside() || effects.begins) {
            self.redefining.transaction = Some(self.wire.transactions);
            self.redefining.is_deep |= !effects.renames;
            self.doubt_statements();
        } else if effects.goes_back {
            self.doubt_redefined();
        }
    }

    /// What is remembered of these statements is assumed of them, though it may have changed in this transaction.
    pub(super) fn secure_redefined(&mut self, ground: Option<&Ground>, keys: &[&Key]) {
        if self.status() == Some(Status::Open) && self.redefining.is_deep {
            // Where that cannot be undone if it is wrong, it is assumed all the same, as everywhere.
            self.may_assume(ground, keys);
        }
    }

    /// What has changed may be as it was before.
    pub fn doubt_redefined(&mut self) {
        if self.redefining.transaction.is_some() {
            self.doubt_statements();
        }
    }

    /// The same if a transaction that has changed something is over: nobody has noted whether it was committed.
    pub(super) fn heed_redefinition(&mut self) {
        let number = self.wire.transactions;
        if self.redefining.transaction.is_some_and(|own| own != number) {
            self.redefining = Redefining::default();
            self.doubt_statements();
        }
    }

    /// Has all statements that are prepared parsed anew before they are executed again.
    pub(super) fn doubt_statements(&mut self) {
        let prepared = self.statements.values_mut();
        let names: Vec<_> = prepared
            .map(|prepared| {
                prepared.doubted = true;
                std::mem::take(&mut prepared.name)
            })
            .collect();
        for name in names {
            self.forget_statement(&name);
        }
    }
}
