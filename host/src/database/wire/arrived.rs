//! What has arrived behind the message in front.
//!
//! Promises: nothing here waits.

use std::task::{Context, Poll, Waker};

use bytes::Buf;
use postgres_protocol::message::backend;

use super::{READ_BYTES, Wire, reply};
use crate::limits;

impl Wire {
    /// Whether what has come unasked contains anything but notices, settings and notifications.
    pub(super) fn has_last_words(&self) -> bool {
        self.tags().next().is_some()
    }

    /// Whether what is there while the server owes nothing can only be the answer to a request: not even last words,
    /// which are an error.
    pub(super) fn has_stray_answer(&self) -> bool {
        let rests = self.owed == 0 && self.output.is_empty() && self.dropping == 0;
        rests && self.tags().any(|tag| tag != backend::ERROR_RESPONSE_TAG)
    }

    /// Those of the messages that have come behind the one in front, but for notices, settings and notifications.
    fn tags(&self) -> impl Iterator<Item = u8> {
        let mut rest = self.input.get(self.current..).unwrap_or_default();
        let all = std::iter::from_fn(move || {
            let header = backend::Header::parse(rest).ok().flatten()?;
            rest = rest.get(1 + header.len() as usize..).unwrap_or_default();
            Some(header.tag())
        });
        all.filter(|tag| {
            !matches!(
                *tag,
                backend::NOTICE_RESPONSE_TAG
                    | backend::PARAMETER_STATUS_TAG
                    | backend::NOTIFICATION_RESPONSE_TAG
            )
        })
    }

    /// Whether the server has closed the connection while it owed nothing, without a word that is unread.
    pub(super) fn has_ended(&mut self) -> bool {
        let rests = self.owed == 0 && self.output.is_empty();
        if rests {
            self.consume();
        }
        rests && self.stream.has_ended(&mut self.input)
    }

    /// Whether the server has said anything that nobody has read, or has ended the connection.
    pub fn has_heard(&self) -> bool {
        self.is_dead() || self.stream.has_heard()
    }

    /// The tag of the next message, if the whole of it has arrived already.
    pub fn arrived(&mut self) -> Option<u8> {
        self.consume();
        let header = backend::Header::parse(&self.input).ok().flatten()?;
        let whole = self.dropping == 0 && self.input.len() > header.len() as usize;
        whole.then_some(header.tag())
    }

    /// Reads what can be read without waiting. Whether that was anything.
    pub fn read_now(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        let mut transfer = std::pin::pin!(self.transfer());
        matches!(transfer.as_mut().poll(&mut context), Poll::Ready(Ok(())))
    }

    /// Adds the cells of the rows that have arrived already to `cells`, until those have so many
    /// bytes. How many rows; none if something else is in front. Many rows cost little this way.
    pub fn rows_arrived(&mut self, cells: &mut Vec<u8>, bytes: usize) -> u32 {
        self.consume();
        if self.dropping > 0 {
            return 0;
        }
        let (mut rows, mut start) = (0, 0);
        while cells.len() < bytes && rows < limits::BATCH_ROWS_MAX {
            let Some((row, end)) = reply::row_at(&self.input, start) else {
                break;
            };
            if cells.capacity() - cells.len() < row.len() && cells.len() >= READ_BYTES / 16 {
                // There are many: room for all of them at once.
                cells.reserve(row.len() + bytes.min(limits::BATCH_BYTES));
            }
            cells.extend_from_slice(row);
            rows += 1;
            start = end;
        }
        self.input.advance(start);
        rows
    }
}
