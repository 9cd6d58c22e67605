//! What a guest prints during one invocation, on its way to the log.
//!
//! Promises:
//! - a line is logged once it is complete, in the order in which the guest completed them; one that
//!   would be longer than [`limits::OUTPUT_LINE_BYTES_MAX`] in several, of which each but the last one
//!   says that it `continues`; but for the empty one that Rust puts before a panic's message;
//! - after [`limits::OUTPUT_BYTES_MAX`], or [`limits::OUTPUT_LINES_MAX`], nothing more is logged, and the log says so
//!   once;
//! - the end of the output and a panic's message are kept for the answer, the message even past
//!   the limit and below the log's level.
//!
//! Left to others: what a line is that is JSON already ([`super::structured`]); control characters,
//! which [`super::line`] makes harmless; and when an invocation is over ([`Output::finish`]).

use std::sync::{Arc, Mutex, MutexGuard};

use tracing::field::display;

use super::account::{Account, line_of};
use super::panic_message;
use super::structured::{self, Structured, Words};
use crate::config::LogLevel;
use crate::limits;
use crate::lock::lock;

/// Where a guest wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The output of one invocation, or of one instance's `init` or hook.
#[derive(Debug)]
pub struct Output {
    account: Arc<Account>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    // The line that each stream has begun.
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    // What may still be logged is the limits less these.
    bytes: usize,
    lines: usize,
    dropping: bool,
    // Whether an empty line of standard error's is to be logged, unless a panic's message follows.
    blank: bool,
    tail: Vec<u8>,
    // The end of standard error as it came, where a panic's message is looked for.
    stderr_end: Vec<u8>,
}

impl Output {
    /// No output yet.
    pub fn new(account: Arc<Account>) -> Self {
        Self {
            account,
            state: Mutex::new(State::default()),
        }
    }

    /// Whose it is.
    pub fn account(&self) -> &Account {
        &self.account
    }

    /// Takes what the guest wrote, wherever in a line it begins and ends.
    pub fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.lock();
        if stream == Stream::Stderr {
            keep_end(&mut state.stderr_end, bytes, panic_message::STDERR_BYTES);
        }
        let room = match state.dropping {
            true => 0,
            false => limits::OUTPUT_BYTES_MAX - state.bytes,
        };
        let mut taken = &bytes[..bytes.len().min(room)];
        let ends = taken.iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        let mut ends = ends.skip(limits::OUTPUT_LINES_MAX - state.lines);
        if let Some((end, _)) = ends.next() {
            taken = &taken[..end];
        }
        state.bytes += taken.len();
        state.lines += taken.iter().filter(|byte| **byte == b'\n').count();
        self.take(&mut state, stream, taken);
        if taken.len() < bytes.len() && !state.dropping {
            self.end_lines(&mut state);
            state.dropping = true;
            line_of!(
                self.account,
                warn,
                "the guest wrote more than {} bytes or {} lines; the rest of this invocation's output is dropped",
                limits::OUTPUT_BYTES_MAX,
                limits::OUTPUT_LINES_MAX
            );
        }
    }

    /// Logs the lines that were begun and not ended. Writing may go on.
    pub fn finish(&self) {
        self.end_lines(&mut self.lock());
    }

    /// The last [`limits::OUTPUT_TAIL_BYTES`] of the complete lines, each with its line break.
    pub fn tail(&self) -> Vec<u8> {
        let state = self.lock();
        let start = state.tail.len().saturating_sub(limits::OUTPUT_TAIL_BYTES);
        state.tail[start..].to_vec()
    }

    /// The message and the place of the last panic that a Rust guest reported on standard error.
    pub fn panic_message(&self) -> Option<String> {
        panic_message::find(&String::from_utf8_lossy(&self.lock().stderr_end))
    }

    fn take(&self, state: &mut State, stream: Stream, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut line = std::mem::take(state.begun(stream));
            let room = limits::OUTPUT_LINE_BYTES_MAX - line.len();
            match rest.iter().take(room + 1).position(|&byte| byte == b'\n') {
                Some(end) => {
                    line.extend_from_slice(&rest[..end]);
                    rest = &rest[end + 1..];
                    let whole = line.strip_suffix(b"\r").unwrap_or(&line);
                    self.end_line(state, stream, whole);
                    line.clear();
                }
                None if rest.len() > room => {
                    line.extend_from_slice(&rest[..room]);
                    rest = &rest[room..];
                    let whole = line.len() - split_character(&line);
                    if std::mem::take(&mut state.blank) {
                        self.log(state, Stream::Stderr, b"", false);
                    }
                    self.log(state, stream, &line[..whole], true);
                    line.drain(..whole);
                }
                None => {
                    line.extend_from_slice(rest);
                    rest = &[];
                }
            }
            *state.begun(stream) = line;
        }
    }

    fn end_lines(&self, state: &mut State) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let line = std::mem::take(state.begun(stream));
            if !line.is_empty() {
                self.end_line(state, stream, &line);
            }
        }
        if std::mem::take(&mut state.blank) {
            self.log(state, Stream::Stderr, b"", false);
        }
    }

    /// Logs a line that has come to its end, now or with the next one.
    fn end_line(&self, state: &mut State, stream: Stream, line: &[u8]) {
        let is_stderr = stream == Stream::Stderr;
        let panics = || is_stderr && panic_message::is_heading(&String::from_utf8_lossy(line));
        if std::mem::take(&mut state.blank) && !panics() {
            self.log(state, Stream::Stderr, b"", false);
        }
        match is_stderr && line.is_empty() {
            true => state.blank = true,
            false => self.log(state, stream, line, false),
        }
    }

    /// Logs a line, or the part of one that `continues`.
    fn log(&self, state: &mut State, stream: Stream, line: &[u8], continues: bool) {
        keep_end(&mut state.tail, line, limits::OUTPUT_TAIL_BYTES);
        keep_end(&mut state.tail, b"\n", limits::OUTPUT_TAIL_BYTES);
        // A part says nothing of the whole, even if it could be one.
        let structured = match continues {
            true => None,
            false => structured::read(line),
        };
        let text = String::from_utf8_lossy(line);
        match structured {
            Some(Structured::Figures(mut figures)) => {
                figures.push('\n');
                super::write_line(figures.as_bytes());
            }
            Some(Structured::Words(words)) => {
                self.say(words.level, stream, &text, Some(&words), None);
            }
            None => {
                let mut rest = &*text;
                loop {
                    let (part, more) = rest.split_at(fitting(rest));
                    let continues = (continues || !more.is_empty()).then_some(true);
                    self.say(LogLevel::Info, stream, part, None, continues);
                    rest = more;
                    if rest.is_empty() {
                        return;
                    }
                }
            }
        }
    }

    fn say(
        &self,
        level: LogLevel,
        stream: Stream,
        text: &str,
        members: Option<&Words<'_>>,
        continues: Option<bool>,
    ) {
        let members = members.map(display);
        let (account, stream) = (&*self.account, stream.as_str());
        match level {
            LogLevel::Trace => line_of!(account, trace, stream, members, continues, "{text}"),
            LogLevel::Debug => line_of!(account, debug, stream, members, continues, "{text}"),
            LogLevel::Info => line_of!(account, info, stream, members, continues, "{text}"),
            LogLevel::Warn => line_of!(account, warn, stream, members, continues, "{text}"),
            LogLevel::Error => line_of!(account, error, stream, members, continues, "{text}"),
            LogLevel::Fatal => line_of!(account, fatal, stream, members, continues, "{text}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn begun(&mut self, stream: Stream) -> &mut Vec<u8> {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }
}

// Lets the buffer grow to twice what is wanted, so that not every line moves all of it.
fn keep_end(end: &mut Vec<u8>, bytes: &[u8], bytes_max: usize) {
    end.extend_from_slice(&bytes[bytes.len().saturating_sub(bytes_max)..]);
    if end.len() > 2 * bytes_max {
        end.drain(..end.len() - bytes_max);
    }
}

/// How many bytes of a text fit into one line, where some characters are written as several.
fn fitting(text: &str) -> usize {
    const WIDEST: usize = 6;
    if text.len() * WIDEST <= limits::OUTPUT_LINE_BYTES_MAX {
        return text.len();
    }
    let mut written = 0;
    for (at, c) in text.char_indices() {
        written += match c {
            '"' | '\\' | '\t' => 2,
            '\u{2028}' | '\u{2029}' => 8,
            c if c.is_control() => WIDEST,
            c => c.len_utf8(),
        };
        if written > limits::OUTPUT_LINE_BYTES_MAX {
            return at;
        }
    }
    text.len()
}

/// How many bytes at the end are the beginning of a character whose rest is to come.
fn split_character(line: &[u8]) -> usize {
    for begun in 1..=line.len().min(3) {
        let length = match line[line.len() - begun] {
            0b1100_0000..0b1110_0000 => 2,
            0b1110_0000..0b1111_0000 => 3,
            0b1111_0000..0b1111_1000 => 4,
            0b1000_0000..0b1100_0000 => continue,
            _ => return 0,
        };
        return if begun < length { begun } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::super::account::{Observers, tests::invocation};
    use super::super::layer::tests::logged;
    use super::*;

    fn output_of(request_id: &str) -> Output {
        let invocation = Arc::new(invocation(request_id));
        Output::new(Account::open("hello", invocation, &Observers::default()))
    }

    fn lines_of(request_id: &str, act: impl FnOnce(&Output)) -> Vec<String> {
        let output = output_of(request_id);
        logged(LogLevel::Info, || act(&output))
    }

    #[test]
    fn lines_come_out_whole_however_they_were_written() {
        let lines = lines_of("r", |output| {
            output.write(Stream::Stdout, b"on");
            output.write(Stream::Stderr, b"oops\n");
            output.write(Stream::Stdout, b"e\r\n\ntwo\nrest");
            output.finish();
            output.finish();
        });
        let expected = [
            "INFO  oops request_id=r function=hello stream=stderr",
            "INFO  one request_id=r function=hello stream=stdout",
            "INFO   request_id=r function=hello stream=stdout",
            "INFO  two request_id=r function=hello stream=stdout",
            "INFO  rest request_id=r function=hello stream=stdout",
        ];
        assert_eq!(lines, expected);
    }

    /// Any other is the guest's own.
    #[test]
    fn the_empty_line_before_a_panic_is_not_logged() {
        let lines = lines_of("", |output| {
            output.write(Stream::Stderr, b"\nfirst\n\n\nthread 'main' (1) ");
            output.write(Stream::Stderr, b"panicked at src/lib.rs:1:2:\nno stock\n\n");
            output.write(Stream::Stdout, b"second\n");
            output.write(Stream::Stderr, b"\n");
            output.finish();
        });
        let texts = lines
            .iter()
            .map(|line| line.strip_prefix("INFO  ").unwrap());
        let texts: Vec<_> = texts
            .map(|line| line.split(" function=").next().unwrap())
            .collect();
        let panic = "thread 'main' (1) panicked at src/lib.rs:1:2:";
        assert_eq!(
            texts,
            ["", "first", "", panic, "no stock", "", "second", ""]
        );
    }

    #[test]
    fn a_line_cannot_forge_another_one() {
        let lines = lines_of("", |output| {
            output.write(
                Stream::Stdout,
                b"a\r2026-11-23T20:00:00.000Z ERROR \x1b[31mforged\xff\n",
            );
        });
        let expected = "INFO  a\\r2026-11-23T20:00:00.000Z ERROR \\u{1b}[31mforged\u{fffd} function=hello stream=stdout";
        assert_eq!(lines, [expected]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let lines = lines_of("", |output| {
            output.write(Stream::Stdout, b"x");
            output.write(
                Stream::Stdout,
                "ä".repeat(limits::OUTPUT_LINE_BYTES_MAX).as_bytes(),
            );
            output.finish();
        });
        let text: String = lines
            .iter()
            .map(|line| line[6..].split(' ').next().unwrap())
            .collect();
        assert_eq!(
            text,
            format!("x{}", "ä".repeat(limits::OUTPUT_LINE_BYTES_MAX))
        );
        let continue_: Vec<bool> = lines
            .iter()
            .map(|line| line.ends_with("continues=true"))
            .collect();
        assert_eq!(continue_, [true, true, false]);
    }

    /// What is escaped takes more room than it did.
    #[test]
    fn a_line_is_cut_by_how_long_it_is_when_it_is_written() {
        for text in ["\u{1}", "\u{85}", "\u{2028}", "\"", "\\"] {
            let line = text.repeat(limits::OUTPUT_LINE_BYTES_MAX / text.len());
            let lines = lines_of("", |output| {
                output.write(Stream::Stdout, line.as_bytes());
                output.finish();
            });
            assert!(lines.len() > 1, "{text:?}");
            assert!(
                lines
                    .iter()
                    .all(|line| line.len() < limits::OUTPUT_LINE_BYTES_MAX + 100),
                "{text:?}"
            );
            let part = serde_json::to_string(&line[..fitting(&line)]).unwrap();
            assert!(part.len() <= limits::OUTPUT_LINE_BYTES_MAX + 2, "{text:?}");
        }
    }

    /// No part of it is taken for more than a part.
    #[test]
    fn an_object_with_more_behind_it_is_no_object() {
        let mut line = br#"{"level":"ERROR","message":"x"}"#.to_vec();
        line.resize(limits::OUTPUT_LINE_BYTES_MAX + 1, b' ');
        let lines = lines_of("", |output| {
            output.write(Stream::Stdout, &line);
            output.finish();
        });
        assert!(
            lines.len() > 1 && lines[0].starts_with("INFO  {"),
            "{}",
            &lines[0][..40]
        );
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_not_cut() {
        let lines = lines_of("", |output| {
            let mut line = vec![b'x'; limits::OUTPUT_LINE_BYTES_MAX];
            line.push(b'\n');
            output.write(Stream::Stdout, &line);
            output.write(Stream::Stdout, &line);
        });
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn bytes_that_are_no_text_are_cut_all_the_same() {
        for byte in [0x80, 0xff, 0xc3, 0xf0] {
            let lines = lines_of("", |output| {
                output.write(
                    Stream::Stdout,
                    &vec![byte; 3 * limits::OUTPUT_LINE_BYTES_MAX],
                );
                output.finish();
            });
            // Each of them is written as three.
            assert!((9..=12).contains(&lines.len()), "{byte:x}: {}", lines.len());
        }
    }

    #[test]
    fn what_is_too_much_is_dropped_and_the_log_says_so_once() {
        let chunk = [&b"0123456789abcdef".repeat(15)[..], b"0123456789abcde\n"].concat();
        let lines = lines_of("r", |output| {
            output.write(Stream::Stderr, b"begun");
            for _ in 0..2 * limits::OUTPUT_BYTES_MAX / chunk.len() {
                output.write(Stream::Stdout, &chunk);
            }
            output.write(
                Stream::Stderr,
                b"\nthread 'main' panicked at src/lib.rs:1:2:\ntoo much\n",
            );
            output.finish();
            assert_eq!(
                output.panic_message().as_deref(),
                Some("too much, at src/lib.rs:1:2")
            );
        });
        let warnings = lines.iter().filter(|line| line.starts_with("WARN")).count();
        assert_eq!(warnings, 1);
        assert!(
            lines
                .last()
                .unwrap()
                .starts_with("WARN  the guest wrote more than 1048576 bytes")
        );
        assert!(lines.iter().any(|line| line.starts_with("INFO  begun")));
        assert!(lines.len() <= limits::OUTPUT_BYTES_MAX / 256 + 3);
    }

    /// What the host says with each would be many times what the guest writes.
    #[test]
    fn lines_without_words_are_counted_too() {
        for at_once in [1, 1000, limits::OUTPUT_LINES_MAX] {
            let lines = lines_of("r", |output| {
                for _ in 0..2 * limits::OUTPUT_LINES_MAX / at_once {
                    output.write(Stream::Stdout, &b"\n".repeat(at_once));
                }
                output.write(Stream::Stdout, b"more");
                output.finish();
            });
            assert_eq!(lines.len(), limits::OUTPUT_LINES_MAX + 1, "{at_once}");
            assert!(
                lines
                    .last()
                    .unwrap()
                    .starts_with("WARN  the guest wrote more than")
            );
        }
    }

    #[test]
    fn the_tail_is_the_end_of_what_was_completed() {
        let output = output_of("r");
        output.write(Stream::Stdout, b"one\nbegun");
        assert_eq!(output.tail(), b"one\n");
        for _ in 0..3000 {
            output.write(Stream::Stdout, b"abc\n");
        }
        output.finish();
        assert_eq!(output.tail(), b"abc\n".repeat(1024));
    }
}
