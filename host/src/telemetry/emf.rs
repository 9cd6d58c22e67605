//! CloudWatch's embedded metric format: figures in a line of the log that become metrics.
//!
//! Promises: one object on one line, as the format's specification has it; a figure that is not
//! known is not there, neither as a value nor as a metric.
//!
//! <https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html>

use std::fmt::Write as _;
use std::time::Duration;

use super::line::quoted;
use super::timestamp::Timestamp;
use crate::limits;

/// A figure: its name, and its value if it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    name: &'static str,
    unit: &'static str,
    value: Option<Value>,
}

#[derive(Debug, Clone, Copy)]
enum Value {
    Integer(u64),
    Milliseconds(Duration),
}

/// Something that is told beside the figures.
pub(super) type Property<'a> = (&'static str, Option<&'a str>);

/// A time.
pub(super) fn time(name: &'static str, value: Option<Duration>) -> Metric {
    Metric {
        name,
        unit: "Milliseconds",
        value: value.map(Value::Milliseconds),
    }
}

/// A number of things.
pub(super) fn count(name: &'static str, value: Option<u64>) -> Metric {
    Metric {
        name,
        unit: "Count",
        value: value.map(Value::Integer),
    }
}

/// A number of bytes.
pub(super) fn bytes(name: &'static str, value: Option<u64>) -> Metric {
    Metric {
        unit: "Bytes",
        ..count(name, value)
    }
}

/// A line that is being written.
pub(super) struct Line(String);

impl Line {
    /// A line with these metrics, for each value of one property.
    pub(super) fn new(namespace: &str, dimension: &str, at: Timestamp, metrics: &[Metric]) -> Self {
        let mut line = String::with_capacity(2048);
        let _ = write!(
            line,
            "{{\"_aws\":{{\"Timestamp\":{},\"CloudWatchMetrics\":[{{\"Namespace\":{},\"Dimensions\":[[\"{dimension}\"]],\"Metrics\":[",
            at.unix_ms(),
            quoted(namespace)
        );
        let known = metrics.iter().filter(|metric| metric.value.is_some());
        for (index, metric) in known.enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let (name, unit) = (metric.name, metric.unit);
            let _ = write!(line, "{comma}{{\"Name\":\"{name}\",\"Unit\":\"{unit}\"}}");
        }
        line.push_str("]}]}");
        Self(line)
    }

    /// Adds something that is no figure; the end of a long one is left out.
    pub(super) fn property(&mut self, name: &str, value: &str) {
        let end = value.floor_char_boundary(limits::METRICS_TEXT_BYTES_MAX);
        let _ = write!(self.0, ",\"{name}\":{}", quoted(&value[..end]));
    }

    /// Adds the figures. The line's bytes, line break included.
    pub(super) fn finish(mut self, metrics: &[Metric]) -> Vec<u8> {
        for metric in metrics {
            let name = metric.name;
            let _ = match metric.value {
                Some(Value::Integer(number)) => write!(self.0, ",\"{name}\":{number}"),
                Some(Value::Milliseconds(time)) => {
                    write!(self.0, ",\"{name}\":{:.3}", time.as_secs_f64() * 1000.0)
                }
                None => Ok(()),
            };
        }
        self.0.push_str("}\n");
        self.0.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_what_the_specification_asks_for() {
        let metrics = [
            time("Duration", Some(Duration::from_micros(1_500))),
            count("Rows", Some(3)),
            time("ThawGap", None),
            bytes("BytesSent", Some(0)),
        ];
        let at = Timestamp::now();
        let mut line = Line::new("My \"own\"", "FunctionName", at, &metrics);
        line.property("FunctionName", "orders\n");
        line.property("fault", &"ä".repeat(limits::METRICS_TEXT_BYTES_MAX));
        let line = String::from_utf8(line.finish(&metrics)).unwrap();
        assert_eq!(line.matches('\n').count(), 1);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            line["_aws"],
            serde_json::json!({
                "Timestamp": at.unix_ms(),
                "CloudWatchMetrics": [{
                    "Namespace": "My \"own\"",
                    "Dimensions": [["FunctionName"]],
                    "Metrics": [
                        { "Name": "Duration", "Unit": "Milliseconds" },
                        { "Name": "Rows", "Unit": "Count" },
                        { "Name": "BytesSent", "Unit": "Bytes" },
                    ],
                }],
            })
        );
        assert_eq!((&line["Duration"], &line["Rows"]), (&1.5.into(), &3.into()));
        assert_eq!(line["FunctionName"], "orders\n");
        assert!(line.get("ThawGap").is_none());
        assert!(line["fault"].as_str().unwrap().len() <= limits::METRICS_TEXT_BYTES_MAX);
    }
}
