//! Which texts do nothing but read.
//!
//! What the text does not show, it cannot find, as in [`super::residue`].

use super::kinds::kinds;
use super::residue::{Residue, residue};
use super::varying_columns::varies;
use super::words::Words;
use crate::config::{StatementKind, StatementKinds};

/// Whether a text does nothing but read, so that the transaction may go on although its result was refused to the
/// guest. What calls a function of the database does not count as reading alone, nor does what fetches from a cursor:
/// either may write.
pub fn only_reads(sql: &str) -> bool {
    kinds(sql).without(StatementKind::Select.into()) == StatementKinds::NONE
        && !varies(sql)
        && residue(&Words::of(sql)) == Residue::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_reads_writes_nowhere_in_its_text_and_calls_nobody() {
        for sql in [
            "select count(*), lower(max(a)) from t where b in (1, 2)",
            "with w as (select 1) select * from w",
            "table t",
            "show work_mem",
        ] {
            assert!(only_reads(sql), "{sql}");
        }
        for sql in [
            "insert into t values (1) returning n",
            "with w as (delete from t returning n) select n from w",
            "select * from add_all()",
            "select n from t where pg_catalog.lower(shop.add(n)) = 'x'",
            "select lo_from_bytea(0, 'x')",
            "fetch all from c",
            "execute p",
            "call p()",
        ] {
            assert!(!only_reads(sql), "{sql}");
        }
    }
}
