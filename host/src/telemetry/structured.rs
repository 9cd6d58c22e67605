//! Lines of a guest's that are JSON objects already, as loggers write them.
//!
//! Promises:
//! - such a line has the level that it names, and [`LogLevel::Info`] if it names none;
//! - in a log of JSON it is not encoded a second time: its members stand beside the host's own, whose
//!   names they cannot take, as the guest wrote them and in its order; of several of a name the last counts;
//!   where nobody reads them, they are not put together;
//! - figures in CloudWatch's embedded metric format pass unchanged, since CloudWatch would not find them
//!   otherwise.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::config::LogLevel;

/// What the host's own members are called, but for the message.
const TAKEN: [&str; 8] = [
    "timestamp",
    "level",
    "requestId",
    "tenantId",
    "xrayTraceId",
    "function",
    "stream",
    "continues",
];

/// What a line is.
pub(super) enum Structured<'a> {
    /// Words for the log.
    Words(Words<'a>),
    /// Figures, as a line of their own, without its break.
    Figures(String),
}

/// Words for the log. Displayed, they are the members as JSON has them, without the braces.
pub(super) struct Words<'a> {
    pub(super) level: LogLevel,
    members: Members<'a>,
}

/// An object's members.
#[derive(Default)]
struct Members<'a> {
    /// The names and the values, as they were written.
    written: Vec<(&'a RawValue, &'a RawValue)>,
    /// Where the last of each name is.
    places: HashMap<String, usize>,
}

/// What makes figures of an object: where they are said to be.
#[derive(serde::Deserialize)]
struct Directives {
    #[serde(rename = "CloudWatchMetrics")]
    _metrics: Vec<IgnoredAny>,
}

/// Reads a line, if it is a JSON object with something in it.
pub(super) fn read(line: &[u8]) -> Option<Structured<'_>> {
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let line = std::str::from_utf8(line).ok()?;
    let members: Members<'_> = serde_json::from_str(line).ok()?;
    if members.get::<Directives>("_aws").is_some() {
        return Some(Structured::Figures(on_one_line(line).into_owned()));
    }
    let level = members.get::<String>("level");
    let level = level.map_or(LogLevel::Info, |name| level_named(&name));
    let has_own = members.places.keys().any(|name| is_own(name));
    has_own.then_some(Structured::Words(Words { level, members }))
}

/// Whether a member of this name is the guest's own.
fn is_own(name: &str) -> bool {
    !TAKEN.contains(&name)
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places = self.members.places.iter();
        let own = places.filter(|(name, _)| is_own(name));
        let mut places: Vec<usize> = own.map(|(_, place)| *place).collect();
        places.sort_unstable();
        let mut separator = "";
        for place in places {
            let (name, value) = self.members.written[place];
            let value = on_one_line(value.get());
            write!(formatter, "{separator}{}:{value}", name.get())?;
            separator = ",";
        }
        Ok(())
    }
}

impl Members<'_> {
    /// The member of this name, if it is what is asked for.
    fn get<T: for<'de> Deserialize<'de>>(&self, name: &str) -> Option<T> {
        let (_, value) = self.written[*self.places.get(name)?];
        serde_json::from_str(value.get()).ok()
    }
}

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Members::default();
                while let Some(name) = map.next_key::<&'de RawValue>()? {
                    let plain =
                        serde_json::from_str(name.get()).map_err(serde::de::Error::custom)?;
                    members.places.insert(plain, members.written.len());
                    members.written.push((name, map.next_value()?));
                }
                Ok(members)
            }
        }

        deserializer.deserialize_map(Reading)
    }
}

/// JSON without what a reader could take for the end of a line: between its parts, where alone it may be, a
/// carriage return means nothing.
fn on_one_line(json: &str) -> Cow<'_, str> {
    match json.contains('\r') {
        true => json.replace('\r', " ").into(),
        false => json.into(),
    }
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
            Structured::Words(words) => Some((words.level, words.to_string())),
            Structured::Figures(_) => None,
        }
    }

    #[test]
    fn an_object_has_its_level_and_its_own_members_as_they_were_written() {
        let cases = [
            (
                r#"{"level":"warning","message":"low \"stock\"","left":3,"requestId":"no","a":{"b":[null]}}"#,
                r#""message":"low \"stock\"","left":3,"a":{"b":[null]}"#,
            ),
            (
                r#" {"z":123456789012345678901234567890, "level" : "warn", "b" : 1e400 , "a":0.10,"s":"\u00e4\/"} "#,
                r#""z":123456789012345678901234567890,"b":1e400,"a":0.10,"s":"\u00e4\/""#,
            ),
            (
                "{\"a\":1,\"\\u0061\":{\"b\":\r\t[\"c\"\r]},\"Level\":4,\"level\":\"WARN\",\"\\u006cevel\":\"warn\"}",
                "\"\\u0061\":{\"b\": \t[\"c\" ]},\"Level\":4",
            ),
            (
                r#"{"level":"warn","fault":"x","_aws":{"CloudWatchMetrics":"none"}}"#,
                r#""fault":"x","_aws":{"CloudWatchMetrics":"none"}"#,
            ),
            (r#"{"level":"warn","_aws":1}"#, r#""_aws":1"#),
        ];
        for (line, expected) in cases {
            let (level, members) = words(line).unwrap();
            assert_eq!((level, members.as_str()), (LogLevel::Warn, expected));
        }
    }

    #[test]
    fn an_object_has_the_level_that_it_names() {
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
        assert_eq!(
            words(r#"{"level":30,"msg":"m"}"#).unwrap().0,
            LogLevel::Info
        );
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
            "{\"a\":1e}",
            "{\"a\":\"\u{1}\"}",
            r#"{"level":"WARN"}"#,
        ] {
            assert!(read(line.as_bytes()).is_none(), "{line}");
        }
    }

    #[test]
    fn figures_pass_as_they_are() {
        let line = r#"{"Orders" : 2.50, "_aws":{"Timestamp":1,"CloudWatchMetrics":[]},"id":12345678901234567890123}"#;
        let Some(Structured::Figures(passed)) = read(line.as_bytes()) else {
            panic!("it is none");
        };
        assert_eq!(passed, line);
    }
}
