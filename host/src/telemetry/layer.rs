//! The subscriber's layer that turns events into lines.
//!
//! Promises: other crates are heard from warnings up only, because their lower levels hold statements and
//! headers, and with them data.
//!
//! Left to others: how a line looks ([`super::line`]).

use std::fmt::{Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

use super::line::{Field as LineField, Line, MEMBERS, Value};
use super::timestamp::Timestamp;
use crate::config::{LogConfig, LogFormat, LogLevel};

/// The target of events that are more than errors, for which `tracing` has no level.
pub(crate) const FATAL: &str = "hearth::fatal";

/// Where whole lines go.
pub(super) trait Lines: Send + Sync + 'static {
    /// Takes one line, line break included.
    fn write_line(&self, line: &[u8]);
}

/// Turns each event into a line.
pub(super) struct LineLayer<L> {
    config: LogConfig,
    lines: L,
}

impl<L: Lines> LineLayer<L> {
    pub(super) fn new(config: LogConfig, lines: L) -> Self {
        Self { config, lines }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        let ours = ["hearth", "bootstrap"]
            .iter()
            .any(|name| metadata.target().starts_with(name));
        let level_max = if ours {
            self.config.level
        } else {
            self.config.level.min(LogLevel::Warn)
        };
        level_of(metadata) <= level_max
    }
}

fn level_of(metadata: &Metadata<'_>) -> LogLevel {
    match metadata.target() {
        FATAL => LogLevel::Fatal,
        _ => (*metadata.level()).into(),
    }
}

impl<S, L> Layer<S> for LineLayer<L>
where
    S: Subscriber,
    L: Lines,
{
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields {
            takes_members: self.config.format == LogFormat::Json,
            ..Fields::default()
        };
        event.record(&mut fields);
        let line = Line {
            timestamp: Timestamp::now(),
            level: level_of(event.metadata()),
            message: &fields.message,
            fields: &fields.values,
        };
        self.lines.write_line(&line.render(self.config.format));
    }
}

/// The fields of an event, in the order they were given.
#[derive(Default)]
struct Fields {
    message: String,
    values: Vec<LineField>,
    /// Whether [`MEMBERS`] are read, which are not put together before that.
    takes_members: bool,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            name => self.values.push((name, Value::Text(value.to_owned()))),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => _ = write!(self.message, "{value:?}"),
            MEMBERS if !self.takes_members => {}
            name => self.values.push((name, Value::Text(format!("{value:?}")))),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.values.push((field.name(), Value::Text(text)));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.values
            .push((field.name(), Value::Integer(value.into())));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.values
            .push((field.name(), Value::Integer(value.into())));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.values.push((field.name(), Value::Integer(value)));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.values
            .push((field.name(), Value::Text(value.to_string())));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.values.push((field.name(), Value::Float(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.values.push((field.name(), Value::Boolean(value)));
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    impl Lines for Arc<Mutex<Vec<String>>> {
        fn write_line(&self, line: &[u8]) {
            self.lock()
                .unwrap()
                .push(String::from_utf8(line.to_vec()).unwrap());
        }
    }

    /// The text lines that `act` logs at this level, without their timestamps.
    pub(crate) fn logged(level: LogLevel, act: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let config = LogConfig {
            format: LogFormat::Text,
            level,
        };
        let layer = LineLayer::new(config, Arc::clone(&lines));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), act);
        let lines = lines.lock().unwrap();
        lines
            .iter()
            .map(|line| line[25..].trim_end_matches('\n').to_owned())
            .collect()
    }

    #[test]
    fn an_event_carries_the_fields_that_it_has() {
        let lines = logged(LogLevel::Warn, || {
            tracing::info!("too low");
            tracing::warn!(rows = 3, missing = Option::<u8>::None, error = %"bad", "look");
        });
        assert_eq!(lines, ["WARN  look rows=3 error=bad"]);
    }

    #[test]
    fn members_are_not_put_together_for_a_line_of_text() {
        struct Unread;

        impl std::fmt::Display for Unread {
            fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                panic!("nobody reads it")
            }
        }

        let lines = logged(LogLevel::Info, || {
            tracing::info!(members = %Unread, "look");
        });
        assert_eq!(lines, ["INFO  look"]);
    }

    #[test]
    fn what_is_fatal_is_more_than_an_error() {
        let act = || {
            tracing::error!(target: FATAL, "the end");
            tracing::error!("bad");
        };
        assert_eq!(logged(LogLevel::Fatal, act), ["FATAL the end"]);
        assert_eq!(logged(LogLevel::Error, act), ["FATAL the end", "ERROR bad"]);
    }

    #[test]
    fn other_crates_are_heard_from_warnings_up() {
        let lines = logged(LogLevel::Trace, || {
            tracing::trace!("ours");
            tracing::info!(target: "hyper::proto", "theirs");
            tracing::warn!(target: "hyper::proto", "theirs, and important");
        });
        assert_eq!(lines, ["TRACE ours", "WARN  theirs, and important"]);
    }
}
