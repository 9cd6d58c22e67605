//! The tokens of SQL, as PostgreSQL's own scanner (`scan.l`) finds them.
//!
//! Promises: no text can make a reader of these tokens take for a string or a comment what the
//! server executes. Where the server's own reading depends on its version or its settings, the
//! reading that shows more is taken, or the token says that it is ambiguous.

/// What a judgement needs to see of SQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// An unquoted word, in lower case.
    Word(String),
    /// A quoted identifier, as it is meant.
    Quoted(String),
    /// A quoted identifier with Unicode escapes, which is not decoded.
    Escaped,
    /// An unquoted word with a letter that becomes an ASCII one where the server's encoding has a byte for it.
    Folded,
    /// A plain string in single quotes, as it is meant.
    Text(String),
    /// A plain string that ends, or does not end, depending on `standard_conforming_strings`.
    Ambiguous,
    /// Any other string: with escapes, in dollars, of bits.
    Literal,
    /// Any other character outside strings and comments.
    Symbol(char),
}

impl Token {
    /// Whether it is one of these words, unquoted.
    pub fn is_one_of(&self, words: &[&str]) -> bool {
        matches!(self, Self::Word(word) if words.contains(&word.as_str()))
    }

    /// Whether it is this word, unquoted.
    pub fn is(&self, word: &str) -> bool {
        matches!(self, Self::Word(own) if own == word)
    }

    /// Whether it may stand for any setting: it cannot be read, or the setting's name is an argument.
    pub fn hides_a_setting(&self) -> bool {
        matches!(self, Self::Escaped | Self::Folded) || self.name() == Some("set_config")
    }

    /// Whether it may be the name of one of these settings, which have no case, quoted or not.
    pub fn names_setting(&self, settings: &[&str]) -> bool {
        let is_it = |name: &str| settings.iter().any(|own| own.eq_ignore_ascii_case(name));
        self.name().is_some_and(is_it)
    }

    /// The identifier that it may be, quoted or not.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Word(name) | Self::Quoted(name) => Some(name),
            _ => None,
        }
    }
}

/// The tokens of a text, without numbers, spaces and comments.
pub struct Tokens<'a> {
    rest: &'a str,
    /// Whether a backslash escapes in plain strings, too: `standard_conforming_strings` is off.
    escapes: bool,
}

impl<'a> Tokens<'a> {
    /// Those of this text.
    pub fn new(sql: &'a str) -> Self {
        Self {
            rest: sql,
            escapes: false,
        }
    }

    /// Those of this text where a backslash escapes in plain strings, too: none is ambiguous then.
    pub fn escaped(sql: &'a str) -> Self {
        Self {
            rest: sql,
            escapes: true,
        }
    }

    /// Those of this text that are no strings.
    pub fn words(sql: &'a str) -> impl Iterator<Item = Token> + 'a {
        Self::new(sql).without_strings()
    }

    /// The same, from the beginning of the first statement: what stands before it are empty ones, which
    /// the server passes over.
    pub fn statement(sql: &'a str) -> impl Iterator<Item = Token> + 'a {
        Self::words(sql).skip_while(|token| *token == Token::Symbol(';'))
    }

    /// Those that are no strings.
    pub fn without_strings(self) -> impl Iterator<Item = Token> + 'a {
        self.filter(|token| !matches!(token, Token::Text(_) | Token::Ambiguous | Token::Literal))
    }

    /// What stands before the next quote, with doubled quotes made single; to the end of the text
    /// if there is none. The opening quote is behind already.
    fn quoted(&mut self, quote: char) -> String {
        let mut content = String::new();
        loop {
            let Some((before, after)) = self.rest.split_once(quote) else {
                content.push_str(self.rest);
                self.rest = "";
                return content;
            };
            content.push_str(before);
            self.rest = after;
            match after.strip_prefix(quote) {
                Some(after) => self.rest = after,
                None => return content,
            }
            content.push(quote);
        }
    }

    /// A string without escapes whose opening quote is already behind.
    fn text(&mut self) -> Token {
        if self.escapes {
            self.skip_escapes();
            return Token::Literal;
        }
        let all = self.rest;
        let content = self.quoted('\'');
        let raw = &all[..all.len() - self.rest.len()];
        // Read with escapes, a backslash before a quote would not let the string end there.
        match raw.contains("\\'") {
            true => Token::Ambiguous,
            false => Token::Text(content),
        }
    }

    /// As [`Self::text`], where nobody asks for the content, and a backslash escapes nothing.
    fn literal(&mut self) -> Token {
        if self.escapes {
            self.quoted('\'');
            return Token::Literal;
        }
        match self.text() {
            Token::Ambiguous => Token::Ambiguous,
            _ => Token::Literal,
        }
    }

    /// Skips a string with escapes whose opening quote is already behind, and what continues it: one
    /// that has no prefix of its own, on another line.
    fn skip_escapes(&mut self) {
        self.skip_escapes_once();
        while let Some(rest) = continued(self.rest) {
            self.rest = rest;
            self.skip_escapes_once();
        }
    }

    fn skip_escapes_once(&mut self) {
        let mut characters = self.rest.char_indices().peekable();
        while let Some((index, character)) = characters.next() {
            match character {
                // Two of them are one that belongs to the string.
                '\'' if characters.next_if(|(_, next)| *next == '\'').is_none() => {
                    self.rest = &self.rest[index + 1..];
                    return;
                }
                '\\' => _ = characters.next(),
                _ => {}
            }
        }
        self.rest = "";
    }

    /// Skips a comment whose opening is already behind; comments nest.
    fn skip_comment(&mut self) {
        let mut depth = 1;
        while depth > 0 && !self.rest.is_empty() {
            if let Some(rest) = self.rest.strip_prefix("/*") {
                (self.rest, depth) = (rest, depth + 1);
            } else if let Some(rest) = self.rest.strip_prefix("*/") {
                (self.rest, depth) = (rest, depth - 1);
            } else {
                let mut characters = self.rest.chars();
                characters.next();
                self.rest = characters.as_str();
            }
        }
    }

    /// Skips a dollar-quoted string, if one begins here.
    fn skip_dollar_quoted(&mut self) -> bool {
        let Some(after) = self.rest.strip_prefix('$') else {
            return false;
        };
        let Some((tag, _)) = after.split_once('$') else {
            return false;
        };
        if !tag.chars().all(|c| continues_word(c) && c != '$')
            || tag.starts_with(|c: char| c.is_ascii_digit())
        {
            return false;
        }
        let quote = format!("${tag}$");
        self.rest = self.rest[quote.len()..]
            .split_once(&quote)
            .map_or("", |(_, rest)| rest);
        true
    }

    /// Takes a word off the front, and what it opens if it is the prefix of a string.
    fn word(&mut self) -> Token {
        let word = self.take_while(continues_word).to_ascii_lowercase();
        if let Some(rest) = self.rest.strip_prefix('\'')
            && matches!(word.as_str(), "e" | "b" | "x")
        {
            self.rest = rest;
            if word != "e" {
                return self.literal();
            }
            self.skip_escapes();
            return Token::Literal;
        }
        if word == "u"
            && let Some(rest) = self.rest.strip_prefix('&')
            && let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '\''))
        {
            self.rest = &rest[1..];
            if quote == '\'' {
                return self.literal();
            }
            self.quoted(quote);
            return Token::Escaped;
        }
        match word.contains(DOTTED_I) {
            true => Token::Folded,
            false => Token::Word(word),
        }
    }

    /// Skips the digits, and the underscores between them, with which the text goes on. Only
    /// newer versions know underscores: to older ones a word begins with them, which is to be seen if
    /// it is more than that.
    fn skip_digits(&mut self) {
        let is_spaced_digit = |c: char| c.is_ascii_digit() || c == '_';
        // No further than they go: what is read here is read again.
        let behind = self.rest.trim_start_matches(is_spaced_digit);
        match behind.starts_with(continues_word) {
            true => _ = self.take_while(|c| c.is_ascii_digit()),
            false => self.rest = behind,
        }
    }

    /// Skips a number that begins with a digit; `1.` does not leave a dot behind.
    fn skip_number(&mut self) {
        self.skip_digits();
        match self.rest.strip_prefix('.') {
            Some(rest) if !rest.starts_with('.') => {
                self.rest = rest;
                self.skip_fraction();
            }
            _ => self.skip_exponent(),
        }
    }

    /// Skips what stands behind a number's dot.
    fn skip_fraction(&mut self) {
        if self.rest.starts_with(|c: char| c.is_ascii_digit()) {
            self.skip_digits();
        }
        self.skip_exponent();
    }

    /// Skips an exponent, if it is one: in older versions a word may begin right behind it.
    fn skip_exponent(&mut self) {
        let Some(rest) = self.rest.strip_prefix(['e', 'E']) else {
            return;
        };
        let digits = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        if digits.starts_with(|c: char| c.is_ascii_digit()) {
            self.rest = digits;
            self.skip_digits();
        }
    }

    fn take_while(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        loop {
            // Not Unicode's spaces: to PostgreSQL those belong to words.
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c'));
            let first = self.rest.chars().next()?;
            if self.rest.starts_with("--") {
                self.take_while(|c| !matches!(c, '\n' | '\r'));
            } else if let Some(rest) = self.rest.strip_prefix("/*") {
                self.rest = rest;
                self.skip_comment();
            } else if let Some(rest) = self.rest.strip_prefix('\'') {
                self.rest = rest;
                return Some(self.text());
            } else if let Some(rest) = self.rest.strip_prefix('"') {
                self.rest = rest;
                return Some(Token::Quoted(self.quoted('"')));
            } else if self.skip_dollar_quoted() {
                return Some(Token::Literal);
            } else if continues_word(first) && !first.is_ascii_digit() && first != '$' {
                return Some(self.word());
            } else if first.is_ascii_digit() {
                // In older versions a word may begin right behind it.
                self.skip_number();
            } else {
                self.rest = &self.rest[first.len_utf8()..];
                let digit_follows = self.rest.starts_with(|c: char| c.is_ascii_digit());
                match first {
                    '.' if digit_follows => {
                        self.skip_fraction();
                        continue;
                    }
                    // A parameter, behind which a dot is one.
                    '$' => _ = self.take_while(|c| c.is_ascii_digit()),
                    _ => {}
                }
                return Some(Token::Symbol(first));
            }
        }
    }
}

/// The only letter beyond ASCII whose small form is one of ASCII's in an encoding of single bytes: in the
/// Turkish ones the small form of this is `i`.
const DOTTED_I: char = 'İ';

/// What follows the opening quote of a string that goes on with the one before, which has just ended:
/// between them there are spaces and comments to the end of a line, and at least one such end.
fn continued(mut rest: &str) -> Option<&str> {
    let mut is_another_line = false;
    loop {
        let next = rest.chars().next()?;
        if rest.starts_with("--") {
            rest = &rest[rest.find(['\n', '\r'])?..];
            continue;
        }
        match next {
            '\n' | '\r' => is_another_line = true,
            ' ' | '\t' | '\x0b' | '\x0c' => {}
            '\'' if is_another_line => return Some(&rest[1..]),
            _ => return None,
        }
        rest = &rest[1..];
    }
}

/// Whether a character can stand within a word. PostgreSQL looks at bytes, and takes all of those
/// that are not ASCII.
fn continues_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(sql: &str) -> Vec<String> {
        Tokens::new(sql)
            .filter_map(|token| token.name().map(str::to_owned))
            .collect()
    }

    #[test]
    fn words_are_found_where_the_server_finds_them() {
        let cases: &[(&str, &[&str])] = &[
            (
                "SELECT a.\"B c\" FROM T",
                &["select", "a", "B c", "from", "t"],
            ),
            ("a -- b\nc --d\re", &["a", "c", "e"]),
            ("a /* b /* c */ d */ e /*/ f */ g", &["a", "e", "g"]),
            ("a /*/ b */ c", &["a", "c"]),
            ("a 'b''c' d 'e", &["a", "d"]),
            ("a e'b\\'c' d E'\\\\' f", &["a", "d", "f"]),
            ("e'it''s \\' a' b E'''' c e'\\'''' d", &["b", "c", "d"]),
            ("a $$b$$ c $x$ d $$ e $x$ f $y$ g", &["a", "c", "f"]),
            ("a$x$b $x$ c$d$x$ e", &["a$x$b", "e"]),
            ("é€$x$ a $x$ b", &["é€$x$", "a"]),
            ("a\u{a0}b c", &["a\u{a0}b", "c"]),
            ("$1$x$ a $x$ b", &["b"]),
            ("1$x$ a $x$ b", &["b"]),
            ("1e'\\' a' b 1.5e-3 c", &["b", "c"]),
            ("1. a .5 b 1.5c 1_000. d 1..e", &["a", "b", "c", "d", "e"]),
            (
                "1e5into 1.e+5a .5E-5b 1e5_0c 1e d 1e+f",
                &["into", "a", "b", "_0c", "e", "d", "e", "f"],
            ),
            ("1_0e'\\' a' b", &["_0e", "a"]),
            ("$1.a b[1].c", &["a", "b", "c"]),
            ("e'a'\n'b\\'' c", &["c"]),
            ("e'a' -- x\r\t--\n 'b\\' c' d", &["d"]),
            ("e'a' 'b\\' c", &["c"]),
            ("e'a'\n/**/'b\\' c", &["c"]),
            ("\"a\"\"b\" c", &["a\"b", "c"]),
            ("U&\"d\\0061t\" a u&'b' c u & d", &["a", "c", "u", "d"]),
            ("x'1f' b'01' n'q' a", &["n", "a"]),
            ("a*--b\nc", &["a", "c"]),
            ("SET\u{b}ROLE\u{c}x", &["set", "role", "x"]),
        ];
        for (sql, expected) in cases {
            assert_eq!(names(sql), *expected, "{sql}");
        }
    }

    #[test]
    fn dots_are_left_where_they_are_no_numbers() {
        let dots = |sql| {
            Tokens::new(sql)
                .filter(|token| *token == Token::Symbol('.'))
                .count()
        };
        for (sql, expected) in [
            ("1. .5 1.5 1_0.0_1", 0),
            ("$1.a b[1].c d.e (1).f", 4),
            ("1..2", 1),
        ] {
            assert_eq!(dots(sql), expected, "{sql}");
        }
    }

    /// Or it would be read for hours.
    #[test]
    fn digits_are_read_no_further_than_they_go() {
        let text = "$1$".repeat(crate::limits::SQL_BYTES_MAX / 3);
        assert!(Tokens::new(&text).count() > 10_000);
    }

    #[test]
    fn where_a_backslash_escapes_strings_end_elsewhere() {
        let names = |sql| -> Vec<String> {
            Tokens::escaped(sql)
                .filter_map(|token| token.name().map(str::to_owned))
                .collect()
        };
        assert_eq!(names("'a\\' b ' c '\\\\' d"), ["c", "d"]);
        assert_eq!(names("'it''s \\' a' b"), ["b"]);
        assert_eq!(names("b'1\\' a x'\\' b '\\' c"), ["a", "b"]);
    }

    #[test]
    fn strings_are_read_as_they_are_meant() {
        let tokens = |sql| Tokens::new(sql).collect::<Vec<_>>();
        assert_eq!(tokens("'it''s'"), [Token::Text("it's".to_owned())]);
        assert_eq!(tokens("'a\\b'"), [Token::Text("a\\b".to_owned())]);
        assert_eq!(
            tokens("'a\\' b"),
            [Token::Ambiguous, Token::Word("b".to_owned())]
        );
        assert_eq!(tokens("U&\"x\""), [Token::Escaped]);
        assert_eq!(tokens("$$x$$ e'x'"), [Token::Literal, Token::Literal]);
        assert_eq!(tokens("é"), [Token::Word("é".to_owned())]);
        assert_eq!(tokens("ı"), [Token::Word("ı".to_owned())]);
        assert_eq!(tokens("set_confİg"), [Token::Folded]);
        assert_eq!(tokens("\"İ\""), [Token::Quoted("İ".to_owned())]);
    }
}
