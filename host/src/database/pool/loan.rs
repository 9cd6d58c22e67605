//! The loan of one connection.
//!
//! Promises: a connection that is not given back is retired, since nobody can vouch for its state any more. However the
//! loan ends, the bytes and round trips on the connection are counted for the invocation that had it.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use deadpool::managed::Object;

use super::Opener;
use crate::database::connection::Connection;
use crate::telemetry::Account;

/// A connection on loan.
pub struct Loan {
    /// None once it is given back.
    object: Option<Object<Opener>>,
    /// Who takes account of what passes on it.
    account: Option<Arc<Account>>,
}

impl Loan {
    /// The loan of this connection, on nobody's account yet.
    pub(super) fn of(object: Object<Opener>) -> Self {
        Self {
            object: Some(object),
            account: None,
        }
    }

    /// What passes on it is on this account from now on.
    pub fn charge(&mut self, account: &Arc<Account>) {
        self.account = Some(account.clone());
    }

    /// Gives the connection back for the next borrower. Only for one that is clean.
    pub fn give_back(mut self) {
        self.settle_account();
        if let Some(mut object) = self.object.take() {
            debug_assert!(object.is_clean(), "only a clean connection is given back");
            object.end_loan();
        }
    }

    /// Retires the connection, and waits until the server has closed its side. Whether it did in time.
    pub async fn terminate(mut self) -> bool {
        self.settle_account();
        match self.object.take() {
            Some(object) => Object::take(object).close().await,
            None => true,
        }
    }

    fn settle_account(&mut self) {
        let Some(object) = &mut self.object else {
            return;
        };
        // Also where nobody wants to know, so that the next borrower does not pay for it.
        let traffic = std::mem::take(&mut object.wire.traffic);
        object.connecting = None;
        if let Some(tally) = self.account.as_ref().and_then(|account| account.tally()) {
            tally.exchanged(traffic);
        }
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.settle_account();
        if let Some(object) = self.object.take() {
            let connection = Object::take(object);
            if connection.is_busy() {
                // The socket closes with the connection, but a server that is computing would not
                // notice before it answers.
                if tokio::runtime::Handle::try_current().is_ok() {
                    drop(connection.canceller().cancel());
                }
            }
        }
    }
}

impl Deref for Loan {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.object
            .as_ref()
            .expect("a loan has its connection until it is given back or dropped")
    }
}

impl DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut Connection {
        self.object
            .as_mut()
            .expect("a loan has its connection until it is given back or dropped")
    }
}
