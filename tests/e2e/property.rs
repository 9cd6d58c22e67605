//! Nothing leaks, whatever a function does: random programs that fail, trap, are cut off by their
//! deadline, give calls up and forget handles at random points, while servers die under them. After
//! each, a look at the sessions that the next one gets, from inside and from outside; at the end, a
//! look at what was written: nothing that was committed is lost or done twice, and nothing else is there.
//!
//! Each test runs some hosts side by side, with a seed each: most of a program's time is spent waiting. A
//! failure names the host's seed, the program and its number. `HEARTH_PROPERTY_SEED` gives each test one
//! host with that seed; `HEARTH_PROPERTY_HOSTS` says how many hosts there are, with the seeds behind the
//! first, and `HEARTH_PROPERTY_RUNS` how many times each of them is given programs. What happens at the
//! same time is not determined by the seed.

use std::time::Duration;

use e2e::guests::PROGRAM;
use e2e::lambda::Event;
use e2e::ledger::Ledger;
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

/// What makes a tenant known to the server.
const TENANT: &str = "settings = { \"app.tenant\" = { context = \"tenant-id\" } }";

/// How long the server may take to end what it was told to end, on a machine however busy. Less
/// than what would hide that it was never told.
const ENDED: Duration = Duration::from_secs(10);

/// What is not as it is on a new connection, in words; nothing if all is well.
const LOOK: &str = "with settings as materialized (select * from pg_settings where source = 'session'),
    statements as materialized (select * from pg_prepared_statements)
    select concat_ws('; ',
    (select 'settings: ' || string_agg(name, ' ') from settings where name not in
        ('statement_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')),
    (select 'other settings: ' || setting from unnest(array[current_setting('left.over', true),
        current_setting('app.tenant', true)]) setting where setting <> ''),
    (select 'too little time: ' || setting from settings
        where name = 'statement_timeout' and setting::int not between 20000 and 60000),
    case when current_user <> session_user or current_user = 'pg_monitor' then 'role: ' || current_user end,
    case when pg_current_xact_id_if_assigned() is not null then 'a transaction' end,
    (select 'locks: ' || count(*) from pg_locks where pid = pg_backend_pid() and locktype = 'advisory'
        having count(*) > 0),
    (select 'listens: ' || string_agg(channel, ' ') from pg_listening_channels() channel),
    (select 'prepared: ' || string_agg(name, ' ') from statements where from_sql),
    (select 'too many statements: ' || count(*) from statements having count(*) > $most),
    (select 'cursors: ' || string_agg(name, ' ') from pg_cursors where name <> ''),
    (select 'temporary: ' || string_agg(relname, ' ') from pg_class
        where relnamespace = pg_my_temp_schema() and relkind in ('r', 'v', 'S')))";

/// The sessions that do something, or have a transaction open, behind how many there are.
const SESSIONS: &str = "select concat_ws(' ', count(*),
    string_agg(state || ': ' || query, '; ') filter (where state <> 'idle'))
    from pg_stat_activity where datname = $name";

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

/// How the host is to use the database.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// As it does where nothing is said.
    Plain,
    /// As if each transaction had another session of the server.
    Pooled,
    /// For the tenant whose event it is, as a role, with a login that may do all.
    Tenants,
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
    usage: Use,
}

/// One host with its database, and the programs that it runs.
struct Scene {
    case: Case,
    database: Database,
    trial: Trial,
    programs: Programs,
    /// The events so far, each behind its tenant.
    events: Vec<(String, String)>,
}

fn number_from(variable: &str) -> Option<u64> {
    let given = std::env::var(variable).ok()?;
    Some(given.parse().expect("it is to be a number"))
}

impl Scene {
    async fn start(case: Case, seed: u64) -> Self {
        let server = match case.fate {
            Fate::Restarted => Server::own().await,
            _ => Server::shared().await,
        };
        let database = Database::create_on(&server).await;
        // What the tests' servers save otherwise would be lost in a crash, and so would the tables.
        let durable = format!(
            "alter database {} set synchronous_commit to on",
            database.name
        );
        database.run(&durable).await;
        database.run(SCHEMA).await;
        let look = format!(
            "[function.look]\ncomponent = {:?}\ndatabases = [\"default\"]\ntimeout_ms = {}\n[log]\nlevel = \"debug\"\n",
            PROGRAM.compiled().display().to_string(),
            AMPLE.as_millis()
        );
        let mut setup = Setup::of(&PROGRAM)
            .isolation(case.isolation)
            .with(&database)
            .database("pool_max", &case.pool_max.to_string())
            .database("statements_max", &STATEMENTS_MAX.to_string())
            .toml(&look)
            .timeout(TIMEOUT)
            .concurrency(case.callers);
        match case.usage {
            Use::Plain => {}
            Use::Pooled => setup = setup.database("prepare", "\"never\""),
            Use::Tenants => {
                let role = format!("{}_app", database.name);
                let grant = format!(
                    "create role {role}; grant all on all tables in schema public to {role}"
                );
                database.run(&grant).await;
                setup = setup.toml(&format!(
                    "[function.tested.database.default]\nrole = \"{role}\"\n{TENANT}\n"
                ));
            }
        }
        let trial = setup.start(case.door).await;
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
        let tenants = match self.case.usage {
            Use::Tenants => ["blue", "red", "green"],
            _ => [""; 3],
        };
        let events: Vec<(u64, &str, String)> = (0..self.case.callers)
            .map(|_| {
                let event = self.programs.event().to_string();
                let rng = self.programs.rng();
                // It computes for all of its time, which others could have.
                let computes = event.contains("\"spin\"");
                let timeouts: &[u64] = if computes {
                    &TIMEOUTS_MS[..1]
                } else {
                    &TIMEOUTS_MS
                };
                (rng.one_of(timeouts), rng.one_of(&tenants), event)
            })
            .collect();
        let known = |(_, tenant, event): &(u64, &str, String)| (tenant.to_string(), event.clone());
        self.events.extend(events.iter().map(known));
        let what = format!("{events:?}");
        let moment = self.programs.rng().below(60);
        let crash = self.programs.rng().once_in(2);
        let all = join_all(events.into_iter().map(|(timeout_ms, tenant, event)| {
            self.send(Duration::from_millis(timeout_ms), tenant, event)
        }));
        tokio::join!(all, self.meet_fate(moment, crash));
        what
    }

    async fn send(&self, timeout: Duration, tenant: &str, event: String) {
        match self.case.door {
            Door::Lambda => {
                let mut event = Event::new(event, timeout);
                if !tenant.is_empty() {
                    event = event.header("Lambda-Runtime-Aws-Tenant-Id", tenant);
                }
                let id = event.id.clone();
                self.trial.lambda().send(event);
                self.trial.lambda().answer(&id).await;
            }
            Door::Local => {
                let tenant = Some(tenant).filter(|tenant| !tenant.is_empty());
                let headers: Vec<_> = tenant
                    .map(|tenant| ("x-amz-tenant-id", tenant))
                    .into_iter()
                    .collect();
                let name = e2e::trial::FUNCTION;
                let response =
                    local::invoke(self.trial.address(), name, &headers, event.into()).await;
                assert_eq!(response.status(), 200, "{:?}", response.body());
            }
        }
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
        let most = self.case.pool_max;
        let backends = within(ENDED * 2, "the end of all statements", async || {
            let sessions = self.database.observe(SESSIONS).await.unwrap_or_default();
            // One that was retired may still be there for a moment.
            let count = sessions.parse::<u64>().ok().filter(|count| *count <= most);
            assert!(
                count.is_some() || start.elapsed() < ENDED,
                "{sessions} after {what}"
            );
            count
        })
        .await;
        let statements = match self.case.usage {
            Use::Pooled => 0,
            _ => STATEMENTS_MAX * 2,
        };
        let query = LOOK.replace("$most", &statements.to_string());
        let look = json!({ "look": { "query": query, "connections": backends.max(1) } });
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
            let (open, idle) = (count("open")?, count("idle")?);
            assert!(
                open <= most && count("most")? == most,
                "{line} after {what}"
            );
            if open == idle && count("waiting")? == 0 {
                return Some(());
            }
            // What was cleaned up beside that invocation is counted after another.
            let nothing = json!({ "look": { "query": "select ''", "connections": 1 } });
            self.patiently(nothing, what).await;
            None
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
    /// Returns how much of it is sure to have been committed.
    async fn is_consistent(&self, seed: u64) -> usize {
        let log = self.trial.host.log();
        let stolen = log
            .iter()
            .find(|line| line.contains("a handle of another invocation works"));
        assert!(stolen.is_none(), "seed {seed}: {stolen:?}");
        let mut ledger = Ledger::of(&log);
        let written = self.database.value(Ledger::WRITTEN).await;
        ledger.found(&written.unwrap_or_default());
        let wrong = ledger.disagreements(self.programs.never(), &self.events);
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        ledger.done()
    }
}

/// A host runs programs, and everything is looked at after each.
async fn leaves_nothing_with(seed: u64, case: Case, runs: u64) -> usize {
    let mut scene = Scene::start(case, seed).await;
    for run in 0..runs {
        let program = scene.run().await;
        let what = format!("run {run} of seed {seed}: {program}");
        scene.is_pristine(&what).await;
    }
    scene.is_consistent(seed).await
}

async fn leaves_nothing(name: &str, case: Case, hosts: u64, runs: u64) {
    let given = number_from("HEARTH_PROPERTY_SEED");
    let usual = if given.is_some() { 1 } else { hosts };
    let hosts = number_from("HEARTH_PROPERTY_HOSTS").unwrap_or(usual);
    let runs = number_from("HEARTH_PROPERTY_RUNS").unwrap_or(runs);
    // The tests have programs of their own each.
    let own = name
        .bytes()
        .fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
    let first = given.unwrap_or(own % 1_000_000 * 1_000);
    let hosts = (0..hosts).map(|host| leaves_nothing_with(first + host, case, runs));
    let done: usize = join_all(hosts).await.into_iter().sum();
    assert!(done > 0, "nothing was tried");
}

/// A test of a name for each case.
macro_rules! cases {
    ($($name:ident: $door:ident, $isolation:expr, $usage:ident, pool of $pool_max:expr, $callers:expr, $fate:ident,
        $hosts:literal x $runs:expr;)*) => {
        $(#[tokio::test]
        async fn $name() {
            let case = Case {
                door: Door::$door,
                isolation: $isolation,
                pool_max: $pool_max,
                callers: $callers,
                fate: Fate::$fate,
                usage: Use::$usage,
            };
            leaves_nothing(stringify!($name), case, $hosts, $runs).await;
        })*
    };
}

const SERIAL: &str = "\"serial\"";
const FRESH: &str = "\"fresh\"";
const CONCURRENT: &str = "{ concurrent = 3 }";

cases! {
    a_random_guest_leaves_nothing_on_the_only_connection: Lambda, SERIAL, Plain, pool of 1, 1, Well, 8 x 30;
    a_random_guest_leaves_nothing_on_two_connections: Lambda, SERIAL, Plain, pool of 2, 1, Well, 8 x 30;
    random_guests_leave_nothing_to_new_instances: Lambda, FRESH, Plain, pool of 4, 1, Well, 8 x 30;
    random_guests_in_one_instance_leave_nothing: Lambda, CONCURRENT, Plain, pool of 2, 3, Well, 8 x 16;
    random_guests_of_many_callers_leave_nothing: Local, SERIAL, Plain, pool of 4, 3, Well, 8 x 16;
    random_guests_of_many_callers_leave_nothing_to_new_instances: Local, FRESH, Plain, pool of 2, 3, Well, 8 x 16;
    random_guests_of_many_callers_in_one_instance_leave_nothing: Local, CONCURRENT, Plain, pool of 1, 3, Well, 8 x 16;
    a_random_guest_leaves_nothing_to_a_pooler: Lambda, SERIAL, Pooled, pool of 2, 1, Well, 8 x 30;
    random_guests_of_many_callers_leave_nothing_to_a_pooler: Local, CONCURRENT, Pooled, pool of 4, 3, Well, 8 x 16;
    random_guests_of_tenants_leave_nothing_to_each_other: Local, SERIAL, Tenants, pool of 2, 3, Well, 8 x 16;
    random_guests_of_tenants_in_one_instance_leave_nothing_to_each_other: Local, CONCURRENT, Tenants, pool of 2, 3, Well, 8 x 16;
    nothing_is_lost_or_done_twice_while_connections_are_killed: Lambda, SERIAL, Plain, pool of 2, 1, Killed, 8 x 30;
    nothing_is_lost_or_done_twice_by_neighbours_while_connections_are_killed: Local, CONCURRENT, Plain, pool of 4, 3, Killed, 8 x 16;
    nothing_is_lost_or_done_twice_while_the_server_is_restarted: Local, SERIAL, Plain, pool of 4, 4, Restarted, 1 x 4;
}
