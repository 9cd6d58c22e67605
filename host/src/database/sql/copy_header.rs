//! Whether a `COPY … TO STDOUT` begins with a line of names, which is no row.

use super::lexer::{Token, Tokens};

/// Whether a text certainly asks for such a line. In doubt it does not, and the line is counted as a row.
pub fn has_header(sql: &str) -> bool {
    let tokens: Vec<Token> = Tokens::new(sql).collect();
    let Some(begin) = tokens.iter().rposition(|token| token.is("stdout")) else {
        return false;
    };
    let options = &tokens[begin..];
    let mut depth = 0;
    let asks = (1..options.len()).any(|index| {
        let before = &options[index - 1];
        match before {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth -= 1,
            _ => {}
        }
        options[index].name() == Some("header")
            && is_option(depth, before)
            && is_on(options.get(index + 1))
    });
    // No number is among the tokens, and this one may have one behind it.
    asks && !mentions_a_digit(sql)
}

/// Whether what is called `header` here is the option, and not a column of that name.
fn is_option(depth: i32, before: &Token) -> bool {
    let begins = matches!(before, Token::Symbol('(' | ','));
    match depth {
        1 => begins,
        // As before PostgreSQL 9: `CSV HEADER FORCE QUOTE column, header`.
        _ => depth == 0 && !begins && !before.is("quote"),
    }
}

fn is_on(value: Option<&Token>) -> bool {
    let is_off = |token: &Token| {
        matches!(token, Token::Text(_) | Token::Ambiguous | Token::Literal)
            || token
                .name()
                .is_some_and(|name| ["false", "off"].contains(&name.to_ascii_lowercase().as_str()))
    };
    !value.is_some_and(is_off)
}

fn mentions_a_digit(sql: &str) -> bool {
    let behind = sql
        .to_ascii_lowercase()
        .rfind("header")
        .map_or(sql, |at| &sql[at..]);
    behind.contains(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Anything but one pass over it would take as long as an invocation has.
    #[test]
    fn the_longest_text_is_read_in_one_pass() {
        let columns = "header=header and ".repeat(58_000);
        let sql = format!(
            "copy (select 1 from (values (1)) as stdout(header) where {columns} header=1) to stdin"
        );
        assert!(!has_header(&sql));
    }

    #[test]
    fn a_line_of_names_is_told_from_what_is_called_like_it() {
        for sql in [
            "copy t to stdout (format csv, header)",
            "COPY t TO STDOUT WITH (HEADER true, FORMAT text)",
            "copy t to stdout (\"header\" on)",
            "copy t to stdout csv header",
            "copy t to stdout with csv quote as '\"' header force quote a",
            "copy (select 1) to stdout (header, format csv)",
        ] {
            assert!(has_header(sql), "{sql}");
        }
        for sql in [
            "copy t to stdout",
            "copy header to stdout",
            "copy t (header) to stdout (format csv)",
            "copy t to stdout (header false)",
            "copy t to stdout (header off, format csv)",
            "copy t to stdout (header 'true')",
            "copy t to stdout (header 0)",
            "copy t to stdout (header /* no */ 0)",
            "copy t to stdout (format csv, force_quote (header))",
            "copy t to stdout csv force quote header",
            "copy t to stdout csv force quote a, header",
            "copy t to stdout (format csv, null 'header')",
            "select header",
        ] {
            assert!(!has_header(sql), "{sql}");
        }
    }
}
