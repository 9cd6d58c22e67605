//! Whether a text may be sent at all.

use super::scan_cost;
use crate::database::error::{Error, Result};
use crate::limits;

/// Refuses a text that PostgreSQL would take badly or the host cannot afford.
pub fn check_sql(sql: &str) -> Result<()> {
    if sql.len() > limits::SQL_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "the SQL text has {} bytes; {} are the most",
            sql.len(),
            limits::SQL_BYTES_MAX
        )));
    }
    if sql.contains('\0') {
        return Err(Error::Invalid(
            "the SQL text contains a zero byte".to_owned(),
        ));
    }
    if scan_cost::takes_too_long(sql) {
        return Err(Error::Invalid(
            "the SQL text has thousands of operator characters (such as - = * /) in a row, which PostgreSQL would read \
             for minutes; break them up, or pass them as a parameter"
                .to_owned(),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_refused_for_its_length_for_a_zero_byte_and_for_what_it_costs_to_read() {
        for (text, said) in [
            ("x".repeat(limits::SQL_BYTES_MAX + 1), "are the most"),
            ("select '\0'".to_owned(), "a zero byte"),
            ("+".repeat(100_000), "operator characters"),
        ] {
            match check_sql(&text) {
                Err(Error::Invalid(reason)) => assert!(reason.contains(said), "{reason}"),
                other => panic!("{said}: {other:?}"),
            }
        }
        assert!(check_sql(&"x".repeat(limits::SQL_BYTES_MAX)).is_ok());
        assert!(check_sql("").is_ok());
    }
}
