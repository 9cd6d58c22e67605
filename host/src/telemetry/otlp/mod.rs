//! Spans of invocations and of their calls to databases, exported by OpenTelemetry's protocol.
//!
//! Promises:
//! - one span per invocation, below the one that its trace header names, and one below it for each
//!   request to a database; no value of an argument is in any of them;
//! - they are exported after the answer and before the next event is asked for, within a bound, so a frozen
//!   environment keeps none; only the spans of work that ends beside later events may be caught by a freeze,
//!   and then go out with the next ones;
//! - a collector that cannot be reached is no invocation's error, and is not tried again for a while;
//! - configured by OpenTelemetry's own variables, and off unless one of them asks for it.
//!
//! Left to others: sampling, limits and the protocol (the `opentelemetry` crates).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use opentelemetry::trace::{
    Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{RetryPolicy, WithHttpConfig as _};
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    SdkTracer, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter as _, SpanProcessor,
};

use crate::config::{Variables, variable};
use crate::fault::Fault;
use crate::invocation::Invocation;
use crate::limits;
use crate::lock::lock;

mod client;
mod parent;
mod resource;
mod sql;

use client::Client;
use parent::Parents;

/// Makes spans, and exports them.
#[derive(Debug)]
pub struct Spans {
    tracer: SdkTracer,
    queue: Queue,
    /// One export at a time.
    exporter: tokio::sync::Mutex<opentelemetry_otlp::SpanExporter>,
    parents: Parents,
    /// Whether there was an invocation before.
    begun: AtomicBool,
    /// Until when nothing is exported, since the last time failed.
    pause: Mutex<Option<SystemTime>>,
    /// Ends with this.
    _provider: SdkTracerProvider,
}

/// The spans that have ended and are still here.
#[derive(Debug, Clone, Default)]
struct Queue(Arc<Mutex<VecDeque<SpanData>>>);

/// The span of one invocation.
#[derive(Debug)]
pub struct Span {
    spans: Arc<Spans>,
    own: Mutex<SdkSpan>,
    /// Whether it has its fault: another would be told beside it.
    failed: AtomicBool,
    /// For those below it.
    context: Context,
}

/// The span of one call to a database. One that is dropped before its end was cancelled.
pub struct CallSpan(Option<SdkSpan>);

impl Spans {
    /// Makes ready what OpenTelemetry's variables ask for, if they ask for anything. What is wrong
    /// with them is logged, and keeps no function from starting.
    pub fn start() -> Option<Arc<Self>> {
        if !is_wanted(&variable) {
            return None;
        }
        match exporter() {
            Ok(exporter) => Some(Self::exported_by(exporter)),
            Err(error) => {
                tracing::error!(
                    "no spans are exported, since OpenTelemetry's variables cannot be used: {error}"
                );
                None
            }
        }
    }

    fn exported_by(mut exporter: opentelemetry_otlp::SpanExporter) -> Arc<Self> {
        let resource = resource::resource();
        exporter.set_resource(&resource);
        let queue = Queue::default();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            .with_span_processor(queue.clone())
            .build();
        Arc::new(Self {
            tracer: provider.tracer("hearth"),
            queue,
            exporter: tokio::sync::Mutex::new(exporter),
            parents: Parents::from_variable(variable("OTEL_PROPAGATORS").as_deref()),
            begun: AtomicBool::new(false),
            pause: Mutex::new(None),
            _provider: provider,
        })
    }

    /// Begins the span of an invocation.
    pub(super) fn begin(self: &Arc<Self>, function: &str, invocation: &Invocation) -> Span {
        let first = !self.begun.swap(true, Ordering::Relaxed);
        let name = match invocation.function_name.as_str() {
            "" => function.to_owned(),
            name => name.to_owned(),
        };
        let mut attributes = vec![
            KeyValue::new("faas.invocation_id", invocation.request_id.clone()),
            KeyValue::new("faas.coldstart", first),
        ];
        attributes.extend(resource::of_function(invocation));
        if let Some(tenant) = &invocation.tenant_id {
            attributes.push(KeyValue::new("hearth.tenant_id", tenant.clone()));
        }
        let builder = self.tracer.span_builder(name);
        let builder = builder
            .with_kind(SpanKind::Server)
            .with_attributes(attributes);
        let header = invocation.trace_id.as_deref();
        let own = builder.start_with_context(&self.tracer, &self.parents.of(header));
        Span {
            spans: self.clone(),
            // Those below need its name alone, and end before it.
            context: Context::new().with_remote_span_context(own.span_context().clone()),
            own: Mutex::new(own),
            failed: AtomicBool::new(false),
        }
    }

    /// Exports what has ended. Ends after [`limits::EXPORT_TIMEOUT`] at the latest.
    pub async fn flush(&self) {
        self.flush_within(limits::EXPORT_TIMEOUT).await;
    }

    async fn flush_within(&self, time: Duration) {
        if self.queue.lock().is_empty() || self.pauses() {
            return;
        }
        let begun = SystemTime::now();
        let mut batch = Vec::new();
        let exporting = async {
            let exporter = self.exporter.lock().await;
            batch = self.queue.lock().drain(..).collect();
            match batch.is_empty() {
                true => Ok(()),
                false => exporter.export(batch.clone()).await,
            }
        };
        let exported = tokio::time::timeout(time, exporting).await;
        let problem = match exported {
            Ok(Ok(())) => return,
            // The one that is under way will say what is wrong.
            Err(_) if batch.is_empty() => return,
            // If the environment was frozen in the middle, the failure says nothing about the collector.
            _ if begun.elapsed().is_ok_and(|took| took > time * 2) => {
                return self.queue.put_back(batch);
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!(
                "the collector did not answer within {} ms",
                time.as_millis()
            ),
        };
        let pause = limits::EXPORT_PAUSE;
        *lock(&self.pause) = SystemTime::now().checked_add(pause);
        tracing::warn!(
            spans = batch.len(),
            "spans could not be exported, and none are for {} s: {problem}",
            pause.as_secs()
        );
    }

    /// By the wall clock: while frozen no other one goes on.
    fn pauses(&self) -> bool {
        let mut pause = lock(&self.pause);
        let left = pause.and_then(|until| until.duration_since(SystemTime::now()).ok());
        // A clock set back would make it longer than it was meant.
        let pauses = left.is_some_and(|left| left <= limits::EXPORT_PAUSE);
        if !pauses {
            *pause = None;
        }
        pauses
    }
}

impl Span {
    /// The invocation has failed. The first fault counts.
    pub(super) fn fail(&self, fault: &Fault) {
        if self.failed.swap(true, Ordering::Relaxed) {
            return;
        }
        let mut own = lock(&self.own);
        own.set_attribute(KeyValue::new("error.type", fault.error_type.clone()));
        let end = fault
            .caller
            .floor_char_boundary(limits::METRICS_TEXT_BYTES_MAX);
        own.set_status(Status::error(fault.caller[..end].to_owned()));
    }

    /// Nothing is left of the invocation: everything that belongs to it leaves, if there is time until then.
    pub(super) async fn end(&self, until: Instant) {
        lock(&self.own).end();
        let time = until.saturating_duration_since(Instant::now());
        let time = time.min(limits::EXPORT_TIMEOUT);
        if !time.is_zero() {
            self.spans.flush_within(time).await;
        }
    }
}

impl CallSpan {
    /// A call begins: what it does, where that is not in its texts.
    pub(super) fn begin(
        span: Option<&Span>,
        database: &str,
        operation: Option<&str>,
        texts: impl Fn() -> Vec<String>,
    ) -> Self {
        let Some(span) = span else {
            return Self(None);
        };
        let texts = texts();
        let summary = sql::summary(operation, &texts);
        let mut attributes = vec![
            KeyValue::new("db.system.name", "postgresql"),
            KeyValue::new("hearth.database", database.to_owned()),
        ];
        match operation {
            Some(operation) => {
                attributes.push(KeyValue::new("db.operation.name", operation.to_owned()))
            }
            None => attributes.push(KeyValue::new("db.query.summary", summary.clone())),
        }
        if texts.len() > 1 {
            attributes.push(KeyValue::new("db.operation.batch.size", texts.len() as i64));
        }
        attributes.extend(sql::shown(&texts).map(|text| KeyValue::new("db.query.text", text)));
        let tracer = &span.spans.tracer;
        let builder = tracer.span_builder(summary).with_kind(SpanKind::Client);
        let builder = builder.with_attributes(attributes);
        Self(Some(builder.start_with_context(tracer, &span.context)))
    }

    /// The call has ended, with this kind of error if with any: an SQLSTATE, if the server said so.
    pub fn end(mut self, error: Option<&str>) {
        let span = self.0.take();
        if let (Some(mut span), Some(error)) = (span, error) {
            fail(&mut span, error);
        }
    }
}

impl Drop for CallSpan {
    /// Nobody waited for the call's end.
    fn drop(&mut self) {
        if let Some(span) = &mut self.0 {
            fail(span, "cancelled");
        }
    }
}

fn fail(span: &mut SdkSpan, error: &str) {
    let is_state = error.len() == 5
        && error
            .chars()
            .all(|c| c.is_ascii_digit() || c.is_ascii_uppercase());
    if is_state {
        span.set_attribute(KeyValue::new("db.response.status_code", error.to_owned()));
    }
    span.set_attribute(KeyValue::new("error.type", error.to_owned()));
    // No more than that: the server's words may contain values.
    span.set_status(Status::error(error.to_owned()));
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<SpanData>> {
        lock(&self.0)
    }

    /// Puts these before those that have ended since.
    fn put_back(&self, batch: Vec<SpanData>) {
        let mut queue = self.lock();
        let room = limits::SPANS_MAX.saturating_sub(queue.len());
        for span in batch.into_iter().rev().take(room) {
            queue.push_front(span);
        }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut SdkSpan, _: &Context) {}

    fn on_end(&self, mut span: SpanData) {
        // Where the clock was set back meanwhile: nothing ends before it begins.
        span.end_time = span.end_time.max(span.start_time);
        let mut queue = self.lock();
        // The oldest are dropped, or there would be no bound while they cannot be exported.
        if queue.len() >= limits::SPANS_MAX {
            queue.pop_front();
        }
        queue.push_back(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

fn exporter() -> Result<opentelemetry_otlp::SpanExporter, String> {
    opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(Client::from_variables()?)
        // Its wait between two attempts would block this thread.
        .with_retry_policy(RetryPolicy::disabled())
        .build()
        .map_err(|error| error.to_string())
}

/// Whether OpenTelemetry's variables ask for an export.
fn is_wanted(variable: Variables<'_>) -> bool {
    let given = |name| variable(name).filter(|value| !value.is_empty());
    let is = |name, word| given(name).is_some_and(|value: String| value.eq_ignore_ascii_case(word));
    let exporter = given("OTEL_TRACES_EXPORTER");
    if is("OTEL_SDK_DISABLED", "true") || exporter.as_deref().is_some_and(|name| name != "otlp") {
        return false;
    }
    exporter.is_some()
        || given("OTEL_EXPORTER_OTLP_ENDPOINT").is_some()
        || given("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;
    use crate::telemetry::invocation_of;

    fn spans() -> Arc<Spans> {
        Spans::exported_by(exporter().unwrap())
    }

    fn ended(spans: &Spans) -> Vec<SpanData> {
        spans.queue.lock().drain(..).collect()
    }

    fn error_types(span: &SpanData) -> Vec<String> {
        let attributes = span.attributes.iter();
        let types = attributes.filter(|attribute| attribute.key.as_str() == "error.type");
        types.map(|kind| kind.value.to_string()).collect()
    }

    #[tokio::test]
    async fn a_span_tells_of_the_first_fault_alone() {
        let spans = spans();
        let span = spans.begin("x", &invocation_of("r"));
        for kind in [Kind::Trap, Kind::DeadlineExceeded] {
            span.fail(&Fault::new(kind, kind.error_type()));
        }
        span.end(Instant::now()).await;
        let ended = ended(&spans);
        let first = Kind::Trap.error_type();
        assert_eq!(error_types(&ended[0]), [first]);
        assert!(format!("{:?}", ended[0].status).contains(first));
    }

    #[tokio::test]
    async fn a_call_whose_end_nobody_waited_for_was_cancelled() {
        let spans = spans();
        let span = spans.begin("x", &invocation_of("r"));
        let call = || CallSpan::begin(Some(&span), "main", None, || vec!["select 1".to_owned()]);
        drop(call());
        call().end(None);
        call().end(Some("22012"));
        let ended = ended(&spans);
        assert_eq!(error_types(&ended[0]), ["cancelled"]);
        assert!(matches!(ended[0].status, Status::Error { .. }));
        assert_eq!(ended[1].status, Status::Unset);
        assert_eq!(error_types(&ended[2]), ["22012"]);
    }

    #[tokio::test]
    async fn a_span_does_not_end_before_it_begins_where_the_clock_was_set_back() {
        let spans = spans();
        let later = SystemTime::now() + Duration::from_secs(3_600);
        let builder = spans.tracer.span_builder("x").with_start_time(later);
        builder.start(&spans.tracer).end();
        let ended = ended(&spans);
        assert_eq!(ended[0].end_time, ended[0].start_time);
    }

    #[test]
    fn spans_are_exported_where_a_variable_asks_for_it() {
        let cases: &[(&[(&str, &str)], bool)] = &[
            (&[], false),
            (&[("OTEL_SERVICE_NAME", "x")], false),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")], true),
            (
                &[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318")],
                true,
            ),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")], false),
            (&[("OTEL_TRACES_EXPORTER", "otlp")], true),
            (
                &[
                    ("OTEL_TRACES_EXPORTER", "none"),
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                ],
                false,
            ),
            (
                &[
                    ("OTEL_SDK_DISABLED", "TRUE"),
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                ],
                false,
            ),
        ];
        for (variables, wanted) in cases {
            let variable = |name: &str| {
                let found = variables.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(is_wanted(&variable), *wanted, "{variables:?}");
        }
    }
}
