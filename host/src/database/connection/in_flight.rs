//! The request that was composed last: what composing it has changed in the connection, and how much of its answer was
//! read.
//!
//! Promises: each request starts anew; one of which nothing was sent can be taken back as if it had never been made
//! ([`super::cleanup`]).

use bytes::BytesMut;

use super::copying::Pieces;
use super::patience::Until;
use crate::database::error::Error;
use crate::database::wire::request::Command;

/// The request whose answer is due, or was read last.
#[derive(Default)]
pub(super) struct InFlight {
    /// The messages in it that close statements and portals which nobody needs any more.
    pub forgotten: BytesMut,
    /// The `BEGIN` in it.
    pub began: Option<Command>,
    /// Whether a savepoint of the host's own was set before it.
    pub was_secured: bool,
    /// Whether what the session knows of sequences was this loan's own before it.
    pub had_sequences: bool,
    /// For how many of the host's own statements, which go before the guest's, the answer is still due.
    pub leading: u32,
    /// Whether the server may have begun with the guest's own statement.
    pub executing: bool,
    /// Whether it has bound the statement whose answer is due.
    pub bound: bool,
    /// Whether the server has yet to say that it has come to the end of what it was to execute.
    pub due: bool,
    /// What the server has refused it with, until that is told.
    pub refusal: Option<Error>,
    /// Whether it is a `COPY` whose data go beside it.
    pub copying: bool,
    /// In what pieces those come, if they come here.
    pub pieces: Pieces,
    /// Whether the server has said that more can be fetched from its portal. Not whoever reads says so: they
    /// may give up before the end of the answer, and others go on.
    pub suspended: bool,
    /// Until when it may take.
    pub until: Until,
}

impl InFlight {
    /// Starts anew, for the next request.
    pub fn renew(&mut self) {
        let mut forgotten = std::mem::take(&mut self.forgotten);
        forgotten.clear();
        *self = Self {
            forgotten,
            ..Self::default()
        };
    }
}
