//! What the server is told of time: after how long it is to give up by itself what nobody waits
//! for any more.
//!
//! The host cancels on time what an invocation still runs at its deadline. This is for the host
//! that cannot: frozen, killed, or cut off. So the limits are coarse, and are only sent again when
//! they no longer fit; a repeated call of the same function sends nothing.
//!
//! Promises: a statement's limit is never shorter than the time its invocation has, and not much longer; but no limit
//! is longer than the one that the session began with, and once a guest has set one itself, that holds.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::Prepare;
use crate::database::sql::time_limits::SETTINGS;
use crate::database::statement::Effects;
use crate::database::wire::request::Command;
use crate::limits;

/// How much longer than the time there is the server's limit may be, besides a half of it, before
/// it is told anew.
const SLACK: Duration = Duration::from_secs(1);

/// The limits that a connection's server session has.
pub struct ServerTimeouts {
    /// Those that the server knows.
    settings: &'static [&'static str],
    /// What they were when the session began: what its role, its database or the address says. Zero is no limit.
    own: Vec<Duration>,
    /// Whether the server was asked for them, if only by somebody who has not waited for the answer.
    asked: bool,
    /// What the server was last told; none if that is not known.
    told: Option<Duration>,
    /// Whether it was told in a transaction block, whose rollback would undo it.
    tentative: bool,
    /// Whether it was told in the request under way.
    unconfirmed: bool,
    /// Whether the transaction that is open may have less time, on account of a single call in it or
    /// of the one that began it. Going back to a savepoint may bring that back, so it stays said.
    shorter: bool,
    /// Whether the guest has set any itself, which holds for as long as this loan lasts.
    guests: bool,
    /// Whether the session has less time on account of a single call that is not over.
    held: bool,
    /// Whether a session is the connection's own; not behind a pooler that gives it to others.
    enabled: bool,
}

impl ServerTimeouts {
    /// For a connection whose server has reported these settings.
    pub fn new(parameters: &BTreeMap<String, String>, prepare: Prepare) -> Self {
        let version = parameters.get("server_version").map_or("", String::as_str);
        let digits = version.split(|character: char| !character.is_ascii_digit());
        let major = digits.take(1).find_map(|digits| digits.parse::<u32>().ok());
        let known = match major >= Some(14) {
            true => 3,
            false => 2,
        };
        Self {
            settings: &SETTINGS[..known],
            own: Vec::new(),
            asked: false,
            told: None,
            tentative: false,
            unconfirmed: false,
            shorter: false,
            guests: false,
            held: false,
            enabled: prepare == Prepare::Always,
        }
    }

    /// What the server is to be asked before anything else, if that was not done yet, and is told behind it.
    pub fn question(&mut self, time: Option<Duration>) -> Option<String> {
        if !self.enabled || self.own.len() == self.settings.len() {
            return None;
        }
        self.own.clear();
        let asks = self.settings.iter().map(|name| match self.asked {
            // Whoever asked before may not have heard the answer, and have told it something all the same.
            true => format!("RESET {name}; SHOW {name}"),
            false => format!("SHOW {name}"),
        });
        let mut texts: Vec<String> = asks.collect();
        self.asked = true;
        let told = self.due(time, false).unwrap_or_default();
        texts.extend(told.iter().map(|command| command.sql.to_string()));
        Some(texts.join("; "))
    }

    /// The server has answered the next part of the question: a time with its unit.
    pub fn learn(&mut self, answer: Option<&str>) {
        self.own.push(answer.and_then(read).unwrap_or_default());
        if self.own.len() < self.settings.len() {
            return;
        }
        self.unconfirmed = false;
        if self.own.iter().any(|own| !own.is_zero()) {
            // It may have been told of longer ones.
            self.forget();
        }
    }

    /// The server does not know what it was asked.
    pub fn learn_nothing(&mut self) {
        self.own = vec![Duration::ZERO; self.settings.len()];
    }

    /// The guest has set limits of its own.
    pub fn are_guests(&mut self) {
        self.guests = true;
    }

    /// Whether the server is told nothing of the time that a single call with these effects has, so that the host
    /// has it given up: the guest has set a limit itself, or may do so by this call. The server has room for one, and
    /// nobody could put that back. Nor is it told where sessions are shared: theirs may be shorter, which takes a
    /// query to find out, and with that a transaction's snapshot.
    pub fn are_left_alone(&self, effects: &Effects) -> bool {
        self.guests || effects.limits || effects.resets || !self.enabled
    }

    /// The statements that tell the server of the time a request has, if it must be told.
    ///
    /// None of them looks at data: after one that does, the transaction that is to begin or has just
    /// begun would take no isolation level any more.
    pub fn due(&mut self, time: Option<Duration>, in_block: bool) -> Option<Vec<Command>> {
        // It may have gone with the `BEGIN` of this transaction, whose rollback would undo it.
        self.tentative |= in_block && self.unconfirmed;
        if self.tentative && !in_block {
            // That transaction is over, and nobody has said that it was committed.
            self.forget();
        }
        let time = time.filter(|_| self.enabled && !self.guests && !self.held)?;
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
        // A session that its invocation holds may rest for as long as that has.
        let limits = [limit, limit, limits::IDLE_SESSION_TIMEOUT.max(limit)];
        let limits = limits.into_iter().enumerate().take(self.settings.len());
        let set = |(nth, limit)| Command::new(format!("SET {}", self.setting(nth, limit)));
        Some(limits.map(set).collect())
    }

    /// The statement that gives a single call less time than its invocation has, or ends that: in a
    /// transaction it would hold on. `begins` says that the call begins a transaction.
    pub fn of_call(
        &mut self,
        timeout: Option<Duration>,
        in_block: bool,
        begins: bool,
    ) -> Option<Command> {
        let was_shorter = self.shorter && in_block;
        self.shorter = was_shorter || timeout.is_some();
        let sql = match timeout {
            // After a query, the transaction that is to begin would take no isolation level any more.
            Some(timeout) if in_block || begins => {
                format!("SET LOCAL {}", self.setting(0, timeout))
            }
            // It holds for the one request; `SET LOCAL` would do the same with a warning.
            Some(timeout) => format!(
                "SELECT pg_catalog.set_config('{}','{}',true)",
                SETTINGS[0],
                self.within(0, timeout).as_millis()
            ),
            None if was_shorter && !self.guests => match self.told {
                Some(told) => format!("SET LOCAL {}", self.setting(0, told)),
                None => format!("SET LOCAL {} TO DEFAULT", SETTINGS[0]),
            },
            None => return None,
        };
        Some(Command::new(sql))
    }

    /// The statement that gives a single call less time in a request of its own. It holds until that is over.
    pub fn of_call_alone(&mut self, timeout: Duration) -> String {
        let set = self.of_batch(timeout);
        self.held = true;
        set
    }

    /// A single call is over: the next request says again what its invocation has.
    pub fn end_call(&mut self) {
        self.held = false;
    }

    /// The statement that gives those of a batch less time than their invocation has, each for itself. It
    /// goes before the batch in a message of its own.
    pub fn of_batch(&mut self, timeout: Duration) -> String {
        // The next request says again what its invocation has.
        self.forget();
        format!("SET SESSION {}", self.setting(0, timeout))
    }

    /// A setting with its new value.
    fn setting(&self, nth: usize, limit: Duration) -> String {
        let limit = self.within(nth, limit).as_millis();
        format!("{} TO {limit}", SETTINGS[nth])
    }

    /// This limit, or the one that the session began with if that is less.
    fn within(&self, nth: usize, limit: Duration) -> Duration {
        let own = self.own.get(nth).filter(|own| !own.is_zero());
        own.map_or(limit, |own| limit.min(*own))
    }

    /// A loan begins: what an earlier one said in a transaction may have been rolled back.
    pub fn begin_loan(&mut self) {
        (self.shorter, self.guests, self.held) = (false, false, false);
        if self.tentative {
            self.forget();
        }
    }

    /// The transaction in which the server was told has been committed.
    pub fn committed(&mut self) {
        self.tentative = false;
    }

    /// The server has refused the request, or rolls its transaction back, and with it what it was told there.
    pub fn refused(&mut self) {
        if self.unconfirmed || self.tentative {
            self.forget();
        }
    }

    /// What the server was told may no longer hold.
    pub fn forget(&mut self) {
        self.told = None;
        (self.tentative, self.unconfirmed, self.held) = (false, false, false);
    }
}

/// A time as the server shows it: a whole number with its unit, or a plain zero.
fn read(shown: &str) -> Option<Duration> {
    let digits = shown.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = shown.split_at(digits);
    let unit_ms = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    let number: u64 = number.parse().ok()?;
    number.checked_mul(unit_ms).map(Duration::from_millis)
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
        let mut timeouts = timeouts("15.4", Prepare::Always);
        timeouts.due(Some(SECOND * 8), false);
        let longer = Some("SET LOCAL statement_timeout TO 9001".to_owned());
        let call = |timeouts: &mut ServerTimeouts, millis: Option<u64>, in_block| {
            let said = timeouts.of_call(millis.map(Duration::from_millis), in_block, false);
            said.map(|command| command.sql.to_string())
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
    fn no_limit_is_made_longer_than_the_session_began_with() {
        let mut timeouts = timeouts("15.4", Prepare::Always);
        let question = timeouts.question(None).expect("nothing is known yet");
        assert_eq!(question.matches("SHOW").count(), 3, "{question}");
        for answer in ["200ms", "0", "5min"] {
            timeouts.learn(Some(answer));
        }
        assert_eq!(timeouts.question(None), None);
        let told = timeouts.due(Some(SECOND * 8), false).expect("it is new");
        let told: Vec<&str> = told.iter().map(|command| &*command.sql).collect();
        assert_eq!(
            told,
            [
                "SET statement_timeout TO 200",
                "SET idle_in_transaction_session_timeout TO 9001",
                "SET idle_session_timeout TO 300000"
            ]
        );
        let call = |timeouts: &mut ServerTimeouts, millis| {
            let call = timeouts.of_call(Some(Duration::from_millis(millis)), true, false);
            call.map(|command| command.sql.to_string())
        };
        let within = |millis| Some(format!("SET LOCAL statement_timeout TO {millis}"));
        assert_eq!(call(&mut timeouts, 500), within(200));
        assert_eq!(call(&mut timeouts, 100), within(100));
    }

    #[test]
    fn who_is_asked_is_told_as_well() {
        for (own, due) in [("0", false), ("1h", true)] {
            let mut timeouts = timeouts("13.1", Prepare::Always);
            let question = timeouts.question(Some(SECOND)).expect("nothing is known");
            assert!(
                question.ends_with(
                    "; SET statement_timeout TO 1126; SET idle_in_transaction_session_timeout TO 1126"
                ),
                "{question}"
            );
            timeouts.learn(Some(own));
            timeouts.learn(Some("0"));
            let told = timeouts.due(Some(SECOND), false);
            assert_eq!(told.is_some(), due, "{own}");
        }
    }

    /// It is in force by then.
    #[test]
    fn what_was_told_with_a_question_is_not_taken_for_its_answer() {
        let mut timeouts = timeouts("13.1", Prepare::Always);
        assert!(timeouts.question(Some(SECOND)).is_some());
        timeouts.learn(Some("0"));
        timeouts.forget();
        let again = timeouts.question(Some(SECOND)).expect("it was not heard");
        let asked = "RESET statement_timeout; SHOW statement_timeout; ";
        assert!(again.starts_with(asked), "{again}");
        assert!(again.contains("; SET statement_timeout TO 1126"), "{again}");
    }

    #[test]
    fn what_the_guest_has_set_holds_until_the_loan_ends() {
        let mut timeouts = timeouts("15.4", Prepare::Always);
        timeouts.are_guests();
        assert_eq!(timeouts.due(Some(SECOND), false), None);
        timeouts.forget();
        assert_eq!(timeouts.due(Some(SECOND * 60), true), None);
        timeouts.begin_loan();
        assert!(timeouts.due(Some(SECOND), false).is_some());
    }

    /// Whoever made it may not have come to its end.
    #[test]
    fn a_call_that_had_less_time_alone_takes_none_from_the_next_loan() {
        let mut timeouts = timeouts("15.4", Prepare::Always);
        timeouts.of_call_alone(SECOND);
        assert_eq!(timeouts.due(Some(SECOND * 8), false), None);
        timeouts.begin_loan();
        assert!(timeouts.due(Some(SECOND * 8), false).is_some());
    }

    #[test]
    fn what_went_with_a_begin_is_said_again_once_that_is_rolled_back() {
        let mut timeouts = timeouts("15.4", Prepare::Always);
        assert!(timeouts.due(Some(SECOND), false).is_some(), "with `BEGIN`");
        assert_eq!(timeouts.due(Some(SECOND), true), None, "`ROLLBACK`");
        assert!(timeouts.due(Some(SECOND), false).is_some());
    }

    #[test]
    fn a_time_is_read_as_the_server_shows_it() {
        for (shown, millis) in [
            ("0", Some(0)),
            ("200ms", Some(200)),
            ("5s", Some(5_000)),
            ("90min", Some(5_400_000)),
            ("1d", Some(86_400_000)),
            ("", None),
            ("-1", None),
            ("2 s", None),
            ("99999999999999999d", None),
        ] {
            assert_eq!(read(shown), millis.map(Duration::from_millis), "{shown}");
        }
    }

    #[test]
    fn a_session_that_a_pooler_shares_is_told_nothing() {
        let mut timeouts = timeouts("15.4", Prepare::Never);
        assert_eq!(timeouts.due(Some(SECOND), false), None);
    }
}
