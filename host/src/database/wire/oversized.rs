//! Errors and notices too large to be held: what they begin with.
//!
//! Promises: no more than [`limits::WORDS_BYTES_MAX`] of one are looked at, and the next message is found
//! behind the whole of it.

use bytes::BytesMut;

use super::Wire;
use crate::limits;

impl Wire {
    /// Puts the beginning of a message of so many bytes in front, once it is there. Whether it is.
    pub(super) fn take_beginning(&mut self, whole: usize) -> bool {
        let seen = limits::WORDS_BYTES_MAX;
        let is_there = self.input.len() >= seen;
        if is_there {
            (self.current, self.unseen) = (seen, whole - seen);
        }
        is_there
    }
}

/// Makes a message of the first part of one with fields that are texts, so that it can be read as one.
/// Returns how many bytes of it are missing.
pub fn cut(message: &mut BytesMut, unseen: usize) -> usize {
    if unseen > 0
        && let [_, rest @ ..] = &mut message[..]
        && let [length @ .., _, _] = rest
    {
        let bytes = length.len() as u32 + 2;
        length[..4].copy_from_slice(&bytes.to_be_bytes());
        // The end of the text, and of all fields.
        let end = message.len() - 2;
        message[end..].fill(0);
    }
    unseen
}

#[cfg(test)]
mod tests {
    use postgres_protocol::message::backend;

    use super::*;
    use crate::database::server_error::ServerError;

    #[test]
    fn the_beginning_of_an_error_can_be_read_as_one() {
        let mut message = BytesMut::from(&b"E\0\x90\0\0SERROR\0Mlong long"[..]);
        assert_eq!(cut(&mut message, 7), 7);
        let Ok(Some(backend::Message::ErrorResponse(body))) = backend::Message::parse(&mut message)
        else {
            panic!("no error");
        };
        let error = ServerError::read(body.fields());
        assert_eq!(
            (error.severity.as_str(), error.message.as_str()),
            ("ERROR", "long lo")
        );
    }
}
