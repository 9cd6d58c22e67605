//! What the wire shows and the driver keeps to itself: the transaction status, and whether the
//! server still owes an answer.
//!
//! Promises: [`Probe::status`] is what the server last said in a `ReadyForQuery`, and is only
//! given when no answer is outstanding. Nothing is copied and nothing is held back: the bytes
//! pass by, and the scanners read the five bytes at the head of each message.
//!
//! Left to others: what a status means for the connection ([`super::connection`]).

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use tokio::sync::Notify;

/// The server's word on the transaction, from `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// No transaction is open.
    Idle,
    /// A transaction is open.
    Open,
    /// A transaction is open and has failed; it can only be rolled back.
    Failed,
}

/// Counters that the socket writes and the connection reads.
#[derive(Debug, Default)]
pub struct Probe {
    status: AtomicU8,
    /// Messages sent that the server answers with a `ReadyForQuery`.
    asked: AtomicU64,
    /// `ReadyForQuery` messages received.
    answered: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    round_trips: AtomicU64,
    /// Whether the connection has ended, so that no answer will come any more.
    ended: AtomicBool,
    answering: Notify,
}

impl Probe {
    /// The transaction status; none while the server owes an answer.
    pub fn status(&self) -> Option<Status> {
        if self.asked.load(Ordering::Acquire) != self.answered.load(Ordering::Acquire) {
            return None;
        }
        match self.status.load(Ordering::Acquire) {
            b'I' => Some(Status::Idle),
            b'T' => Some(Status::Open),
            b'E' => Some(Status::Failed),
            _ => None,
        }
    }

    /// Waits until the server owes no answer, or can give none any more. After an error the driver
    /// reports it before the server has said what it did to the transaction.
    pub async fn quiet(&self) {
        loop {
            let answering = self.answering.notified();
            if self.ended.load(Ordering::Acquire) || self.status().is_some() {
                return;
            }
            answering.await;
        }
    }

    /// The connection has ended.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.answering.notify_waiters();
    }

    /// Bytes written to the socket since it was opened.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Acquire)
    }

    /// Bytes read from the socket since it was opened.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Acquire)
    }

    /// How often the client wrote after it had last read: the round trips it waited for.
    pub fn round_trips(&self) -> u64 {
        self.round_trips.load(Ordering::Acquire)
    }
}

/// Reads what goes to the server.
#[derive(Debug, Default)]
pub struct Outgoing {
    frames: Frames,
    /// The first message of a connection has no type byte.
    started: bool,
    reading: bool,
}

impl Outgoing {
    /// The next bytes that were written.
    pub fn scan(&mut self, bytes: &[u8], probe: &Probe) {
        probe
            .sent_bytes
            .fetch_add(bytes.len() as u64, Ordering::AcqRel);
        if !std::mem::replace(&mut self.reading, true) {
            probe.round_trips.fetch_add(1, Ordering::AcqRel);
        }
        let untyped = !std::mem::replace(&mut self.started, true);
        self.frames.scan(bytes, untyped, |kind, _| {
            // Start-up, Query, Sync and FunctionCall are what the server is ready after.
            if matches!(kind, STARTUP | b'Q' | b'S' | b'F') {
                probe.asked.fetch_add(1, Ordering::AcqRel);
            }
        });
    }

    /// Something was read: what is written next begins another round trip.
    pub fn turn(&mut self) {
        self.reading = false;
    }
}

/// Reads what comes from the server.
#[derive(Debug, Default)]
pub struct Incoming {
    frames: Frames,
}

impl Incoming {
    /// The next bytes that were read.
    pub fn scan(&mut self, bytes: &[u8], probe: &Probe) {
        probe
            .received_bytes
            .fetch_add(bytes.len() as u64, Ordering::AcqRel);
        self.frames.scan(bytes, false, |kind, first| {
            if kind == b'Z' {
                probe.status.store(first, Ordering::Release);
                probe.answered.fetch_add(1, Ordering::AcqRel);
                probe.answering.notify_waiters();
            }
        });
    }
}

/// The type that [`Frames`] reports for the untyped start-up message.
const STARTUP: u8 = 0;

/// Follows message boundaries through a stream cut anywhere.
#[derive(Debug, Default)]
struct Frames {
    head: [u8; 6],
    head_bytes: usize,
    /// Bytes of the current message that are still to come after what `head` holds.
    body_bytes: u32,
}

impl Frames {
    /// Calls `message` with the type and the first byte of the body of each message, as soon as
    /// that byte (or an empty body's end) has passed.
    fn scan(&mut self, mut bytes: &[u8], untyped: bool, mut message: impl FnMut(u8, u8)) {
        if untyped {
            // Its own type byte is missing: supply one, so that the rest is like any other.
            self.head[0] = STARTUP;
            self.head_bytes = 1;
        }
        while !bytes.is_empty() {
            if self.body_bytes > 0 && self.head_bytes == 0 {
                let skipped = bytes.len().min(self.body_bytes as usize);
                self.body_bytes -= skipped as u32;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.head_bytes] = bytes[0];
            self.head_bytes += 1;
            bytes = &bytes[1..];
            if self.head_bytes == 5 {
                let [_, a, b, c, d, _] = self.head;
                // The length counts itself; a shorter one is no PostgreSQL and will not be read on.
                self.body_bytes = u32::from_be_bytes([a, b, c, d]).saturating_sub(4);
                if self.body_bytes == 0 {
                    message(self.head[0], 0);
                    self.head_bytes = 0;
                }
            } else if self.head_bytes == 6 {
                message(self.head[0], self.head[5]);
                self.body_bytes -= 1;
                self.head_bytes = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    #[test]
    fn the_status_is_read_wherever_the_stream_is_cut() {
        let mut startup = message(STARTUP, b"user\0me\0\0");
        startup.remove(0);
        let sent = [startup, message(b'Q', b"begin\0")].concat();
        let received = [
            message(b'R', &[0, 0, 0, 0]),
            message(b'Z', b"I"),
            message(b'C', b"BEGIN\0"),
            message(b'n', b""),
            message(b'Z', b"T"),
        ]
        .concat();
        for cut in 1..received.len() {
            let probe = Probe::default();
            let mut outgoing = Outgoing::default();
            for part in sent.chunks(cut) {
                outgoing.scan(part, &probe);
            }
            assert_eq!(probe.status(), None, "the server owes two answers");
            let mut incoming = Incoming::default();
            for part in received.chunks(cut) {
                incoming.scan(part, &probe);
            }
            assert_eq!(probe.status(), Some(Status::Open), "cut every {cut} bytes");
            assert_eq!(probe.received_bytes(), received.len() as u64);
            assert_eq!(probe.sent_bytes(), sent.len() as u64);
        }
    }

    #[test]
    fn a_round_trip_is_a_write_after_a_read() {
        let probe = Probe::default();
        let mut outgoing = Outgoing::default();
        outgoing.scan(&[0, 0, 0, 8, 0, 0, 0, 0], &probe);
        outgoing.scan(&message(b'P', b"x"), &probe);
        assert_eq!(probe.round_trips(), 1);
        outgoing.turn();
        outgoing.scan(&message(b'S', b""), &probe);
        assert_eq!(probe.round_trips(), 2);
    }
}
