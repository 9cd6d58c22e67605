//! A server that took writes and no longer does: after a failover it goes on as a standby, and its
//! old connections with it.
//!
//! Promises: once the server has refused a write, each connection made before is asked, one round
//! trip before its next use, whether its server still takes any, and is replaced if not; so one
//! invocation learns of the failover, and no other. A database that never took writes is not asked:
//! there a refusal is no news.
//!
//! Left to others: which server the next connection finds ([`crate::database::connect`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Fails on a server that takes no writes.
pub const QUESTION: &str = "DO $$ BEGIN IF pg_catalog.pg_is_in_recovery() \
    OR pg_catalog.current_setting('transaction_read_only')::bool \
    THEN RAISE read_only_sql_transaction; END IF; END $$";

/// What is known of a database's servers.
#[derive(Debug, Default)]
pub struct Demotion {
    /// Whether a server that takes writes was ever found.
    took_writes: AtomicBool,
    /// How many writes were refused.
    refusals: AtomicU64,
}

/// How many refusals there had been when a connection was last known to be right.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Vouched(u64);

impl Demotion {
    /// A connection was made, whose server says this of itself, unless it was found to take writes.
    /// PostgreSQL says it from 14 on; an older one is taken for one that takes none.
    pub fn connected(&self, told: &BTreeMap<String, String>, proven: bool) -> Vouched {
        let is_off = |name: &str| told.get(name).is_some_and(|value| value == "off");
        if proven || (is_off("in_hot_standby") && is_off("default_transaction_read_only")) {
            self.took_writes.store(true, Ordering::Relaxed);
        }
        self.vouch()
    }

    /// A connection made or asked now is right.
    pub fn vouch(&self) -> Vouched {
        Vouched(self.refusals.load(Ordering::Relaxed))
    }

    /// A server has refused a write.
    pub fn refused(&self) {
        self.refusals.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether a connection should be asked before it is used.
    pub fn is_in_doubt(&self, vouched: Vouched) -> bool {
        vouched != self.vouch() && self.took_writes.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(standby: &str, read_only: &str) -> BTreeMap<String, String> {
        [
            ("in_hot_standby", standby),
            ("default_transaction_read_only", read_only),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    #[test]
    fn a_refusal_is_news_only_where_writes_were_taken() {
        for (parameters, proven, expected) in [
            (parameters("off", "off"), false, true),
            (parameters("on", "off"), false, false),
            (parameters("off", "on"), false, false),
            (BTreeMap::new(), false, false),
            // Through a pooler that knew it as a standby, and of a server older than 14.
            (parameters("on", "off"), true, true),
            (BTreeMap::new(), true, true),
        ] {
            let demotion = Demotion::default();
            let vouched = demotion.connected(&parameters, proven);
            assert!(!demotion.is_in_doubt(vouched));
            demotion.refused();
            assert_eq!(demotion.is_in_doubt(vouched), expected, "{parameters:?}");
            assert!(!demotion.is_in_doubt(demotion.vouch()));
        }
    }

    #[test]
    fn a_standby_that_took_the_place_of_a_writer_stays_in_doubt() {
        let demotion = Demotion::default();
        demotion.connected(&parameters("off", "off"), false);
        demotion.refused();
        let standby = demotion.connected(&parameters("on", "off"), false);
        assert!(!demotion.is_in_doubt(standby));
        demotion.refused();
        assert!(demotion.is_in_doubt(standby));
    }
}
