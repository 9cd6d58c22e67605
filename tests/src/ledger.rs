//! What random programs have said of the rows they wrote, against what is there.

use std::collections::HashMap;

/// What became of rows, each known by its key.
#[derive(Default)]
pub struct Ledger {
    /// `done`, `not` or `maybe`, as their programs said.
    words: HashMap<i64, String>,
    /// How often they are there, and for whom.
    written: HashMap<i64, (u64, String)>,
}

impl Ledger {
    /// What a host's log says.
    pub fn of(log: &[String]) -> Self {
        let mut ledger = Self::default();
        for line in log {
            let Some((_, said)) = line.split_once("INFO  key ") else {
                continue;
            };
            let mut said = said.split_whitespace();
            if let (Some(key), Some(word)) = (said.next(), said.next()) {
                let key = key.parse().expect("keys are numbers");
                ledger.words.insert(key, word.to_owned());
            }
        }
        ledger
    }

    /// The SQL that [`found`](Self::found) takes the answer of.
    pub const WRITTEN: &str =
        "select coalesce(string_agg(concat_ws(' ', key, count, tenant), ','), '')
        from (select key, tenant, count(*) from written group by key, tenant) counts";

    /// What is there.
    pub fn found(&mut self, written: &str) {
        for row in written.split(',').filter(|row| !row.is_empty()) {
            let mut parts = row.split(' ');
            let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok());
            let (key, count) = number().zip(number()).expect("both are numbers");
            let tenant = parts.next().unwrap_or_default().to_owned();
            self.written.insert(key as i64, (count, tenant));
        }
    }

    /// Where the two do not agree; `never` are keys that cannot be there, `events` those that came, each
    /// with its tenant.
    pub fn disagreements(&self, never: &[i64], events: &[(String, String)]) -> Vec<String> {
        let nowhere = (String::new(), String::new());
        let from = |key: i64| {
            let digits = key.to_string();
            let has = |text: &str| {
                text.split(|c: char| !c.is_ascii_digit())
                    .any(|part| part == digits)
            };
            let event = events.iter().find(|(_, event)| has(event));
            event.unwrap_or(&nowhere)
        };
        let mut wrong = Vec::new();
        let mut say = |key: i64, what: &str| wrong.push(format!("{key} {what}: {}", from(key).1));
        for (key, (count, tenant)) in &self.written {
            if *count > 1 {
                say(*key, "is there more than once");
            }
            if *tenant != from(*key).0 {
                say(*key, &format!("is there for {tenant:?}"));
            }
            if never.contains(key) {
                say(*key, "was not committed, and is there");
            }
        }
        for (key, word) in &self.words {
            match (word.as_str(), self.written.contains_key(key)) {
                ("done", false) => say(*key, "was committed, and is not there"),
                ("not", true) => say(*key, "failed, and is there"),
                _ => {}
            }
        }
        wrong
    }

    /// How many rows were committed, as their programs say.
    pub fn done(&self) -> usize {
        self.words.values().filter(|word| *word == "done").count()
    }
}
