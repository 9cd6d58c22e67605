//! A gate at which sessions of a database wait until a test opens it.

use tokio_postgres::Client;

use super::{Database, first};
use crate::eventually;

/// A gate that is shut. It is opened for good, or by being dropped.
pub struct Gate(Client);

impl Gate {
    /// What passes it, whenever it is open.
    pub const PASS: &str = "select pg_advisory_lock_shared(1)::text";

    /// Waits until so many sessions stand before it.
    pub async fn waited_for(&self, by: usize) {
        let waiting = "select count(*) from pg_stat_activity
            where datname = current_database() and wait_event = 'advisory'";
        let what = format!("{by} sessions before the gate");
        eventually(&what, async || {
            let seen = first(&self.0, waiting).await;
            (seen == Some(by.to_string())).then_some(())
        })
        .await;
    }

    /// Lets everybody through.
    pub async fn open(&self) {
        let opened = self.0.batch_execute("select pg_advisory_unlock(1)").await;
        opened.expect("its session goes on");
    }
}

impl Database {
    /// A gate in it, on a connection of its own.
    pub async fn gate(&self) -> Gate {
        let client = self.client().await;
        let shut = client.batch_execute("select pg_advisory_lock(1)").await;
        shut.expect("nobody else shuts it");
        Gate(client)
    }
}
