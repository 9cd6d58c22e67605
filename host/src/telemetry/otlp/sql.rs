//! What a span shows of SQL.
//!
//! Promises: no value. A text with parameters is shown as it is, since what may be secret is given to
//! those; any other one only if there is nothing in it that could be a value.

use crate::limits;

/// What kind of call it is, in few different words: the statement's own verb.
pub(super) fn summary(operation: Option<&str>, texts: &[String]) -> String {
    match (operation, texts) {
        (Some(operation), _) => operation.to_owned(),
        (None, []) => "postgresql".to_owned(),
        (None, [text]) => verb(text),
        (None, [first, ..]) => format!("BATCH {}", verb(first)),
    }
}

/// The texts, if they may be shown.
pub(super) fn shown(texts: &[String]) -> Option<String> {
    if texts.is_empty()
        || !texts
            .iter()
            .all(|text| has_parameters(text) || is_plain(text))
    {
        return None;
    }
    let mut shown = texts.join("; ");
    shown.truncate(shown.floor_char_boundary(limits::SPAN_TEXT_BYTES_MAX));
    Some(shown)
}

fn verb(text: &str) -> String {
    let is_letter = |c: &char| c.is_ascii_alphabetic();
    let verb: String = text.trim_start().chars().take_while(is_letter).collect();
    match verb.len() {
        1..=20 => verb.to_ascii_uppercase(),
        // It begins with a comment, or with what is no SQL.
        _ => "postgresql".to_owned(),
    }
}

fn has_parameters(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        if after.starts_with(|c: char| c.is_ascii_digit()) {
            return true;
        }
        rest = after;
    }
    false
}

/// Whether there is neither a string, in whichever quotes, nor a number, nor a comment in it.
fn is_plain(text: &str) -> bool {
    let mut before = ' ';
    let mut plain = true;
    for c in text.chars() {
        let in_word = before.is_alphanumeric() || before == '_';
        let begins_comment = matches!((before, c), ('-', '-') | ('/', '*'));
        plain &= !(matches!(c, '\'' | '$') || begins_comment || (c.is_numeric() && !in_word));
        before = c;
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shows(text: &str) -> bool {
        shown(&[text.to_owned()]).is_some()
    }

    #[test]
    fn a_text_is_shown_if_it_has_no_value() {
        for text in [
            "select name from things where id = $1",
            "select 'x' where id = $1 and name = 'y'",
            "select count(*) from \"Things2\" t1",
            "begin",
        ] {
            assert!(shows(text), "{text}");
        }
        for text in [
            "select * from things where name = 'secret'",
            "select * from things where id = 4711",
            "select $$secret$$",
            "select $tag$secret$tag$",
            "select -1",
            "select a -- secret",
            "select a /* secret */",
            "select e'secret'",
        ] {
            assert!(!shows(text), "{text}");
        }
        let several = ["select a from b".to_owned(), "select 'secret'".to_owned()];
        assert_eq!(shown(&several), None);
    }

    #[test]
    fn a_summary_is_the_verb() {
        let of = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            summary(None, &texts)
        };
        assert_eq!(of(&[" select 1"]), "SELECT");
        assert_eq!(
            of(&["insert into a values ($1)", "select 1"]),
            "BATCH INSERT"
        );
        assert_eq!(of(&["/* x */ select 1"]), "postgresql");
        assert_eq!(of(&[]), "postgresql");
        assert_eq!(summary(Some("COMMIT"), &[]), "COMMIT");
    }
}
