//! The words of a text, read once for all that is judged of them.

use std::iter;

use super::lexer::{Token, Tokens};

/// The tokens of a text that are no strings; where those depend on what a backslash means in a string, also as
/// they are if it means the other thing.
pub struct Words {
    plain: Vec<Token>,
    escaped: Option<Vec<Token>>,
}

impl Words {
    /// Those of this text.
    pub fn of(sql: &str) -> Self {
        let is_ambiguous = sql.contains("\\'") && Tokens::new(sql).any(|t| t == Token::Ambiguous);
        Self {
            plain: Tokens::words(sql).collect(),
            escaped: is_ambiguous.then(|| Tokens::escaped(sql).without_strings().collect()),
        }
    }

    /// All ways in which the text may have to be read.
    pub fn readings(&self) -> impl Iterator<Item = &[Token]> {
        iter::once(&self.plain[..]).chain(self.escaped.as_deref())
    }

    /// As the text is read where a backslash escapes nothing, from the beginning of its first statement.
    pub fn statement(&self) -> &[Token] {
        let is_empty = |token: &&Token| **token == Token::Symbol(';');
        let begin = self.plain.iter().take_while(is_empty).count();
        &self.plain[begin..]
    }
}
