//! How long a server is waited for, where a call has less time than its invocation.
//!
//! A server that was told of the call's time ends it by itself, and the host has it cancelled where that was not done,
//! or what takes so long is the end of a transaction, for which servers have no limit. Where the network is silent,
//! neither is heard of.
//!
//! Promises: a call that has a time ends not much later than that, unless the server is heard of meanwhile; what has
//! arrived is read, however late, and passed on at once, whatever becomes of a request to cancel.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::task::unconstrained;
use tokio::time::timeout_at;

use super::Connection;
use super::cancelling::Canceller;
use crate::database::error::Result;
use crate::database::wire::Wire;
use crate::limits;

/// Until when a request may take.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Until {
    /// When the host has the server give it up.
    pub cancelled: Option<Instant>,
    /// When its time is over, behind which a server may only be silent for so long.
    pub over: Option<Instant>,
}

impl Until {
    /// For a request that begins now and may take so long; `cancel_after` if the server was told nothing of that.
    pub fn new(time: Option<Duration>, cancel_after: Option<Duration>) -> Self {
        if time.is_none() && cancel_after.is_none() {
            return Self::default();
        }
        let now = Instant::now();
        let told = time.map(|time| time.saturating_add(limits::CALL_GRACE / 2));
        let at = |after: Option<Duration>| after.and_then(|after| now.checked_add(after));
        Self {
            cancelled: at(cancel_after.or(told)),
            over: at(time),
        }
    }

    /// Whether the request may take any time.
    fn is_endless(self) -> bool {
        self.cancelled.is_none() && self.over.is_none()
    }
}

impl Connection {
    /// Waits for the server's next message, for as long as the request may take.
    pub async fn message(&mut self) -> Result<u8> {
        match self.in_flight.until.is_endless() {
            true => self.wire.message().await,
            false => Box::pin(self.in_time(async |wire| wire.message().await)).await,
        }
    }

    /// Waits until the server has taken what is to be sent, for as long as the request may take.
    pub async fn flush(&mut self) -> Result<()> {
        match self.in_flight.until.is_endless() {
            true => self.wire.flush().await,
            false => Box::pin(self.in_time(async |wire| wire.flush().await)).await,
        }
    }

    /// Waits for the server to do something, for as long as the request may take ([`Until::wait`]).
    pub async fn in_time<R>(&mut self, wait: impl AsyncFnMut(&mut Wire) -> Result<R>) -> Result<R> {
        let (backend, cancelling) = (&self.backend, &self.cancelling);
        let canceller = || Canceller::new(backend.clone(), cancelling.clone());
        let until = &mut self.in_flight.until;
        until.wait(&mut self.wire, canceller, wait).await
    }
}

impl Until {
    /// Waits for the server to do something. In time it is told to cancel it, and what it comes to all the same it
    /// says. If it is silent, the connection is given up. What is waited for is asked for anew meanwhile. Nothing else
    /// is awaited: what was read would be lost with whoever gives up the wait, and be passed on late.
    async fn wait<R>(
        &mut self,
        wire: &mut Wire,
        canceller: impl Fn() -> Canceller,
        mut wait: impl AsyncFnMut(&mut Wire) -> Result<R>,
    ) -> Result<R> {
        let (mut looked, mut before) = (Instant::now(), wire.traffic.bytes());
        loop {
            let silent = self.over.map(|over| match looked < over {
                true => over,
                false => looked + limits::CALL_GRACE,
            });
            let Some(next) = self.cancelled.into_iter().chain(silent).min() else {
                return wait(wire).await;
            };
            if let Ok(done) = timeout_at(next.into(), wait(wire)).await {
                return done;
            }
            if self.cancelled == Some(next) {
                self.cancelled = None;
                drop(canceller().cancel());
                continue;
            }
            // A large row is on its way for longer.
            let is_silent = self.over.is_some_and(|over| looked >= over);
            if is_silent && wire.traffic.bytes() == before {
                // This task may have had no time left to read what is there.
                let last = {
                    let waiting = pin!(unconstrained(wait(wire)));
                    futures_util::poll!(waiting)
                };
                if let Poll::Ready(done) = last {
                    return done;
                }
                if wire.traffic.bytes() == before {
                    wire.end();
                    return Err(wire.lost());
                }
            }
            (looked, before) = (Instant::now(), wire.traffic.bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::BytesMut;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, TcpStream, UnixListener};

    use super::*;
    use crate::database::connect::{Backend, Established, Stream};
    use crate::database::connection::cancelling::Cancelling;

    /// Whoever gives up the wait would lose it, and the call be told late what became of it, or not at all.
    #[tokio::test]
    async fn what_arrives_while_a_request_to_cancel_is_under_way_is_passed_on_at_once() {
        let path = std::env::temp_dir().join(format!("hearth-patience-{}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        // The system takes the connection, and nobody says anything there.
        let _silent = UnixListener::bind(&path).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (stream, server) = tokio::join!(connecting, listener.accept());
        let mut wire = Wire::new(Established {
            begun: std::time::SystemTime::now(),
            stream: Stream::Tcp(stream.unwrap()),
            received: BytesMut::new(),
            backend: Backend::at(&path),
            parameters: BTreeMap::new(),
        });
        wire.begin();
        wire.simple_query("select 1").unwrap();
        let cancelling = Cancelling::default();
        let canceller = || Canceller::new(Backend::at(&path), cancelling.clone());
        let now = Some(Instant::now());
        let mut until = Until {
            cancelled: now,
            over: now,
        };
        let answering = async {
            while !cancelling.is_under_way() {
                tokio::task::yield_now().await;
            }
            let (mut server, _) = server.unwrap();
            server.write_all(b"Z\0\0\0\x05I").await.unwrap();
            server
        };
        let waiting = until.wait(&mut wire, canceller, async |wire| wire.message().await);
        let (tag, _server) = tokio::join!(waiting, answering);
        assert_eq!(tag.unwrap(), b'Z');
        assert!(cancelling.is_under_way());
        std::fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_server_that_was_told_of_the_time_has_some_more_to_end_the_call_itself() {
        let second = Duration::from_secs(1);
        let later = |until: Until| {
            let [cancelled, over] = [until.cancelled, until.over].map(Option::unwrap);
            cancelled - over
        };
        assert_eq!(
            later(Until::new(Some(second), None)),
            limits::CALL_GRACE / 2
        );
        assert_eq!(
            later(Until::new(Some(second), Some(second))),
            Duration::ZERO
        );
        for time in [None, Some(Duration::MAX)] {
            assert!(Until::new(time, None).is_endless());
        }
    }
}
