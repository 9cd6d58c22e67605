//! The end of the environment: one signal, many listeners.
//!
//! Lambda and every supervisor send SIGTERM; a person presses ctrl-c, which is SIGINT.

use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

/// Tells whoever listens that the environment is to end.
#[derive(Debug, Clone)]
pub struct Shutdown(watch::Receiver<Option<Instant>>);

impl Shutdown {
    /// Listens to SIGTERM and SIGINT from now on. Needs the runtime; fails if signals cannot be
    /// listened to.
    pub fn on_signals() -> std::io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, receiver) = watch::channel(None);
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            sender.send_replace(Some(Instant::now()));
            tracing::info!("stopping on {name}");
            // Kept open: a closed channel would mean the same as a signal, but only by accident.
            std::future::pending::<()>().await;
        });
        Ok(Self(receiver))
    }

    /// Since when the environment is to end, if it is.
    pub fn requested_at(&self) -> Option<Instant> {
        *self.0.borrow()
    }

    /// Waits until the environment is to end.
    pub async fn requested(&self) {
        let mut receiver = self.0.clone();
        // An error means that the runtime is going down, which is the same thing.
        let _ = receiver.wait_for(Option::is_some).await;
    }
}
