//! What was found, as a compiler says it.

use std::fmt::Write as _;

use crate::database::server_error::ServerError;
use crate::instance::declared::Query;

/// Where something was found.
pub(super) struct Location<'a> {
    /// The function's name.
    pub(super) function: &'a str,
    /// The query.
    pub(super) query: &'a Query,
}

/// Something that does not fit.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether it is more than a warning.
    pub(super) is_error: bool,
    /// What it is, in one line.
    pub(super) message: String,
    /// The character of the SQL text that it is about, counted from 0.
    pub(super) at: Option<usize>,
    /// What is said beside that character.
    pub(super) label: String,
    /// The next step, if one is known.
    pub(super) help: Option<String>,
}

impl Finding {
    pub(super) fn error(message: String) -> Self {
        Self {
            is_error: true,
            message,
            ..Self::default()
        }
    }

    /// What the server says against a query.
    pub(super) fn refused(query: &Query, error: &ServerError) -> Self {
        let message = match &error.detail {
            Some(detail) => format!("{} ({detail})", error.message),
            None => error.message.clone(),
        };
        let position = error.position.and_then(|from_one| from_one.checked_sub(1));
        Self {
            at: position
                .map(|at| at as usize)
                .filter(|at| *at <= query.sql.chars().count()),
            help: error.hint.clone(),
            ..Self::error(format!("{message} [{}]", error.code))
        }
    }

    /// All of it, in several lines.
    pub(super) fn display(&self, place: &Location<'_>) -> String {
        let word = if self.is_error { "error" } else { "warning" };
        let Query {
            file, line, name, ..
        } = place.query;
        let mut text = format!("{word}: {}\n", self.message);
        let _ = writeln!(text, "  --> {}: {file}:{line} (`{name}`)", place.function);
        match self.at {
            Some(at) => text.push_str(&excerpt(&place.query.sql, at, &self.label)),
            None if !self.label.is_empty() => {
                let _ = writeln!(text, "   = {}", self.label);
            }
            None => {}
        }
        if let Some(help) = &self.help {
            let _ = writeln!(text, "   = help: {help}");
        }
        text
    }
}

/// The line of the text around a character, and the word that begins there, underlined.
fn excerpt(sql: &str, at: usize, label: &str) -> String {
    let before: String = sql.chars().take(at).collect();
    let number = before.matches('\n').count() + 1;
    let line = sql.lines().nth(number - 1).unwrap_or_default();
    let column = before.chars().rev().take_while(|c| *c != '\n').count();
    let word = line.chars().skip(column);
    let width = word
        .take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
        .count()
        .max(1);
    let margin = " ".repeat(number.to_string().len());
    // Tabs stay, so that the mark stands below its character wherever tabs go.
    let indent: String = line
        .chars()
        .chain(std::iter::repeat(' '))
        .take(column)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let mark = format!("{indent}{} {label}", "^".repeat(width));
    format!(
        "{margin} |\n{number} | {line}\n{margin} | {}\n",
        mark.trim_end()
    )
}

/// Where a parameter first stands in a text.
pub(super) fn parameter(sql: &str, number: usize) -> Option<usize> {
    let wanted: Vec<char> = format!("${number}").chars().collect();
    position(sql, &wanted, |c| c.is_ascii_digit())
}

/// Where a column's name first stands in a text, if it does.
pub(super) fn named(sql: &str, name: &str) -> Option<usize> {
    let wanted: Vec<char> = name.chars().collect();
    position(sql, &wanted, |c| c.is_alphanumeric() || c == '_')
}

/// Where a word stands that no such character continues.
fn position(sql: &str, wanted: &[char], continues: impl Fn(char) -> bool) -> Option<usize> {
    let text: Vec<char> = sql.chars().collect();
    if wanted.is_empty() {
        return None;
    }
    let alike = |(one, other): (&char, &char)| one.eq_ignore_ascii_case(other);
    text.windows(wanted.len())
        .enumerate()
        .find_map(|(at, window)| {
            let is_it = window.iter().zip(wanted).all(alike);
            let begun = at > 0 && continues(text[at - 1]) && continues(wanted[0]);
            let goes_on = text.get(at + wanted.len()).is_some_and(|c| continues(*c));
            (is_it && !begun && !goes_on).then_some(at)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(sql: &str) -> Query {
        Query {
            database: "default".to_owned(),
            name: "read".to_owned(),
            file: "src/read.rs".to_owned(),
            line: 12,
            sql: sql.to_owned(),
            parameters: Vec::new(),
            columns: Vec::new(),
        }
    }

    #[test]
    fn a_finding_points_at_its_place() {
        let query = query("select é,\n\tprice\nfrom product");
        let finding = Finding {
            at: named(&query.sql, "price"),
            label: "expected int8, found numeric".to_owned(),
            help: Some("cast it".to_owned()),
            ..Finding::error("mismatched types".to_owned())
        };
        let place = Location {
            function: "orders",
            query: &query,
        };
        assert_eq!(
            finding.display(&place),
            "error: mismatched types\n\
             \x20 --> orders: src/read.rs:12 (`read`)\n\
             \x20 |\n\
             2 | \tprice\n\
             \x20 | \t^^^^^ expected int8, found numeric\n\
             \x20  = help: cast it\n"
        );
    }

    #[test]
    fn the_end_of_a_text_can_be_pointed_at() {
        assert_eq!(excerpt("select", 6, ""), "  |\n1 | select\n  |       ^\n");
        assert_eq!(excerpt("", 0, "x"), "  |\n1 | \n  | ^ x\n");
    }

    #[test]
    fn parameters_and_columns_are_found_as_whole_words() {
        let sql = "select names, name from t where a = $11 and b = $1";
        assert_eq!(parameter(sql, 1), Some(sql.len() - 2));
        assert_eq!(parameter(sql, 11), sql.find("$11"));
        assert_eq!(parameter(sql, 2), None);
        assert_eq!(named(sql, "NAME"), sql.find("name from"));
        assert_eq!(named(sql, "?column?"), None);
    }
}
