//! Rows that were read before the guest has asked for them, since something else was to have its turn:
//! those of portals, and on a connection that is kept those of other results too.
//!
//! Promises: those of a result come in their order, in batches no larger than others, and an error after
//! the rows before it; no more than [`limits::ASIDE_BYTES_MAX`] of all are held, but for the last row;
//! reading them can be given up at any await, and none is lost.

use std::collections::VecDeque;
use std::sync::Mutex;

use crate::database::Batch;
use crate::database::connection::Connection;
use crate::database::error::{Error, Result};
use crate::database::lock;
use crate::limits;

/// What was read ahead, by the names of the results.
#[derive(Default)]
pub struct Aside(Vec<(String, VecDeque<Batch>)>);

impl Aside {
    /// The next rows of a result.
    pub fn take(&mut self, result: &str) -> Option<Batch> {
        self.change(result, VecDeque::pop_front)
    }

    /// The rows of a result that were read last, to go on with.
    fn take_newest(&mut self, result: &str) -> Option<Batch> {
        self.change(result, VecDeque::pop_back)
    }

    fn change(
        &mut self,
        result: &str,
        take: fn(&mut VecDeque<Batch>) -> Option<Batch>,
    ) -> Option<Batch> {
        let held = self.0.iter_mut().find(|(name, _)| name == result);
        let batch = held.and_then(|(_, batches)| take(batches));
        self.0.retain(|(_, batches)| !batches.is_empty());
        batch
    }

    fn put(&mut self, result: &str, batch: Batch) {
        match self.0.iter_mut().find(|(name, _)| name == result) {
            Some((_, batches)) => batches.push_back(batch),
            None => self.0.push((result.to_owned(), VecDeque::from([batch]))),
        }
    }

    /// Nobody will read the rows of a result any more.
    pub fn forget(&mut self, result: &str) {
        self.0.retain(|(name, _)| name != result);
    }

    fn bytes(&self) -> usize {
        let batches = self.0.iter().flat_map(|(_, batches)| batches);
        batches.map(|batch| batch.cells.len()).sum()
    }
}

/// Rows that are being read, and are held however that ends.
struct Reading<'a> {
    aside: &'a Mutex<Aside>,
    result: &'a str,
    batch: Batch,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let batch = std::mem::take(&mut self.batch);
        if batch.rows > 0 || batch.last || batch.failed.is_some() {
            lock(self.aside).put(self.result, batch);
        }
    }
}

/// Reads the rows of a result that are on their way. Refused once more are held than may be.
pub async fn read(aside: &Mutex<Aside>, result: &str, connection: &mut Connection) -> Result<()> {
    // Reading them may have been given up in its middle.
    let mut begun = lock(aside).take_newest(result);
    while connection.is_busy() {
        let mut reading = Reading {
            aside,
            result,
            batch: begun.take().unwrap_or_default(),
        };
        let others = lock(aside).bytes();
        if others + reading.batch.cells.len() >= limits::ASIDE_BYTES_MAX {
            return Err(Error::InUse);
        }
        connection.read_on(&mut reading.batch).await?;
    }
    if let Some(batch) = begun {
        lock(aside).put(result, batch);
    }
    Ok(())
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
        let mut aside = Aside::default();
        aside.put("a", batch(1, b"one"));
        aside.put("b", batch(1, b"other"));
        aside.put("a", batch(2, b"twothree"));
        assert_eq!(aside.bytes(), 16);
        assert_eq!(aside.take("a").unwrap().cells, b"one");
        assert_eq!(aside.take("a").unwrap().rows, 2);
        assert!(aside.take("a").is_none());
        aside.forget("b");
        assert_eq!(aside.bytes(), 0);
    }
}
