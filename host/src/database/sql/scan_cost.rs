//! What PostgreSQL's own scanner takes long for.
//!
//! It takes an operator, or the beginning of a comment, together with every operator character behind it, and then
//! goes back to where that ends. So a run of them costs up to the square of its length; and the server looks neither
//! for a cancellation nor for its own end while it scans: only a restart would be rid of it.
//!
//! Promises: a text that is let pass is scanned in less than about a second.

use crate::limits;

/// Whether the server would scan this for longer than anybody can end it.
pub fn takes_too_long(sql: &str) -> bool {
    // A short text, as nearly every one is, could be one run.
    if (sql.len() as u64).pow(2) <= limits::SQL_SCAN_STEPS_MAX {
        return false;
    }
    let runs = sql.as_bytes().split(|byte| !is_of_operators(*byte));
    let squares = runs.map(|run| (run.len() as u64).pow(2));
    squares.sum::<u64>() > limits::SQL_SCAN_STEPS_MAX
}

fn is_of_operators(byte: u8) -> bool {
    b"~!@#^&|`?+-*/%<>=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_of_operators_takes_long_and_many_short_ones_do_not() {
        let banner = format!("/{}/\nselect 1;\n", "*".repeat(78));
        for (text, expected) in [
            ("/*".repeat(200_000), true),
            ("/**/".repeat(100_000), true),
            ("+".repeat(100_000), true),
            (format!("select 1 {}", "/* ".repeat(300_000)), false),
            (banner.repeat(limits::SQL_BYTES_MAX / banner.len()), false),
            ("select a->>'b' <> c || 1 ".repeat(40_000), false),
            ("=".repeat(5_000), false),
            (String::new(), false),
        ] {
            assert_eq!(takes_too_long(&text), expected, "{:.30}", text);
        }
    }
}
