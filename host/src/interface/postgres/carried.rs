//! What calls bring along: SQL text, arguments, data of a `COPY`. It is in the host as soon as a call is made, and
//! stays while that waits for a connection, for its turn or for the server.
//!
//! Promises: the calls of one invocation have no more of it at a time than [`limits::CALLS_BYTES_MAX`], however many it
//! makes; each gives back what it had, however it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::wit;
use crate::database::error::Error;
use crate::limits;

/// How many bytes the calls of one invocation have.
#[derive(Clone, Default)]
pub(super) struct Carried(Arc<AtomicUsize>);

/// What one of them has.
pub(super) struct Part {
    of: Carried,
    bytes: usize,
}

impl Carried {
    /// Lets a call have so many bytes.
    pub(super) fn take(&self, bytes: usize) -> Result<Part, Error> {
        let add = |taken: usize| {
            let all = taken.checked_add(bytes)?;
            (all <= limits::CALLS_BYTES_MAX).then_some(all)
        };
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        match taken {
            Ok(_) => Ok(Part {
                of: self.clone(),
                bytes,
            }),
            Err(taken) => Err(Error::Busy(format!(
                "the calls of this invocation that are under way carry {taken} bytes, and with {bytes} more that is \
                 beyond the {} that they may have together: make fewer of them at a time",
                limits::CALLS_BYTES_MAX
            ))),
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a call can bring along.
pub(super) trait Load {
    /// How much it is, in bytes.
    fn bytes(&self) -> usize;
}

impl Load for str {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Load for [u8] {
    fn bytes(&self) -> usize {
        self.len()
    }
}

impl Load for wit::Call {
    fn bytes(&self) -> usize {
        size_of_val(self) + self.sql.len() + size_of_val(&*self.types) + self.arguments.len()
    }
}

impl Load for [wit::Call] {
    fn bytes(&self) -> usize {
        self.iter().map(Load::bytes).sum()
    }
}

impl Load for [wit::Draft] {
    fn bytes(&self) -> usize {
        let each = self.iter();
        each.map(|draft| size_of_val(draft) + draft.sql.len() + size_of_val(&*draft.types))
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_back_can_be_had_again() {
        let carried = Carried::default();
        let all = carried.take(limits::CALLS_BYTES_MAX).ok();
        assert!(all.is_some() && carried.take(0).is_ok());
        let Err(Error::Busy(text)) = carried.take(1) else {
            panic!("there is none left");
        };
        assert!(text.contains("67108864"), "{text}");
        drop(all);
        assert!(carried.take(1).is_ok());
        assert!(carried.take(usize::MAX).is_err());
    }
}
