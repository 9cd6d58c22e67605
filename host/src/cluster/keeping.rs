//! A server that ends by itself, or is killed, is started again.
//!
//! Promises: the log says how it ended, with its last words; it is back at the same address; whatever
//! keeps it from running, an attempt is made no more often than the pauses between them allow.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use super::user::User;
use super::{Cluster, ClusterError, log_in, server};

/// How often it is looked whether the server still runs.
const GLANCE: Duration = Duration::from_millis(100);
/// The pause before the second attempt; each further one doubles it.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// The longest pause. A server that has run for longer is started again at once.
const PAUSE_MAX: Duration = Duration::from_secs(10);

impl Cluster {
    /// Starts the server again whenever it has ended. It is waited for beside the work that needs it.
    pub async fn keep(&mut self) -> Infallible {
        let mut pause = Duration::ZERO;
        loop {
            let begun = Instant::now();
            let status = self.ended().await;
            let words = server::words_in(&log_in(&self.options.directory));
            tracing::error!("PostgreSQL has ended ({status}) and is started again: {words}");
            if begun.elapsed() > PAUSE_MAX {
                pause = Duration::ZERO;
            }
            loop {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).clamp(PAUSE_FIRST, PAUSE_MAX);
                match self.restart().await {
                    Ok(()) => break,
                    Err(error) => tracing::error!(
                        "PostgreSQL cannot be started again, and is tried anew in {:.1} s: {error}",
                        pause.as_secs_f64()
                    ),
                }
            }
            tracing::info!("PostgreSQL runs again");
        }
    }

    /// Waits for the server's end, and says how it was.
    async fn ended(&mut self) -> String {
        let data = self.options.directory.join("data");
        loop {
            let status = match (&mut self.server, self.pid) {
                (Some(server), _) => server.status(),
                (None, Some(pid)) => server::gone(pid, &data),
                (None, None) => None,
            };
            if let Some(status) = status {
                return status;
            }
            tokio::time::sleep(GLANCE).await;
        }
    }

    async fn restart(&mut self) -> Result<(), ClusterError> {
        let options = self.options.clone();
        let user = User::for_server(&options.directory.join("data"))?;
        // Of all hosts that used it, the one that has the claim first starts it.
        self.server = None;
        self.claim = None;
        let next = Self::open(options, user.as_ref(), Some(&self.sockets)).await?;
        // The folder goes on with the next one.
        self.sockets_are_temporary = false;
        *self = next;
        Ok(())
    }
}
