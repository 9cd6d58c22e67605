//! What a function is told about one invocation, besides its event.

use std::cell::Cell;
use std::fmt;
use std::io::Write;
use std::pin::pin;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::bindings;
use crate::bindings::hearth::function::invocation::{self, Details};

thread_local! {
    /// The deadline of the invocation that is being polled, in milliseconds since the Unix epoch;
    /// `None` outside of any.
    static DEADLINE_MS: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Runs an invocation's handler so that all it calls knows the deadline. Whoever has the next turn finds
/// nothing of what it printed.
pub(crate) async fn within<F: Future>(deadline_ms: u64, handler: F) -> F::Output {
    let mut handler = pin!(handler);
    std::future::poll_fn(|cx| {
        let outer = DEADLINE_MS.replace(Some(deadline_ms));
        let polled = handler.as_mut().poll(cx);
        DEADLINE_MS.set(outer);
        hand_over_output();
        polled
    })
    .await
}

/// Has the host take what was printed without a line break, which the standard library keeps until the next
/// one: by then the instance may handle another invocation. Calls nobody if there is nothing.
pub(crate) fn hand_over_output() {
    // Whoever prints without an end is not told either that nobody takes it.
    let _ = std::io::stdout().flush();
}

/// The deadline of the invocation that is being polled, in milliseconds since the Unix epoch;
/// `None` outside of any.
pub(crate) fn deadline_ms() -> Option<u64> {
    DEADLINE_MS.get()
}

/// How long the invocation that is being polled still has; `None` outside of any.
pub(crate) fn remaining() -> Option<Duration> {
    deadline_ms().map(until)
}

fn until(deadline_ms: u64) -> Duration {
    (SystemTime::UNIX_EPOCH + Duration::from_millis(deadline_ms))
        .duration_since(SystemTime::now())
        .unwrap_or_default()
}

/// What is known about the event being handled.
///
/// It belongs to one invocation: nothing in it may be kept for the next, where it panics if asked for
/// something that it was not asked for in time.
#[derive(Clone)]
pub struct Context {
    told: bindings::Context,
    /// In a box, since most functions never ask for them.
    details: OnceLock<Box<Details>>,
}

impl Context {
    pub(crate) fn new(told: bindings::Context) -> Self {
        Self {
            told,
            details: OnceLock::new(),
        }
    }

    fn details(&self) -> &Details {
        self.details.get_or_init(|| {
            let details = invocation::get_details(self.told.number);
            Box::new(details.expect("a context is asked for nothing after its invocation"))
        })
    }

    /// The request id that Lambda (or the local host) gave to this invocation. Lambda repeats it
    /// when it retries an event, which makes it a key for doing a thing only once.
    pub fn request_id(&self) -> &str {
        &self.details().request_id
    }

    /// When this invocation must have answered. The host answers in its place, with an error,
    /// shortly before; what the function does then is stopped.
    pub fn deadline(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(self.told.deadline_ms)
    }

    /// How long it is until the [deadline](Self::deadline), by the wall clock; zero once it has
    /// passed.
    pub fn remaining(&self) -> Duration {
        until(self.told.deadline_ms)
    }

    /// The function's name.
    pub fn function_name(&self) -> &str {
        &self.details().function_name
    }

    /// The function's version: a number, or `$LATEST`.
    pub fn function_version(&self) -> &str {
        &self.details().function_version
    }

    /// The Amazon Resource Name by which the function was invoked, alias or version included.
    pub fn function_arn(&self) -> &str {
        &self.details().function_arn
    }

    /// The X-Ray trace header, word for word, when there is one.
    pub fn trace_id(&self) -> Option<&str> {
        self.details().trace_id.as_deref()
    }

    /// The caller's client context, as JSON, when there is one.
    pub fn client_context(&self) -> Option<&str> {
        self.details().client_context.as_deref()
    }

    /// The caller's Amazon Cognito identity, as JSON, when there is one.
    pub fn identity(&self) -> Option<&str> {
        self.details().identity.as_deref()
    }

    /// The tenant for which the function was invoked, when tenant isolation is on.
    pub fn tenant_id(&self) -> Option<&str> {
        self.details().tenant_id.as_deref()
    }

    /// What Lambda said of the invocation in a header that Hearth has no name for, such as
    /// `lambda-runtime-…`, whichever way its name is capitalised. For things newer than Hearth.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.details().headers.iter();
        headers
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether this is the first invocation that this instance handles.
    pub fn is_first(&self) -> bool {
        self.told.first
    }
}

impl fmt::Debug for Context {
    /// Without asking for what is not known yet.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Context")
            .field("told", &self.told)
            .field("details", &self.details.get())
            .finish()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn context(deadline_ms: u64) -> Context {
        let told = bindings::Context {
            number: 0,
            deadline_ms,
            first: true,
        };
        let details = Details {
            request_id: "8f2c".to_owned(),
            function_name: "orders".to_owned(),
            function_version: "$LATEST".to_owned(),
            function_arn: "arn:aws:lambda:eu-west-1:123456789012:function:orders".to_owned(),
            trace_id: None,
            client_context: Some("{}".to_owned()),
            identity: None,
            tenant_id: Some("blue".to_owned()),
            headers: vec![("lambda-runtime-weather".to_owned(), "mild".to_owned())],
        };
        Context {
            told,
            details: OnceLock::from(Box::new(details)),
        }
    }

    #[test]
    fn each_handler_knows_its_own_deadline() {
        let inner = within(1, async { remaining() });
        let outer = within(u64::MAX / 2, async {
            (remaining(), inner.await, remaining())
        });
        let (before, inner, after) = crate::poll_ready(outer);
        assert_eq!(inner, Some(Duration::ZERO));
        assert!(before > inner && after > inner);
    }

    #[test]
    fn a_header_is_found_however_its_name_is_written() {
        let context = context(1);
        assert_eq!(context.header("Lambda-Runtime-Weather"), Some("mild"));
        assert_eq!(context.header("lambda-runtime"), None);
    }

    #[test]
    fn nothing_remains_after_the_deadline() {
        assert_eq!(context(1).remaining(), Duration::ZERO);
    }

    #[test]
    fn the_deadline_is_a_moment_of_the_wall_clock() {
        let in_a_minute = SystemTime::now() + Duration::from_secs(60);
        let since_epoch = in_a_minute
            .duration_since(SystemTime::UNIX_EPOCH)
            .expect("the clock is set");
        let context = context(since_epoch.as_millis() as u64);
        let remaining = context.remaining();
        assert!(remaining <= Duration::from_secs(60), "{remaining:?}");
        assert!(remaining > Duration::from_secs(50), "{remaining:?}");
    }
}
