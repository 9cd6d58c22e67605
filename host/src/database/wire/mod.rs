//! The wire: messages to and from one server, over a connection that has logged in.
//!
//! Promises:
//! - what a caller puts into [`Wire::output`] leaves as one write where the socket takes it, while
//!   replies are read: neither side can block the other;
//! - [`Wire::message`] can be given up at any await and asked again: no byte is lost or read twice;
//! - [`Wire::status`] and [`Wire::owed`] are what the server itself has said in `ReadyForQuery`, of which it has said
//!   no more than it owed;
//! - no more is held in memory than one read ahead and the message in front, which is bounded too.
//!
//! Left to others: what the messages mean to a statement ([`super::connection`]).

use std::time::SystemTime;

use bytes::{Buf, BytesMut};
use postgres_protocol::message::{backend, frontend};
use tokio::task::consume_budget;

use crate::database::connect::{Established, Stream};
use crate::database::error::{Error, Result};
use crate::limits;
use crate::telemetry::Traffic;

mod arrived;
mod buffers;
mod copying;
pub mod notice;
pub mod notification;
mod oversized;
pub mod reply;
pub mod request;
mod terminate;
mod transfer;

use notice::Notices;
use notification::Notifications;

/// What is read from the socket at a time, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// The tag and the length before each message's body.
const HEAD_BYTES: usize = 5;

/// The state of the transaction, as the server reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// None is open.
    Idle,
    /// One is open.
    Open,
    /// One is open and has failed: it can only be rolled back.
    Failed,
}

/// What may still pass between the two sides. It only gets less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Passage {
    /// Bytes in both directions.
    Open,
    /// The server's last words: nothing more can be sent.
    LastWords,
    /// Nothing that could come, or be believed.
    Closed,
}

/// The request that was made last, as far as it matters to how it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    /// Of the extended protocol, with its `Sync`.
    Extended,
    /// Of the simple protocol, which has no `Sync`.
    Simple,
    /// A `COPY` of the extended protocol. Its `Sync` is still to be sent, since data may go before it.
    CopyAsked,
    /// The same, once the server takes data.
    CopyingIn,
}

/// One connection's bytes.
pub struct Wire {
    stream: Stream,
    output: BytesMut,
    input: BytesMut,
    /// The length of the message in front, head included, while a caller looks at it.
    current: usize,
    /// Bytes that follow what is looked at of that message, if not all of it is.
    unseen: usize,
    /// Bytes of a message too large to be held that have yet to arrive, and are dropped.
    dropping: usize,
    /// Whether the buffer of what arrives was enlarged for a message that is larger than most.
    enlarged: bool,
    /// `ReadyForQuery` messages that the server still owes.
    owed: u32,
    status: Status,
    /// How often the server has said that no transaction is open: no two that it has opened find the same.
    pub transactions: u64,
    passage: Passage,
    /// Bytes that have left since the request began.
    sent: u64,
    /// When something was last sent, by the wall clock: no other clock runs while frozen.
    pub sent_at: SystemTime,
    /// What was owed when the request began.
    owed_before: u32,
    request: Request,
    /// Whether it is unknown if a `Sync` was answered: one readiness more may come.
    doubtful: bool,
    /// Whether the system waits for the server to take the request, however long that is.
    patient: bool,
    notifications: Notifications,
    notices: Option<Box<Notices>>,
    /// What has passed, until somebody takes account of it.
    pub traffic: Traffic,
}

impl Wire {
    /// Takes over a connection that has logged in.
    pub fn new(established: Established) -> Self {
        Self {
            stream: established.stream,
            output: BytesMut::new(),
            input: established.received,
            current: 0,
            unseen: 0,
            dropping: 0,
            enlarged: false,
            owed: 0,
            status: Status::Idle,
            transactions: 0,
            passage: Passage::Open,
            sent: 0,
            sent_at: established.begun,
            owed_before: 0,
            request: Request::Extended,
            doubtful: false,
            patient: false,
            notifications: Notifications::default(),
            notices: None,
            traffic: Traffic::default(),
        }
    }

    /// A new request begins: from here on a loss leaves doubt only if bytes have left.
    pub fn begin(&mut self) {
        if self.has_ended() {
            self.end();
        }
        if self.has_stray_answer() {
            // It would be taken for the answer to this request, as would each of those behind it for the next one's.
            self.end();
            self.input.clear();
        }
        self.sent = 0;
        self.owed_before = self.owed;
        if self.patient {
            self.patient = false;
            self.stream.be_patient(false);
        }
    }

    /// Takes back the request that has begun, if nothing of it has left. Whether it could.
    pub fn unsend(&mut self) -> bool {
        let unsent = self.sent == 0;
        if unsent {
            self.output.clear();
            let taken_back = self.owed.saturating_sub(self.owed_before);
            self.traffic.round_trips -= u64::from(taken_back);
            self.owed = self.owed_before;
            if self.request == Request::CopyAsked {
                self.request = Request::Extended;
            }
        }
        unsent && self.owed == 0
    }

    /// Where requests are written to.
    pub fn output(&mut self) -> &mut BytesMut {
        &mut self.output
    }

    /// Ends a request of the extended protocol: the server will say when it is ready.
    pub fn sync(&mut self) {
        frontend::sync(&mut self.output);
        self.owe();
        self.request = Request::Extended;
    }

    /// Sends statements in the simple protocol, which the server answers with one readiness.
    pub fn simple_query(&mut self, sql: &str) -> Result<()> {
        frontend::query(sql, &mut self.output)
            .map_err(|error| Error::Invalid(format!("the SQL text cannot be sent: {error}")))?;
        self.owe();
        self.request = Request::Simple;
        Ok(())
    }

    /// One more request of which the server will say when it is done.
    fn owe(&mut self) {
        self.owed += 1;
        self.traffic.round_trips += 1;
    }

    /// The state of the transaction; none while the server owes an answer.
    pub fn status(&self) -> Option<Status> {
        (self.owed == 0).then_some(self.status)
    }

    /// Whether a transaction was open when the server last said so.
    pub fn in_transaction(&self) -> bool {
        self.status != Status::Idle
    }

    /// Ends it: nothing more is expected of the server.
    pub fn end(&mut self) {
        self.passage = Passage::Closed;
    }

    /// Nothing more can be sent.
    fn shut(&mut self) {
        self.passage = self.passage.max(Passage::LastWords);
    }

    /// How many answers the server owes.
    pub fn owed(&self) -> u32 {
        self.owed
    }

    /// Whether the connection has ended.
    pub fn is_dead(&self) -> bool {
        self.passage == Passage::Closed
    }

    /// Looks, without a round trip, whether the server is still there.
    pub fn is_open(&mut self) -> bool {
        if self.passage != Passage::Open {
            return false;
        }
        // While it owes an answer, the answer tells.
        self.owed > 0 || (self.stream.is_open(&mut self.input) && !self.has_last_words())
    }

    /// Waits for the next message that concerns the request, and returns its tag; its body is
    /// [`Self::body`] until the next call. Notices, settings and notifications are taken on the way.
    ///
    /// A row that is larger than [`limits::ROW_BYTES_MAX`] is an error, after which the next
    /// message can be asked for.
    pub async fn message(&mut self) -> Result<u8> {
        self.consume();
        loop {
            if let Some(tag) = self.in_front()? {
                match tag {
                    backend::PARAMETER_STATUS_TAG => self.consume(),
                    backend::NOTICE_RESPONSE_TAG => self.take_notice(),
                    backend::NOTIFICATION_RESPONSE_TAG => self.take_notification(),
                    backend::ERROR_RESPONSE_TAG => {
                        // It drops what comes until it is told that the request is over.
                        self.end_copy();
                        return Ok(tag);
                    }
                    backend::READY_FOR_QUERY_TAG if self.owed == 0 => {
                        return Err(self.garbage("an answer to nothing"));
                    }
                    backend::READY_FOR_QUERY_TAG => {
                        self.status = match self.body().first() {
                            Some(b'I') => Status::Idle,
                            Some(b'T') => Status::Open,
                            Some(b'E') => Status::Failed,
                            _ => return Err(self.garbage("an unknown transaction status")),
                        };
                        self.transactions += u64::from(self.status == Status::Idle);
                        self.owed -= 1;
                        self.shrink();
                        return Ok(tag);
                    }
                    _ => return Ok(tag),
                }
            } else {
                self.transfer().await?;
            }
        }
    }

    /// The body of the message that [`Self::message`] has returned.
    pub fn body(&self) -> &[u8] {
        self.input.get(HEAD_BYTES..self.current).unwrap_or_default()
    }

    /// The message that [`Self::message`] has returned, taken apart by the library.
    pub fn take(&mut self) -> Result<backend::Message> {
        let mut whole = self.input.split_to(std::mem::take(&mut self.current));
        self.dropping += oversized::cut(&mut whole, std::mem::take(&mut self.unseen));
        match backend::Message::parse(&mut whole) {
            Ok(Some(message)) => Ok(message),
            Ok(None) => Err(self.garbage("a message cut short")),
            Err(error) => Err(self.garbage(&error.to_string())),
        }
    }

    /// Reads and drops messages until the server owes nothing.
    pub async fn drain(&mut self) -> Result<()> {
        if self.request == Request::CopyingIn {
            self.refuse_copy();
        }
        self.end_copy();
        while self.owed > 0 {
            match self.message().await {
                // It waits for data that nobody has; nothing else makes it go on.
                Ok(backend::COPY_IN_RESPONSE_TAG) => self.refuse_copy(),
                Ok(_) | Err(Error::TooLarge(_)) => {}
                Err(error) => return Err(error),
            }
            // Thousands of small rows may be there at once, and whoever gives up is to be heard between them.
            consume_budget().await;
        }
        if self.doubtful {
            self.end();
            return Err(self.lost());
        }
        Ok(())
    }

    /// The error that the end of the connection is to the request under way.
    pub fn lost(&self) -> Error {
        Error::ConnectionLost {
            maybe_executed: self.sent > 0,
        }
    }

    /// Gives the connection up for an answer that makes no sense.
    pub fn garbage(&mut self, what: &str) -> Error {
        self.end();
        Error::Protocol(format!(
            "the database sent something that is not PostgreSQL's protocol: {what}"
        ))
    }

    /// The tag of the message in front, once all of it is there.
    fn in_front(&mut self) -> Result<Option<u8>> {
        let dropped = self.dropping.min(self.input.len());
        self.input.advance(dropped);
        self.dropping -= dropped;
        if self.dropping > 0 {
            return Ok(None);
        }
        let header = match backend::Header::parse(&self.input) {
            Ok(Some(header)) => header,
            Ok(None) => return Ok(None),
            Err(error) => return Err(self.garbage(&error.to_string())),
        };
        let whole = 1 + header.len() as usize;
        if whole <= self.input.len() {
            self.current = whole;
            return Ok(Some(header.tag()));
        }
        if whole > limits::ROW_BYTES_MAX {
            return match header.tag() {
                backend::DATA_ROW_TAG | backend::COPY_DATA_TAG => {
                    self.dropping = whole;
                    Err(Error::TooLarge(limits::ROW_BYTES_MAX))
                }
                // What it begins with says enough.
                tag @ (backend::ERROR_RESPONSE_TAG | backend::NOTICE_RESPONSE_TAG) => {
                    Ok(self.take_beginning(whole).then_some(tag))
                }
                _ => Err(self.garbage("a message of absurd length")),
            };
        }
        self.make_room(whole);
        Ok(None)
    }
}
