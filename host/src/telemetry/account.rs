//! What is told of one invocation: whose its lines are, and what it took.
//!
//! Promises: each line that belongs to an invocation can be found by its request, its tenant and its
//! trace; nothing is measured unless somebody has asked for it.
//!
//! Left to others: what is counted ([`super::tally`]), and who counts it; how its span is made and
//! where that goes ([`super::otlp`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::metrics::Metrics;
use super::otlp::{CallSpan, Span, Spans};
use super::tally::Tally;
use crate::fault::Fault;
use crate::invocation::Invocation;

/// Who wants to know of an environment's invocations.
#[derive(Debug, Default)]
pub struct Observers {
    /// What measures them.
    pub metrics: Option<Arc<Metrics>>,
    /// What makes spans of them.
    pub spans: Option<Arc<Spans>>,
}

/// The account of one invocation, or of what a function does outside of any.
#[derive(Debug)]
pub struct Account {
    /// The function's name in the configuration.
    function: String,
    invocation: Option<Arc<Invocation>>,
    /// What runs, where that is no invocation.
    phase: &'static str,
    /// How many lines there are of what databases said.
    notices: AtomicUsize,
    /// In a box, so that it takes no room where it is not asked for; so is the span.
    tally: Option<Box<Tally>>,
    span: Option<Box<Span>>,
}

impl Account {
    /// Opens that of an invocation which begins now.
    pub fn open(function: &str, invocation: Arc<Invocation>, observers: &Observers) -> Arc<Self> {
        let (metrics, spans) = (observers.metrics.as_ref(), observers.spans.as_ref());
        Arc::new(Self {
            function: function.to_owned(),
            tally: metrics.map(|metrics| Box::new(metrics.begin())),
            span: spans.map(|spans| Box::new(spans.begin(function, &invocation))),
            invocation: Some(invocation),
            phase: "",
            notices: AtomicUsize::new(0),
        })
    }

    /// That of what a function does outside of invocations: in its `init`, or if something is looked
    /// at without any event; or in a hook, whose name then stands for the request id.
    pub fn outside(function: &str, phase: &'static str) -> Arc<Self> {
        Arc::new(Self {
            function: function.to_owned(),
            invocation: None,
            phase,
            notices: AtomicUsize::new(0),
            tally: None,
            span: None,
        })
    }

    /// The function's name in the configuration.
    pub fn function(&self) -> &str {
        &self.function
    }

    /// The invocation's request id, or what stands for it.
    pub fn request_id(&self) -> Option<&str> {
        let invocation = self.invocation.as_ref();
        let id = invocation.map_or(self.phase, |invocation| &invocation.request_id);
        Some(id).filter(|id| !id.is_empty())
    }

    /// The tenant for which it is.
    pub fn tenant_id(&self) -> Option<&str> {
        self.invocation.as_ref()?.tenant_id.as_deref()
    }

    /// The trace to which it belongs: that alone, without its place in it.
    pub fn trace_id(&self) -> Option<&str> {
        self.invocation.as_deref().and_then(trace_of)
    }

    /// What it takes, if that is counted.
    pub fn tally(&self) -> Option<&Tally> {
        self.tally.as_deref()
    }

    /// Counts one more line of what a database said. How many there were before.
    pub fn count_notice(&self) -> usize {
        self.notices.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether anybody wants to know of it.
    pub fn is_observed(&self) -> bool {
        self.tally.is_some() || self.span.is_some()
    }

    /// Its answer is out.
    pub fn answered(&self) {
        if let Some(tally) = &self.tally {
            tally.answered();
        }
    }

    /// Its work after the answer is done, for which the next event had to wait.
    pub fn worked(&self) {
        if let Some(tally) = &self.tally {
            tally.worked();
        }
    }

    /// It was paused for so long, which does not count as its time.
    pub fn paused(&self, time: Duration) {
        if let Some(tally) = &self.tally {
            tally.paused.add(time);
        }
    }

    /// A request to a database begins for it: what it does, where that is not in its texts.
    pub fn call(
        &self,
        database: &str,
        operation: Option<&str>,
        texts: impl Fn() -> Vec<String>,
    ) -> CallSpan {
        CallSpan::begin(self.span.as_deref(), database, operation, texts)
    }

    /// It has failed. The first fault counts.
    pub fn failed(&self, fault: &Fault) {
        if let Some(span) = &self.span {
            span.fail(fault);
        }
        if let Some(tally) = &self.tally {
            tally.failed(fault);
        }
    }

    /// Nothing is left of the invocation. To be called once; returns when metrics and spans have gone out, or
    /// soon after `until`.
    pub async fn close(&self, until: Instant) {
        let Some(invocation) = &self.invocation else {
            return;
        };
        if let Some(tally) = &self.tally {
            tally.answered();
            super::write_line(&tally.line(self, invocation));
        }
        if let Some(span) = &self.span {
            span.end(until).await;
        }
    }
}

/// The trace to which an invocation belongs: that alone, without its place in it.
pub(crate) fn trace_of(invocation: &Invocation) -> Option<&str> {
    invocation.trace_id.as_deref().map(root)
}

/// The trace in an X-Ray trace header, `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=…`.
fn root(header: &str) -> &str {
    let mut parts = header.split(';').map(str::trim);
    parts
        .find_map(|part| part.strip_prefix("Root="))
        .unwrap_or(header)
}

/// Writes a line of the log that belongs to an invocation.
macro_rules! line_of {
    ($account:expr, fatal, $($rest:tt)+) => {
        $crate::telemetry::line_of!(@ $account, error, $crate::telemetry::FATAL, $($rest)+)
    };
    ($account:expr, $level:ident, $($rest:tt)+) => {
        $crate::telemetry::line_of!(@ $account, $level, module_path!(), $($rest)+)
    };
    (@ $account:expr, $level:ident, $target:expr, $($rest:tt)+) => {{
        let account: &$crate::telemetry::Account = &$account;
        tracing::$level!(
            target: $target,
            function = account.function(),
            request_id = account.request_id(),
            tenant_id = account.tenant_id(),
            trace_id = account.trace_id(),
            $($rest)+
        )
    }};
}

/// The same for an invocation on its way in or out, where there is no account of it; of none, if it is
/// `None`.
macro_rules! line_for {
    ($invocation:expr, $level:ident, $($rest:tt)+) => {{
        let invocation: Option<&$crate::invocation::Invocation> = $invocation;
        tracing::$level!(
            request_id = invocation.map(|invocation| invocation.request_id.as_str()),
            tenant_id = invocation.and_then(|invocation| invocation.tenant_id.as_deref()),
            trace_id = invocation.and_then($crate::telemetry::trace_of),
            $($rest)+
        )
    }};
}

pub(crate) use {line_for, line_of};

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::invocation::Deadline;

    /// An invocation with this request id, and nothing else that is known of it.
    pub(crate) fn invocation(request_id: &str) -> Invocation {
        Invocation {
            request_id: request_id.to_owned(),
            event: bytes::Bytes::new(),
            deadline: Deadline::after(Duration::from_secs(1)),
            function_name: "lambdas-name".to_owned(),
            function_version: "$LATEST".to_owned(),
            function_arn: String::new(),
            trace_id: None,
            client_context: None,
            identity: None,
            tenant_id: None,
            headers: Vec::new(),
        }
    }

    #[test]
    fn a_trace_is_named_without_its_parent() {
        let id = "1-5759e988-bd862e3fe1be46a994272793";
        for header in [
            format!("Root={id};Parent=53995c3f42cd8ad8;Sampled=1"),
            format!("Self=1-67891234-12456789abcdef012345678;Root={id}"),
            format!("Parent=53995c3f42cd8ad8; Root={id}"),
            id.to_owned(),
        ] {
            assert_eq!(root(&header), id, "{header}");
        }
    }
}
