//! Which texts ask for transactions that only read.

use super::words::Words;

/// The settings by which they can be asked for.
const SETTINGS: [&str; 2] = ["transaction_read_only", "default_transaction_read_only"];

/// Whether a text says so, for one transaction or for all of its session: `READ ONLY`, or such a setting.
pub fn asks_to_read_only(words: &Words) -> bool {
    words.readings().any(|tokens| {
        let pairs = tokens.windows(2);
        let mut said = pairs.filter(|pair| pair[0].is("read") && pair[1].is("only"));
        said.next().is_some() || tokens.iter().any(|token| token.names_setting(&SETTINGS))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_for_reading_alone_is_told_from_what_does_not() {
        for (sql, expected) in [
            ("begin read only; insert into noted values (1)", true),
            (
                "start transaction isolation level serializable, READ\n ONLY",
                true,
            ),
            ("set session characteristics as transaction read only", true),
            ("SET default_transaction_read_only = on", true),
            ("set local \"transaction_read_only\" to on", true),
            ("begin read write", false),
            (
                "begin; insert into noted values ('read only') -- read only",
                false,
            ),
            ("select read, only from books", false),
        ] {
            assert_eq!(asks_to_read_only(&Words::of(sql)), expected, "{sql}");
        }
    }
}
