//! Transactions that a guest has begun by text, and whose connection was lost.
//!
//! Promises: once a guest was told of such a loss, all calls are told that would go on with the transaction, until one
//! ends it or begins anew: elsewhere each would be committed by itself. Whoever was told first may have given up in
//! that moment, and not know.

use std::sync::{Arc, Mutex};

use super::work::Work;
use crate::database::Database;
use crate::database::error::{Error, Result};
use crate::database::sql::ending::{begins_anew, ends_somewhere};
use crate::lock::lock;

/// Those of one invocation: at most one on each database.
#[derive(Default)]
pub(super) struct LostTransactions(Mutex<Vec<Arc<Database>>>);

impl LostTransactions {
    /// One was lost.
    pub(super) fn add(&self, database: &Arc<Database>) {
        let mut lost = lock(&self.0);
        if !lost.iter().any(|other| Arc::ptr_eq(other, database)) {
            lost.push(database.clone());
        }
    }

    /// The error for a call that would go on with one.
    pub(super) fn none(&self, database: &Arc<Database>) -> Result<()> {
        let lost = lock(&self.0);
        match lost.iter().any(|other| Arc::ptr_eq(other, database)) {
            true => Err(Error::ConnectionLost {
                maybe_executed: false,
            }),
            false => Ok(()),
        }
    }

    /// A call is made. One that begins anew relies on none that was lost; one that would end it is the last to be told.
    pub(super) fn heed(&self, database: &Arc<Database>, work: &impl Work) -> Result<()> {
        let lost = self.none(database);
        if lost.is_err() && begins(work) {
            self.remove(database);
            return Ok(());
        }
        if lost.is_err() && ends(work) {
            self.remove(database);
        }
        lost
    }

    /// A call was told that its connection is lost. If it was to begin a transaction, that is lost with it; if it was to
    /// end one, the guest goes on without.
    pub(super) fn tell(&self, database: &Arc<Database>, work: &impl Work) {
        if ends(work) {
            self.remove(database);
        } else if begins(work) {
            self.add(database);
        }
    }

    fn remove(&self, database: &Arc<Database>) {
        lock(&self.0).retain(|other| !Arc::ptr_eq(other, database));
    }
}

/// Whether this executes what begins a transaction, or undoes one, before anything else.
fn begins(work: &impl Work) -> bool {
    work.executes() && work.texts().next().is_some_and(begins_anew)
}

/// Whether this executes what ends a transaction.
fn ends(work: &impl Work) -> bool {
    work.executes() && work.texts().any(ends_somewhere)
}
