//! How long the Runtime API is waited for, and how a peer that is gone is noticed.
//!
//! Promises: what has a limit ends by it; waiting with one costs no system call as a rule.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::time::Sleep;

use super::http1::Lost;
use crate::limits;

/// Has the system notice a peer that is gone without a word, while an event is waited for.
pub(super) fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, limits::API_KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, limits::API_KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(stream, limits::KEEPALIVE_COUNT)?;
    Ok(())
}

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoReply {
    #[error("{0}")]
    Lost(#[from] Lost),
    #[error("there was no reply within {:.1} s", .0.as_secs_f64())]
    Late(Duration),
}

/// Waits for replies with one timer for all of them: arming one each time would cost system calls,
/// so it is armed anew only where it has run out too early.
#[derive(Default)]
pub(super) struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// The reply, if it comes within the limit, should there be one.
    pub(super) async fn reply<R>(
        &mut self,
        limit: Option<Duration>,
        exchange: impl Future<Output = Result<R, Lost>>,
    ) -> Result<R, NoReply> {
        let Some(limit) = limit else {
            return Ok(exchange.await?);
        };
        let begin = Instant::now();
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        let mut exchange = pin!(exchange);
        poll_fn(|cx| {
            if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
                return Poll::Ready(Ok(reply?));
            }
            while timer.as_mut().poll(cx).is_ready() {
                if begin.elapsed() >= limit {
                    return Poll::Ready(Err(NoReply::Late(limit)));
                }
                timer.as_mut().reset((begin + limit).into());
            }
            Poll::Pending
        })
        .await
    }
}

/// How long to wait after so many failures in a row.
pub fn pause(failures: u32) -> Duration {
    Duration::from_millis(50 << failures.min(6)).min(limits::API_PAUSE_MAX)
}

/// Takes an address apart: `host:port`, as Lambda gives it, and the path of a URL, as emulators do.
pub(super) fn split(address: &str) -> (&str, &str) {
    let address = address.strip_prefix("http://").unwrap_or(address);
    let (address, path) = address.split_at(address.find('/').unwrap_or(address.len()));
    (address, path.trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_may_be_a_url_with_a_path() {
        for (given, expected) in [
            ("127.0.0.1:9001", ("127.0.0.1:9001", "")),
            ("http://127.0.0.1:9001/", ("127.0.0.1:9001", "")),
            ("http://[::1]:9000/.rt/shop", ("[::1]:9000", "/.rt/shop")),
            ("localhost:9000/.rt/shop/", ("localhost:9000", "/.rt/shop")),
        ] {
            assert_eq!(split(given), expected);
        }
    }
}
