//! Some rows of a result, as they pass from the server to the guest.
//!
//! Promises: an error comes behind the rows before it, unless it makes the connection useless.

use crate::database::error::{Error, Result};
use crate::database::server_error::Verdict;

/// Some rows of a result.
#[derive(Debug, Default)]
pub struct Batch {
    /// How many rows there are.
    pub rows: u32,
    /// Their cells.
    pub cells: Vec<u8>,
    /// Whether no rows follow.
    pub last: bool,
    /// How many rows the statement has affected; only known with the last batch.
    pub affected: u64,
    /// What comes after these rows, if that is an error and no further rows.
    pub failed: Option<Box<Error>>,
}

/// The rows of a result that are still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// What the connection calls them; no others of its.
    pub name: String,
    /// Whether they are those of a portal of this name, from which more can be fetched.
    pub is_portal: bool,
}

impl Batch {
    /// Whether whoever waits for rows learns nothing from it.
    pub fn says_nothing(&self) -> bool {
        self.rows == 0 && !self.last && self.failed.is_none()
    }

    /// The rows before an error, if there are any; it comes when the next are asked for. What makes
    /// the connection useless is told at once.
    pub fn or_failed(mut self, error: Error) -> Result<Self> {
        if self.rows == 0 || error.verdict() != Verdict::Usable {
            return Err(error);
        }
        self.failed = Some(Box::new(error));
        Ok(self)
    }
}
