//! Answers that go out while the function still makes them.
//!
//! Promises: the function is slowed down to the pace of whoever reads; it is told when nobody does
//! any more; a failure in the middle reaches the caller as such.
//! Left to others: limits, and the way to the caller, which are the host's.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;

use futures_core::Stream;

use crate::after::{Conclusion, Work};
use crate::bindings::hearth::function::invocation as wit;
use crate::bindings::{self, wit_future, wit_stream};
use crate::event::{Answer, Encoded};
use crate::failure::{Error, Failure};

/// What is collected of a stream's small items before it is sent, in bytes. Handing a piece to the host
/// costs much more than a row's conversion, and hardly depends on its size.
const PIECE_BYTES: usize = 16 * 1024;

/// An answer that is sent piece by piece.
///
/// The caller sees each piece as it is sent if the function's setting `response` is `"stream"`, or
/// `"http-stream"` for an answer to HTTP ([`Http`](crate::Http)). Elsewhere the host collects it, and
/// it may have 6 MB; a streamed one may have 200 MB.
///
/// ```
/// use hearth::Streamed;
///
/// #[hearth::function]
/// async fn handle(lines: u32) -> Result<Streamed, hearth::Error> {
///     Ok(Streamed::new(async move |mut body| {
///         for line in 0..lines {
///             body.send(format!("{line}\n")).await?;
///         }
///         Ok::<(), hearth::Error>(())
///     }))
/// }
/// ```
///
/// What makes it runs after the handler has returned, as a part of the same invocation: it may use
/// databases, and the invocation's deadline ends it. If it fails, the caller gets the pieces that
/// were sent, and the failure behind them. [`wait_until`](crate::wait_until) is for what is to go on
/// after the last piece.
pub struct Streamed {
    producer: Box<dyn FnOnce(Body) -> Producing>,
}

type Producing = Pin<Box<dyn Future<Output = Result<(), bindings::Failure>>>>;

/// The way of a [`Streamed`] answer's pieces to the caller. The answer ends when it is dropped.
pub struct Body {
    writer: wit_bindgen::StreamWriter<u8>,
    torn: Rc<Cell<bool>>,
}

/// Nobody reads the rest of an answer: the caller has gone, or the answer is longer than it may be. Or a piece of it was
/// given up half-way, behind which nothing more can be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gone {
    torn: bool,
}

impl Streamed {
    /// The answer that this closure sends. It returns a `Result<(), _>`, whose error tells the caller
    /// that the answer is not complete, or `()`.
    pub fn new<C: Conclusion>(producer: impl AsyncFnOnce(Body) -> C + 'static) -> Self {
        Self {
            producer: Box::new(|body| {
                Box::pin(async move { producer(body).await.conclude() }) as Producing
            }),
        }
    }

    /// The answer that consists of a stream's items, up to its end or its first error. Items that are ready
    /// at the same time go out together, some KiB of them; where the stream has to be waited for, all before
    /// that goes out first. So a stream of rows may be sent row by row:
    ///
    /// ```
    /// use futures_util::StreamExt;
    /// use hearth::Streamed;
    ///
    /// #[hearth::function]
    /// async fn handle(since: i64) -> Result<Streamed, hearth::Error> {
    ///     let db = hearth::postgres::default()?;
    ///     let rows = db.query_raw("SELECT name FROM visit WHERE id > $1", [since]).await?;
    ///     Ok(Streamed::from_stream(rows.map(|row| {
    ///         let name: String = row?.try_get(0)?;
    ///         Ok::<_, hearth::postgres::Error>(name + "\n")
    ///     })))
    /// }
    /// ```
    pub fn from_stream<B, E>(stream: impl Stream<Item = Result<B, E>> + 'static) -> Self
    where
        B: Into<Vec<u8>>,
        E: Into<Error> + 'static,
    {
        Self::new(async move |mut body| {
            let mut stream = pin!(stream);
            let mut piece = Vec::new();
            loop {
                let next = poll_fn(|cx| match stream.as_mut().poll_next(cx) {
                    Poll::Pending if !piece.is_empty() => Poll::Ready(None),
                    next => next.map(Some),
                });
                let next = next.await;
                if let Some(Some(Ok(item))) = next {
                    append(&mut piece, item.into());
                    if piece.len() < PIECE_BYTES {
                        continue;
                    }
                    body.send(std::mem::take(&mut piece)).await?;
                    continue;
                }
                if !piece.is_empty() {
                    body.send(std::mem::take(&mut piece)).await?;
                }
                match next {
                    Some(Some(Err(error))) => return Err(error.into()),
                    Some(None) => return Ok::<(), Error>(()),
                    _ => {}
                }
            }
        })
    }

    /// Begins to send.
    pub(crate) fn start(self, deadline_ms: u64, work: Rc<Work>) -> wit::Streamed {
        let (writer, content) = wit_stream::new();
        let (teller, end) = wit_future::new(|| {
            let message = "the answer was given up before its end";
            Err(Failure::new(crate::failure::ERROR, message).into())
        });
        work.follow(deadline_ms, async move {
            let torn = Rc::new(Cell::new(false));
            let body = Body {
                writer,
                torn: torn.clone(),
            };
            let outcome = whole((self.producer)(body).await, torn.get());
            // Whether the host still wants to know makes no difference here. It hears of a failure
            // in this way alone.
            let _ = teller.write(outcome).await;
        });
        wit::Streamed { content, end }
    }
}

impl Body {
    /// Sends a piece, and waits until there is room for it: the host keeps little more than one for
    /// a caller who reads slowly. Pieces are not kept apart on their way, and each costs a little: make
    /// them of some KiB, not of a row each.
    ///
    /// A future that is dropped before it is ready may have sent a part of its piece. The answer then ends with
    /// a failure, whatever its producer returns.
    ///
    /// # Errors
    ///
    /// If nobody reads them any more, or the future of an earlier piece was dropped. Return it, unless there is
    /// something to put in order.
    pub async fn send(&mut self, piece: impl Into<Vec<u8>>) -> Result<(), Gone> {
        if self.torn.replace(true) {
            return Err(Gone { torn: true });
        }
        let left = self.writer.write_all(piece.into()).await;
        self.torn.set(false);
        match left.is_empty() {
            true => Ok(()),
            false => Err(Gone { torn: false }),
        }
    }
}

/// How an answer ends, one of whose pieces may be torn.
fn whole(outcome: Result<(), bindings::Failure>, torn: bool) -> Result<(), bindings::Failure> {
    match torn {
        true => outcome
            .and_then(|()| Err(Failure::new(crate::failure::ERROR, Gone { torn }.text()).into())),
        false => outcome,
    }
}

/// Puts an item behind others, without copying it if there are none.
fn append(piece: &mut Vec<u8>, item: Vec<u8>) {
    match piece.is_empty() {
        true => *piece = item,
        false => piece.extend_from_slice(&item),
    }
}

impl Answer for Streamed {
    fn encode(self) -> Result<Encoded, Failure> {
        Ok(self.into())
    }
}

impl fmt::Debug for Streamed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Streamed(..)")
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Body(..)")
    }
}

impl Gone {
    fn text(self) -> &'static str {
        match self.torn {
            true => {
                "a piece of this answer was given up half-way: the future of its `send` was dropped before it was ready"
            }
            false => "nobody reads the rest of this answer",
        }
    }
}

impl fmt::Display for Gone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.text())
    }
}

impl std::error::Error for Gone {}
