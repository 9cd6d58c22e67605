//! An event as the Runtime API hands it out: a body, and headers that say the rest.
//!
//! Promises: an empty header means the same as none, an empty body the same as `{}`, and different ones never
//! the same; what this program does not know is kept for the guest; a reply that is no event is an error,
//! never a panic.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{DATE, HeaderName, HeaderValue};

use super::Error;
use super::clock::{self, Clock};
use super::http1_reply::Headers;
use crate::invocation::{Deadline, Invocation, Sender, Timeout, event_of, unix_ms_now};
use crate::limits;

pub(super) const INVOCATION_ID: HeaderName =
    HeaderName::from_static("lambda-runtime-invocation-id");
const REQUEST_ID: &str = "lambda-runtime-aws-request-id";
const DEADLINE: &str = "lambda-runtime-deadline-ms";
const ARN: &str = "lambda-runtime-invoked-function-arn";
const TRACE_ID: &str = "lambda-runtime-trace-id";
const CLIENT_CONTEXT: &str = "lambda-runtime-client-context";
const IDENTITY: &str = "lambda-runtime-cognito-identity";
const TENANT_ID: &str = "lambda-runtime-aws-tenant-id";
/// What Lambda's own headers begin with; the others are HTTP's.
const PREFIX: &str = "lambda-";

/// An event, and what its answer needs.
#[derive(Debug)]
pub struct Received {
    /// What to handle.
    pub invocation: Arc<Invocation>,
    /// Where to answer.
    pub receipt: Receipt,
}

/// What identifies one attempt at an invocation to the Runtime API.
#[derive(Debug, Clone)]
pub struct Receipt {
    pub(super) invocation: Arc<Invocation>,
    /// Unique to the attempt, where the request id may repeat. Echoed if it was given.
    pub(super) invocation_id: Option<HeaderValue>,
    /// The deadline as the header had it, which differs between attempts.
    pub(super) deadline_ms: Option<u64>,
}

impl Receipt {
    /// Whether both are of one event that was handed out twice.
    pub(super) fn is_of_same_attempt(&self, other: &Self) -> bool {
        self.invocation.request_id == other.invocation.request_id
            && self.invocation_id == other.invocation_id
            && self.deadline_ms == other.deadline_ms
    }
}

/// What Lambda's environment says of the function, the same for every event.
#[derive(Debug, Clone, Default)]
pub struct FunctionIdentity {
    /// Its name.
    pub name: String,
    /// Its version: a number, or `$LATEST`.
    pub version: String,
    /// How long it may take.
    pub timeout: Timeout,
}

/// Whether an event with this date, which came at that moment, seems to have been under way for long, and nothing
/// has come since that tells whether it was.
pub(super) fn is_in_doubt(date_ms: Option<u64>, came: Instant, clock: &Clock) -> bool {
    let looks_old = |date_ms| clock.looks_old(date_ms, unix_ms_at(came));
    date_ms.is_some_and(looks_old) && clock.shows_since(came).is_none()
}

/// What is known of the clock of whoever sends an event with these headers, which came at that moment. In doubt it
/// is what it would be if the event had just been sent: who has little time by mistake fails, and nobody is harmed by
/// too much.
fn sender(headers: &Headers, came: Instant, clock: &Clock) -> Sender {
    let (date_ms, came_ms) = (date_ms(headers), unix_ms_at(came));
    if let Some(date_ms) = date_ms {
        clock.handed_out(date_ms, came_ms);
    }
    let ago_ms = came.elapsed().as_millis() as u64;
    let ahead = match date_ms {
        Some(date) if is_in_doubt(date_ms, came, clock) => Some(clock::just_shown(date, came_ms)),
        _ => clock.ahead(),
    };
    Sender {
        ahead,
        shows_ms: (date_ms.map(|date_ms| date_ms + ago_ms)).max(clock.shows_since(came)),
    }
}

/// What this machine's clock showed at a moment, if nobody has set it since.
fn unix_ms_at(moment: Instant) -> u64 {
    unix_ms_now().saturating_sub(moment.elapsed().as_millis() as u64)
}

/// Reads an event out of the Runtime API's reply, whose head came at that moment. The time that it had then is
/// assumed for the next event, should that one bring no deadline that can be true.
pub(super) fn received(
    headers: &Headers,
    event: Bytes,
    came: Instant,
    clock: &Clock,
    identity: &mut FunctionIdentity,
) -> Result<Received, Error> {
    let header = |name: &str| headers.get(name).and_then(text);
    let Some(request_id) = header(REQUEST_ID) else {
        return Err(Error::Transient(
            "an event came without the header Lambda-Runtime-Aws-Request-Id".to_owned(),
        ));
    };
    let sender = sender(headers, came, clock);
    let (deadline_ms, from_header) = deadline_of(headers, &sender, identity.timeout);
    let ago = came.elapsed();
    let assumed = identity.timeout.assumed.saturating_sub(ago);
    let deadline = from_header.unwrap_or_else(|| Deadline::after(assumed));
    if let Some(left) = from_header.map(|deadline| deadline.remaining())
        && !left.is_zero()
    {
        identity.timeout.assumed = left + ago;
    }
    let invocation_id = headers.get(INVOCATION_ID.as_str());
    let invocation_id = invocation_id.filter(|id| !id.is_empty());
    let invocation = Arc::new(Invocation {
        request_id,
        event: event_of(event),
        deadline,
        function_name: identity.name.clone(),
        function_version: identity.version.clone(),
        function_arn: header(ARN).unwrap_or_default(),
        trace_id: header(TRACE_ID),
        client_context: header(CLIENT_CONTEXT),
        identity: header(IDENTITY),
        tenant_id: header(TENANT_ID),
        headers: unknown(headers),
    });
    Ok(Received {
        receipt: Receipt {
            invocation: invocation.clone(),
            invocation_id: invocation_id.and_then(|id| HeaderValue::from_bytes(id).ok()),
            deadline_ms,
        },
        invocation,
    })
}

/// How long the rest of an event is waited for whose headers have just come: as long as its own time lasts. There
/// is always some time, since an event that is asked for again only because it is late would be late again.
pub(super) fn time_left(headers: &Headers, clock: &Clock, timeout: Timeout) -> Duration {
    let sender = sender(headers, Instant::now(), clock);
    let (_, deadline) = deadline_of(headers, &sender, timeout);
    let left = deadline.map_or(timeout.assumed, |deadline| deadline.remaining());
    left.max(limits::API_REPLY_TIMEOUT_LEAST)
}

/// The deadline as the header has it, and the one that counts, if it can be true.
fn deadline_of(
    headers: &Headers,
    sender: &Sender,
    timeout: Timeout,
) -> (Option<u64>, Option<Deadline>) {
    let header = headers.get(DEADLINE).map(std::str::from_utf8);
    let unix_ms = header.and_then(|ms| ms.ok()?.parse().ok());
    let deadline = unix_ms.and_then(|ms| Deadline::from_header(ms, sender, timeout.most));
    (unix_ms, deadline)
}

/// What the clock of the other side showed when it sent a reply, to the second.
pub(super) fn date_ms(headers: &Headers) -> Option<u64> {
    dated_ms(headers.get(DATE.as_str())?)
}

/// The time in a header that is a date, in milliseconds since the Unix epoch.
pub(super) fn dated_ms(date: &[u8]) -> Option<u64> {
    let date = httpdate::parse_http_date(std::str::from_utf8(date).ok()?).ok()?;
    let since = date.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_millis()).ok()
}

/// A header's text, which is in Latin-1 where it is not in UTF-8; where it was folded it has a space.
fn text(value: &[u8]) -> Option<String> {
    let text = match std::str::from_utf8(value) {
        Ok(text) => text.to_owned(),
        Err(_) => value.iter().copied().map(char::from).collect(),
    };
    if text.contains(['\r', '\n']) {
        let lines = text.split(['\r', '\n']).map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        return Some(lines.join(" ")).filter(|text| !text.is_empty());
    }
    (!text.is_empty()).then_some(text)
}

/// Lambda's headers that this program has no name for: newer than it is.
fn unknown(headers: &Headers) -> Vec<(String, String)> {
    let invocation_id = INVOCATION_ID;
    let known = [
        REQUEST_ID,
        DEADLINE,
        ARN,
        TRACE_ID,
        CLIENT_CONTEXT,
        IDENTITY,
        TENANT_ID,
        invocation_id.as_str(),
    ];
    let is_new = |name: &[u8]| {
        let prefix = name.get(..PREFIX.len()).unwrap_or_default();
        prefix.eq_ignore_ascii_case(PREFIX.as_bytes())
            && !known
                .iter()
                .any(|known| name.eq_ignore_ascii_case(known.as_bytes()))
    };
    headers
        .iter()
        .filter(|(name, _)| is_new(name))
        .filter_map(|(name, value)| Some((text(&name.to_ascii_lowercase())?, text(value)?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::http1_reply::parse;
    use super::*;

    fn read(pairs: &[(&'static str, &'static str)]) -> Result<Received, Error> {
        let lines = pairs
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"));
        let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines.collect::<String>());
        let (head, _) = parse(head.as_bytes()).unwrap().unwrap();
        let event = Bytes::from_static(b"null");
        received(
            &head.headers,
            event,
            Instant::now(),
            &Clock::default(),
            &mut FunctionIdentity::default(),
        )
    }

    #[test]
    fn an_empty_header_is_none() {
        let event = read(&[
            ("lambda-runtime-aws-request-id", "r-1"),
            ("lambda-runtime-trace-id", ""),
            ("lambda-runtime-aws-tenant-id", "blue"),
            ("lambda-runtime-invocation-id", "i-1"),
        ])
        .unwrap();
        assert_eq!(event.invocation.trace_id, None);
        assert_eq!(event.invocation.tenant_id.as_deref(), Some("blue"));
        assert_eq!(event.receipt.invocation_id.unwrap(), "i-1");
        assert_eq!(event.invocation.headers, []);
    }

    #[test]
    fn a_header_of_a_newer_lambda_is_kept_and_one_of_https_is_not() {
        let event = read(&[
            ("lambda-runtime-aws-request-id", "r-1"),
            ("Lambda-Runtime-Weather", "mild"),
            ("lambda-runtime-nothing", ""),
            ("content-type", "application/json"),
            ("date", "Tue, 24 Nov 2026 12:00:00 GMT"),
        ])
        .unwrap();
        let kept = [("lambda-runtime-weather".to_owned(), "mild".to_owned())];
        assert_eq!(event.invocation.headers, kept);
    }

    /// Each attempt has an end of its own, where nothing else tells a retry from what is handed out again.
    #[test]
    fn another_deadline_is_another_attempt() {
        let receipt = |deadline| {
            let headers = [
                ("lambda-runtime-aws-request-id", "r-1"),
                ("lambda-runtime-deadline-ms", deadline),
            ];
            read(&headers).unwrap().receipt
        };
        let (first, same, other) = (receipt("600000"), receipt("600000"), receipt("600001"));
        assert!(first.is_of_same_attempt(&same));
        assert!(!first.is_of_same_attempt(&other));
    }

    #[test]
    fn the_rest_of_an_event_that_is_late_already_is_waited_for_all_the_same() {
        let now_ms = unix_ms_now();
        let headers = told(now_ms - 10, Some(now_ms));
        let left = time_left(&headers, &Clock::default(), Timeout::default());
        assert_eq!(left, limits::API_REPLY_TIMEOUT_LEAST);
    }

    /// The headers of an event with this deadline, and with this date, if any.
    fn told(deadline_ms: u64, date_ms: Option<u64>) -> Headers {
        let date =
            date_ms.map(|ms| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms)));
        let date = date.map(|date| format!("date: {date}\r\n"));
        let head = format!(
            "HTTP/1.1 200 OK\r\n{DEADLINE}: {deadline_ms}\r\n{}\r\n",
            date.unwrap_or_default()
        );
        parse(head.as_bytes()).unwrap().unwrap().0.headers
    }

    /// An event, and what happened before it.
    #[derive(Debug)]
    struct Case {
        /// By how many seconds this machine's clock was set since the other side's was known. None if that never was.
        set_s: Option<i64>,
        /// How far the other side's is ahead now.
        ahead_s: i64,
        timeout_s: i64,
        /// For how long the event has lain here.
        lain_s: i64,
        is_dated: bool,
        /// Whether the other side shows its clock when it is asked for nothing else.
        replies: bool,
    }

    impl Case {
        fn all() -> impl Iterator<Item = Self> {
            let sets = [-3_600, -800, -10, -2, -1, 0, 1, 2, 10, 29, 800, 3_600];
            let sets = sets.map(Some).into_iter().chain([None]);
            sets.flat_map(|set_s| {
                [-3_600, -15, 0, 15, 3_600]
                    .into_iter()
                    .flat_map(move |ahead_s| {
                        let times = [(1, 0), (3, 0), (30, 0), (3, 2), (30, 7), (3, 5), (10, 600)];
                        times.into_iter().flat_map(move |(timeout_s, lain_s)| {
                            let sides = [(true, true), (true, false), (false, false)];
                            sides.map(|(is_dated, replies)| Self {
                                set_s,
                                ahead_s,
                                timeout_s,
                                lain_s,
                                is_dated,
                                replies,
                            })
                        })
                    })
            })
        }

        /// The deadline that counts; none if nothing can be true, as far as is known.
        fn deadline(&self) -> Option<Deadline> {
            let clock = Clock::default();
            let date_of = |ms: u64| ms - ms % 1_000;
            if let Some(set_s) = self.set_s {
                let ahead_ms = (self.ahead_s + set_s) * 1_000;
                for moment in (0..2_000).step_by(10) {
                    let then_ms = unix_ms_now() + moment;
                    let date_ms = date_of(then_ms.saturating_add_signed(ahead_ms));
                    clock.shown(date_ms, then_ms - 1, then_ms + 1);
                }
            }
            let came = Instant::now();
            let senders_ms = unix_ms_now().saturating_add_signed(self.ahead_s * 1_000);
            let sent_ms = senders_ms - self.lain_s as u64 * 1_000;
            let deadline_ms = sent_ms + self.timeout_s as u64 * 1_000;
            let headers = told(deadline_ms, self.is_dated.then_some(sent_ms));
            if is_in_doubt(date_ms(&headers), came, &clock) && self.replies {
                let asked_ms = unix_ms_now();
                clock.shown(date_of(senders_ms), asked_ms, unix_ms_now());
            }
            let sender = sender(&headers, came, &clock);
            deadline_of(&headers, &sender, Timeout::default()).1
        }
    }

    #[test]
    fn no_event_that_has_time_left_is_refused_whatever_was_set() {
        for case in Case::all().filter(|case| case.timeout_s > case.lain_s) {
            let passed = case.deadline().and_then(|deadline| deadline.passed());
            assert_eq!(passed, None, "{case:?}");
        }
    }

    #[test]
    fn an_event_that_has_just_come_has_about_its_own_time_whatever_was_set() {
        let told = |case: &Case| case.is_dated && case.lain_s == 0;
        for case in Case::all().filter(told) {
            let left = case.deadline().unwrap().remaining().as_secs_f64();
            let timeout = case.timeout_s as f64;
            assert!(left <= timeout + 1.01, "{left}: {case:?}");
            let least = (timeout / 2.0 - 0.1).min(timeout - 2.1);
            assert!(left >= least, "{left}: {case:?}");
        }
    }

    #[test]
    fn an_event_that_has_lain_here_has_lost_that_time_where_the_clock_is_known() {
        let told = |case: &Case| case.replies && case.set_s.is_some_and(|set_s| set_s >= 0);
        for case in Case::all().filter(|case| told(case) && case.lain_s > 3) {
            let deadline = case.deadline().unwrap();
            let left = (case.timeout_s - case.lain_s) as f64;
            if left > 0.0 {
                let remaining = deadline.remaining().as_secs_f64();
                assert!(remaining <= left + 0.01, "{remaining}: {case:?}");
                assert!(remaining >= left - 2.1, "{remaining}: {case:?}");
            } else {
                // By this machine's clock there may be some, and the other may be the one that is wrong.
                let by_own = case.timeout_s - case.lain_s + case.ahead_s;
                let is_over = !(1..=900).contains(&by_own);
                assert_eq!(deadline.passed().is_some(), is_over, "{case:?}");
            }
        }
    }

    /// The rest of it took so long to come.
    #[test]
    fn what_is_assumed_of_an_event_counts_from_its_head() {
        let head = format!("HTTP/1.1 200 OK\r\n{REQUEST_ID}: r-1\r\n\r\n");
        let (head, _) = parse(head.as_bytes()).unwrap().unwrap();
        let mut identity = FunctionIdentity::default();
        identity.timeout.assumed = Duration::from_millis(300);
        let ago = Duration::from_millis(100);
        let came = Instant::now().checked_sub(ago).unwrap();
        let clock = Clock::default();
        let received = received(&head.headers, Bytes::new(), came, &clock, &mut identity);
        let left = received.unwrap().invocation.deadline.remaining();
        assert!(left <= identity.timeout.assumed - ago, "{left:?}");
        assert!(left > identity.timeout.assumed / 3, "{left:?}");
    }

    #[test]
    fn what_is_not_utf8_is_not_the_same_as_something_else() {
        assert_eq!(text(b"bl\xfc").unwrap(), "bl\u{fc}");
        assert_eq!(text(b"bl\xf6").unwrap(), "bl\u{f6}");
        assert_eq!(text("bl\u{fc}".as_bytes()).unwrap(), "bl\u{fc}");
        assert_eq!(text(b"a\r\n\t b\r\n c").unwrap(), "a b c");
        assert_eq!(text(b""), None);
    }

    #[test]
    fn a_reply_without_a_request_id_is_an_error() {
        assert!(matches!(read(&[]), Err(Error::Transient(_))));
    }
}
