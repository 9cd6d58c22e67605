//! What comes in and what goes out, between bytes and types.
//!
//! Promises: what serde can read and write crosses as JSON, [`Raw`] as it is; an event that does
//! not fit is the caller's mistake, and the message says what was wrong and where.
//! Left to others: the order of things in an invocation ([`crate::function`]).

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::error::Category;

use crate::bindings::hearth::function::invocation::HttpHead;
use crate::failure::{Failure, INVALID_ANSWER, INVALID_EVENT};
use crate::streamed::Streamed;

/// An event or an answer as bytes, for a function whose events are not JSON or need no parsing.
///
/// ```
/// use hearth::Raw;
///
/// async fn handle(event: Raw) -> Result<Raw, hearth::Error> {
///     Ok(event)
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Raw(
    /// The bytes as the caller sent them, or will receive them.
    pub Vec<u8>,
);

/// What a function can take as its event: everything that implements serde's `DeserializeOwned` (from
/// JSON), and [`Raw`]. `Deserialize` can be derived for that; a type that borrows, as with `&str`, has to
/// own instead, since the bytes of the event are gone when the function runs.
///
/// Implement it for a type of yours that reads another format.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an event",
    note = "derive `serde::Deserialize` for it, with `String` and no `&str` in it, or take the bytes as `hearth::Raw`"
)]
pub trait Event: Sized {
    /// Reads the event. An error should blame the caller ([`Failure::caller`]).
    fn decode(bytes: Vec<u8>) -> Result<Self, Failure>;
}

/// What a function can answer: everything that implements serde's `Serialize` (as JSON), [`Raw`],
/// [`Streamed`], and [`Http`](crate::Http) around any of them.
///
/// Implement it for a type of yours that writes another format.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an answer",
    note = "derive `serde::Serialize` for it, or answer with bytes as `hearth::Raw`"
)]
pub trait Answer {
    /// Writes the answer: `Ok(bytes.into())`.
    fn encode(self) -> Result<Encoded, Failure>;
}

/// An answer, ready to go out. It is made of bytes, or of a [`Streamed`] answer, by `into()`.
#[derive(Debug)]
pub struct Encoded {
    pub(crate) head: Option<HttpHead>,
    /// What HTTP is told of the content, where nothing else is said.
    pub(crate) content_type: Option<&'static str>,
    pub(crate) content: Content,
}

/// The bytes of an answer.
#[derive(Debug)]
pub(crate) enum Content {
    Whole(Vec<u8>),
    Streamed(Streamed),
}

impl From<Content> for Encoded {
    fn from(content: Content) -> Self {
        Self {
            head: None,
            content_type: None,
            content,
        }
    }
}

impl From<Vec<u8>> for Encoded {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Whole(bytes).into()
    }
}

impl From<Streamed> for Encoded {
    fn from(streamed: Streamed) -> Self {
        Content::Streamed(streamed).into()
    }
}

impl<T: DeserializeOwned> Event for T {
    fn decode(bytes: Vec<u8>) -> Result<Self, Failure> {
        serde_json::from_slice(&bytes).map_err(|error| {
            // Behind what was enough for the type JSON may go on: a list of more than a pair has.
            let is_json = error.classify() == Category::Data
                || serde_json::from_slice::<IgnoredAny>(&bytes).is_ok();
            let what = match is_json {
                true => "what this function takes",
                false => "JSON",
            };
            Failure::caller(INVALID_EVENT, format!("the event is not {what}: {error}"))
        })
    }
}

impl Event for Raw {
    fn decode(bytes: Vec<u8>) -> Result<Self, Failure> {
        Ok(Self(bytes))
    }
}

impl<U: Serialize> Answer for U {
    fn encode(self) -> Result<Encoded, Failure> {
        let bytes = serde_json::to_vec(&self).map_err(|error| {
            Failure::new(
                INVALID_ANSWER,
                format!("the answer cannot be written as JSON: {error}"),
            )
        })?;
        Ok(Encoded {
            content_type: Some("application/json"),
            ..bytes.into()
        })
    }
}

impl Answer for Raw {
    fn encode(self) -> Result<Encoded, Failure> {
        Ok(self.0.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Blame;

    fn bytes(answer: impl Answer) -> Vec<u8> {
        match answer.encode().expect("it can be written").content {
            Content::Whole(bytes) => bytes,
            Content::Streamed(_) => panic!("it is a stream"),
        }
    }

    #[derive(Debug, serde::Deserialize, PartialEq)]
    struct Order {
        product: String,
        #[serde(default)]
        quantity: u8,
    }

    #[test]
    fn an_event_that_does_not_fit_is_the_callers_mistake() {
        let cases = [
            (
                "{\"product\": \"lamp\", \"quantity\": 300}",
                "the event is not what this function takes: invalid value: integer `300`, \
                 expected u8 at line 1 column 35",
            ),
            (
                "{\n  \"quantity\": 3\n}",
                "the event is not what this function takes: missing field `product` at line 3 \
                 column 1",
            ),
            (
                "[]]",
                "the event is not what this function takes: invalid length 0, expected struct \
                 Order with 2 elements at line 1 column 2",
            ),
            (
                "{\"product\": lamp}",
                "the event is not JSON: expected value at line 1 column 13",
            ),
            (
                "",
                "the event is not JSON: EOF while parsing a value at line 1 column 0",
            ),
        ];
        for (event, expected) in cases {
            let failure = Order::decode(event.into()).expect_err(event);
            assert_eq!(failure.message(), expected);
            assert_eq!(failure.error_type(), INVALID_EVENT);
            assert_eq!(failure.blame(), Blame::Caller);
        }
    }

    #[test]
    fn an_event_that_goes_on_is_json_all_the_same() {
        let told = |event: &str| {
            let failure = <(i32, Option<i32>)>::decode(event.into()).expect_err(event);
            failure.message().to_owned()
        };
        assert_eq!(
            told("[5, null, 1]"),
            "the event is not what this function takes: trailing characters at line 1 column 11"
        );
        assert!(told("[5, null] 1").starts_with("the event is not JSON: trailing characters"));
    }

    #[test]
    fn an_event_is_read_and_an_answer_written() {
        let order = Order::decode(b" {\"product\": \"lamp\"}\n".to_vec()).expect("it fits");
        assert_eq!(order.product, "lamp");
        assert_eq!(bytes((1, "a")), b"[1,\"a\"]");
    }

    #[test]
    fn raw_bytes_stay_as_they_are() {
        let raw = Raw::decode(vec![0, 255]).expect("anything goes");
        assert_eq!(bytes(raw), [0, 255]);
    }

    #[test]
    fn an_answer_that_is_no_json_is_the_functions_mistake() {
        let answer = std::collections::BTreeMap::from([((1, 2), 3)]);
        let failure = answer.encode().expect_err("a key must be a string");
        assert_eq!(failure.error_type(), INVALID_ANSWER);
        assert_eq!(failure.blame(), Blame::Function);
    }
}
