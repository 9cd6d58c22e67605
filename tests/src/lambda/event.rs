//! An event, as a test makes it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;

const REQUEST_ID: &str = "Lambda-Runtime-Aws-Request-Id";

/// One event for the host.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its request id.
    pub id: String,
    /// Its payload.
    pub payload: Bytes,
    /// The headers it comes with.
    pub headers: Vec<(String, String)>,
    /// When Lambda gives it up, by its own clock.
    pub until: Instant,
}

impl Event {
    /// An event with this payload, to be answered within `timeout` of now.
    pub fn new(payload: impl Into<Bytes>, timeout: Duration) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let id = format!(
            "00000000-e2e0-4000-8000-{:012x}",
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let deadline = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is after 1970")
            + timeout;
        let headers = [
            (REQUEST_ID, id.clone()),
            (
                "Lambda-Runtime-Deadline-Ms",
                deadline.as_millis().to_string(),
            ),
            (
                "Lambda-Runtime-Invoked-Function-Arn",
                "arn:aws:lambda:eu-central-1:123456789012:function:tested".to_owned(),
            ),
            (
                "Lambda-Runtime-Trace-Id",
                "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
                    .to_owned(),
            ),
            ("Content-Type", "application/json".to_owned()),
        ];
        let headers = headers
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
        Self {
            id,
            payload: payload.into(),
            headers,
            until: Instant::now() + timeout,
        }
    }

    /// The value of one of its headers.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The same event with one more header, or another value for one it has.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if name.eq_ignore_ascii_case(REQUEST_ID) {
            self.id = value.to_owned();
        }
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}
