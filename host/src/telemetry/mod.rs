//! The log: one line per event, on standard output, in the words that Lambda documents.
//!
//! Promises:
//! - one line is one `write`, so that lines of several threads never mix;
//! - nothing in a message or a field can begin a second line ([`line`]);
//! - what is below the configured level is never formatted;
//! - a closed output is survived in silence: there is nowhere left to complain.
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
mod structured;
mod tally;
mod timestamp;

pub(crate) use account::{line_for, line_of, trace_of};
#[cfg(test)]
pub(crate) use account::tests::invocation as invocation_of;
pub use account::{Account, Observers};
pub(crate) use layer::FATAL;
pub use metrics::Metrics;
pub use otlp::{CallSpan, Spans};
pub use output::{Output, Stream};
pub use tally::{Lending, Measured, Tally, Time, Traffic};

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::{Mutex, OnceLock, PoisonError};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::LogConfig;

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
    let layer = layer::LineLayer::new(*config, Sink);
    // A second start happens in tests alone, where the first one's settings are as good.
    let _ = FILE.set(Mutex::new(File::from(duplicate)));
    let _ = tracing_subscriber::registry().with(layer).try_init();
}

/// Where lines go: a descriptor without a buffer, since a frozen process cannot flush one.
static FILE: OnceLock<Mutex<File>> = OnceLock::new();

struct Sink;

impl layer::Lines for Sink {
    fn write_line(&self, line: &[u8]) {
        write_line(line);
    }
}

/// Writes a whole line, line break included.
fn write_line(line: &[u8]) {
    let Some(file) = FILE.get() else { return };
    // A pipe takes long lines in several pieces; the lock keeps them together.
    let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = std::io::Write::write_all(&mut *file, line);
}
