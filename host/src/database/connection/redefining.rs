//! Statements that are prepared, and transactions that change what they are about: a table has another column, or its
//! name leads to another one.
//!
//! A server refuses to execute a plan whose result has changed, and with it fails the transaction. Outside of one, or
//! at its beginning, a statement is then prepared anew ([`super::exchange`]). In the middle of one that would be too
//! late: so whatever was prepared before such a change is parsed anew behind it, in the flush in which it is executed.
//! Where a text only says where names are looked up, the server plans anew by itself: only what has a result is parsed
//! anew, and only if it was parsed where names were looked up elsewhere.
//!
//! Promises: what a transaction has changed by a text is heeded until it has ended, and if it is rolled back, if only
//! in part, once more. Left to others: what a function or a procedure changes that a statement calls, which no text
//! tells.

use super::Connection;
use super::preparation::Ground;
use crate::database::sql::name_resolution::Naming;
use crate::database::sql::residue::Residue;
use crate::database::statement::{Effects, Key, Prepared};
use crate::database::wire::Status;

/// What has changed since the session began, or in the transaction that is open.
#[derive(Debug, Default)]
pub struct Redefining {
    /// The last transaction that has changed what statements are about, by its number on the connection.
    transaction: Option<u64>,
    /// Whether it has changed more than where names lead. Tables that take each other's place mostly look alike.
    is_deep: bool,
    /// Whether where names lead may be for longer than it lasts.
    outlasts: bool,
    /// Where names were looked up before it.
    before: u64,
    /// Where names are looked up now; 0 for where they were when the session began.
    naming: u64,
}

impl Redefining {
    /// What tells where names are looked up now from elsewhere.
    pub fn naming(&self) -> u64 {
        self.naming
    }
}

impl Connection {
    /// A request with these effects is sent.
    pub(super) fn note_redefinition(&mut self, effects: &Effects) {
        self.end_redefinition();
        let is_within = !self.is_outside() || effects.begins;
        if effects.redefines() && is_within {
            let redefining = &mut self.redefining;
            if redefining.transaction.is_none() {
                redefining.before = redefining.naming;
            }
            redefining.transaction = Some(self.wire.transactions);
            redefining.outlasts |= effects.residue != Residue::Nothing;
        }
        self.look_up_by(match effects.naming {
            // If it holds for a transaction, for that of the text alone.
            Naming::By(_) if !is_within => Naming::Unknown,
            naming => naming,
        });
        self.redefining.is_deep |= effects.reshapes && is_within;
        // Behind `ALTER TYPE … DROP ATTRIBUTE`, `($1).a` is the attribute that has gone.
        if effects.alters_in_place || (effects.reshapes && is_within) {
            self.doubt_statements();
        }
        if effects.goes_back {
            self.doubt_redefined();
        }
    }

    /// The same request follows others that were sent on its account, each of them a transaction of its own to the
    /// server: what it begins is another one than was noted.
    pub(super) fn note_redefinition_again(&mut self, effects: &Effects) {
        let number = self.wire.transactions;
        let noted = self.redefining.transaction;
        if effects.begins && noted.is_some_and(|noted| noted != number) {
            self.note_redefinition(effects);
        }
    }

    fn look_up_by(&mut self, naming: Naming) {
        self.redefining.naming = naming.behind(self.redefining.naming).unwrap_or_else(|| {
            self.names += 1;
            self.names
        });
    }

    /// What is remembered of these statements is assumed of them, though it may have changed in this transaction.
    pub(super) fn secure_redefined(&mut self, ground: Option<&Ground>, keys: &[&Key]) {
        if self.status() == Some(Status::Open) && self.redefining.is_deep {
            // Where that cannot be undone if it is wrong, it is assumed all the same, as everywhere.
            self.may_assume(ground, keys);
        }
    }

    /// These were executed one behind the other. What stands before one that changes others was parsed before it, and
    /// has been remembered behind it.
    pub(super) fn note_redefined_between(
        &mut self,
        first: Option<Effects>,
        behind: Effects,
        were_outside: bool,
    ) {
        if behind.alters_in_place {
            self.doubt_statements();
        } else if behind.redefines() {
            self.doubt_redefined();
        }
        let all = Effects::of_all(first.into_iter().chain([behind]));
        if were_outside && all.naming != Naming::Same {
            // Where names were looked up for these alone is left by now.
            self.look_up_by(Naming::Unknown);
        }
    }

    /// What has changed may be as it was before.
    pub fn doubt_redefined(&mut self) {
        if self.redefining.transaction.is_some() {
            self.look_up_by(Naming::Unknown);
            if self.redefining.is_deep {
                self.doubt_statements();
            }
        }
    }

    /// The same if a transaction that has changed something is over: nobody has noted whether it was committed.
    fn end_redefinition(&mut self) {
        let number = self.wire.transactions;
        if self.redefining.transaction.is_none_or(|own| own == number) {
            return;
        }
        let ended = std::mem::take(&mut self.redefining);
        self.redefining.naming = ended.before;
        if ended.outlasts {
            self.look_up_by(Naming::Unknown);
        }
        if ended.is_deep {
            self.doubt_statements();
        }
    }

    /// The session is as it was when it began, though not what its statements are about.
    pub(super) fn forget_redefinition(&mut self) {
        if std::mem::take(&mut self.redefining).is_deep {
            self.doubt_statements();
        }
    }

    /// These statements are about to be used. In the middle of a transaction, those with a result that were parsed where
    /// names were looked up elsewhere are parsed anew.
    pub(super) fn heed_redefinition<'a>(&mut self, keys: impl IntoIterator<Item = &'a Key>) {
        self.end_redefinition();
        if !self.per_loan.renamed || self.status() != Some(Status::Open) {
            return;
        }
        let naming = self.redefining.naming;
        for key in keys {
            let prepared = self.statements.peek_mut(key);
            let elsewhere =
                prepared.filter(|own| own.naming != naming && !own.description.columns.is_empty());
            if let Some(name) = elsewhere.map(Prepared::doubt) {
                self.forget_statement(&name);
            }
        }
    }

    /// Has all statements that are prepared parsed anew before they are executed again.
    pub(super) fn doubt_statements(&mut self) {
        let names: Vec<_> = self.statements.values_mut().map(Prepared::doubt).collect();
        for name in names {
            self.forget_statement(&name);
        }
    }
}
