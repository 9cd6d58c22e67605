//! A request that has been composed: what it changed here, and how far its answer has come.
//!
//! Promises: each request starts anew; one that has not left can be taken back as if it had never been made
//! ([`super::cleanup`]).

use std::time::Instant;

use bytes::BytesMut;

use super::copying::Pieces;
use crate::database::error::Error;
use crate::database::wire::request::Command;

/// The request whose answer is due, or was read last.
#[derive(Default)]
pub(super) struct InFlight {
    /// The messages that it has taken along to forget what the server holds for no one.
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
    /// What the server has refused it with, until that is told.
    pub refusal: Option<Error>,
    /// Whether it is a `COPY` whose data go beside it.
    pub copying: bool,
    /// In what pieces those come, if they come here.
    pub pieces: Pieces,
    /// Whether the server has said that more can be fetched from its portal. Not whoever reads says so: they
    /// may give up before the end of the answer, and others go on.
    pub suspended: bool,
    /// Until when it may take, if the host has to see to that.
    pub until: Option<Instant>,
}

impl InFlight {
    /// The next one, which nothing is known of yet.
    pub fn renew(&mut self) {
        let mut forgotten = std::mem::take(&mut self.forgotten);
        forgotten.clear();
        *self = Self {
            forgotten,
            ..Self::default()
        };
    }
}
