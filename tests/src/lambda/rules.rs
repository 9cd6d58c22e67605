//! What Lambda takes from a runtime and what it refuses, in its two modes.
//!
//! Both are read off the state machines of AWS's own Runtime Interface Emulator. Classic: one event
//! at a time; whoever asks for the next one without having answered gets the same again; an answer
//! to another event is a 400, a second one to the same is a 403. Managed: as many events as there
//! are calls that wait, and no more; an answer to no event is a 400. In both, an answer after the
//! deadline, or to another attempt, is a 410, and one that is too large a 413. A test's own 431 is the
//! HTTP server's, of which the state machine knows nothing.

use std::collections::HashMap;

use super::{Call, Event, What};

/// Lambda's limit for an answer, in bytes.
const ANSWER_BYTES_MAX: usize = 6 * 1024 * 1024 + 100;
/// In the place of a status: there is no reply.
pub(super) const LOST: u16 = 0;
const INVOCATION_ID: &str = "Lambda-Runtime-Invocation-Id";

/// How Lambda sends events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// One at a time.
    Classic,
    /// As Lambda Managed Instances do.
    Managed,
}

impl Mode {
    /// That of so many events at a time.
    pub fn of(events: usize) -> Self {
        match events {
            1 => Self::Classic,
            _ => Self::Managed,
        }
    }
}

/// What becomes of one event or its answer on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The connection ends before the event has arrived.
    EventLost,
    /// The connection ends before the answer has arrived, so many times.
    AnswersLost(u32),
    /// The answer arrives, and the connection ends before the host is told.
    ReceiptLost,
    /// The answer is refused with this status.
    Refused(u16),
}

/// The state of the events.
pub(super) struct Rules {
    mode: Mode,
    /// Those that were handed out, and not answered.
    running: HashMap<String, Event>,
    /// The one handed out last.
    last: Option<String>,
    /// The one whose answer has begun to arrive last.
    begun: Option<String>,
    fates: HashMap<String, Fate>,
}

impl Rules {
    pub(super) fn new(mode: Mode) -> Self {
        Self {
            mode,
            running: HashMap::new(),
            last: None,
            begun: None,
            fates: HashMap::new(),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    /// Lets this happen to an event.
    pub(super) fn destine(&mut self, id: &str, fate: Fate) {
        self.fates.insert(id.to_owned(), fate);
    }

    /// Whether the answer to an event is lost now.
    pub(super) fn loses_answer(&mut self, id: &str) -> bool {
        let Some(Fate::AnswersLost(times @ 1..)) = self.fates.get_mut(id) else {
            return false;
        };
        *times -= 1;
        true
    }

    /// Whether this happens to an event now; it does so once.
    pub(super) fn happens(&mut self, id: &str, fate: Fate) -> bool {
        let happens = self.fates.get(id) == Some(&fate);
        if happens {
            self.fates.remove(id);
        }
        happens
    }

    /// The answer to an event begins to arrive.
    pub(super) fn begin(&mut self, id: &str) {
        if !id.is_empty() && !matches!(self.fates.get(id), Some(Fate::AnswersLost(_))) {
            self.begun = Some(id.to_owned());
        }
    }

    /// The event that a runtime gets again, since it has not answered it.
    pub(super) fn unanswered(&self) -> Option<Event> {
        let last = self.last.as_ref().filter(|_| self.mode == Mode::Classic)?;
        if self.begun.as_ref() == Some(last) {
            return None;
        }
        self.running.get(last).cloned()
    }

    /// An event was handed out.
    pub(super) fn hand_out(&mut self, event: &Event) {
        self.last = Some(event.id.clone());
        self.begun = None;
        self.running.insert(event.id.clone(), event.clone());
    }

    /// The status for an answer; `chosen` is one that a test wants it to have.
    pub(super) fn judge(&mut self, call: &Call, chosen: Option<u16>) -> u16 {
        let Some(event) = self.running.remove(&call.id) else {
            return match self.mode {
                _ if chosen.is_some() => chosen.unwrap_or_default(),
                Mode::Classic if self.last.as_ref() == Some(&call.id) => 403,
                _ => 400,
            };
        };
        let refused = match self.fates.get(&call.id) {
            Some(Fate::Refused(status)) => Some(*status),
            _ => chosen,
        };
        if let Some(status) = refused {
            self.fates.remove(&call.id);
            if status == 431 {
                self.running.insert(call.id.clone(), event);
            }
            return status;
        }
        let attempt = event.value(INVOCATION_ID).filter(|id| !id.is_empty());
        if attempt.is_some_and(|id| id != call.header(INVOCATION_ID)) {
            self.running.insert(call.id.clone(), event);
            return 410;
        }
        match call.what {
            _ if call.begun > event.until => 410,
            What::Response if call.body.len() > ANSWER_BYTES_MAX => 413,
            _ => 202,
        }
    }
}

/// What the body of an answer with this status says.
pub(super) fn text(status: u16) -> &'static str {
    match status {
        202 => r#"{"status":"OK"}"#,
        400 => r#"{"errorType":"InvalidRequestID","errorMessage":"Invalid request ID"}"#,
        403 => {
            r#"{"errorType":"InvalidStateTransition","errorMessage":"Transition from ResponseSent to InvocationResponse failed for runtime. Error: State transition is not allowed"}"#
        }
        410 => r#"{"errorType":"InvokeTimeout","errorMessage":"Invoke timed out"}"#,
        413 => {
            r#"{"errorType":"RequestEntityTooLarge","errorMessage":"Exceeded maximum allowed payload size (6291556 bytes)."}"#
        }
        _ => r#"{"errorType":"Other","errorMessage":"as the test chose"}"#,
    }
}
