//! `COPY`, in and out: a table's rows as a stream of bytes beside the statement.
//!
//! Promises: neither side is sent more than it takes, so that no more than one piece is held; a copy
//! that is dropped before its end, or whose invocation ends, has copied nothing; what is counted of one that
//! goes out are its rows, and not what stands before and behind them.

use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::{backend as tags, frontend};

use super::connection::Connection;
use super::cursor::Batch;
use super::error::{Error, Result};
use super::grants::Meter;
use super::seat::{Flow, Seat};
use super::session::Session;
use super::sql::heading::has_heading;
use super::statement::Effects;
use super::wire::reply;
use super::wire::request::{self, Format, Formats};
use crate::limits;

/// Which way the data of a `COPY` go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the table: `FROM STDIN`.
    In,
    /// Out of it: `TO STDOUT`.
    Out,
}

/// What the pieces are in which a server sends data: each is a row, but for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Pieces {
    /// None but rows.
    #[default]
    Rows,
    /// A line of names, and then rows.
    Headed,
    /// PostgreSQL's binary format: a head with the first row, and a piece that says that no more follows.
    Binary,
}

/// Rows on their way into a table.
pub struct CopyIn {
    session: Arc<Session>,
    seat: Arc<Seat>,
    flow: Option<Flow>,
    over: tokio::sync::Mutex<bool>,
}

/// Rows on their way out of a table.
pub struct CopyOut {
    session: Arc<Session>,
    seat: Arc<Seat>,
    flow: Option<Flow>,
    place: tokio::sync::Mutex<Reading>,
}

struct Reading {
    over: bool,
    /// The error that follows the data that were read.
    failed: Option<Box<Error>>,
    meter: Meter,
}

impl CopyIn {
    pub(super) fn new(session: Arc<Session>, seat: Arc<Seat>) -> Self {
        Self {
            session,
            flow: seat.flow(),
            seat,
            over: tokio::sync::Mutex::new(false),
        }
    }

    /// Sends bytes; they need not end where a row does. Returns once the socket has taken them.
    pub async fn write(&self, bytes: &[u8]) -> Result<()> {
        self.session.told(self.send(bytes).await)
    }

    async fn send(&self, bytes: &[u8]) -> Result<()> {
        let mut over = self.over.lock().await;
        if *over || self.seat.flow() != self.flow {
            return Err(Error::Ended);
        }
        // Bytes that have half left cannot be followed by others.
        *over = true;
        let written = self
            .session
            .with_loan(&self.seat, self.flow, false, async |loan| {
                loan.copy_write(bytes).await
            })
            .await;
        *over = written.is_err();
        if *over {
            end_flow(&self.session, &self.seat, self.flow);
        }
        written
    }

    /// Ends the copy. How many rows were copied.
    pub async fn finish(&self) -> Result<u64> {
        self.session.told(self.end().await)
    }

    async fn end(&self) -> Result<u64> {
        let mut over = self.over.lock().await;
        if std::mem::replace(&mut *over, true) || self.seat.flow() != self.flow {
            return Err(Error::Ended);
        }
        let finished = self
            .session
            .with_loan(&self.seat, self.flow, false, async |loan| {
                loan.copy_finish().await
            })
            .await;
        end_flow(&self.session, &self.seat, self.flow);
        finished
    }
}

impl Drop for CopyIn {
    fn drop(&mut self) {
        if !*self.over.get_mut() && self.seat.flow() == self.flow {
            self.session.end_flow(&self.seat);
        }
    }
}

/// Frees the connection of data that have ended, unless something else flows there by now.
fn end_flow(session: &Arc<Session>, seat: &Arc<Seat>, flow: Option<Flow>) {
    if !seat.is_flowing() || seat.flow() == flow {
        session.end_flow(seat);
    }
}

impl CopyOut {
    pub(super) fn new(session: Arc<Session>, seat: Arc<Seat>) -> Self {
        let meter = session.grants.meter(seat.database().name());
        Self {
            session,
            flow: seat.flow(),
            seat,
            place: tokio::sync::Mutex::new(Reading {
                over: false,
                failed: None,
                meter,
            }),
        }
    }

    /// The next bytes, about so many; none at the end.
    pub async fn read(&self, bytes: usize) -> Result<Vec<u8>> {
        self.session.told(self.receive(bytes).await)
    }

    async fn receive(&self, bytes: usize) -> Result<Vec<u8>> {
        let bytes = bytes.clamp(1, limits::BATCH_BYTES_MAX);
        let mut place = self.place.lock().await;
        if place.over {
            return Ok(Vec::new());
        }
        if let Some(error) = place.failed.take() {
            place.over = true;
            end_flow(&self.session, &self.seat, self.flow);
            return Err(*error);
        }
        if self.seat.flow() != self.flow {
            return Err(Error::Ended);
        }
        // What arrives while nobody waits is lost.
        place.over = true;
        let mut read = self
            .session
            .with_loan(&self.seat, self.flow, false, async |loan| {
                loan.copy_read(bytes).await
            })
            .await
            .and_then(|batch| place.meter.count(&batch).map(|()| batch));
        match &mut read {
            Ok(batch) if !batch.last => {
                place.over = false;
                place.failed = batch.failed.take();
            }
            _ => end_flow(&self.session, &self.seat, self.flow),
        }
        Ok(read?.cells)
    }
}

impl Drop for CopyOut {
    fn drop(&mut self) {
        if !self.place.get_mut().over && self.seat.flow() == self.flow {
            self.session.end_flow(&self.seat);
        }
    }
}

impl Connection {
    /// Executes a `COPY`, up to where its data begin.
    pub async fn copy(&mut self, sql: &str, direction: Direction) -> Result<()> {
        let binary = Formats::All(Format::Binary);
        let (copying_in, expected) = match direction {
            Direction::In => (true, tags::COPY_IN_RESPONSE_TAG),
            Direction::Out => (false, tags::COPY_OUT_RESPONSE_TAG),
        };
        let write = |out: &mut BytesMut| {
            request::parse("", sql, &[], out)?;
            request::bind("", "", &binary, &[], &binary, out)?;
            request::execute("", 0, out)
        };
        match copying_in {
            true => self.send_open(Effects::of(sql), write)?,
            false => self.send(Effects::of(sql), write)?,
        }
        self.executing = true;
        loop {
            match self.reply().await? {
                tag if tag == expected => {
                    if copying_in {
                        self.wire.begin_copy();
                    }
                    self.copying_out = !copying_in;
                    self.pieces = Pieces::of(sql, self.wire.body());
                    return Ok(());
                }
                tag @ (tags::COPY_IN_RESPONSE_TAG
                | tags::COPY_OUT_RESPONSE_TAG
                | tags::COMMAND_COMPLETE_TAG
                | tags::READY_FOR_QUERY_TAG) => return Err(self.not_this_copy(tag).await),
                _ => {}
            }
        }
    }

    async fn not_this_copy(&mut self, tag: u8) -> Error {
        self.end_misused_copy(tag).await;
        Error::Invalid(
            "the statement does not copy in this direction: copy-in takes COPY … FROM STDIN, and copy-out \
             COPY … TO STDOUT"
                .to_owned(),
        )
    }

    async fn copy_write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(limits::COPY_PIECE_BYTES) {
            let out = self.wire.output();
            out.put_u8(tags::COPY_DATA_TAG);
            // A piece is far smaller than what 31 bits can count.
            out.put_i32(4 + piece.len() as i32);
            out.put_slice(piece);
            if self.wire.flush().await.is_err() {
                // The server's last words say more.
                return self.finish().await;
            }
        }
        Ok(())
    }

    async fn copy_finish(&mut self) -> Result<u64> {
        frontend::copy_done(self.wire.output());
        self.wire.end_copy();
        let mut affected = 0;
        loop {
            match self.reply().await? {
                tags::COMMAND_COMPLETE_TAG => affected = reply::affected(&self.wire),
                tags::READY_FOR_QUERY_TAG => return Ok(affected),
                _ => {}
            }
        }
    }

    async fn copy_read(&mut self, bytes: usize) -> Result<Batch> {
        let mut batch = Batch::default();
        match self.copy_more(&mut batch, bytes).await {
            Ok(()) => Ok(batch),
            Err(error) => batch.or_failed(error),
        }
    }

    async fn copy_more(&mut self, batch: &mut Batch, bytes: usize) -> Result<()> {
        loop {
            match self.reply().await? {
                tags::COPY_DATA_TAG => {
                    batch.cells.extend_from_slice(self.wire.body());
                    batch.rows += u32::from(self.pieces.next_is_row(self.wire.body()));
                    if batch.cells.len() >= bytes {
                        return Ok(());
                    }
                }
                tags::READY_FOR_QUERY_TAG => {
                    batch.last = true;
                    return Ok(());
                }
                _ => {}
            }
        }
    }
}

impl Pieces {
    /// Those of a copy by this statement, given the server's answer to it.
    fn of(sql: &str, answer: &[u8]) -> Self {
        match answer.first() {
            Some(1) => Self::Binary,
            _ if has_heading(sql) => Self::Headed,
            _ => Self::Rows,
        }
    }

    /// Whether the piece that has come is a row.
    fn next_is_row(&mut self, piece: &[u8]) -> bool {
        match self {
            Self::Rows => true,
            Self::Headed => {
                *self = Self::Rows;
                false
            }
            Self::Binary => !ends_binary(piece),
        }
    }
}

/// Whether a piece of the binary format says that no more rows follow: instead of the number of columns
/// there is -1, perhaps right behind the head.
fn ends_binary(piece: &[u8]) -> bool {
    let behind_head = || {
        let rest = piece.strip_prefix(b"PGCOPY\n\xff\r\n\0")?;
        let (length, rest) = rest.get(4..)?.split_first_chunk()?;
        rest.get(usize::try_from(u32::from_be_bytes(*length)).ok()?..)
    };
    behind_head().unwrap_or(piece) == [0xff, 0xff]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rows_are_counted() {
        const HEAD: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
        let first = [HEAD, b"\0\x01\0\0\0\x02\xff\xff"].concat();
        let empty = [HEAD, b"\xff\xff"].concat();
        let count = |sql: &str, answer: &[u8], pieces: &[&[u8]]| {
            let mut kind = Pieces::of(sql, answer);
            pieces
                .iter()
                .filter(|piece| kind.next_is_row(piece))
                .count()
        };
        let row = b"\0\x01\xff\xff\xff\xff";
        let plain = "copy t to stdout";
        assert_eq!(count(plain, &[1, 0, 0], &[&first, row, b"\xff\xff"]), 2);
        assert_eq!(count(plain, &[1, 0, 0], &[&empty]), 0);
        assert_eq!(count(plain, &[0, 0, 0], &[b"a\n", b"b\n"]), 2);
        let headed = "copy t to stdout (header)";
        assert_eq!(count(headed, &[0, 0, 0], &[b"name\n", b"a\n", b"b\n"]), 2);
    }
}
