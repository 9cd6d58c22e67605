//! Where lines go: a descriptor without a buffer, since a frozen process cannot flush one.
//!
//! Promises:
//! - one line is one `write`, so that lines of several threads never mix. Only where a reader is behind, and
//!   where a line is longer than a pipe, it goes in pieces, as the system would take it;
//! - a reader that takes nothing, or next to nothing, is waited for no longer than [`limits::LOG_PATIENCE`]
//!   after it has begun to stall, and hardly at all at the end of the environment; lines that are lost by that
//!   are counted, and the log says how many once it is read again;
//! - a closed output is survived in silence: there is nowhere left to complain.
//!
//! The descriptor is not set to non-blocking: other processes that share it would find it so too.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::net::SocketType;
use rustix::net::sockopt::socket_type;

use super::line::Line;
use super::reader_budget::ReaderBudget;
use super::timestamp::Timestamp;
use crate::config::{LogFormat, LogLevel};
use crate::limits;

/// What a pipe that is ready for writing takes without blocking.
const PIPE_PIECE_BYTES: usize = 4 * 1024;
/// What an empty pipe, or a socket that is ready for writing, takes without blocking.
const EMPTY_BYTES: usize = 64 * 1024;
/// How often a wait checks whether the environment is ending, and how long it may last once it is.
const LOOK: Duration = Duration::from_millis(10);

/// Whether nobody is to wait for a reader that stalls.
static HURRIES: AtomicBool = AtomicBool::new(false);

/// From now on nobody waits for a reader that stalls.
pub(super) fn hurry() {
    HURRIES.store(true, Ordering::Relaxed);
}

/// How long a reader is waited for that reads next to nothing.
fn most() -> Duration {
    match HURRIES.load(Ordering::Relaxed) {
        true => LOOK,
        false => limits::LOG_PATIENCE,
    }
}

/// Where lines go.
pub(super) struct Sink {
    file: File,
    kind: Kind,
    format: LogFormat,
    /// Whether the reader was waited for in vain, and has read nothing since.
    is_stalled: bool,
    budget: ReaderBudget,
    /// Whether the last line is there in part.
    is_torn: bool,
    /// How many lines were lost since.
    lost: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Pipe,
    /// A socket without messages.
    Stream,
    /// What takes a line at once, such as a file, or whoever holds a terminal, and may mean to wait.
    Other,
}

impl Sink {
    pub(super) fn new(descriptor: OwnedFd, format: LogFormat) -> Self {
        let file = File::from(descriptor);
        let kind = match file.metadata().map(|metadata| metadata.file_type()) {
            Ok(kind) if kind.is_fifo() => Kind::Pipe,
            Ok(kind) if kind.is_socket() && socket_type(&file) == Ok(SocketType::STREAM) => {
                Kind::Stream
            }
            _ => Kind::Other,
        };
        Self {
            file,
            kind,
            format,
            is_stalled: false,
            budget: ReaderBudget::new(Instant::now()),
            is_torn: false,
            lost: 0,
        }
    }

    /// Writes a whole line, line break included.
    pub(super) fn write_line(&mut self, line: &[u8]) {
        if (self.lost == 0 || self.tell_of_lost()) && self.write(line) {
            return;
        }
        self.lost += 1;
    }

    /// Says how many lines were lost, if it can.
    fn tell_of_lost(&mut self) -> bool {
        let message = format!(
            "{} lines of the log were lost, since nobody read it",
            self.lost
        );
        let note = Line {
            timestamp: Timestamp::now(),
            level: LogLevel::Warn,
            message: &message,
            fields: &[],
        };
        let mut note = note.render(self.format);
        if self.is_torn {
            note.insert(0, b'\n');
        }
        let told = self.write(&note);
        if told {
            self.lost = 0;
        }
        told
    }

    /// Whether all of it is written, or never will be.
    fn write(&mut self, line: &[u8]) -> bool {
        for (index, piece) in line.chunks(self.piece_bytes(line.len())).enumerate() {
            if !self.has_room(piece.len()) {
                self.is_torn |= index > 0;
                return false;
            }
            if self.file.write_all(piece).is_err() {
                return true;
            }
        }
        self.is_torn = false;
        true
    }

    /// How much of a line of this size can be written at once without blocking.
    fn piece_bytes(&self, line_bytes: usize) -> usize {
        match self.kind {
            Kind::Pipe if line_bytes > PIPE_PIECE_BYTES => {
                let is_empty = ioctl_fionread(&self.file) == Ok(0);
                match is_empty && line_bytes <= EMPTY_BYTES {
                    true => line_bytes,
                    false => PIPE_PIECE_BYTES,
                }
            }
            Kind::Stream => EMPTY_BYTES,
            Kind::Pipe | Kind::Other => line_bytes.max(1),
        }
    }

    /// Waits until a piece can be written without blocking, for as long as the budget allows.
    fn has_room(&mut self, piece_bytes: usize) -> bool {
        if self.kind == Kind::Other {
            return true;
        }
        self.budget.regain(Instant::now());
        let waits = !self.is_stalled;
        self.is_stalled = loop {
            let waits = waits && self.budget.is_left_of(most());
            let polled = self.poll(if waits { LOOK } else { Duration::ZERO });
            self.budget.waited(Instant::now());
            match polled {
                Ok(false) if waits => {}
                // Interrupted by a signal, which this very thread may have to act on.
                Ok(false) | Err(Errno::INTR) => break true,
                Ok(true) | Err(_) => break false,
            }
        };
        if !self.is_stalled {
            self.budget.took(piece_bytes);
        }
        !self.is_stalled
    }

    /// Whether it can be written to within this time, or has been closed.
    fn poll(&self, time: Duration) -> rustix::io::Result<bool> {
        let mut watched = [PollFd::new(&self.file, PollFlags::OUT)];
        let time = Timespec::try_from(time).map_err(|_| Errno::INVAL)?;
        Ok(poll(&mut watched, Some(&time))? > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::sync::mpsc::{RecvTimeoutError, channel};

    use super::*;

    /// It takes something again and again, so that no single wait is a long one.
    #[test]
    fn a_reader_that_takes_next_to_nothing_is_not_waited_for_piece_by_piece() {
        const PIECES: u32 = 64;
        let (mut reader, writer) = std::io::pipe().unwrap();
        let (done, is_done) = channel::<()>();
        let pause = limits::LOG_PATIENCE / 4;
        let reading = std::thread::spawn(move || {
            let mut piece = [0; PIPE_PIECE_BYTES];
            while is_done.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                reader.read_exact(&mut piece).unwrap();
            }
        });
        let mut sink = Sink::new(writer.into(), LogFormat::Text);
        let mut line = vec![b'x'; PIPE_PIECE_BYTES - 1];
        line.push(b'\n');
        let begun = Instant::now();
        for _ in 0..EMPTY_BYTES / PIPE_PIECE_BYTES + PIECES as usize {
            sink.write_line(&line);
        }
        assert!(
            begun.elapsed() < pause * PIECES / 2,
            "{:?}",
            begun.elapsed()
        );
        assert!(sink.lost > 0);
        done.send(()).unwrap();
        reading.join().unwrap();
    }
}
