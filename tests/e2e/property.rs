//! Nothing leaks, whatever a function does: random programs that fail, trap, are cut off by their
//! deadline, give calls up and forget handles at random points, while servers die under them. After
//! each, a look at the sessions that the next one gets, from inside and from outside; at the end, a
//! look at what was written: nothing that was committed is lost or done twice, and nothing else is there.
//!
//! `HEARTH_PROPERTY_SEED` names another seed than the usual one, and `HEARTH_PROPERTY_RUNS` how many
//! programs there are for each test. A failure names both, and the program. What happens at the same
//! time is not determined by the seed.

use std::collections::HashMap;
use std::time::Duration;

use e2e::guests::PROGRAM;
use e2e::program::{Programs, SCHEMA};
use e2e::{Database, Door, Server, Setup, Trial, local, within};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// How many statements the host may keep on a connection, in these tests.
const STATEMENTS_MAX: u64 = 4;

/// What an invocation may take: on Lambda that comes with the event.
const TIMEOUTS_MS: [u64; 4] = [100, 300, 600, 1500];
/// On the local host it is the function's.
const TIMEOUT: Duration = Duration::from_millis(600);
/// The time of those invocations that must not fail.
const AMPLE: Duration = Duration::from_secs(30);

/// How long the server may take to end what it was told to end, on a machine however busy. Less
/// than what would hide that it was never told.
const ENDED: Duration = Duration::from_secs(10);

/// What is not as it is on a new connection, in words; nothing if all is well.
const LOOK: &str = "select concat_ws('; ',
    (select 'settings: ' || string_agg(name, ' ') from pg_settings where source = 'session' and name not in
        ('statement_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')),
    (select 'other settings: ' || nullif(current_setting('left.over', true), '')),
    (select 'too little time: ' || setting from pg_settings
        where name = 'statement_timeout' and setting::int not between 20000 and 60000),
    case when current_user <> session_user or current_user = 'pg_monitor' then 'role: ' || current_user end,
    case when pg_current_xact_id_if_assigned() is not null then 'a transaction' end,
    (select 'locks: ' || count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'
        having count(*) > 0),
    (select 'listens: ' || string_agg(channel, ' ') from pg_listening_channels() channel),
    (select 'prepared: ' || string_agg(name, ' ') from pg_prepared_statements where from_sql),
    (select 'too many statements: ' || count(*) from pg_prepared_statements having count(*) > 8),
    (select 'cursors: ' || string_agg(name, ' ') from pg_cursors where name <> ''),
    (select 'temporary: ' || string_agg(relname, ' ') from pg_class
        where relnamespace = pg_my_temp_schema() and relkind in ('r', 'v', 'S')))";

/// The sessions that do something, or have a transaction open.
const BUSY: &str =
    "select coalesce(string_agg(state || ': ' || query, '; '), '') from pg_stat_activity
    where datname = $name and state <> 'idle'";

/// What happens to the server meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Well,
    /// Its processes are ended one by one, from within and from without.
    Killed,
    /// All of it is stopped or crashes, and starts again.
    Restarted,
}

/// What a test is about.
#[derive(Clone, Copy)]
struct Case {
    door: Door,
    isolation: &'static str,
    pool_max: u64,
    /// Invocations at the same time.
    callers: usize,
    fate: Fate,
}

/// One host with its database, and the programs that it runs.
struct Scene {
    case: Case,
    database: Database,
    trial: Trial,
    programs: Programs,
    /// The events so far, as text.
    events: Vec<String>,
}

fn number_from(variable: &str, usual: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(usual, |text| text.parse().expect("it is to be a number"))
}

impl Scene {
    async fn start(case: Case, seed: u64) -> Self {
        let server = match case.fate {
            Fate::Restarted => Server::own().await,
            _ => Server::shared().await,
        };
        let database = Database::create_on(&server).await;
        database.run(SCHEMA).await;
        // What the tests' servers save otherwise would be lost in a crash.
        let durable = format!(
            "alter database {} set synchronous_commit to on",
            database.name
        );
        database.run(&durable).await;
        let look = format!(
            "[function.look]\ncomponent = {:?}\ndatabases = [\"default\"]\ntimeout_ms = {}\n[log]\nlevel = \"debug\"\n",
            PROGRAM.compiled().display().to_string(),
            AMPLE.as_millis()
        );
        let trial = Setup::of(&PROGRAM)
            .isolation(case.isolation)
            .with(&database)
            .database("pool_max", &case.pool_max.to_string())
            .database("statements_max", &STATEMENTS_MAX.to_string())
            .toml(&look)
            .timeout(TIMEOUT)
            .concurrency(case.callers)
            .start(case.door)
            .await;
        let mut programs = Programs::new(seed);
        programs.kills = case.fate == Fate::Killed;
        Self {
            case,
            database,
            trial,
            programs,
            events: Vec::new(),
        }
    }

    /// Runs programs at the same time, and lets the server meet its fate meanwhile.
    async fn run(&mut self) -> String {
        let events: Vec<(u64, Value)> = (0..self.case.callers)
            .map(|_| {
                let timeout_ms = self.programs.chance().of(&TIMEOUTS_MS);
                (timeout_ms, self.programs.event())
            })
            .collect();
        self.events
            .extend(events.iter().map(|(_, event)| event.to_string()));
        let what = json!(events).to_string();
        let moment = self.programs.chance().below(60);
        let crash = self.programs.chance().once_in(2);
        let all = join_all(events.into_iter().map(
            async |(timeout_ms, event)| match self.case.door {
                Door::Lambda => {
                    let timeout = Duration::from_millis(timeout_ms);
                    self.trial.invoke_within(timeout, event).await
                }
                Door::Local => self.trial.invoke(event).await,
            },
        ));
        tokio::join!(all, self.meet_fate(moment, crash));
        what
    }

    async fn meet_fate(&self, after_ms: usize, crash: bool) {
        let wait = format!("select pg_sleep({after_ms}e-3)");
        let kill = "select count(pg_terminate_backend(pid)) from
            (select pid from pg_stat_activity where datname = $name order by random() limit 1) one";
        match self.case.fate {
            Fate::Well => {}
            Fate::Killed => {
                self.database.observe(&wait).await;
                self.database.observe(kill).await;
            }
            Fate::Restarted => {
                self.database.observe(&wait).await;
                let server = &self.database.server;
                if crash {
                    server.crash().await;
                } else {
                    server.stop().await;
                    server.start().await;
                }
            }
        }
    }

    /// Everything is as if nothing had happened.
    async fn is_pristine(&self, what: &str) {
        if self.case.door == Door::Lambda {
            // The host asks for the next event when it is done with the last one.
            self.trial.lambda().parked(self.case.callers).await;
        }
        let start = std::time::Instant::now();
        within(ENDED * 2, "the end of all statements", async || {
            let busy = self.database.observe(BUSY).await.unwrap_or_default();
            assert!(
                busy.is_empty() || start.elapsed() < ENDED,
                "{busy} after {what}"
            );
            busy.is_empty().then_some(())
        })
        .await;
        let backends = self.database.backends().await;
        let most = self.case.pool_max;
        assert!(backends <= most, "{backends} connections after {what}");
        let look = json!({ "look": { "query": LOOK, "connections": backends.max(1) } });
        for seen in self.patiently(look, what).await.as_array().expect("a list") {
            assert_eq!(seen, "", "{seen} after {what}");
        }
        within(ENDED, "the pool's counts", async || {
            let line = self.trial.host.last_line("the pool after an invocation")?;
            let count = |name: &str| {
                let (_, rest) = line.split_once(&format!("{name}="))?;
                let digits = rest.split(|c: char| !c.is_ascii_digit()).next()?;
                digits.parse::<u64>().ok()
            };
            let (open, resting) = (count("open")?, count("resting")?);
            assert!(
                open <= most && count("most")? == most,
                "{line} after {what}"
            );
            (open == resting && count("waiting")? == 0).then_some(())
        })
        .await;
    }

    /// Sends an event with ample time, which must be answered well.
    async fn patiently(&self, event: Value, what: &str) -> Value {
        let (failed, body) = match self.case.door {
            Door::Lambda => {
                let answer = self.trial.invoke_within(AMPLE, event).await;
                (answer.failed, answer.body)
            }
            Door::Local => {
                let body = event.to_string().into();
                let response = local::invoke(self.trial.address(), "look", &[], body).await;
                let failed = response.headers().contains_key("x-amz-function-error");
                (failed, response.into_body())
            }
        };
        assert!(!failed, "{body:?} after {what}");
        serde_json::from_slice(&body).expect("an answer is JSON")
    }

    /// What was written is what the programs know of, no less and no more.
    async fn is_consistent(&self, seed: u64) {
        let mut words = HashMap::new();
        let log = self.trial.host.log();
        for line in &log {
            assert!(
                !line.contains("a handle of another invocation works") || self.case.callers > 1,
                "{line}"
            );
            let Some((_, said)) = line.split_once("INFO  key ") else {
                continue;
            };
            let mut said = said.split_whitespace();
            if let (Some(key), Some(word)) = (said.next(), said.next()) {
                words.insert(
                    key.parse::<i64>().expect("keys are numbers"),
                    word.to_owned(),
                );
            }
        }
        let written = "select coalesce(string_agg(key || ' ' || count, ','), '') from
            (select key, count(*) from written group by key) counts";
        let written = self.database.value(written).await.unwrap_or_default();
        let written: HashMap<i64, u64> = written
            .split(',')
            .filter_map(|pair| pair.split_once(' '))
            .map(|(key, count)| (key.parse().unwrap(), count.parse().unwrap()))
            .collect();
        let of = |key: &i64| {
            let digits = key.to_string();
            let is_in = |event: &&String| {
                event
                    .split(|c: char| !c.is_ascii_digit())
                    .any(|part| part == digits)
            };
            self.events.iter().find(is_in).cloned().unwrap_or_default()
        };
        let mut wrong = Vec::new();
        let often = written.iter().filter(|(_, count)| **count > 1);
        wrong
            .extend(often.map(|(key, count)| format!("{key} is there {count} times: {}", of(key))));
        let never = self
            .programs
            .never()
            .iter()
            .filter(|key| written.contains_key(key));
        wrong
            .extend(never.map(|key| format!("{key} was not committed, and is there: {}", of(key))));
        for (key, word) in &words {
            match (word.as_str(), written.contains_key(key)) {
                ("done", false) => wrong.push(format!(
                    "{key} was committed, and is not there: {}",
                    of(key)
                )),
                ("not", true) => wrong.push(format!("{key} failed, and is there: {}", of(key))),
                _ => {}
            }
        }
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        let done = words.values().filter(|word| *word == "done").count();
        assert!(done > 0 && written.len() >= done, "nothing was tried");
    }
}

/// Runs programs, and looks at everything after each.
async fn leaves_nothing(case: Case, runs: u64) {
    let seed = number_from("HEARTH_PROPERTY_SEED", 20_260_101);
    let runs = number_from("HEARTH_PROPERTY_RUNS", runs);
    let mut scene = Scene::start(case, seed).await;
    for run in 0..runs {
        let program = scene.run().await;
        let what = format!("run {run} of seed {seed}: {program}");
        scene.is_pristine(&what).await;
    }
    scene.is_consistent(seed).await;
}

/// A test of a name for each case.
macro_rules! cases {
    ($($name:ident: $door:ident, $isolation:expr, pool of $pool_max:expr, $callers:expr, $fate:ident, $runs:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let case = Case {
                door: Door::$door,
                isolation: $isolation,
                pool_max: $pool_max,
                callers: $callers,
                fate: Fate::$fate,
            };
            leaves_nothing(case, $runs).await;
        })*
    };
}

const CONCURRENT: &str = "{ concurrent = 3 }";

cases! {
    a_random_guest_leaves_nothing_on_the_only_connection: Lambda, "\"serial\"", pool of 1, 1, Well, 16;
    a_random_guest_leaves_nothing_on_two_connections: Lambda, "\"serial\"", pool of 2, 1, Well, 16;
    random_guests_leave_nothing_to_new_instances: Lambda, "\"fresh\"", pool of 4, 1, Well, 12;
    random_guests_in_one_instance_leave_nothing: Lambda, CONCURRENT, pool of 2, 3, Well, 8;
    random_guests_of_many_callers_leave_nothing: Local, "\"serial\"", pool of 4, 3, Well, 8;
    random_guests_of_many_callers_leave_nothing_to_new_instances: Local, "\"fresh\"", pool of 2, 3, Well, 8;
    random_guests_of_many_callers_in_one_instance_leave_nothing: Local, CONCURRENT, pool of 1, 3, Well, 8;
    nothing_is_lost_or_done_twice_while_connections_are_killed: Lambda, "\"serial\"", pool of 2, 1, Killed, 16;
    nothing_is_lost_or_done_twice_by_neighbours_while_connections_are_killed: Local, CONCURRENT, pool of 4, 3, Killed, 8;
    nothing_is_lost_or_done_twice_while_the_server_is_restarted: Local, "\"serial\"", pool of 4, 4, Restarted, 3;
}
