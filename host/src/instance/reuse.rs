//! Whether an instance is worth keeping after an invocation. A pure rule.

use std::time::Duration;

use crate::config::{FunctionConfig, Isolation};
use crate::limits;

/// When an instance is retired although nothing went wrong.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// Never used twice. One that was built too slowly for an invocation was not used.
    pub fresh: bool,
    /// After so many invocations.
    pub invocations: u64,
    /// At this age, by the wall clock.
    pub age: Duration,
    /// Above so much memory, in bytes: WebAssembly's memory never shrinks.
    pub memory_bytes: usize,
}

/// What an instance has behind it.
#[derive(Debug, Clone, Copy)]
pub struct Life {
    /// Invocations it has handled.
    pub invocations: u64,
    /// How long it has lived, by the wall clock.
    pub age: Duration,
    /// The largest its memory has been, in bytes.
    pub memory_bytes: usize,
}

impl Rule {
    /// The rule of a function, with `jitter` in 0..1 moving the count up to a tenth down.
    pub fn of(config: &FunctionConfig, jitter: f64) -> Self {
        let limit_bytes = config.memory_mib as usize * 1024 * 1024;
        let retire_mib = config
            .retire
            .memory_mib
            .map(|mib| mib as usize * 1024 * 1024);
        Self {
            fresh: config.isolation == Isolation::Fresh,
            invocations: config.retire.invocations
                - (config.retire.invocations as f64 * jitter / limits::JITTER_PART) as u64,
            age: config.retire.age,
            // Three quarters of what it may have: above that the next invocation may well fail.
            memory_bytes: retire_mib.unwrap_or(limit_bytes / 4 * 3),
        }
    }

    /// Why the instance is to be retired, if it is.
    pub fn retires(&self, life: &Life) -> Option<&'static str> {
        if self.fresh && life.invocations > 0 {
            Some("fresh")
        } else if life.invocations >= self.invocations {
            Some("invocations")
        } else if life.age >= self.age {
            Some("age")
        } else if life.memory_bytes > self.memory_bytes {
            Some("memory")
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_retired_at_its_first_limit() {
        let rule = Rule {
            fresh: false,
            invocations: 10,
            age: Duration::from_secs(60),
            memory_bytes: 1_000,
        };
        let young = Life {
            invocations: 9,
            age: Duration::from_secs(59),
            memory_bytes: 1_000,
        };
        let cases = [
            (young, None),
            (
                Life {
                    invocations: 10,
                    ..young
                },
                Some("invocations"),
            ),
            (
                Life {
                    age: Duration::from_secs(60),
                    ..young
                },
                Some("age"),
            ),
            (
                Life {
                    memory_bytes: 1_001,
                    ..young
                },
                Some("memory"),
            ),
        ];
        for (life, expected) in cases {
            assert_eq!(rule.retires(&life), expected, "{life:?}");
        }
        let fresh = Rule {
            fresh: true,
            ..rule
        };
        assert_eq!(fresh.retires(&young), Some("fresh"));
        let unused = Life {
            invocations: 0,
            ..young
        };
        assert_eq!(fresh.retires(&unused), None);
    }
}
