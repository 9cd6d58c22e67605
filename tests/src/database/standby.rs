//! Standbys: servers that follow another one, by streaming, and may take its place.
//!
//! A server's own user copies it, by a program that the server runs: only that user may.

use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, chown};
use std::path::{Path, PathBuf};

use tokio_postgres::config::Host;

use super::{Server, first};
use crate::eventually;

/// Lets everyone in, standbys too.
pub const RULES: &str = "\
local all all trust
local replication all trust
host all all 0.0.0.0/0 trust
";

impl Server {
    /// A new server that listens on TCP and follows this one, whose rules have to let it.
    pub async fn standby(&self) -> Self {
        let cleanup = Self::cleanup().await;
        let client = self.connect("postgres").await;
        let folder = cleanup.directory().join("cluster");
        let data = first(&client, "show data_directory").await;
        let owner = Path::new(&data.expect("every server has one"))
            .metadata()
            .expect("it runs");
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .expect("the cleanup process's directory is new");
        chown(&folder, Some(owner.uid()), Some(owner.gid())).expect("it is that user, or root");
        let programs = "select setting from pg_config where name = 'BINDIR'";
        let programs = first(&client, programs).await;
        let copy = format!(
            "{}/pg_basebackup --pgdata={} --host={} --port={} --username={} --write-recovery-conf --checkpoint=fast",
            programs.expect("every server knows its programs"),
            folder.join("data").display(),
            self.folder().display(),
            self.port(),
            self.user(),
        );
        client
            .batch_execute(&format!("copy (select) to program $${copy}$$"))
            .await
            .unwrap_or_else(|error| panic!("{copy}: {error:?}"));
        let standby = Self::with(Some(cleanup), Some(Self::fresh_address())).await;
        self.is_followed().await;
        standby
    }

    /// Makes it one that takes writes. Waits until it does.
    pub async fn promote(&self) {
        let client = self.connect("postgres").await;
        let promoted = first(&client, "select pg_promote()").await;
        assert_eq!(promoted.as_deref(), Some("t"));
    }

    /// Stops it, has that standby take its place, and starts it again as a standby of that one.
    pub async fn give_way_to(&self, successor: &Self) {
        let source = format!(
            "host={} port={} user={}",
            successor.folder().display(),
            successor.port(),
            successor.user()
        );
        // They count from its next start on.
        self.set_up(&[("standby.signal", "")], &[("primary_conninfo", &source)])
            .await;
        self.stop().await;
        successor.promote().await;
        self.start().await;
        successor.is_followed().await;
    }

    /// Waits until a standby has all that is written here, and gets what will be.
    async fn is_followed(&self) {
        let client = self.connect("postgres").await;
        eventually("a standby that follows", async || {
            let streaming = "select count(*) from pg_stat_replication where state = 'streaming' \
                             and replay_lsn >= pg_current_wal_flush_lsn()";
            (first(&client, streaming).await? == "1").then_some(())
        })
        .await;
    }

    fn folder(&self) -> PathBuf {
        match &self.config.get_hosts()[0] {
            Host::Unix(folder) => folder.clone(),
            Host::Tcp(host) => panic!("a test's server has a socket, and this is at {host}"),
        }
    }
}
