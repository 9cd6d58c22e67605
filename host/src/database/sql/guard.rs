//! What in a text would undo what the host has put in force: a role, settings, read-only.
//!
//! Promises: whatever PostgreSQL itself offers for that, by statement or by function, is found
//! however it is written. What cannot be read for certain counts as found.
//!
//! What the text does not show, it cannot find: a function, view or trigger *of the database* that
//! changes a setting, or that runs text. The role should not be allowed to use such things; the
//! strongest form of a permission is to log in as that role.

use super::kinds::statements;
use super::lexer::{Token, Tokens};

/// Something in a text that a permission cannot bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Risk {
    /// What the server makes of it depends on the server's settings, or is not decoded here.
    Ambiguous(&'static str),
    /// It changes a setting that is not its to change; the setting's name.
    Setting(String),
    /// It changes a setting whose name is not in the text.
    UnknownSetting,
    /// It runs what is not in the text: text given as a value, or a statement prepared elsewhere.
    Code(String),
}

/// Settings on which every permission rests.
const PROTECTED: [&str; 8] = [
    "client_encoding",
    "default_transaction_read_only",
    "role",
    "row_security",
    "session_authorization",
    "session_replication_role",
    "standard_conforming_strings",
    "transaction_read_only",
];

/// The first risk in a text, given the names of the settings that are protected besides
/// PostgreSQL's own; in lower case.
pub fn risk(sql: &str, protected: &[String]) -> Option<Risk> {
    let tokens: Vec<Token> = Tokens::new(sql).collect();
    let is_protected =
        |name: &str| PROTECTED.contains(&name) || protected.iter().any(|other| other == name);
    let of_token = |index: usize| match &tokens[index] {
        Token::Ambiguous => Some(Risk::Ambiguous(
            "a string in which a quote follows a backslash; write it as E'…', or give it as a parameter",
        )),
        Token::Escaped => Some(Risk::Ambiguous(
            "an identifier with Unicode escapes (U&\"…\"); write it as \"…\"",
        )),
        token => match token.name()? {
            "set_config" => set_config(&tokens[index + 1..], &is_protected),
            name if runs_text(name, tokens.get(index + 1)) => Some(Risk::Code(name.to_owned())),
            "execute" if token.is("execute") => executes(tokens.get(index + 1)),
            _ => None,
        },
    };
    (0..tokens.len()).find_map(of_token).or_else(|| {
        statements(&tokens).find_map(|statement| of_statement(statement, &is_protected))
    })
}

fn of_statement(tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    // PostgreSQL makes an update of this view a call of `set_config`.
    let reads = tokens[0].is_one_of(&["select", "with", "table", "explain", "declare"]);
    let writes = ["update", "insert", "delete", "merge", "into"];
    let names_settings = tokens
        .iter()
        .any(|token| token.name() == Some("pg_settings"));
    if names_settings && (!reads || tokens.iter().any(|token| token.is_one_of(&writes))) {
        return Some(Risk::UnknownSetting);
    }
    match &tokens[0] {
        Token::Word(verb) if verb == "set" => set(&tokens[1..], is_protected),
        Token::Word(verb) if verb == "reset" => reset(&tokens[1..], is_protected),
        Token::Word(verb) if verb == "discard" && tokens.get(1).is_some_and(|t| t.is("all")) => {
            Some(Risk::Setting("every setting".to_owned()))
        }
        // A setting that takes effect at the next login.
        Token::Word(verb) if verb == "alter" || verb == "create" => {
            let keeps = |token: &Token| token.is_one_of(&["role", "user", "database", "group"]);
            let noun = tokens.get(1).filter(|token| keeps(token))?;
            Some(Risk::Setting(format!(
                "a {}",
                noun.name().unwrap_or_default()
            )))
        }
        _ => None,
    }
}

/// Behind `SET`.
fn set(tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    let is = |index: usize, word: &str| tokens.get(index).is_some_and(|token| token.is(word));
    if is(0, "session") && is(1, "authorization") {
        return Some(Risk::Setting("session_authorization".to_owned()));
    }
    if is(0, "session") && is(1, "characteristics") || is(0, "transaction") {
        let write = tokens.iter().any(|token| token.is("write"));
        return write.then(|| Risk::Setting("transaction_read_only".to_owned()));
    }
    if is(0, "constraints") {
        return None;
    }
    let rest = match tokens.first() {
        // `SET session = 1` would be a setting of that name, which there is not.
        Some(token) if token.is_one_of(&["session", "local"]) => &tokens[1..],
        _ => tokens,
    };
    if rest.first().is_some_and(|token| token.is("session")) {
        return Some(Risk::Setting("session_authorization".to_owned()));
    }
    named(rest, is_protected)
}

/// Behind `RESET`.
fn reset(tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    match tokens.first() {
        Some(token) if token.is("all") => Some(Risk::Setting("every setting".to_owned())),
        Some(token) if token.is("session") => {
            Some(Risk::Setting("session_authorization".to_owned()))
        }
        _ => named(tokens, is_protected),
    }
}

/// A setting's name, perhaps of several parts.
fn named(tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    let Some(first) = tokens.first().and_then(Token::name) else {
        return Some(Risk::UnknownSetting);
    };
    let mut name = match first {
        "names" => "client_encoding".to_owned(),
        first => first.to_ascii_lowercase(),
    };
    let mut rest = &tokens[1..];
    while let [Token::Symbol('.'), part, behind @ ..] = rest {
        let Some(part) = part.name() else {
            return Some(Risk::UnknownSetting);
        };
        name = format!("{name}.{}", part.to_ascii_lowercase());
        rest = behind;
    }
    is_protected(&name).then_some(Risk::Setting(name))
}

/// Behind the name `set_config`.
fn set_config(tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    match tokens {
        [
            Token::Symbol('('),
            Token::Text(name),
            Token::Symbol(','),
            ..,
        ] => {
            let name = name.to_ascii_lowercase();
            is_protected(&name).then_some(Risk::Setting(name))
        }
        _ => Some(Risk::UnknownSetting),
    }
}

/// Behind the word `execute`: a trigger and a privilege have it as well.
fn executes(next: Option<&Token>) -> Option<Risk> {
    let elsewhere = next.is_none_or(|token| token.is_one_of(&["on", "function", "procedure"]));
    (!elsewhere).then(|| Risk::Code("EXECUTE".to_owned()))
}

/// Whether a name, followed by this, is that of a function that runs text it is given.
fn runs_text(name: &str, next: Option<&Token>) -> bool {
    let called = next == Some(&Token::Symbol('('));
    let family = RUNS_TEXT_FAMILIES
        .iter()
        .any(|begin| name.starts_with(begin));
    called && (family || RUNS_TEXT.contains(&name))
}

/// Functions of PostgreSQL's own and of its extensions that execute SQL they are given as text.
#[rustfmt::skip]
const RUNS_TEXT: [&str; 15] = [
    "connectby", "cursor_to_xml", "cursor_to_xmlschema", "database_to_xml",
    "database_to_xml_and_xmlschema", "pg_background_launch", "query_to_json", "query_to_xml",
    "query_to_xml_and_xmlschema", "query_to_xmlschema", "schema_to_xml",
    "schema_to_xml_and_xmlschema", "ts_rewrite", "ts_stat", "xpath_table",
];

/// How the names of such functions begin, where an extension has many.
const RUNS_TEXT_FAMILIES: [&str; 3] = ["crosstab", "dblink", "run_command_on_"];

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
