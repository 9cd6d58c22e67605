//! Rows that the host has read before the guest has asked for them.
//!
//! Rows that are on their way keep their connection from other calls. If another call needs that connection, the host
//! reads the rows and keeps them here. It does so for the rows of portals, and on a connection that is kept for all
//! further calls, for those of any result.
//!
//! Promises:
//! - the rows of a result come in their order, in batches no larger than others, and an error after the rows before it;
//! - an invocation has no more than [`limits::BUFFERED_ROWS_BYTES_MAX`] of such rows in memory, and one batch more for
//!   each connection that is being read. Rows that nobody can ask for any more are dropped;
//! - reading them can be given up at any await, and no row is lost.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use crate::database::Batch;
use crate::database::connection::Connection;
use crate::database::error::{Error, Result};
use crate::limits;
use crate::lock::lock;

/// The rows that are kept for one invocation, of all its connections.
#[derive(Clone, Default)]
pub struct AllBufferedRows(Arc<Mutex<Held>>);

/// Those of one connection.
pub struct BufferedRows {
    all: AllBufferedRows,
    /// Which of the invocation's connections that is.
    number: u64,
}

#[derive(Default)]
struct Held {
    results: Vec<Unread>,
    /// How many connections there were.
    numbers: u64,
    closed: bool,
}

/// The rows of one result that the guest has not asked for yet.
struct Unread {
    number: u64,
    result: String,
    batches: VecDeque<Batch>,
}

impl AllBufferedRows {
    /// For the rows of one more connection.
    pub fn one_more(&self) -> BufferedRows {
        let mut held = lock(&self.0);
        held.numbers += 1;
        BufferedRows {
            all: self.clone(),
            number: held.numbers,
        }
    }

    /// Drops all rows, and from now on those that are put here: the invocation has ended.
    pub fn close(&self) {
        let mut held = lock(&self.0);
        held.closed = true;
        held.results.clear();
    }

    fn bytes(&self) -> usize {
        let held = lock(&self.0);
        let batches = held.results.iter().flat_map(|unread| &unread.batches);
        batches.map(|batch| batch.cells.len()).sum()
    }
}

impl BufferedRows {
    /// The next rows of a result.
    pub fn take(&self, result: &str) -> Option<Batch> {
        self.change(result, VecDeque::pop_front)
    }

    /// The batch of a result that was read last, so that more rows can be read into it.
    fn take_newest(&self, result: &str) -> Option<Batch> {
        self.change(result, VecDeque::pop_back)
    }

    fn change(
        &self,
        result: &str,
        take: fn(&mut VecDeque<Batch>) -> Option<Batch>,
    ) -> Option<Batch> {
        let mut held = lock(&self.all.0);
        let batch = take(&mut self.find(&mut held, result)?.batches);
        held.results.retain(|unread| !unread.batches.is_empty());
        batch
    }

    fn find<'a>(&self, held: &'a mut Held, result: &str) -> Option<&'a mut Unread> {
        let mut results = held.results.iter_mut();
        results.find(|unread| unread.number == self.number && unread.result == result)
    }

    fn put(&self, result: &str, batch: Batch) {
        let mut held = lock(&self.all.0);
        if held.closed {
            return;
        }
        match self.find(&mut held, result) {
            Some(unread) => unread.batches.push_back(batch),
            None => held.results.push(Unread {
                number: self.number,
                result: result.to_owned(),
                batches: VecDeque::from([batch]),
            }),
        }
    }

    /// Drops the rows of a result, which nobody will ask for any more.
    pub fn forget(&self, result: &str) {
        self.retain(|unread| unread.result != result);
    }

    /// Drops the rows of all results.
    pub fn forget_all(&self) {
        self.retain(|_| false);
    }

    fn retain(&self, keep: impl Fn(&Unread) -> bool) {
        let mut held = lock(&self.all.0);
        let is_kept = |unread: &Unread| unread.number != self.number || keep(unread);
        held.results.retain(is_kept);
    }

    /// Reads the rows of a result that are on their way, and keeps them. An error once more are kept than may be.
    pub async fn read(&self, result: &str, connection: &mut Connection) -> Result<()> {
        // Reading them may have been given up in its middle.
        let mut begun = self.take_newest(result);
        while connection.is_busy() {
            let mut reading = Reading {
                buffered: self,
                result,
                batch: begun.take().unwrap_or_default(),
                ended: false,
            };
            if self.all.bytes() + reading.batch.cells.len() >= limits::BUFFERED_ROWS_BYTES_MAX {
                return Err(Error::InUse);
            }
            connection.read_on(&mut reading.batch).await?;
            reading.ended = !connection.is_busy();
        }
        if let Some(batch) = begun {
            self.put(result, batch);
        }
        Ok(())
    }
}

/// Rows that are being read, and are held however that ends.
struct Reading<'a> {
    buffered: &'a BufferedRows,
    result: &'a str,
    batch: Batch,
    /// Whether the answer has ended with them. Whoever waits for its rows is told so, also if there were none:
    /// those that a portal still has are not among them.
    ended: bool,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.rows > 0 || self.ended || batch.failed.is_some() {
            self.buffered.put(self.result, batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(rows: u32, cells: &[u8]) -> Batch {
        Batch {
            rows,
            cells: cells.to_vec(),
            ..Batch::default()
        }
    }

    #[test]
    fn the_rows_of_a_portal_come_in_their_order() {
        let all = AllBufferedRows::default();
        let buffered = all.one_more();
        buffered.put("a", batch(1, b"one"));
        buffered.put("b", batch(1, b"other"));
        buffered.put("a", batch(2, b"twothree"));
        assert_eq!(all.bytes(), 16);
        assert_eq!(buffered.take("a").unwrap().cells, b"one");
        assert_eq!(buffered.take("a").unwrap().rows, 2);
        assert!(buffered.take("a").is_none());
        buffered.forget("b");
        assert_eq!(all.bytes(), 0);
    }

    #[test]
    fn the_connections_of_an_invocation_hold_rows_of_their_own_within_one_limit() {
        let all = AllBufferedRows::default();
        let (one, other) = (all.one_more(), all.one_more());
        one.put("a", batch(1, b"one"));
        one.put("b", batch(1, b"one"));
        other.put("a", batch(1, b"other"));
        assert_eq!(all.bytes(), 11);
        one.forget_all();
        assert!(one.take("a").is_none() && one.take("b").is_none());
        assert_eq!(other.take("a").unwrap().cells, b"other");
    }

    #[test]
    fn nothing_is_held_for_an_invocation_that_has_ended() {
        let all = AllBufferedRows::default();
        let buffered = all.one_more();
        buffered.put("a", batch(1, b"one"));
        all.close();
        // It was being read at the time.
        buffered.put("a", batch(1, b"other"));
        assert_eq!(all.bytes(), 0);
        assert!(buffered.take("a").is_none());
    }
}
