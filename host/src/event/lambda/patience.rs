//! How long the Runtime API is waited for, how often it is asked again, and how a peer that is gone is
//! noticed.
//!
//! Promises: what has a limit ends by it, but not before what had come by then was looked at; waiting with
//! one costs no system call as a rule; whoever takes a connection, if only to refuse, to talk nonsense or to
//! close it again, is never given up.

use std::future::poll_fn;
use std::num::NonZeroU16;
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use rustix::net::sockopt;
use tokio::net::TcpStream;
use tokio::task::yield_now;
use tokio::time::{Sleep, timeout_at};

use super::Error;
use crate::fault::{Fault, Kind};
use crate::limits;

/// Has the system notice a peer that is gone without a word, while an event is waited for.
pub(super) fn keep_alive(stream: &TcpStream) -> std::io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, limits::API_KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, limits::API_KEEPALIVE)?;
    sockopt::set_tcp_keepcnt(stream, limits::KEEPALIVE_COUNT)?;
    Ok(())
}

/// Has the system notice that what was sent does not arrive, or lets that wait for as long as it takes:
/// for whoever reads so slowly that it does not fit into the buffers on the way.
#[cfg(target_os = "linux")]
pub(super) fn expect_receipt(stream: &TcpStream, expected: bool) -> std::io::Result<()> {
    let limit_ms = match expected {
        true => limits::UNRECEIVED_TIMEOUT.as_millis() as u32,
        false => 0,
    };
    sockopt::set_tcp_user_timeout(stream, limit_ms)?;
    Ok(())
}

/// Other systems have no such limit.
#[cfg(not(target_os = "linux"))]
pub(super) fn expect_receipt(_: &TcpStream, _: bool) -> std::io::Result<()> {
    Ok(())
}

/// What comes of this by then. Where the process stood still past the end, what came meanwhile is there, but
/// the runtime runs timers before it has seen it: so it looks at the sockets once more.
pub(super) async fn by<F: Future>(end: Instant, mut doing: Pin<&mut F>) -> Option<F::Output> {
    if let Ok(done) = timeout_at(end.into(), doing.as_mut()).await {
        return Some(done);
    }
    yield_now().await;
    doing.now_or_never()
}

/// How long a reply is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    deadline: Option<Instant>,
    is_long: bool,
    is_last: bool,
}

impl Limit {
    /// That of a post for which somebody waits until `deadline`, if anybody does. The reply to a long one
    /// may come only when that somebody has read it.
    pub(super) fn new(deadline: Option<Instant>, is_long: bool) -> Self {
        Self {
            deadline,
            is_long,
            is_last: false,
        }
    }

    /// The same for a copy after which there is no other: all of the time that is left.
    pub(super) fn last(self) -> Self {
        Self {
            is_last: true,
            ..self
        }
    }

    /// Whether there is to be no other copy.
    pub(super) fn is_last(self) -> bool {
        self.is_last
    }

    /// [`limits::API_REPLY_TIMEOUT`], but no more than half of the time that is left: the other half is
    /// for the second copy. Who may read slowly has all of that half.
    pub(super) fn end(self, begin: Instant) -> Instant {
        let Some(deadline) = self.deadline else {
            return begin + limits::API_REPLY_TIMEOUT;
        };
        if self.is_last {
            return deadline.max(begin + limits::API_REPLY_TIMEOUT_LEAST);
        }
        let half = deadline.saturating_duration_since(begin) / 2;
        let most = match self.is_long {
            true => half,
            false => half.min(limits::API_REPLY_TIMEOUT),
        };
        begin + most.max(limits::API_REPLY_TIMEOUT_LEAST)
    }
}

/// There was no reply within this time.
#[derive(Debug, thiserror::Error)]
#[error("there was no reply within {:.1} s", .0.as_secs_f64())]
pub(super) struct Late(Duration);

/// Waits for replies with one timer for all of them: arming one each time would cost system calls,
/// so it is armed anew only where it has run out too early.
#[derive(Default)]
pub(super) struct ReplyTimer(Option<Pin<Box<Sleep>>>);

impl ReplyTimer {
    /// What comes of an exchange within the limit, should there be one. One that is late may go on.
    pub(super) async fn reply<F: Future>(
        &mut self,
        limit: Option<Limit>,
        mut exchange: Pin<&mut F>,
    ) -> Result<F::Output, Late> {
        let Some(limit) = limit else {
            return Ok(exchange.await);
        };
        let begin = Instant::now();
        let end = limit.end(begin);
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limits::API_REPLY_TIMEOUT)));
        if timer.deadline().into_std() > end {
            timer.as_mut().reset(end.into());
        }
        let in_time = poll_fn(|cx| {
            if let Poll::Ready(reply) = exchange.as_mut().poll(cx) {
                return Poll::Ready(Some(reply));
            }
            while timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                if now >= end {
                    return Poll::Ready(None);
                }
                // No further: the next exchange may have the shortest limit.
                let next = end.min(now + limits::API_REPLY_TIMEOUT);
                timer.as_mut().reset(next.into());
            }
            Poll::Pending
        });
        if let Some(reply) = in_time.await {
            return Ok(reply);
        }
        // As in `by`: a copy of what has a reply would be one too many.
        yield_now().await;
        exchange.now_or_never().ok_or(Late(end - begin))
    }
}

/// What has gone wrong with the Runtime API, in a row.
#[derive(Debug, Default)]
pub struct Failures {
    count: u32,
    /// Since when nobody has taken a connection, and how often that was.
    unreachable: Option<(Instant, u32)>,
}

impl Failures {
    /// How many there were.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Takes note of one more, of an exchange that lasted so long. Returns how long to wait before the next
    /// attempt, or why there is to be none.
    pub fn add(&mut self, error: &Error, lasted: Duration) -> Result<Duration, Fault> {
        self.add_at(error, lasted, Instant::now())
    }

    fn add_at(&mut self, error: &Error, lasted: Duration, now: Instant) -> Result<Duration, Fault> {
        let given_up = |message| Err(Fault::new(Kind::Internal, message));
        match error {
            Error::Fatal(_) => return given_up(error.to_string()),
            // Whoever is there may have an event later; and to end would end the invocations of other slots.
            Error::Transient(_) | Error::Cut(_) => {
                self.unreachable = None;
                // A wait that ended after a while is none of a series, and nobody may ask meanwhile.
                if lasted > limits::API_PAUSE_MAX {
                    self.count = 0;
                    return Ok(Duration::ZERO);
                }
            }
            Error::Unreachable(_) => {
                let (since, times) = self.unreachable.unwrap_or((now, 0));
                self.unreachable = Some((since, times + 1));
                let away = now.saturating_duration_since(since);
                // A process that was frozen meanwhile may have tried only twice.
                if away > limits::API_AWAY_MAX && times >= limits::API_FAILURES_MAX {
                    let message = format!("{error}; given up after {} s", away.as_secs());
                    return given_up(message);
                }
            }
        }
        self.count += 1;
        Ok(pause(self.count))
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

/// Whether this is such an address, `host:port` with whatever else is taken; the host may be one of IPv6.
pub fn is_address(address: &str) -> bool {
    let parts = split(address).0.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<NonZeroU16>().is_ok())
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn a_reply_is_waited_for_so_long_that_there_is_time_for_a_second_copy() {
        let begin = Instant::now();
        let (least, most) = (limits::API_REPLY_TIMEOUT_LEAST, limits::API_REPLY_TIMEOUT);
        let s = Duration::from_secs;
        for (left, short, long) in [
            (None, most, most),
            (Some(s(0)), least, least),
            (Some(s(3)), s(3) / 2, s(3) / 2),
            (Some(s(60)), most, s(30)),
        ] {
            let limit = |is_long| Limit::new(left.map(|left| begin + left), is_long);
            let end = |is_long| limit(is_long).end(begin);
            assert_eq!(
                (end(false), end(true)),
                (begin + short, begin + long),
                "{left:?}"
            );
            let last = left.map_or(most, |left| left.max(least));
            assert_eq!(limit(false).last().end(begin), begin + last, "{left:?}");
        }
    }

    /// What is armed for a reply that may take long is no limit for one that may not.
    #[tokio::test]
    async fn a_short_limit_is_kept_by_a_timer_that_was_armed_for_a_long_one() {
        let mut timer = ReplyTimer(Some(Box::pin(tokio::time::sleep(
            limits::API_REPLY_TIMEOUT,
        ))));
        let begun = Instant::now();
        let limit = Limit::new(Some(begun), false);
        let never = std::pin::pin!(pending::<()>());
        assert!(timer.reply(Some(limit), never).await.is_err());
        assert!(begun.elapsed() < limits::API_REPLY_TIMEOUT);
    }

    #[test]
    fn whoever_replies_is_never_given_up_and_nobody_only_after_a_while() {
        let error = |unreachable| match unreachable {
            true => Error::Unreachable("nobody".to_owned()),
            false => Error::Transient("nonsense".to_owned()),
        };
        let (begin, quick) = (Instant::now(), Duration::ZERO);
        let mut failures = Failures::default();
        for second in 0..1_000 {
            let now = begin + Duration::from_secs(second);
            let pause = failures
                .add_at(&error(second % 50 != 0), quick, now)
                .unwrap();
            assert!(pause <= limits::API_PAUSE_MAX);
        }
        let mut failures = Failures::default();
        let mut given_up = (0..1_000).filter(|second| {
            let now = begin + Duration::from_secs(*second);
            failures.add_at(&error(true), quick, now).is_err()
        });
        assert_eq!(given_up.next(), Some(limits::API_AWAY_MAX.as_secs() + 1));
        // It stood still between two attempts.
        let mut failures = Failures::default();
        for hour in 0..limits::API_FAILURES_MAX {
            let now = begin + Duration::from_secs(3_600 * u64::from(hour));
            assert!(failures.add_at(&error(true), quick, now).is_ok());
        }
        let fatal = Error::Fatal("beyond repair".to_owned());
        assert!(Failures::default().add(&fatal, quick).is_err());
    }

    #[test]
    fn a_wait_that_lasted_begins_again_at_once_and_one_that_did_not_after_a_while() {
        let cut = Error::Cut("the connection was closed".to_owned());
        let long = limits::API_PAUSE_MAX + Duration::from_millis(1);
        let mut failures = Failures::default();
        for _ in 0..100 {
            assert_eq!(failures.add(&cut, long).unwrap(), Duration::ZERO);
        }
        let mut quick = || failures.add(&cut, Duration::ZERO).unwrap();
        assert!(Duration::ZERO < quick());
        assert!(quick() < quick());
        let nobody = Error::Unreachable("nobody".to_owned());
        assert!(Duration::ZERO < failures.add(&nobody, long).unwrap());
    }

    /// As after a freeze: both are there at once, and the timer is heard of first.
    #[tokio::test]
    async fn what_has_come_by_the_end_is_not_late() {
        let stands_still = || async {
            std::thread::sleep(limits::API_REPLY_TIMEOUT_LEAST + Duration::from_millis(10));
            yield_now().await;
            1
        };
        let now = Instant::now();
        let mut timer = ReplyTimer(Some(Box::pin(tokio::time::sleep(Duration::ZERO))));
        let exchange = std::pin::pin!(stands_still());
        let limit = Limit::new(Some(now), false);
        assert_eq!(timer.reply(Some(limit), exchange).await.unwrap(), 1);
        assert_eq!(by(now, std::pin::pin!(stands_still())).await, Some(1));
        assert_eq!(by(now, std::pin::pin!(pending::<u8>())).await, None);
    }

    /// Armed for a long wait, the timer would sleep through the end of a short one after it.
    #[tokio::test]
    async fn a_timer_is_armed_no_further_than_the_shortest_limit() {
        let mut timer = ReplyTimer(Some(Box::pin(tokio::time::sleep(Duration::ZERO))));
        let long = Limit::new(Some(Instant::now() + Duration::from_secs(900)), true);
        // The timer has run out by the second look, and is then armed anew.
        let exchange = std::pin::pin!(async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            yield_now().await;
        });
        timer.reply(Some(long), exchange).await.unwrap();
        let armed = timer.0.unwrap().deadline().into_std();
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

    #[test]
    fn an_address_has_a_host_and_a_port() {
        for address in [
            "127.0.0.1:9001",
            "localhost:9001",
            "[::1]:9001",
            "::1:9001",
            "http://127.0.0.1:9001/.rt/",
            "localhost:9001/function",
        ] {
            assert!(is_address(address), "{address}");
        }
        for address in [
            "foo",
            "foo:",
            ":9001",
            "foo:http",
            "foo:65536",
            "foo:0",
            "foo/bar:9001",
            "https://foo:9001",
            "",
        ] {
            assert!(!is_address(address), "{address}");
        }
    }
}
