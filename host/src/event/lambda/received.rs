//! An event as the Runtime API hands it out: a body, and headers that say the rest.
//!
//! Promises: an empty header means the same as none, an empty body the same as `{}`, and different ones never
//! the same; what this program does not know is kept for the guest; a reply that is no event is an error,
//! never a panic.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{DATE, HeaderName, HeaderValue};

use super::Error;
use super::clock::Clock;
use super::http1_reply::Headers;
use crate::invocation::{Deadline, Invocation, Sender, Timeout, event_of};
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

/// Who sends an event with these headers, which came so long `ago`, by what is known of their clock.
pub(super) fn sender(headers: &Headers, ago: Duration, clock: &Clock) -> Sender {
    let offset = clock.offset();
    Sender {
        clock_ms: date_ms(headers),
        offset_ms: offset.map(|offset| offset.least),
        offset_most_ms: offset.and_then(|offset| offset.most_if_fresh),
        is_another: offset.is_some_and(|offset| offset.is_difference()),
        ago,
    }
}

/// Reads an event out of the Runtime API's reply. The time that it had on arrival is assumed for the next
/// event, should that one bring no deadline that can be true.
pub(super) fn received(
    headers: &Headers,
    event: Bytes,
    sender: &Sender,
    identity: &mut FunctionIdentity,
) -> Result<Received, Error> {
    let header = |name: &str| headers.get(name).and_then(text);
    let Some(request_id) = header(REQUEST_ID) else {
        return Err(Error::Transient(
            "an event came without the header Lambda-Runtime-Aws-Request-Id".to_owned(),
        ));
    };
    let (deadline_ms, from_header) = deadline_of(headers, sender, identity.timeout);
    let assumed = identity.timeout.assumed.saturating_sub(sender.ago);
    let deadline = from_header.unwrap_or_else(|| Deadline::after(assumed));
    if let Some(left) = from_header.map(|deadline| deadline.remaining())
        && !left.is_zero()
    {
        identity.timeout.assumed = left + sender.ago;
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

/// How long the rest of an event with these headers is waited for: as long as its own time lasts. There is
/// always some time, since an event that is asked for again only because it is late would be late again.
pub(super) fn time_left(headers: &Headers, sender: &Sender, timeout: Timeout) -> Duration {
    let (_, deadline) = deadline_of(headers, sender, timeout);
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
            &Sender::default(),
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
        let now_ms = crate::invocation::unix_ms_now();
        let head = format!("HTTP/1.1 200 OK\r\n{DEADLINE}: {}\r\n\r\n", now_ms - 10);
        let (head, _) = parse(head.as_bytes()).unwrap().unwrap();
        let left = time_left(&head.headers, &Sender::default(), Timeout::default());
        assert_eq!(left, limits::API_REPLY_TIMEOUT_LEAST);
    }

    /// The rest of it took so long to come.
    #[test]
    fn what_is_assumed_of_an_event_counts_from_its_head() {
        let head = format!("HTTP/1.1 200 OK\r\n{REQUEST_ID}: r-1\r\n\r\n");
        let (head, _) = parse(head.as_bytes()).unwrap().unwrap();
        let mut identity = FunctionIdentity::default();
        let ago = identity.timeout.assumed / 3;
        let sender = sender(&head.headers, ago, &Clock::default());
        let received = received(&head.headers, Bytes::new(), &sender, &mut identity).unwrap();
        let left = received.invocation.deadline.remaining();
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
