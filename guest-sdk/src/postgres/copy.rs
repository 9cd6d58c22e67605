//! `COPY`: many rows in or out, as a stream of bytes beside the statement.
//!
//! Promises: memory for one piece at a time; a copy that is dropped before its end has copied
//! nothing, nor has one of which a piece did not come through for certain. Left to others: the format of
//! the bytes, which the statement says.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use super::error::{Error, Kind};
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
///
/// If a [`write`](Self::write) fails, or its future is dropped before it is ready, nobody knows how much of its bytes
/// has come through. Nothing can follow them then: further writes and `finish` fail, and nothing is copied.
#[must_use = "nothing is copied without `finish`"]
pub struct CopyIn {
    handle: wire::CopyIn,
    trouble: Option<Trouble>,
    /// Whether some of what was written may not have come through.
    torn: bool,
}

impl CopyIn {
    pub(super) fn new(handle: wire::CopyIn, trouble: Option<Trouble>) -> Self {
        Self {
            handle,
            trouble,
            torn: false,
        }
    }

    /// Sends bytes, which need not end where a row does. Returns when the server takes them.
    pub async fn write(&mut self, bytes: impl Into<Vec<u8>>) -> Result<(), Error> {
        self.check()?;
        // The host may have taken them by the time that this is given up, and is not told that nobody knows.
        self.torn = true;
        self.pass_on(bytes.into()).await?;
        self.torn = false;
        Ok(())
    }

    async fn pass_on(&self, bytes: Vec<u8>) -> Result<(), Error> {
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
    /// told only here. Fails with [`Error::is_ended`] if its transaction is over, so that nobody can commit what would be
    /// copied.
    pub async fn finish(self) -> Result<u64, Error> {
        self.check()?;
        let finish = self.handle.finish();
        let finished = match &self.trouble {
            Some(trouble) => trouble.heard(finish).await,
            None => finish.await,
        };
        noted(self.trouble.as_ref(), finished)
    }

    fn check(&self) -> Result<(), Error> {
        if self.trouble.as_ref().is_some_and(Trouble::is_over) {
            return Err(Error::new(Kind::Ended));
        }
        match self.torn {
            true => Err(Error::new(Kind::Invalid(
                "an earlier `write` of this COPY has failed, or its future was dropped before it was ready, so that a \
                 piece may be missing: begin a new one"
                    .to_owned(),
            ))),
            false => Ok(()),
        }
    }
}

impl fmt::Debug for CopyIn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CopyIn").finish_non_exhaustive()
    }
}

type Reading = Pin<Box<dyn Future<Output = (wire::CopyOut, Result<Vec<u8>, wire::Error>)> + Send>>;

/// Rows on their way out of a table; see [`Client::copy_out`](super::Client::copy_out). It is a [`Stream`]
/// and `Unpin`, so that it can be an answer as it is:
///
/// ```
/// use hearth::Streamed;
///
/// #[hearth::function]
/// async fn handle(_: serde_json::Value) -> Result<Streamed, hearth::Error> {
///     let db = hearth::postgres::default()?;
///     let copy = db.copy_out("COPY product TO STDOUT WITH (FORMAT csv, HEADER)").await?;
///     Ok(Streamed::from_stream(copy))
/// }
/// ```
///
/// Until its end is read it occupies its connection. Dropping it before has the server stop, which
/// in a transaction may fail that.
pub struct CopyOut {
    rest: Rest,
    trouble: Option<Trouble>,
}

enum Rest {
    /// The end, or an error, was read.
    None,
    There(wire::CopyOut),
    Coming(Reading),
}

impl CopyOut {
    pub(super) fn new(handle: wire::CopyOut, trouble: Option<Trouble>) -> Self {
        let rest = Rest::There(handle);
        Self { rest, trouble }
    }

    /// The next bytes, `None` at the end. They end where a row does. An error is the end, too.
    pub async fn try_next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        std::future::poll_fn(|cx| self.poll_piece(cx))
            .await
            .transpose()
    }

    /// Gives up what was not read.
    pub(super) fn stop(&mut self) {
        self.rest = Rest::None;
    }

    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Vec<u8>, Error>>> {
        let mut reading = match std::mem::replace(&mut self.rest, Rest::None) {
            Rest::None => return Poll::Ready(None),
            Rest::There(handle) => Box::pin(async move {
                let read = handle.read(PIECE_BYTES).await;
                (handle, read)
            }),
            Rest::Coming(reading) => reading,
        };
        let Poll::Ready((handle, read)) = reading.as_mut().poll(cx) else {
            self.rest = Rest::Coming(reading);
            return Poll::Pending;
        };
        Poll::Ready(match noted(self.trouble.as_ref(), read) {
            Ok(bytes) if bytes.is_empty() => None,
            Ok(bytes) => {
                self.rest = Rest::There(handle);
                Some(Ok(bytes))
            }
            Err(error) => Some(Err(error)),
        })
    }
}

impl Stream for CopyOut {
    type Item = Result<Vec<u8>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_piece(cx)
    }
}

impl fmt::Debug for CopyOut {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CopyOut").finish_non_exhaustive()
    }
}
