//! What came back for an event, through whichever door.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;

/// What came back for an event.
#[derive(Debug)]
pub struct Answer {
    /// The invocation's request id.
    pub request_id: String,
    /// Whether it is an error.
    pub failed: bool,
    /// The headers it came with, names in lower case.
    pub headers: HashMap<String, String>,
    /// The bytes.
    pub body: Bytes,
    /// How long it took, seen from outside.
    pub took: Duration,
}

impl Answer {
    /// The answer, which is none of an error.
    pub fn value(&self) -> Value {
        assert!(
            !self.failed,
            "an error came back: {}",
            String::from_utf8_lossy(&self.body)
        );
        self.json()
    }

    /// The type and the message of the error, which it is.
    pub fn error(&self) -> (String, String) {
        assert!(
            self.failed,
            "no error came back, but {}",
            String::from_utf8_lossy(&self.body)
        );
        let document = self.json();
        let text = |key: &str| {
            document[key]
                .as_str()
                .unwrap_or_else(|| panic!("no {key} in {document}"))
                .to_owned()
        };
        (text("errorType"), text("errorMessage"))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// Headers by their names.
pub(crate) fn map(headers: &hyper::HeaderMap) -> HashMap<String, String> {
    let text =
        |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect()
}
