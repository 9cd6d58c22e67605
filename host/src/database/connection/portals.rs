//! The portals that a transaction has left open on its connection: results of which rows can still be
//! fetched.
//!
//! Promises: one that has ended with its transaction, or since the guest went back to a savepoint, is
//! known to have ended. The server would answer a fetch from it with an error, and that would fail the
//! transaction that is open by now.
//!
//! Left to others: savepoints that are set by SQL text. Whoever goes back to one by text has ended all portals.

use crate::database::error::{Error, Result};
use crate::limits;

/// The portals of one connection.
#[derive(Default)]
pub struct Portals {
    /// The transaction that has them, by its number on the connection.
    transaction: u64,
    open: Vec<Portal>,
    /// The savepoints that were set while portals were open, the newest last, and when.
    savepoints: Vec<(String, u64)>,
    /// Counts what is done, to tell what came first.
    now: u64,
}

struct Portal {
    name: String,
    /// When rows were last fetched from it. Going back to before that ends it.
    used: u64,
}

impl Portals {
    /// Rows of a portal were fetched, and more may follow.
    pub fn open(&mut self, name: &str, transaction: u64) {
        self.enter(transaction);
        let (name, used) = (name.to_owned(), self.now);
        self.open.push(Portal { name, used });
    }

    /// More rows are about to be fetched. False if the portal is gone.
    pub fn fetch(&mut self, name: &str, transaction: u64) -> bool {
        self.enter(transaction);
        let mut open = self.open.iter_mut();
        let Some(portal) = open.find(|portal| portal.name == name) else {
            return false;
        };
        portal.used = self.now;
        true
    }

    /// Nothing more will be fetched.
    pub fn close(&mut self, name: &str) {
        self.open.retain(|portal| portal.name != name);
    }

    /// Nothing more will be fetched from any of them.
    pub fn clear(&mut self) {
        self.open.clear();
    }

    /// Refuses a savepoint in this transaction if there are too many to remember.
    pub fn check_room(&self, transaction: u64) -> Result<()> {
        let is_remembered = self.transaction == transaction && !self.open.is_empty();
        if is_remembered && self.savepoints.len() >= limits::SAVEPOINTS_MAX {
            return Err(Error::Invalid(format!(
                "the transaction has {} savepoints since it has rows that are not read, which are the most: read or \
                 drop those, or release savepoints",
                limits::SAVEPOINTS_MAX
            )));
        }
        Ok(())
    }

    /// A savepoint was set.
    pub fn set(&mut self, savepoint: &str, transaction: u64) {
        self.enter(transaction);
        // Without portals it is older than all that are to come, as is one of which nothing is known.
        if !self.open.is_empty() {
            self.savepoints.push((savepoint.to_owned(), self.now));
        }
    }

    /// The newest savepoint of this name was gone back to; it is still there.
    pub fn go_back(&mut self, savepoint: &str, transaction: u64) {
        self.enter(transaction);
        let at = self.newest(savepoint);
        self.savepoints.truncate(at.map_or(0, |at| at + 1));
        let set = at.map_or(0, |at| self.savepoints[at].1);
        self.open.retain(|portal| portal.used < set);
    }

    /// The newest savepoint of this name was forgotten, with those within it.
    pub fn release(&mut self, savepoint: &str, transaction: u64) {
        self.enter(transaction);
        let at = self.newest(savepoint).unwrap_or(0);
        self.savepoints.truncate(at);
    }

    fn newest(&self, savepoint: &str) -> Option<usize> {
        self.savepoints
            .iter()
            .rposition(|(name, _)| name == savepoint)
    }

    /// Something is done in this transaction.
    fn enter(&mut self, transaction: u64) {
        self.now += 1;
        if self.transaction != transaction {
            self.transaction = transaction;
            self.open.clear();
        }
        if self.open.is_empty() {
            self.savepoints.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(names: &[&str]) -> Portals {
        let mut portals = Portals::default();
        names.iter().for_each(|name| portals.open(name, 1));
        portals
    }

    #[test]
    fn a_portal_ends_with_its_transaction() {
        let mut portals = with(&["a", "b"]);
        assert!(portals.fetch("a", 1));
        portals.close("a");
        assert!(!portals.fetch("a", 1));
        assert!(portals.fetch("b", 1));
        assert!(!portals.fetch("b", 2));
        assert!(!portals.fetch("b", 1), "it does not come back");
    }

    #[test]
    fn going_back_ends_what_was_opened_or_used_since() {
        let mut portals = with(&["older", "used"]);
        portals.set("s", 1);
        portals.open("newer", 1);
        assert!(portals.fetch("used", 1));
        portals.go_back("s", 1);
        assert!(!portals.fetch("newer", 1));
        assert!(!portals.fetch("used", 1));
        // Used outside of it by now.
        portals.release("s", 1);
        assert!(portals.fetch("older", 1));
        portals.set("s", 1);
        portals.go_back("s", 1);
        portals.go_back("s", 1);
        assert!(portals.fetch("older", 1));
    }

    #[test]
    fn savepoints_have_a_limit_only_while_they_are_remembered() {
        let mut portals = with(&["a"]);
        for _ in 0..limits::SAVEPOINTS_MAX {
            assert!(portals.check_room(1).is_ok());
            portals.set("s", 1);
        }
        let refused = portals.check_room(1).unwrap_err().to_string();
        assert!(refused.contains("1000 savepoints"), "{refused}");
        assert!(portals.check_room(2).is_ok(), "another transaction");
        portals.close("a");
        assert!(portals.check_room(1).is_ok());
    }

    #[test]
    fn the_newest_savepoint_of_a_name_hides_the_others() {
        let mut portals = with(&["a"]);
        portals.set("s", 1);
        portals.open("b", 1);
        portals.set("s", 1);
        portals.open("c", 1);
        portals.go_back("s", 1);
        assert!(!portals.fetch("c", 1));
        portals.release("s", 1);
        portals.go_back("s", 1);
        assert!(!portals.fetch("b", 1));
        assert!(portals.fetch("a", 1));
    }

    #[test]
    fn a_savepoint_that_was_set_before_any_portal_is_older_than_all() {
        let mut portals = Portals::default();
        portals.set("s", 1);
        portals.open("a", 1);
        portals.set("t", 1);
        portals.go_back("s", 1);
        assert!(!portals.fetch("a", 1));
        portals.open("b", 1);
        portals.go_back("t", 1);
        assert!(!portals.fetch("b", 1));
    }
}
