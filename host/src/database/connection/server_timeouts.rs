//! What the server is told of time: after how long it is to give up by itself what nobody waits
//! for any more.
//!
//! The host cancels on time what an invocation still runs at its deadline. This is for the host
//! that cannot: frozen, killed, or cut off. So the limits are coarse, and are only sent again when
//! they no longer fit; a repeated call of the same function sends nothing.
//!
//! Promises: a statement's limit is never shorter than the time its invocation has, and not much longer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Prepare;
use crate::database::wire::request::Command;
use crate::limits;

/// How much longer than the time there is the server's limit may be, besides a half of it, before
/// it is told anew.
const SLACK: Duration = Duration::from_secs(1);

/// The limits that a connection's server session has.
pub struct ServerTimeouts {
    /// What the server was last told; none if that is not known.
    told: Option<Duration>,
    /// Whether it was told in a transaction block, whose rollback would undo it.
    tentative: bool,
    /// Whether it was told in the request under way.
    unconfirmed: bool,
    /// Whether the transaction that is open may have less time, on account of a single call in it or
    /// of the one that began it. Going back to a savepoint may bring that back, so it stays said.
    shorter: bool,
    /// Whether the server can be told how long a session may rest: PostgreSQL 14 and later.
    idle_session: bool,
    /// Whether a session is the connection's own; not behind a pooler that gives it to others.
    enabled: bool,
}

impl ServerTimeouts {
    /// For a connection whose server has reported these settings.
    pub fn new(parameters: &BTreeMap<String, String>, prepare: Prepare) -> Self {
        let version = parameters.get("server_version").map_or("", String::as_str);
        let digits = version.split(|character: char| !character.is_ascii_digit());
        let major = digits.take(1).find_map(|digits| digits.parse::<u32>().ok());
        Self {
            told: None,
            tentative: false,
            unconfirmed: false,
            shorter: false,
            idle_session: major >= Some(14),
            enabled: prepare == Prepare::Always,
        }
    }

    /// The statements that tell the server of the time a request has, if it must be told.
    ///
    /// None of them looks at data: after one that does, the transaction that is to begin or has just
    /// begun would take no isolation level any more.
    pub fn due(&mut self, time: Option<Duration>, in_block: bool) -> Option<Vec<Command>> {
        if self.tentative && !in_block {
            // That transaction is over, and nobody has said that it was committed.
            self.forget();
        }
        let time = time.filter(|_| self.enabled)?;
        self.unconfirmed = false;
        let fits = |told: Duration| told >= time && told <= time + time / 2 + SLACK;
        if self.told.is_some_and(fits) {
            return None;
        }
        // With some room: the next invocation may come to its first statement a little sooner.
        let limit = Duration::from_millis((time + time / 8).as_millis() as u64 + 1);
        self.told = Some(limit);
        self.unconfirmed = true;
        self.tentative = in_block;
        let mut settings = vec![
            ("statement_timeout", limit),
            ("idle_in_transaction_session_timeout", limit),
        ];
        if self.idle_session {
            // A session that its invocation holds may rest for as long as that has.
            let rest = limits::IDLE_SESSION_TIMEOUT.max(limit);
            settings.push(("idle_session_timeout", rest));
        }
        let set = |(name, limit): (&str, Duration)| {
            Command::new(format!("SET {name} TO {}", limit.as_millis()))
        };
        Some(settings.into_iter().map(set).collect())
    }

    /// The statement that gives a single call less time than its invocation has, or ends that: in a
    /// transaction it would hold on.
    pub fn of_call(&mut self, timeout: Option<Duration>, in_block: bool) -> Option<Command> {
        let name = "statement_timeout";
        let was_shorter = self.shorter && in_block;
        self.shorter = was_shorter || timeout.is_some();
        match timeout {
            Some(timeout) if in_block => Some(Command::new(format!(
                "SET LOCAL {name} TO {}",
                timeout.as_millis()
            ))),
            // It holds for the one request; `SET LOCAL` would do the same with a warning.
            Some(timeout) => Some(Command::new(format!(
                "SELECT pg_catalog.set_config('{name}','{}',true)",
                timeout.as_millis()
            ))),
            None if was_shorter => Some(Command::new(match self.told {
                Some(told) => format!("SET LOCAL {name} TO {}", told.as_millis()),
                None => format!("SET LOCAL {name} TO DEFAULT"),
            })),
            None => None,
        }
    }

    /// The statement that gives those of a batch less time than their invocation has, each for itself. It
    /// goes before the batch in a message of its own, or in the same one behind a pooler.
    pub fn of_batch(&mut self, timeout: Duration) -> String {
        let scope = match self.enabled {
            // The next request says again what its invocation has.
            true => {
                self.forget();
                "SESSION"
            }
            false => {
                self.shorter = true;
                "LOCAL"
            }
        };
        format!("SET {scope} statement_timeout TO {}", timeout.as_millis())
    }

    /// A loan begins: what an earlier one said in a transaction may have been rolled back.
    pub fn begin_loan(&mut self) {
        self.shorter = false;
        if self.tentative {
            self.forget();
        }
    }

    /// The transaction in which the server was told has been committed.
    pub fn committed(&mut self) {
        self.tentative = false;
    }

    /// The server has refused the request, and with it what it was told there.
    pub fn refused(&mut self) {
        if self.unconfirmed || self.tentative {
            self.forget();
        }
    }

    /// What the server was told may no longer hold.
    pub fn forget(&mut self) {
        self.told = None;
        self.tentative = false;
        self.unconfirmed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn timeouts(version: &str, prepare: Prepare) -> ServerTimeouts {
        let parameters = BTreeMap::from([("server_version".to_owned(), version.to_owned())]);
        ServerTimeouts::new(&parameters, prepare)
    }

    #[test]
    fn the_server_is_told_once_while_the_time_is_about_the_same() {
        let mut timeouts = timeouts("15.4 (Debian)", Prepare::Always);
        let told = timeouts.due(Some(SECOND * 30), false).expect("it is new");
        let told: Vec<&str> = told.iter().map(|command| &*command.sql).collect();
        assert_eq!(told[0], "SET statement_timeout TO 33751");
        assert!(
            told[2].starts_with("SET idle_session_timeout TO "),
            "{told:?}"
        );
        for time in [30, 29, 24] {
            assert_eq!(timeouts.due(Some(SECOND * time), false), None, "{time} s");
        }
        for time in [20, 30] {
            let due = timeouts.due(Some(SECOND * time), false);
            assert!(due.is_some(), "{time} s");
        }
    }

    #[test]
    fn a_session_may_rest_for_as_long_as_its_invocation_has() {
        for (time, rest) in [(SECOND, "600000"), (limits::TIMEOUT_MAX, "1012501")] {
            let told = timeouts("15.4", Prepare::Always).due(Some(time), false);
            let told = told.expect("it is new");
            let expected = format!("SET idle_session_timeout TO {rest}");
            assert_eq!(*told[2].sql, expected, "{time:?}");
        }
    }

    #[test]
    fn what_was_said_with_a_refused_request_is_said_again() {
        let mut timeouts = timeouts("15.4", Prepare::Always);
        assert!(timeouts.due(Some(SECOND), false).is_some());
        timeouts.refused();
        assert!(timeouts.due(Some(SECOND), false).is_some());
        assert_eq!(timeouts.due(Some(SECOND), false), None);
        timeouts.refused();
        assert_eq!(
            timeouts.due(Some(SECOND), false),
            None,
            "it was said before"
        );
    }

    #[test]
    fn what_was_said_in_a_transaction_is_said_again_to_the_next_borrower() {
        let mut timeouts = timeouts("13.1", Prepare::Always);
        let told = timeouts.due(Some(SECOND), true).expect("it is new");
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(timeouts.due(Some(SECOND), true), None);
        timeouts.begin_loan();
        assert!(timeouts.due(Some(SECOND), false).is_some());
    }

    #[test]
    fn what_was_said_in_a_transaction_that_nobody_has_seen_committed_is_said_again() {
        let mut timeouts = timeouts("13.1", Prepare::Always);
        assert!(timeouts.due(Some(SECOND), true).is_some());
        assert!(timeouts.due(Some(SECOND), false).is_some());
        assert!(timeouts.due(Some(SECOND * 9), true).is_some());
        timeouts.committed();
        assert_eq!(timeouts.due(Some(SECOND * 9), false), None);
    }

    #[test]
    fn a_call_with_less_time_takes_none_from_those_after_it() {
        let sql = |command: Option<Command>| command.map(|command| command.sql.to_string());
        let mut timeouts = timeouts("15.4", Prepare::Always);
        timeouts.due(Some(SECOND * 8), false);
        let longer = Some("SET LOCAL statement_timeout TO 9001".to_owned());
        let call = |timeouts: &mut ServerTimeouts, millis: Option<u64>, in_block| {
            sql(timeouts.of_call(millis.map(Duration::from_millis), in_block))
        };
        assert_eq!(call(&mut timeouts, None, false), None);
        // This call may be a `BEGIN`.
        let own = call(&mut timeouts, Some(5), false).expect("it has less time");
        assert!(
            own.contains("set_config('statement_timeout','5',true)"),
            "{own}"
        );
        assert_eq!(call(&mut timeouts, None, true), longer);
        // This one may be a `ROLLBACK TO`.
        assert_eq!(call(&mut timeouts, None, true), longer);
        assert_eq!(call(&mut timeouts, None, false), None);
        assert_eq!(call(&mut timeouts, None, true), None);
        let own = call(&mut timeouts, Some(5), true).expect("it has less time");
        assert_eq!(own, "SET LOCAL statement_timeout TO 5");
        timeouts.begin_loan();
        assert_eq!(call(&mut timeouts, None, true), None);
    }

    #[test]
    fn a_session_that_a_pooler_shares_is_told_nothing() {
        let mut timeouts = timeouts("15.4", Prepare::Never);
        assert_eq!(timeouts.due(Some(SECOND), false), None);
    }
}
