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

/// How long a reply is waited for: [`limits::API_REPLY_TIMEOUT`], and longer if there is reason to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit(Option<Instant>);

impl Limit {
    /// At least until then, if a time is given.
    pub(super) fn new(until: Option<Instant>) -> Self {
        Self(until)
    }

    fn end(self, begin: Instant) -> Instant {
        let end = begin + limits::API_REPLY_TIMEOUT;
        self.0.map_or(end, |until| end.max(until))
    }
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
        limit: Option<Limit>,
        exchange: impl Future<Output = Result<R, Lost>>,
    ) -> Result<R, NoReply> {
        let Some(limit) = limit else {
            return Ok(exchange.await?);
        };
        let begin = Instant::now();
        let end = limit.end(begin);
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::API_REPLY_TIMEOUT)));
        let mut exchange = pin!(exchange);
        poll_fn(|cx| {
            if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
                return Poll::Ready(Ok(reply?));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                if now >= end {
                    return Poll::Ready(Err(NoReply::Late(end - begin)));
                }
                // No further: the next exchange may have the shortest limit.
                let next = end.min(now + limits::API_REPLY_TIMEOUT);
                timer.as_mut().reset(next.into());
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
    fn a_reply_is_waited_for_until_the_later_of_two_times() {
        let begin = Instant::now();
        let shortest = begin + limits::API_REPLY_TIMEOUT;
        let later = shortest + Duration::from_secs(60);
        for (until, end) in [
            (None, shortest),
            (Some(begin), shortest),
            (Some(later), later),
        ] {
            assert_eq!(Limit::new(until).end(begin), end);
        }
    }

    /// Armed for a long wait, the timer would sleep through the end of a short one after it.
    #[tokio::test]
    async fn a_timer_is_armed_no_further_than_the_shortest_limit() {
        let mut patience = Patience(Some(Box::pin(tokio::time::sleep(Duration::ZERO))));
        let long = Limit::new(Some(Instant::now() + Duration::from_secs(900)));
        // The timer has run out by the second look, and is then armed anew.
        let exchange = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            tokio::task::yield_now().await;
            Ok(())
        };
        patience.reply(Some(long), exchange).await.unwrap();
        let armed = patience.0.unwrap().deadline().into_std();
        assert!(armed <= Instant::now() + limits::API_REPLY_TIMEOUT);
    }

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
