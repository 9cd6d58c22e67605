//! Why an invocation has no answer: what failed, whose mistake it was, and who is told what.
//!
//! Every fault has a blame and two messages.
//!
//! The log's names the act, the thing, the numbers and the next step. If the error is the guest's own, it also
//! names the causes, which the caller gets as the stack trace.
//!
//! The caller's is the same text, since whoever invokes a function mostly maintains it as well. Only where
//! Hearth itself has failed ([`Kind::Internal`]) is it short, and says nothing about the host's inside.
//!
//! Error types are those that Lambda keeps in its reports: `Function.Xxx` and `Runtime.Xxx`.

use serde_json::json;

use crate::limits;

/// Who can do something about a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The event, or how it was sent.
    Caller,
    /// The function's code.
    Guest,
    /// Hearth, its configuration, or the machine.
    Host,
}

impl Blame {
    /// The word for it in log lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Guest => "guest",
            Self::Host => "host",
        }
    }
}

/// What kind of fault; decides the error type that Lambda is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The guest returned an error of its own.
    Failed,
    /// The guest said that the event is not one it accepts.
    InvalidEvent,
    /// The guest's code panicked.
    Panic,
    /// The guest's code trapped: an unreachable instruction, a bad memory access and so on.
    Trap,
    /// The guest recursed too deeply.
    StackOverflow,
    /// The guest asked for more memory than its limit.
    OutOfMemory,
    /// The deadline was reached.
    DeadlineExceeded,
    /// The answer is larger than the caller may receive.
    ResponseTooLarge,
    /// The guest's `init` failed.
    InitFailed,
    /// The guest's hook before a snapshot failed, or took too long.
    SnapshotFailed,
    /// The guest's hook after a restore failed, or the guest was not ready in time.
    RestoreFailed,
    /// No instance came free in time.
    Busy,
    /// The guest could not be loaded or instantiated.
    InvalidComponent,
    /// The configuration cannot be used.
    InvalidConfiguration,
    /// Hearth itself failed.
    Internal,
}

impl Kind {
    /// The error type as Lambda's Runtime API accepts it: `(Runtime|Function)\.[A-Z][a-zA-Z]+`.
    pub fn error_type(self) -> &'static str {
        match self {
            Self::Failed => "Function.Error",
            Self::InvalidEvent => "Function.InvalidEvent",
            Self::Panic => "Function.Panic",
            Self::Trap => "Function.Trap",
            Self::StackOverflow => "Function.StackOverflow",
            Self::OutOfMemory => "Function.OutOfMemory",
            Self::DeadlineExceeded => "Function.DeadlineExceeded",
            Self::ResponseTooLarge => "Function.ResponseTooLarge",
            Self::InitFailed => "Function.InitFailed",
            Self::SnapshotFailed => "Function.SnapshotFailed",
            Self::RestoreFailed => "Function.RestoreFailed",
            Self::Busy => "Runtime.Busy",
            Self::InvalidComponent => "Runtime.InvalidComponent",
            Self::InvalidConfiguration => "Runtime.InvalidConfiguration",
            Self::Internal => "Runtime.InternalError",
        }
    }

    fn blame(self) -> Blame {
        match self {
            Self::InvalidEvent => Blame::Caller,
            Self::Failed
            | Self::Panic
            | Self::Trap
            | Self::StackOverflow
            | Self::OutOfMemory
            | Self::DeadlineExceeded
            | Self::ResponseTooLarge
            | Self::InitFailed
            | Self::SnapshotFailed
            | Self::RestoreFailed => Blame::Guest,
            Self::Busy | Self::InvalidComponent | Self::InvalidConfiguration | Self::Internal => {
                Blame::Host
            }
        }
    }
}

/// What a caller reads of the host's own mistakes. Both front doors tell it the request id.
const OF_THE_HOST: &str =
    "Hearth itself failed; its log says how, for an invocation in the line with its request id";

/// A failure with its blame.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{log}")]
pub struct Fault {
    /// What kind of fault it is.
    pub kind: Kind,
    /// Whose mistake it was.
    pub blame: Blame,
    /// The `errorType` that the caller reads: the kind's, or the guest's own word.
    pub error_type: String,
    /// The `errorMessage` that the caller reads.
    pub caller: String,
    /// The message for the log.
    pub log: String,
    /// What was being done, innermost first; may be empty.
    pub stack_trace: Vec<String>,
}

impl Fault {
    /// A fault. Its caller may read what the log says, unless the fault is Hearth's own.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        let message = shortened(message.into(), limits::FAULT_MESSAGE_BYTES_MAX);
        Self {
            kind,
            blame: kind.blame(),
            error_type: kind.error_type().to_owned(),
            caller: match kind {
                Kind::Internal => OF_THE_HOST.to_owned(),
                _ => message.clone(),
            },
            log: message,
            stack_trace: Vec::new(),
        }
    }

    /// The same fault, with this as the message for its caller.
    pub fn with_caller_message(mut self, caller: &str) -> Self {
        self.caller = caller.to_owned();
        self
    }

    /// The same fault, with what was being done at the time.
    pub fn traced(mut self, mut stack_trace: Vec<String>) -> Self {
        stack_trace.truncate(limits::STACK_TRACE_LINES_MAX);
        let shortened = |line| shortened(line, limits::STACK_TRACE_LINE_BYTES_MAX);
        self.stack_trace = stack_trace.into_iter().map(shortened).collect();
        self
    }

    /// The same fault, with what caused it, innermost first. The log has that behind the message, unless the
    /// message says it already.
    pub fn caused(mut self, causes: Vec<String>) -> Self {
        for cause in causes.iter().rev().take(limits::STACK_TRACE_LINES_MAX) {
            if !self.log.contains(cause.as_str())
                && self.log.len() < limits::FAULT_MESSAGE_BYTES_MAX
            {
                self.log.push_str(": ");
                self.log.push_str(cause);
            }
        }
        self.log = shortened(self.log, limits::FAULT_MESSAGE_BYTES_MAX);
        self.traced(causes)
    }

    /// The same fault, by the guest's own name for it.
    pub fn named(mut self, error_type: String) -> Self {
        self.error_type = shortened(error_type, limits::ERROR_TYPE_BYTES_MAX);
        self
    }

    /// The error document that the caller receives, as Lambda defines it.
    pub fn body(&self) -> Vec<u8> {
        document(&self.error_type, &self.caller, &self.stack_trace)
    }

    /// As much of the error document as fits into so many bytes: what was being done goes first,
    /// from the outermost, then the end of the message.
    pub fn body_within(&self, bytes_max: usize) -> Vec<u8> {
        let (mut lines, mut message) = (self.stack_trace.as_slice(), self.caller.as_str());
        loop {
            let body = document(&self.error_type, message, lines);
            if body.len() <= bytes_max || (lines.is_empty() && message.is_empty()) {
                return body;
            }
            match lines.split_last() {
                Some((_, inner)) => lines = inner,
                None => message = &message[..message.floor_char_boundary(message.len() / 2)],
            }
        }
    }
}

fn document(error_type: &str, message: &str, stack_trace: &[String]) -> Vec<u8> {
    json!({
        "errorType": error_type,
        "errorMessage": message,
        "stackTrace": stack_trace,
    })
    .to_string()
    .into_bytes()
}

/// A text cut to what a caller may be sent, with a mark where something is missing.
fn shortened(mut text: String, bytes_max: usize) -> String {
    const MISSING: char = '…';
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max - MISSING.len_utf8()));
        text.push(MISSING);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_reads_nothing_of_the_inside_where_the_host_failed() {
        let told = |kind| {
            let fault = Fault::new(kind, "no descriptor is left");
            assert_eq!(fault.log, "no descriptor is left");
            String::from_utf8(fault.body()).unwrap()
        };
        assert!(!told(Kind::Internal).contains("descriptor"));
        assert!(told(Kind::Internal).contains("its log says how"));
        assert!(told(Kind::InvalidConfiguration).contains("descriptor"));
    }

    #[test]
    fn the_log_says_what_caused_a_fault_and_nothing_twice() {
        let logged = |message: &str, causes: &[&str]| {
            let causes = causes.iter().map(|&cause| cause.to_owned()).collect();
            let fault = Fault::new(Kind::Failed, message).caused(causes);
            assert_eq!(fault.caller, message);
            fault.log
        };
        for (message, causes, expected) in [
            ("outer", &[][..], "outer"),
            ("outer", &["inner", "middle"], "outer: middle: inner"),
            ("outer: inner", &["inner"], "outer: inner"),
            ("outer", &["inner", "middle: inner"], "outer: middle: inner"),
            ("outer", &[""], "outer"),
        ] {
            assert_eq!(logged(message, causes), expected);
        }
        let long = "x".repeat(limits::FAULT_MESSAGE_BYTES_MAX - 1);
        let log = logged(&long, &["far", "near"]);
        assert!(
            log.len() <= limits::FAULT_MESSAGE_BYTES_MAX,
            "{}",
            log.len()
        );
    }

    #[test]
    fn a_short_document_keeps_what_matters_most() {
        let lines: Vec<String> = (0..64).map(|line| format!("frame {line}")).collect();
        let fault = Fault::new(Kind::Panic, "\u{e4}".repeat(2_000)).traced(lines);
        let whole: serde_json::Value = serde_json::from_slice(&fault.body()).unwrap();
        assert_eq!(whole["stackTrace"].as_array().unwrap().len(), 64);
        for bytes_max in [limits::TRAILER_FAULT_BYTES_MAX, 200] {
            let body = fault.body_within(bytes_max);
            assert!(body.len() <= bytes_max);
            let short: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(short["errorType"], "Function.Panic");
            assert!(!short["errorMessage"].as_str().unwrap().is_empty());
        }
        assert_eq!(fault.body_within(usize::MAX), fault.body());
    }
}
