//! `COPY`: many rows in or out, as a stream of bytes beside the statement.
//!
//! Promises: memory for one piece at a time; a copy that is dropped before its end has copied
//! nothing. Left to others: the format of the bytes, which the statement says.

use std::fmt;

use super::error::Error;
use super::transact::{Trouble, noted};
use crate::bindings::hearth::postgres::client as wire;

/// How much to ask for at a time, in bytes.
const PIECE_BYTES: u32 = 256 * 1024;
/// How much goes to the host at a time, which ends an instance that hands over too much.
const WRITE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Rows on their way into a table; see [`Client::copy_in`](super::Client::copy_in).
///
/// Nothing is copied before [`finish`](Self::finish). Dropping it copies nothing; in a transaction
/// that fails, too.
#[must_use = "nothing is copied without `finish`"]
pub struct CopyIn {
    handle: wire::CopyIn,
    trouble: Option<Trouble>,
}

impl CopyIn {
    pub(super) fn new(handle: wire::CopyIn, trouble: Option<Trouble>) -> Self {
        Self { handle, trouble }
    }

    /// Sends bytes, which need not end where a row does. Returns when the server takes them.
    pub async fn write(&mut self, bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
        let bytes = bytes.into();
        if bytes.len() <= WRITE_BYTES_MAX {
            return noted(self.trouble.as_ref(), self.handle.write(bytes).await);
        }
        for piece in bytes.chunks(WRITE_BYTES_MAX) {
            let written = self.handle.write(piece.to_vec()).await;
            noted(self.trouble.as_ref(), written)?;
        }
        Ok(())
    }

    /// Ends the copy and returns how many rows were copied. What is wrong with the data is often
    /// told only here.
    pub async fn finish(self) -> Result<u64, Error> {
        noted(self.trouble.as_ref(), self.handle.finish().await)
    }
}

impl fmt::Debug for CopyIn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CopyIn").finish_non_exhaustive()
    }
}

/// Rows on their way out of a table; see [`Client::copy_out`](super::Client::copy_out).
///
/// Until its end is read it occupies its connection. Dropping it before has the server stop, which
/// in a transaction may fail that.
pub struct CopyOut {
    handle: wire::CopyOut,
    trouble: Option<Trouble>,
}

impl CopyOut {
    pub(super) fn new(handle: wire::CopyOut, trouble: Option<Trouble>) -> Self {
        Self { handle, trouble }
    }

    /// The next bytes, `None` at the end. They end where a row does.
    pub async fn try_next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let read = self.handle.read(PIECE_BYTES).await;
        let bytes = noted(self.trouble.as_ref(), read)?;
        Ok((!bytes.is_empty()).then_some(bytes))
    }
}

impl fmt::Debug for CopyOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CopyOut").finish_non_exhaustive()
    }
}
