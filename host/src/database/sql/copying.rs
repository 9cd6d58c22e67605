//! Which statements move data beside themselves: `COPY … FROM STDIN` and `COPY … TO STDOUT`.

use super::kinds::statements;
use super::lexer::{Token, Tokens};

/// Which way the data of a `COPY` go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Into the table: `FROM STDIN`.
    In,
    /// Out of it: `TO STDOUT`.
    Out,
}

/// Which way the data of the only statement of a text go, if it moves any.
pub fn direction(sql: &str) -> Option<Direction> {
    let tokens: Vec<Token> = Tokens::words(sql).collect();
    let mut statements = statements(&tokens);
    let direction = statements.next().and_then(of_statement);
    direction.filter(|_| statements.next().is_none())
}

/// Whether any statement of a text moves data.
pub fn moves_data(sql: &str) -> bool {
    let tokens: Vec<Token> = Tokens::words(sql).collect();
    statements(&tokens).any(|statement| of_statement(statement).is_some())
}

/// Whether a statement is a `COPY` that writes to a file or a program of the server's.
pub fn writes_there(statement: &[Token]) -> bool {
    let Some((Direction::Out, target)) = ends(statement) else {
        return false;
    };
    !target.is_some_and(is_caller)
}

fn of_statement(tokens: &[Token]) -> Option<Direction> {
    let (direction, target) = ends(tokens)?;
    target.is_some_and(is_caller).then_some(direction)
}

/// The server takes either word for either way.
fn is_caller(token: &Token) -> bool {
    token.is_one_of(&["stdin", "stdout"])
}

/// The way of a `COPY`, and what stands behind it.
fn ends(tokens: &[Token]) -> Option<(Direction, Option<&Token>)> {
    if !tokens.first()?.is("copy") {
        return None;
    }
    let mut depth = 0;
    tokens.iter().enumerate().find_map(|(index, token)| {
        match token {
            Token::Symbol('(') => depth += 1,
            Token::Symbol(')') => depth -= 1,
            _ => {}
        }
        let direction = match depth {
            0 if token.is("from") => Direction::In,
            0 if token.is("to") => Direction::Out,
            _ => return None,
        };
        Some((direction, tokens.get(index + 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_of_the_data_is_that_of_the_statement() {
        use Direction::{In, Out};
        for (sql, expected) in [
            ("copy t from stdin", Some(In)),
            (
                ";/* */ COPY a.t (b, stdout) FROM STDIN (format csv);",
                Some(In),
            ),
            ("copy binary t from stdout", Some(In)),
            (
                "copy (select a to stdin from stdin) to stdout csv",
                Some(Out),
            ),
            ("copy t to stdin", Some(Out)),
            ("copy stdin to stdout", Some(Out)),
            (
                "copy (insert into t select a from stdin returning b) to stdout",
                Some(Out),
            ),
            ("copy t from '/stdin'", None),
            ("copy t from program 'x'", None),
            ("copy t to \"stdout\"", None),
            ("select a from stdin", None),
            ("copy t to stdout; select 1", None),
            ("", None),
        ] {
            assert_eq!(direction(sql), expected, "{sql}");
        }
        assert!(moves_data("insert into t values (1); copy t to stdout"));
        assert!(!moves_data(
            "select 'copy t to stdout'; copy t from '/file'"
        ));
    }

    #[test]
    fn what_is_written_there_is_told_from_what_is_read() {
        let writes = |sql| writes_there(&Tokens::new(sql).collect::<Vec<_>>());
        for sql in [
            "copy t to '/file'",
            "copy (select 1) to E'/file'",
            "copy t to program 'x'",
        ] {
            assert!(writes(sql), "{sql}");
        }
        for sql in [
            "copy t to stdout",
            "copy t from '/file' where a similar to 'b'",
            "copy t from stdin",
            "select 1",
        ] {
            assert!(!writes(sql), "{sql}");
        }
    }
}
