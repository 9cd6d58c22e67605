//! What is seen of a database from outside: its sessions, and what they are at.

use std::time::{Duration, Instant};

use tokio_postgres::{Client, SimpleQueryMessage};

use super::{Database, first_of, number};
use crate::{PATIENCE, eventually};

impl Database {
    /// The first value that this SQL returns, from outside; `$name` in it is this database.
    ///
    /// The connection for it is kept, since much is looked at every few milliseconds.
    pub async fn observe(&self, sql: &str) -> Option<String> {
        let sql = sql.replace("$name", &format!("'{}'", self.name));
        let kept = self.observer.lock().unwrap().take();
        if let Some(client) = kept {
            match client.simple_query(&sql).await {
                Ok(messages) => return self.observed(client, &messages),
                // Its server was stopped or has crashed since.
                Err(error) if error.is_closed() || client.is_closed() => {}
                Err(error)
                    if error
                        .code()
                        .is_some_and(|code| code.code().starts_with("57P")) => {}
                Err(error) => panic!("{sql}: {error:?}"),
            }
        }
        let client = self.server.connect("postgres").await;
        let messages = client.simple_query(&sql).await;
        let messages = messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        self.observed(client, &messages)
    }

    fn observed(&self, client: Client, messages: &[SimpleQueryMessage]) -> Option<String> {
        *self.observer.lock().unwrap() = Some(client);
        first_of(messages)
    }

    /// Waits until the observer sees this.
    pub async fn until(&self, sql: &str, wanted: &str) {
        let start = Instant::now();
        let what = format!("{wanted:?} from {sql}");
        eventually(&what, async || {
            let seen = self.observe(sql).await;
            let is_late = start.elapsed() + Duration::from_secs(1) > PATIENCE;
            assert!(
                !is_late || seen.as_deref() == Some(wanted),
                "{seen:?} instead of {what}"
            );
            (seen.as_deref() == Some(wanted)).then_some(())
        })
        .await;
    }

    /// How many connections to it are open.
    pub async fn backends(&self) -> u64 {
        let count = self
            .observe("select count(*) from pg_stat_activity where datname = $name")
            .await;
        number(count)
    }

    /// How many connections to it were made so far. Those of [`Database::run`] count as well.
    pub async fn sessions(&self) -> u64 {
        let count = self
            .observe("select sessions from pg_stat_database where datname = $name")
            .await;
        number(count)
    }

    /// Waits until so many of its connections are open, and all of them idle outside of a transaction.
    pub async fn settles(&self, backends: u64) {
        let sql = "select count(*) filter (where state = 'idle') || ' of ' || count(*)
                   from pg_stat_activity where datname = $name";
        self.until(sql, &format!("{backends} of {backends}")).await;
    }

    /// Waits until none of its connections is at anything, a transaction that is open included.
    pub async fn rests(&self) {
        let busy =
            "select count(*) from pg_stat_activity where datname = $name and state <> 'idle'";
        self.until(busy, "0").await;
    }

    /// Waits until so many of its sessions execute `pg_sleep`.
    pub async fn sleeps_in(&self, sessions: u64) {
        let asleep = "select count(*) from pg_stat_activity where datname = $name and wait_event = 'PgSleep'";
        self.until(asleep, &sessions.to_string()).await;
    }

    /// Ends all of its sessions, as whoever runs a server may, and waits until they are gone. Returns how many there
    /// were.
    pub async fn end_sessions(&self) -> u64 {
        let ended = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where datname = $name";
        number(self.observe(ended).await)
    }
}
