//! Lines of a guest's that are JSON objects already, as loggers write them.
//!
//! Promises:
//! - such a line has the level that it names, and [`LogLevel::Info`] if it names none;
//! - in a log of JSON it is not encoded a second time: its members stand beside the host's own, whose
//!   names they cannot take;
//! - figures in CloudWatch's embedded metric format pass as they are, which else are none.

use serde_json::{Map, Value};

use crate::config::LogLevel;

/// What the host's own members are called, but for the message.
const TAKEN: [&str; 7] = [
    "timestamp",
    "level",
    "requestId",
    "tenantId",
    "xrayTraceId",
    "function",
    "stream",
];

/// What a line is.
pub(super) enum Structured {
    /// Words for the log.
    Words {
        level: LogLevel,
        /// The members as JSON has them, without the braces.
        members: String,
    },
    /// Figures, as a line of their own, without its break.
    Figures(Vec<u8>),
}

/// Reads a line, if it is a JSON object with something in it.
pub(super) fn read(line: &[u8]) -> Option<Structured> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let mut object: Map<String, Value> = serde_json::from_slice(line).ok()?;
    if object.get("_aws").is_some_and(Value::is_object) {
        return serde_json::to_vec(&object).ok().map(Structured::Figures);
    }
    let level = object.get("level").and_then(Value::as_str);
    let level = level.map_or(LogLevel::Info, level_named);
    object.retain(|name, _| !TAKEN.contains(&name.as_str()));
    if object.is_empty() {
        return None;
    }
    let object = Value::Object(object).to_string();
    let members = object[1..object.len() - 1].to_owned();
    Some(Structured::Words { level, members })
}

/// The level of this name; loggers have several names for some.
fn level_named(name: &str) -> LogLevel {
    let other = || match name.to_ascii_lowercase().as_str() {
        "warning" => LogLevel::Warn,
        "critical" => LogLevel::Fatal,
        _ => LogLevel::Info,
    };
    LogLevel::named(name).unwrap_or_else(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Option<(LogLevel, String)> {
        match read(line.as_bytes())? {
            Structured::Words { level, members } => Some((level, members)),
            Structured::Figures(_) => None,
        }
    }

    #[test]
    fn an_object_has_its_level_and_its_own_members() {
        let line = r#"{"level":"warning","message":"low \"stock\"","left":3,"requestId":"no","a":{"b":[null]}}"#;
        let (level, members) = words(line).unwrap();
        assert_eq!(level, LogLevel::Warn);
        let members: Value = serde_json::from_str(&format!("{{{members}}}")).unwrap();
        let expected = r#"{"message":"low \"stock\"","left":3,"a":{"b":[null]}}"#;
        assert_eq!(members, serde_json::from_str::<Value>(expected).unwrap());
        for (name, level) in [
            ("trace", LogLevel::Trace),
            ("Debug", LogLevel::Debug),
            ("FATAL", LogLevel::Fatal),
            ("critical", LogLevel::Fatal),
            ("loud", LogLevel::Info),
        ] {
            let line = format!(r#"{{"level":"{name}","message":"m"}}"#);
            assert_eq!(words(&line).unwrap().0, level, "{name}");
        }
    }

    #[test]
    fn what_is_no_object_is_a_line_like_any_other() {
        for line in [
            "",
            "{",
            "{}",
            "[1]",
            "1",
            "{oh}",
            "{\"a\":1} b",
            r#"{"level":"WARN"}"#,
        ] {
            assert!(read(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn figures_pass() {
        let line = br#"{"_aws":{"Timestamp":1,"CloudWatchMetrics":[]},"Orders":2}"#;
        let Some(Structured::Figures(passed)) = read(line) else {
            panic!("it is none");
        };
        let values =
            [line.as_slice(), &passed].map(|line| serde_json::from_slice::<Value>(line).unwrap());
        assert_eq!(values[0], values[1]);
    }
}
