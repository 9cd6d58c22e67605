//! Whether a call is made once more, on another connection.
//!
//! Promises: a call is made again where its connection turned out to be gone before anything was sent, as often as the
//! pool has connections. It is made again once where its connection turned out to be in use. In all other cases it is
//! not.

use super::seat::{Role, Seat};
use super::turn::is_undone;
use crate::database::Database;
use crate::database::error::{Error, Result};

/// How often one call is made once more, for each reason.
pub(in crate::database) struct Repetitions {
    /// How many connections may turn out to be gone: all of a pool's may have ended at once.
    lost: usize,
    /// Whether one may turn out to be in use.
    in_use: bool,
}

impl Repetitions {
    pub(in crate::database) fn of(database: &Database) -> Self {
        Self {
            lost: database.connections_max(),
            in_use: true,
        }
    }

    /// Whether the call is made once more after this.
    pub(in crate::database) fn admit<R>(&mut self, seat: &Seat, result: &Result<R>) -> bool {
        match result {
            Err(_) if is_undone(result) && seat.role() == Role::Call && self.lost > 0 => {
                self.lost -= 1;
                true
            }
            // Something began to flow while it waited for its turn.
            Err(Error::InUse) if seat.role() == Role::Kept && !seat.has_transaction() => {
                std::mem::take(&mut self.in_use)
            }
            _ => false,
        }
    }
}
