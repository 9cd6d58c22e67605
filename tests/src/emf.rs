//! Figures of invocations in the log, read as CloudWatch reads them.

use serde_json::{Map, Value};

use crate::{Host, eventually};

/// The units that CloudWatch knows, of those that Hearth has a use for.
const UNITS: &[&str] = &["Milliseconds", "Bytes", "Count"];

/// What a line told of one invocation.
#[derive(Debug)]
pub struct Figures {
    /// The whole line.
    pub line: Map<String, Value>,
    /// The names of the metrics.
    pub metrics: Vec<String>,
}

impl Figures {
    /// Waits for those of the invocation with this request id.
    pub async fn of(host: &Host, request_id: &str) -> Self {
        eventually("the figures of an invocation", async || {
            Self::all(host)
                .into_iter()
                .find(|figures| figures.text("requestId") == request_id)
        })
        .await
    }

    /// All so far, in order.
    pub fn all(host: &Host) -> Vec<Self> {
        let log = host.log();
        let lines = log.iter().filter(|line| line.contains("\"_aws\""));
        lines.map(|line| Self::read(line)).collect()
    }

    /// Takes a line for what AWS's specification of the embedded metric format says.
    pub fn read(line: &str) -> Self {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        let line = line.as_object().expect("it is an object").clone();
        let meta = members(&line["_aws"], &["CloudWatchMetrics", "Timestamp"]);
        assert!(
            meta["Timestamp"]
                .as_u64()
                .is_some_and(|ms| ms > 1_600_000_000_000),
            "{meta:?}"
        );
        let directives = meta["CloudWatchMetrics"].as_array().expect("it is a list");
        let mut metrics = Vec::new();
        for directive in directives {
            let directive = members(directive, &["Dimensions", "Metrics", "Namespace"]);
            let namespace = directive["Namespace"].as_str().expect("it is a text");
            assert!((1..256).contains(&namespace.len()), "{namespace}");
            for dimension in directive["Dimensions"]
                .as_array()
                .expect("it is a list of lists")
            {
                for name in dimension.as_array().expect("it is a list") {
                    let value = &line[name.as_str().expect("it is a text")];
                    let value = value.as_str().unwrap_or_default();
                    assert!((1..1025).contains(&value.len()), "{name}: {value}");
                }
            }
            for metric in directive["Metrics"].as_array().expect("it is a list") {
                let metric = members(metric, &["Name", "Unit"]);
                let name = metric["Name"].as_str().expect("it is a text").to_owned();
                let unit = metric["Unit"].as_str().expect("it is a text");
                assert!(UNITS.contains(&unit), "{unit}");
                assert!(
                    line[&name].as_f64().is_some_and(|value| value >= 0.0),
                    "{name}"
                );
                assert!(!metrics.contains(&name), "{name} is there twice");
                metrics.push(name);
            }
        }
        assert!((1..=100).contains(&metrics.len()), "{metrics:?}");
        Self { line, metrics }
    }

    /// A metric's value.
    pub fn get(&self, metric: &str) -> f64 {
        assert!(
            self.metrics.iter().any(|name| name == metric),
            "no {metric} in {self:?}"
        );
        self.line[metric].as_f64().expect("it is a number")
    }

    /// Something that is told beside the metrics; empty if it is not.
    pub fn text(&self, name: &str) -> &str {
        let value = self.line.get(name).and_then(Value::as_str);
        value.unwrap_or_default()
    }
}

/// An object with just these members.
fn members<'a>(value: &'a Value, names: &[&str]) -> &'a Map<String, Value> {
    let object = value.as_object().expect("it is an object");
    let found: Vec<&String> = object.keys().collect();
    assert_eq!(found, names, "{value}");
    object
}
