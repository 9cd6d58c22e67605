//! What a program knows of the rows it has written, and says of them.

use hearth::postgres::Error;

/// What is known of the rows that were written at one place.
#[derive(Default)]
pub(super) struct Written {
    /// Those whose statement succeeded in a transaction that is open.
    pub open: Vec<i64>,
    /// Whether they are in a transaction.
    pub pending: bool,
}

impl Written {
    /// Tells what became of keys.
    pub fn tell(keys: &[i64], what: &str) {
        keys.iter().for_each(|key| println!("key {key} {what}"));
    }

    /// Takes note of a statement that writes these keys.
    pub fn note<T>(&mut self, keys: &[i64], result: &Result<T, Error>, doubtful: bool) {
        match result {
            Ok(_) if self.pending => self.open.extend(keys),
            Ok(_) if doubtful => Self::tell(keys, "maybe"),
            Ok(_) => Self::tell(keys, "done"),
            Err(error) if error.may_have_executed() => Self::tell(keys, "maybe"),
            Err(_) => Self::tell(keys, "not"),
        }
    }

    /// Tells what became of keys by a commit.
    pub fn concluded(keys: &[i64], commit: &Result<(), Error>) {
        let what = match commit {
            Ok(()) => "done",
            Err(error) if error.may_have_executed() => "maybe",
            Err(_) => "not",
        };
        Self::tell(keys, what);
    }
}
