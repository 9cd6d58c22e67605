//! One event of the log as one line, as text or as JSON.
//!
//! Promises: exactly one line break, at the end; valid JSON with each name once. Left to others:
//! where the line goes, and which events become one.

use std::fmt::Write as _;

use super::timestamp::Timestamp;
use crate::config::{LogFormat, LogLevel};

/// The value of a field, as the event gave it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i128),
    Float(f64),
    Boolean(bool),
}

/// A field's name and value.
pub(super) type Field = (&'static str, Value);

/// The name of a field that holds members of a JSON object, in place of the message.
pub(super) const MEMBERS: &str = "members";

/// What a line says.
pub(super) struct Line<'a> {
    pub(super) timestamp: Timestamp,
    pub(super) level: LogLevel,
    pub(super) message: &'a str,
    /// In this order; of several with one name the last counts.
    pub(super) fields: &'a [Field],
}

impl Line<'_> {
    /// The line's bytes, line break included.
    pub(super) fn render(&self, format: LogFormat) -> Vec<u8> {
        let mut line = String::with_capacity(160 + self.message.len());
        match format {
            LogFormat::Text => self.text(&mut line),
            LogFormat::Json => self.json(&mut line),
        }
        line.push('\n');
        line.into_bytes()
    }

    fn text(&self, line: &mut String) {
        let _ = write!(line, "{} {:<5} ", self.timestamp, self.level.as_str());
        escaped(line, self.message);
        for (name, value) in self.fields_once() {
            let _ = write!(line, " {name}=");
            match value {
                Value::Text(text) if is_one_word(text) => line.push_str(text),
                Value::Text(text) => {
                    line.push('"');
                    for part in text.split_inclusive(['"', '\\']) {
                        let (plain, special) = match part.strip_suffix(['"', '\\']) {
                            Some(plain) => (plain, &part[plain.len()..]),
                            None => (part, ""),
                        };
                        escaped(line, plain);
                        if !special.is_empty() {
                            line.push('\\');
                            line.push_str(special);
                        }
                    }
                    line.push('"');
                }
                Value::Integer(number) => _ = write!(line, "{number}"),
                Value::Float(number) => _ = write!(line, "{number}"),
                Value::Boolean(truth) => _ = write!(line, "{truth}"),
            }
        }
    }

    fn json(&self, line: &mut String) {
        let _ = write!(
            line,
            "{{\"timestamp\":\"{}\",\"level\":\"{}\"",
            self.timestamp,
            self.level.as_str()
        );
        match self.members() {
            Some(members) => _ = write!(line, ",{members}"),
            None => _ = write!(line, ",\"message\":{}", quoted(self.message)),
        }
        for (name, value) in self.fields_once() {
            let _ = write!(line, ",{}:", quoted(json_name(name)));
            match value {
                Value::Text(text) => line.push_str(&quoted(text)),
                Value::Integer(number) => _ = write!(line, "{number}"),
                // JSON has no word for infinities.
                Value::Float(number) if number.is_finite() => _ = write!(line, "{number}"),
                Value::Float(number) => _ = write!(line, "\"{number}\""),
                Value::Boolean(truth) => _ = write!(line, "{truth}"),
            }
        }
        line.push('}');
    }

    /// The message and all that belongs to it, if that came as members of a JSON object.
    fn members(&self) -> Option<&str> {
        self.fields.iter().find_map(|field| match field {
            (MEMBERS, Value::Text(members)) => Some(members.as_str()),
            _ => None,
        })
    }

    // Lambda's own fields first, then as they came; a later one of the same name hides an earlier.
    fn fields_once(&self) -> impl Iterator<Item = &Field> {
        let last = |index: usize, name: &str| {
            self.fields[index + 1..]
                .iter()
                .all(|(later, _)| *later != name)
        };
        let kept = move |wanted: bool| {
            self.fields
                .iter()
                .enumerate()
                .filter(move |(index, (name, _))| {
                    *name != MEMBERS && is_lambdas(name) == wanted && last(*index, name)
                })
        };
        kept(true).chain(kept(false)).map(|(_, field)| field)
    }
}

fn is_lambdas(name: &str) -> bool {
    matches!(name, "request_id" | "tenant_id" | "trace_id")
}

fn json_name(name: &str) -> &str {
    match name {
        "request_id" => "requestId",
        "tenant_id" => "tenantId",
        // As the official runtime for Rust has it; Lambda documents none.
        "trace_id" => "xrayTraceId",
        // These three are the line's own; two of a name would be invalid.
        "timestamp" | "level" | "message" => "field",
        other => other,
    }
}

/// A text as JSON has it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn is_one_word(text: &str) -> bool {
    !text.is_empty()
        && !text
            .chars()
            .any(|c| c.is_whitespace() || breaks(c) || matches!(c, '"' | '\\' | '='))
}

/// Whether a terminal, an editor or a log collector may take this for more than a character.
fn breaks(c: char) -> bool {
    (c.is_control() && c != '\t') || matches!(c, '\u{2028}' | '\u{2029}')
}

fn escaped(line: &mut String, text: &str) {
    for c in text.chars() {
        if breaks(c) {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(format: LogFormat, message: &str, fields: &[Field]) -> String {
        let line = Line {
            timestamp: Timestamp::now(),
            level: LogLevel::Info,
            message,
            fields,
        };
        String::from_utf8(line.render(format)).unwrap()
    }

    fn text(value: &str) -> Value {
        Value::Text(value.to_owned())
    }

    #[test]
    fn text_lines_quote_what_is_not_one_word() {
        let cases: &[(&str, &[Field], &str)] = &[
            ("hello", &[], "hello"),
            ("a b\tc", &[("n", Value::Integer(-3))], "a b\tc n=-3"),
            (
                "m",
                &[("b", Value::Boolean(true)), ("f", Value::Float(1.5))],
                "m b=true f=1.5",
            ),
            ("m", &[("word", text("x/y:z"))], "m word=x/y:z"),
            ("m", &[("empty", text(""))], "m empty=\"\""),
            (
                "m",
                &[("quoted", text("say \"a\\b\""))],
                "m quoted=\"say \\\"a\\\\b\\\"\"",
            ),
            ("m", &[("sql", text("a\nb = c"))], "m sql=\"a\\nb = c\""),
            (
                "m",
                &[
                    ("a", text("1")),
                    ("request_id", text("r")),
                    ("a", text("2")),
                ],
                "m request_id=r a=2",
            ),
            (
                "one\ntwo\r\u{1b}[2J\u{85}\u{2028}é",
                &[],
                "one\\ntwo\\r\\u{1b}[2J\\u{85}\\u{2028}é",
            ),
        ];
        for (message, fields, expected) in cases {
            let line = render(LogFormat::Text, message, fields);
            assert_eq!(&line[24..], format!(" INFO  {expected}\n"), "{message}");
        }
    }

    #[test]
    fn json_lines_have_lambdas_names_and_each_name_once() {
        let fields = [
            ("request_id", text("outer")),
            ("function", text("hello")),
            ("took_ms", Value::Integer(3)),
            ("tenant_id", text("blue")),
            ("trace_id", text("1-2-3")),
            ("request_id", text("r-1")),
            ("level", Value::Float(f64::NAN)),
        ];
        let line = render(LogFormat::Json, "say \"hi\"\nand\u{1} go", &fields);
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(line.matches("requestId").count(), 1);
        assert!(line.starts_with("{\"timestamp\":\"20"), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["level"], "INFO");
        assert_eq!(value["message"], "say \"hi\"\nand\u{1} go");
        assert_eq!(value["requestId"], "r-1");
        assert_eq!(value["tenantId"], "blue");
        assert_eq!(value["xrayTraceId"], "1-2-3");
        assert_eq!(value["function"], "hello");
        assert_eq!(value["took_ms"], 3);
        assert_eq!(value["field"], "NaN");
    }
}
