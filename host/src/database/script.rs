//! SQL that the host itself runs, on a connection of its own: setup files.
//!
//! Left to others: which SQL, and what its errors mean to whoever wrote it.

use std::num::NonZeroUsize;
use std::sync::Arc;

use super::connect::Address;
use super::connection::Connection;
use super::error::Result;
use crate::config::Prepare;

/// A connection that no pool knows.
pub struct Script(Connection);

impl Script {
    /// Connects and logs in.
    pub async fn open(address: Address) -> Result<Self> {
        let connection = Connection::open(Arc::new(address), NonZeroUsize::MIN, Prepare::Never);
        Ok(Self(connection.await?))
    }

    /// Runs statements, all or none of them unless they say otherwise, for as long as that takes.
    pub async fn run(&mut self, sql: &str) -> Result<()> {
        self.0.command(sql).await
    }

    /// Says good-bye.
    pub async fn close(self) {
        self.0.close().await;
    }
}
