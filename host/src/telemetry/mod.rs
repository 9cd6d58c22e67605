//! What is told of an environment: its log, what its guests print, and what each invocation took; on standard output,
//! in the words that Lambda documents.
//!
//! Promises:
//! - lines of several threads never mix, and a reader that stalls stops nothing else ([`sink`]);
//! - nothing in a message or a field can begin a second line ([`mod@line`]), and a panic of the host's own
//!   is a line like any other ([`panics`]);
//! - what is below the configured level is never formatted.
//!
//! Left to others: what is worth a line; what a guest prints ([`Output`] brings it here); what an
//! invocation takes, which is told where its [`Account`] is closed.

mod account;
mod emf;
mod layer;
mod line;
mod metrics;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(not(feature = "otlp"))]
#[path = "no_otlp.rs"]
mod otlp;
mod output;
mod panic_message;
mod panics;
mod reader_budget;
mod sink;
mod structured;
mod tally;
mod timestamp;

pub use account::{Account, Observers};
pub(crate) use account::{line_for, line_of, trace_of};
pub(crate) use layer::FATAL;
pub use metrics::Metrics;
pub use otlp::{CallSpan, Spans};
pub use output::{Output, Stream};
pub use tally::{Asking, Lending, Tally, Time, Traffic};

use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogConfig;
use crate::lock::lock;

use sink::Sink;

/// Starts the log on standard output. Only the first start in a process has an effect.
pub fn start(config: &LogConfig) {
    start_on(config, std::io::stdout().as_fd());
}

/// Starts the log on standard error, for a command whose standard output is its result.
pub fn start_on_stderr(config: &LogConfig) {
    start_on(config, std::io::stderr().as_fd());
}

fn start_on(config: &LogConfig, descriptor: std::os::fd::BorrowedFd<'_>) {
    let Ok(duplicate) = descriptor.try_clone_to_owned() else {
        return;
    };
    let sink = Sink::new(duplicate, config.format);
    let layer = layer::LineLayer::new(*config, ToSink);
    // Only tests start it a second time, and the first one's settings suit them.
    let _ = SINK.set(Mutex::new(sink));
    if tracing_subscriber::registry()
        .with(layer)
        .try_init()
        .is_ok()
    {
        panics::tell();
    }
}

static SINK: OnceLock<Mutex<Sink>> = OnceLock::new();

struct ToSink;

impl layer::Lines for ToSink {
    fn write_line(&self, line: &[u8]) {
        write_line(line);
    }
}

/// The environment ends: from now on nobody waits for a reader of the log that stalls.
pub(crate) fn hurry() {
    sink::hurry();
}

/// Writes a whole line, line break included.
fn write_line(line: &[u8]) {
    let Some(sink) = SINK.get() else { return };
    let _writing = panics::Writing::begin();
    lock(sink).write_line(line);
}

#[cfg(test)]
pub(crate) use account::tests::invocation as invocation_of;
#[cfg(test)]
pub(crate) use layer::tests::logged;
