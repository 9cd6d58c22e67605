//! A panic of the host's own, in the log.
//!
//! Promises: one line of the log says what the panic was and where, whatever the log's level; a panic while a
//! line is being written goes to standard error instead, since the log is locked by that line.
//!
//! Left to others: what ends by it.

use std::cell::Cell;
use std::panic;

use super::FATAL;

thread_local! {
    static WRITES: Cell<bool> = const { Cell::new(false) };
}

/// While it lives, this thread writes a line.
pub(super) struct Writing(());

impl Writing {
    pub(super) fn begin() -> Self {
        WRITES.set(true);
        Self(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITES.set(false);
    }
}

/// Has the log tell of panics from now on.
pub(super) fn tell() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| match WRITES.get() {
        true => before(panicked),
        false => {
            let place = panicked.location().map(ToString::to_string);
            line(panicked.payload_as_str(), place.as_deref());
        }
    }));
}

fn line(words: Option<&str>, place: Option<&str>) {
    let words = words.unwrap_or("it does not say why");
    tracing::error!(target: FATAL, place, "the host has panicked: {words}");
}

#[cfg(test)]
mod tests {
    use crate::config::LogLevel;
    use crate::telemetry::logged;

    #[test]
    fn a_panic_is_one_line_with_its_place() {
        let lines = logged(LogLevel::Fatal, || {
            super::line(Some("two\nlines"), Some("src/x.rs:1:2"));
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        for text in ["FATAL", "two", "lines", "place=src/x.rs:1:2"] {
            assert!(lines[0].contains(text), "{lines:?}");
        }
    }
}
