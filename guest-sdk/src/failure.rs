//! Why a function could not answer, and what its caller reads of it.
//!
//! Promises: any error can be returned; one that is a [`Failure`], or was caused by one, decides
//! what the caller can match on. Left to others: when a handler is called ([`crate::function`]).

use std::error::Error as StdError;
use std::fmt;

use crate::bindings;

/// Any error that a function may return; `?` turns nearly every error into one.
///
/// The caller sees it as `{"errorType": "Function.Error", "errorMessage": …}`, with what it
/// displays as the message. To choose the type, return a [`Failure`]. What caused it (its
/// [sources](StdError::source)) is in `stackTrace`, and in the log's line behind the message.
pub type Error = Box<dyn StdError + Send + Sync>;

/// The type of a failure that names none.
pub(crate) const ERROR: &str = "Function.Error";
/// The type of the failure for an event that does not deserialize.
pub(crate) const INVALID_EVENT: &str = "Function.InvalidEvent";
/// The type of the failure for an answer that does not serialize.
pub(crate) const INVALID_ANSWER: &str = "Function.InvalidAnswer";

/// Who can do something about a [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Blame {
    /// The caller: the event was not one that this function accepts.
    Caller,
    /// The function itself failed. Its owner should hear of it.
    Function,
}

/// An error whose type and message the caller of the function sees.
///
/// ```
/// use hearth::Failure;
///
/// fn reserve(wanted: u32, stock: u32) -> Result<u32, Failure> {
///     stock.checked_sub(wanted).ok_or_else(|| {
///         Failure::caller("OutOfStock", format!("there are only {stock} left"))
///     })
/// }
///
/// let failure = reserve(3, 2).expect_err("three are too many");
/// assert_eq!(failure.error_type(), "OutOfStock");
/// ```
///
/// The caller of that function receives
/// `{"errorType": "OutOfStock", "errorMessage": "there are only 2 left"}`.
///
/// A failure is found also when it is not the error itself but among its
/// [sources](StdError::source); then the message is that of the error.
#[derive(Debug)]
pub struct Failure {
    error_type: String,
    message: String,
    blame: Blame,
    source: Option<Error>,
}

impl Failure {
    /// A failure of the function itself. `error_type` is a short, stable name without spaces that
    /// a caller can match on; `message` is for a person.
    pub fn new(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            error_type: error_type.into(),
            message: message.into(),
            blame: Blame::Function,
            source: None,
        }
    }

    /// As [`new`](Self::new), for what only the caller can put right.
    pub fn caller(error_type: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            blame: Blame::Caller,
            ..Self::new(error_type, message)
        }
    }

    /// The same failure, with what caused it: the log has it behind the message, the caller in the stack trace.
    #[must_use]
    pub fn because(mut self, source: impl Into<Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The name that a caller can match on.
    pub fn error_type(&self) -> &str {
        &self.error_type
    }

    /// What happened, for a person.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whose mistake it was.
    pub fn blame(&self) -> Blame {
        self.blame
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

impl From<Failure> for bindings::Failure {
    fn from(failure: Failure) -> Self {
        describe(&failure)
    }
}

/// The failure that a handler's error stands for.
pub(crate) fn from_any<E: Into<Error> + 'static>(error: E) -> bindings::Failure {
    // Boxed by its own `Into`, an `anyhow::Error` hides its type from `downcast_ref`.
    #[cfg(feature = "anyhow")]
    if let Some(error) = (&error as &dyn std::any::Any).downcast_ref::<anyhow::Error>() {
        let failure = error.downcast_ref().or_else(|| find(error.as_ref()));
        return assemble(error.as_ref(), failure);
    }
    let error: Error = error.into();
    describe(error.as_ref())
}

fn describe(error: &(dyn StdError + 'static)) -> bindings::Failure {
    assemble(error, find(error))
}

fn assemble(error: &(dyn StdError + 'static), failure: Option<&Failure>) -> bindings::Failure {
    let mut told = error.to_string();
    let mut stack_trace: Vec<String> = Vec::new();
    for cause in chain(error).skip(1).map(ToString::to_string) {
        // Many an error displays its own cause.
        if !told.contains(&cause) {
            stack_trace.push(cause.clone());
        }
        told = cause;
    }
    // Innermost first, as the contract has it.
    stack_trace.reverse();
    bindings::Failure {
        error_type: failure.map_or_else(|| ERROR.to_owned(), |failure| failure.error_type.clone()),
        message: error.to_string(),
        stack_trace,
        blame: match failure.map_or(Blame::Function, Failure::blame) {
            Blame::Caller => bindings::hearth::function::invocation::Blame::Caller,
            Blame::Function => bindings::hearth::function::invocation::Blame::Function,
        },
    }
}

fn find<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a Failure> {
    chain(error).find_map(|error| error.downcast_ref())
}

fn chain<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bindings::hearth::function::invocation::Blame as WireBlame;

    #[derive(Debug)]
    struct Step(&'static str, Option<Error>);

    impl fmt::Display for Step {
        fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str(self.0)
        }
    }

    impl StdError for Step {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            self.1.as_deref().map(|error| error as _)
        }
    }

    fn out_of_stock() -> Failure {
        Failure::caller("OutOfStock", "no lamp is left").because("0 < 1")
    }

    #[test]
    fn every_error_becomes_a_failure() {
        let parse = "x".parse::<u8>().expect_err("x is no number");
        let nested = Step("outer", Some(Step("middle", Some("inner".into())).into()));
        let cases: Vec<(bindings::Failure, &str, &str, &[&str], WireBlame)> = vec![
            (from_any("text"), ERROR, "text", &[], WireBlame::Function),
            (
                from_any("owned".to_owned()),
                ERROR,
                "owned",
                &[],
                WireBlame::Function,
            ),
            (
                from_any(parse),
                ERROR,
                "invalid digit found in string",
                &[],
                WireBlame::Function,
            ),
            (
                from_any(nested),
                ERROR,
                "outer",
                &["inner", "middle"],
                WireBlame::Function,
            ),
            (
                from_any(out_of_stock()),
                "OutOfStock",
                "no lamp is left",
                &["0 < 1"],
                WireBlame::Caller,
            ),
            (
                from_any(Step("ordering", Some(out_of_stock().into()))),
                "OutOfStock",
                "ordering",
                &["0 < 1", "no lamp is left"],
                WireBlame::Caller,
            ),
        ];
        for (failure, error_type, message, stack_trace, blame) in cases {
            assert_eq!(failure.error_type, error_type);
            assert_eq!(failure.message, message);
            assert_eq!(failure.stack_trace, stack_trace);
            assert_eq!(failure.blame, blame);
        }
    }

    #[cfg(feature = "anyhow")]
    #[test]
    fn anyhow_does_not_hide_a_failure() {
        use anyhow::Context;
        let plain = from_any(anyhow::Error::from(out_of_stock()));
        assert_eq!(plain.error_type, "OutOfStock");
        assert_eq!(plain.message, "no lamp is left");

        let error = Err::<(), _>(out_of_stock())
            .context("ordering")
            .expect_err("it failed");
        let failure = from_any(error);
        assert_eq!(failure.error_type, "OutOfStock");
        assert_eq!(failure.message, "ordering");
        assert_eq!(failure.stack_trace, ["0 < 1", "no lamp is left"]);
    }
}
