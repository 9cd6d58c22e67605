//! Savepoints of the guest's that wait to be forgotten.
//!
//! Promises: one that was just gone back to is there, so that nobody need wait until the server has forgotten it: the
//! next request takes that along. Its own answer would say nothing new.

use crate::database::wire::request::Command;

/// What is known of the savepoint that was touched last.
#[derive(Default)]
pub struct Savepoints {
    /// The one that the last request has gone back to.
    gone_back: Option<String>,
    /// What has it forgotten, for the next request.
    releasing: Option<Command>,
    /// The same, in the request under way.
    released: Option<Command>,
}

impl Savepoints {
    /// The request that is over has gone back to the newest savepoint of this name.
    pub fn went_back(&mut self, name: &str) {
        self.gone_back = Some(name.to_owned());
    }

    /// Has the next request forget the newest savepoint of this name, by this statement. False if it may not be
    /// there, or others may be within it.
    pub fn release_later(&mut self, name: &str, sql: &str) -> bool {
        let is_there = self.gone_back.take().is_some_and(|own| own == name);
        if is_there {
            self.releasing = Some(Command::new(sql));
        }
        is_there
    }

    /// A request begins. What it has to take along, if it is one in the same transaction.
    pub fn begin(&mut self) -> Option<Command> {
        self.gone_back = None;
        self.released = self.releasing.take();
        self.released.clone()
    }

    /// A request begins that does nothing in the transaction, and takes nothing along.
    pub fn begin_nothing(&mut self) {
        self.released = None;
    }

    /// The transaction is about to end, and they with it.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// The request that was begun is taken back.
    pub fn take_back(&mut self) {
        if let Some(released) = self.released.take() {
            self.releasing = Some(released);
        }
    }
}
