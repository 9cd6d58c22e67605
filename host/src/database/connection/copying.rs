//! `COPY` on a connection: how one is begun, and how its data and its end are told apart.
//!
//! Promises: a statement that turns out to be another one is an error, and leaves no copy open; of what a server sends,
//! only rows are counted; a connection that is lost before the server is told that the data are complete has copied
//! nothing in.

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::{backend as tags, frontend};

use super::Connection;
use super::batch::Batch;
use crate::database::error::{Error, Result};
use crate::database::sql::copy_header::has_header;
use crate::database::sql::copying::Direction;
use crate::database::statement::Effects;
use crate::database::wire::reply;
use crate::database::wire::request::{self, Format, Formats};
use crate::limits;

/// What the pieces are in which a server sends data: each is a row, but for some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pieces {
    /// None but rows.
    #[default]
    Rows,
    /// A line of names, and then rows.
    Headed,
    /// PostgreSQL's binary format: a head with the first row, and a piece that says that no more follows.
    Binary,
}

/// The error that a `COPY` is where none was asked for.
pub fn misused_copy() -> Error {
    let told = "COPY moves its data beside the statement: use copy-in or copy-out (in Rust `copy_in`, `copy_out`)";
    Error::Invalid(told.to_owned())
}

impl Connection {
    /// Executes a `COPY`, up to where its data begin.
    pub async fn copy(&mut self, sql: &str, direction: Direction) -> Result<()> {
        let begun = self.begin_copy(sql, direction).await;
        match direction {
            Direction::In => begun.map_err(Error::unexecuted),
            Direction::Out => begun,
        }
    }

    async fn begin_copy(&mut self, sql: &str, direction: Direction) -> Result<()> {
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
        // What is to be copied in is not executed before its end has come.
        (self.in_flight.executing, self.in_flight.due) = (!copying_in, true);
        loop {
            match self.reply().await? {
                tag if tag == expected => {
                    if copying_in {
                        self.wire.begin_copy();
                    }
                    self.in_flight.copying = true;
                    self.in_flight.pieces = Pieces::of(sql, self.wire.body());
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
        // What it is in the server's eyes has been done.
        Error::Protocol("the server took the statement for another one than this COPY; it may have been executed".to_owned())
    }

    pub async fn copy_write(&mut self, bytes: &[u8]) -> Result<()> {
        for piece in bytes.chunks(limits::COPY_PIECE_BYTES) {
            let out = self.wire.output();
            out.put_u8(tags::COPY_DATA_TAG);
            // A piece is far smaller than what 31 bits can count.
            out.put_i32(4 + piece.len() as i32);
            out.put_slice(piece);
            if self.flush().await.is_err() {
                // The server's last words say more.
                return self.finish().await.map_err(Error::unexecuted);
            }
        }
        Ok(())
    }

    pub async fn copy_finish(&mut self) -> Result<u64> {
        if self.wire.has_answered()? {
            // It has refused the data, or has ended, and is not told any more that they are complete.
            return self.finish().await.map(|()| 0).map_err(Error::unexecuted);
        }
        frontend::copy_done(self.wire.output());
        self.in_flight.executing = true;
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

    pub async fn copy_read(&mut self, bytes: usize) -> Result<Batch> {
        let mut batch = Batch::default();
        match self.copy_more(&mut batch, bytes).await {
            Ok(()) => Ok(batch),
            Err(error) => batch.or_failed(error),
        }
    }

    pub async fn copy_more(&mut self, batch: &mut Batch, bytes: usize) -> Result<()> {
        loop {
            match self.reply().await? {
                tags::COPY_DATA_TAG => {
                    batch.cells.extend_from_slice(self.wire.body());
                    batch.rows += u32::from(self.in_flight.pieces.next_is_row(self.wire.body()));
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
            _ if has_header(sql) => Self::Headed,
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
