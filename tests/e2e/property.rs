//! Nothing leaks, whatever a function does: random invocations that fail, trap, give calls up and
//! forget handles at random points, and after each a look at the session that the next one gets.
//!
//! Every run is reproducible: `HEARTH_PROPERTY_SEED` names another seed than the usual one, and
//! `HEARTH_PROPERTY_RUNS` how many invocations there are of each kind.

use std::time::Duration;

use e2e::guests::MISBEHAVE;
use e2e::{Database, Door, Setup, Trial};
use futures_util::future::join_all;
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (number bigint)";

/// How many statements the host may keep on a connection, in these tests.
const STATEMENTS_MAX: u64 = 4;

/// What each invocation may take: calls at the same time may wait for each other until then.
const TIMEOUT: Duration = Duration::from_secs(3);

/// What must be the same in each invocation that begins. One row, all of it true.
const LOOK: &str = "select
    not exists (select from pg_settings where source = 'session' and name not in
        ('statement_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout')),
    current_user = session_user,
    pg_current_xact_id_if_assigned() is null,
    not exists (select from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()),
    not exists (select from pg_listening_channels()),
    not exists (select from pg_prepared_statements where from_sql),
    not exists (select from pg_cursors where is_holdable),
    not exists (select from pg_class where relnamespace = pg_my_temp_schema() and relkind = 'r'),
    (select count(*) <= 8 from pg_prepared_statements)";

/// SQL that leaves something behind, or fails, or takes a while, or returns much.
const STATEMENTS: [&str; 20] = [
    "select generate_series(1, 3)",
    "select repeat('x', 1000) from generate_series(1, 2000)",
    "select null::text",
    "select repeat('x', 9000000)",
    "select 1 / (3 - n) from generate_series(1, 5) n",
    "select 1 / (900 - n), repeat('x', 1000) from generate_series(1, 2000) n",
    "select 1 / 0",
    "select from nowhere",
    "select pg_sleep(0.002)",
    "set work_mem to '12345kB'",
    "set local work_mem to '12345kB'",
    "create temporary table left_over (name text)",
    "select pg_advisory_lock(4711)::text",
    "listen left_over",
    "prepare left_over as select 1",
    "declare left_over cursor with hold for select 1",
    "set role pg_monitor",
    "copy things to stdout",
    "copy things from stdin",
    "savepoint here",
];

/// The sessions that do something, or have a transaction open.
const BUSY: &str =
    "select count(*) from pg_stat_activity where datname = $name and state <> 'idle'";

/// Numbers that only the seed determines (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// One statement, asked for in one of the three ways.
    fn statement(&mut self) -> Value {
        // Texts that differ are prepared each for itself: more than there is room for.
        let sql = format!("/* {} */ {}", self.below(3), self.of(&STATEMENTS));
        json!({ self.of(&["query", "execute", "batch"]): sql })
    }

    /// One step. Numbers that are committed for certain go to `certain`, those that never can be
    /// to `never`.
    fn step(&mut self, number: i64, certain: &mut Vec<i64>, never: &mut Vec<i64>) -> Value {
        let insert = format!("insert into things values ({number})");
        match self.below(8) {
            0 => {
                let end = self.of(&["rollback", "drop", "forget"]);
                never.push(number);
                let steps = [
                    self.statement(),
                    json!({ "execute": insert }),
                    self.statement(),
                ];
                json!({ "transaction": steps, "end": end })
            }
            1 => {
                certain.push(number);
                let rows =
                    json!({ "query": "select repeat('x', 1000) from generate_series(1, 2000)" });
                json!({ "transaction": [rows, { "execute": insert }], "end": "commit" })
            }
            2 => {
                never.push(number);
                json!({ "transaction": [{ "execute": insert }, { "query": "select 1 / 0" }], "end": "commit" })
            }
            3 => {
                never.push(number);
                json!({ "batch": format!("begin; {insert}; select 1 / 0") })
            }
            4 => json!({ "abandon": self.of(&STATEMENTS) }),
            5 => json!({ "parallel": [self.statement(), self.statement()] }),
            _ => self.statement(),
        }
    }
}

fn number_from(variable: &str, usual: u64) -> u64 {
    let given = std::env::var(variable).ok();
    given.map_or(usual, |text| text.parse().expect("it is to be a number"))
}

async fn is_pristine(trial: &Trial, what: &str) {
    let seen = trial.value(json!({ "steps": [{ "query": LOOK }] })).await;
    let clean = json!([vec![true; 9]]);
    assert_eq!(seen["steps"][0]["rows"], clean, "{seen} after {what}");
}

async fn leaves_nothing(door: Door, isolation: &str, pool_max: u64, concurrency: usize) {
    let seed = number_from("HEARTH_PROPERTY_SEED", 20_260_101);
    let runs = number_from("HEARTH_PROPERTY_RUNS", 40);
    let mut chance = Chance(seed);
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&MISBEHAVE)
        .isolation(isolation)
        .with(&database)
        .database("pool_max", &pool_max.to_string())
        .database("statements_max", &STATEMENTS_MAX.to_string())
        .timeout(TIMEOUT)
        .concurrency(concurrency)
        .start(door)
        .await;
    let (mut number, mut certain, mut never) = (0, Vec::new(), Vec::new());
    for run in 0..runs {
        let together = (0..concurrency).map(|_| {
            let mut steps = Vec::new();
            // The first, since a pool of one has no second connection for what comes later, and
            // whatever opens a transaction by its text makes the others part of that.
            number += 1;
            steps.push(chance.step(number, &mut certain, &mut never));
            (0..chance.below(4)).for_each(|_| steps.push(chance.statement()));
            json!({ "steps": steps, "act": chance.of(&["return", "return", "fail", "panic", "trap"]) })
        });
        let events: Vec<Value> = together.collect();
        let what = format!("run {run} of seed {seed}: {}", json!(events));
        join_all(events.into_iter().map(|event| trial.invoke(event))).await;
        database.until(BUSY, "0").await;
        is_pristine(&trial, &what).await;
        let backends = database.backends().await;
        assert!(backends <= pool_max, "{backends} connections after {what}");
    }
    for (numbers, times) in [(certain, 1), (never, 0)] {
        let sql = format!(
            "select coalesce(string_agg(n::text, ' '), '') from unnest('{{{}}}'::bigint[]) n
             where (select count(*) from things where number = n) <> {times}",
            numbers
                .iter()
                .map(i64::to_string)
                .collect::<Vec<_>>()
                .join(",")
        );
        let wrong = database.value(&sql).await;
        assert_eq!(
            wrong.as_deref(),
            Some(""),
            "not there {times} times; seed {seed}"
        );
    }
}

#[tokio::test]
async fn a_random_guest_leaves_nothing_on_the_only_connection() {
    leaves_nothing(Door::Lambda, "\"serial\"", 1, 1).await;
}

#[tokio::test]
async fn a_random_guest_leaves_nothing_on_several_connections() {
    leaves_nothing(Door::Lambda, "\"serial\"", 3, 1).await;
}
