//! The deadline reaches the server: whatever a function waits for there is over when the function is,
//! because the host ends it, and without the host because the server does.

use std::time::Duration;

use e2e::guests::{PROGRAM, QUERY};
use e2e::{Database, Door, Setup, Trial, within};
use futures_util::future::join_all;
use serde_json::{Value, json};

/// What an invocation has, and what opens three connections afterwards.
const TIMEOUT: Duration = Duration::from_millis(1200);
/// What an invocation has whose host is killed meanwhile.
const LONGER: Duration = Duration::from_secs(4);

/// What the server may take to end a statement that it was told to end, on a machine however busy.
const ENDED: Duration = Duration::from_secs(20);

const SCHEMA: &str = "
    create table written (key bigint);
    create table tardy (number int);
    create table slow (number int);
    create function tarry() returns trigger language plpgsql as
        $$ begin perform pg_sleep(600); return new; end $$;
    create constraint trigger tarry after insert on tardy deferrable initially deferred
        for each row execute function tarry();
    create trigger tarry before insert on slow for each row execute function tarry();
    create function reluctant() returns void language plpgsql as
        $$ begin perform pg_sleep(600); exception when query_canceled then perform pg_sleep(0.5); raise; end $$;
    create table locked (number int);
";

/// What the sessions do that do anything.
const BUSY: &str =
    "select coalesce(string_agg(state || ': ' || query, '; '), '') from pg_stat_activity
    where datname = $name and state <> 'idle' and application_name <> 'gate'";

fn program(steps: Value) -> Value {
    json!({ "program": { "steps": steps, "fails": false } })
}

fn query(sql: &str) -> Value {
    json!({ "do": "query", "sql": sql, "rows": "all" })
}

const SLEEP: &str = "select pg_sleep(600)";

fn transaction(steps: Value, end: &str) -> Value {
    json!([{ "do": "transaction", "steps": steps, "end": end }])
}

/// Each way to wait for the server in one call.
fn calls() -> Vec<(&'static str, Value)> {
    let rows = "select pg_sleep(0.01)::text, repeat('x', 10000) from generate_series(1, 100000)";
    let copy_in =
        |sql: &str, end: &str| json!({ "do": "copy_in", "sql": sql, "pieces": 3, "end": end });
    vec![
        ("a query", json!([query(SLEEP)])),
        ("a statement", json!([{ "do": "execute", "sql": SLEEP }])),
        (
            "a batch",
            json!([{ "do": "batch", "sql": "select 1; select pg_sleep(600)" }]),
        ),
        (
            "a preparation",
            json!([{ "do": "prepare", "sql": "select * from locked" }]),
        ),
        (
            "a pipeline",
            json!([{ "do": "pipeline", "sqls": ["select 1", SLEEP] }]),
        ),
        ("rows", json!([query(rows)])),
        (
            "rows of a transaction",
            transaction(json!([query(rows)]), "commit"),
        ),
        (
            "a copy out",
            json!([{ "do": "copy_out", "sql": format!("copy ({rows}) to stdout"), "end": "all" }]),
        ),
        ("a copy in", json!([copy_in("copy slow from stdin", "all")])),
        (
            "a copy in that waits for the guest",
            json!([
                copy_in("copy written from stdin", "keep"), { "do": "sleep", "millis": 600_000 },
            ]),
        ),
    ]
}

/// Each way to wait for it in something larger, or to hold it while waiting for something else.
fn larger() -> Vec<(&'static str, Value)> {
    let held = |step: Value| json!([{ "do": "session", "steps": [step], "end": "drop" }]);
    let lock = json!({ "do": "batch", "sql": "lock table locked" });
    vec![
        (
            "a commit",
            transaction(
                json!([{ "do": "execute", "sql": "insert into tardy values (1)" }]),
                "commit",
            ),
        ),
        (
            "a transaction",
            transaction(json!([query("select 1"), query(SLEEP)]), "commit"),
        ),
        (
            "a transaction by text",
            json!([{ "do": "text", "steps": [query(SLEEP)], "end": "commit" }]),
        ),
        ("a held connection", held(query(SLEEP))),
        (
            "a transaction on a held connection",
            held(transaction(json!([query(SLEEP)]), "commit")[0].clone()),
        ),
        ("a lock", json!([query("select * from locked")])),
        (
            "a lock in a transaction",
            transaction(json!([lock]), "commit"),
        ),
        (
            "what takes long to end",
            json!([query("select reluctant()")]),
        ),
        (
            "several at a time",
            json!([{ "do": "join", "steps": [query(SLEEP), query(SLEEP), query(SLEEP)] }]),
        ),
        (
            "nothing, in a transaction",
            transaction(json!([query("select 1"), { "do": "spin" }]), "commit"),
        ),
        (
            "nothing, with its thread",
            transaction(
                json!([query("select 1"), { "do": "block", "millis": 600_000 }]),
                "commit",
            ),
        ),
    ]
}

async fn trial(door: Door, prepare: &str, timeout: Duration) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&PROGRAM)
        .with(&database)
        .database("pool_max", "3")
        .database("prepare", prepare)
        .timeout(timeout)
        .start(door)
        .await;
    (database, trial)
}

async fn on_one_connection(database: &Database, prepare: &str, door: Door) -> Trial {
    Setup::of(&QUERY)
        .with(database)
        .database("pool_max", "1")
        .database("prepare", prepare)
        .start(door)
        .await
}

/// Waits until nothing runs any more.
async fn is_quiet(database: &Database, after: &str) {
    within(ENDED, &format!("silence after {after}"), async || {
        let busy = database.observe(BUSY).await;
        busy.is_some_and(|busy| busy.is_empty()).then_some(())
    })
    .await;
}

async fn runs_and_ends(trial: &Trial, database: &Database, what: &str, steps: Value) {
    let answer = trial.invoke(program(steps)).await;
    assert!(answer.failed, "{what} did not wait");
    assert_eq!(answer.error().0, "Function.DeadlineExceeded", "{what}");
    is_quiet(database, what).await;
    let look = json!({ "look": { "query": "select 'whole'", "connections": 3 } });
    assert_eq!(
        trial.value(look).await,
        json!(["whole", "whole", "whole"]),
        "{what}"
    );
    assert!(database.backends().await <= 4, "{what}");
}

behind_both_doors! {
    /// Behind what takes the host for a pooler's client, so that the server is told no time and only
    /// the host can have ended it.
    async fn whatever_is_waited_for_on_the_server_ends_with_the_invocation(door) {
        let (database, trial) = trial(door, "\"never\"", TIMEOUT).await;
        let gate = database.client().await;
        gate.batch_execute("set application_name to gate; begin; lock table locked").await.unwrap();
        for (what, steps) in calls().into_iter().chain(larger()) {
            runs_and_ends(&trial, &database, what, steps).await;
        }
        for table in ["tardy", "slow", "written"] {
            let count = format!("select count(*) from {table}");
            assert_eq!(database.value(&count).await.as_deref(), Some("0"), "{table}");
        }
    }

    async fn calls_with_less_time_end_long_before_the_invocation(door) {
        let database = Database::with(SCHEMA).await;
        let trial = Setup::of(&PROGRAM).with(&database).database("pool_max", "1").start(door).await;
        let all = json!([
            query(SLEEP), { "do": "execute", "sql": SLEEP }, { "do": "pipeline", "sqls": ["select 1", SLEEP] },
            { "do": "batch", "sql": SLEEP }, { "do": "copy_in", "sql": "copy slow from stdin", "pieces": 1, "end": "all" },
        ]);
        let hurried = json!({ "do": "timeout", "millis": 50, "steps": all });
        let start = std::time::Instant::now();
        for steps in [
            json!([hurried]),
            json!([{ "do": "transaction", "steps": [hurried], "end": "rollback" }]),
            json!([{ "do": "session", "steps": [hurried, { "do": "transaction", "steps": [hurried], "end": "drop" }], "end": "drop" }]),
            json!([{ "do": "timeout", "millis": 50, "steps": [{ "do": "transaction", "steps": [query(SLEEP)], "end": "commit" }] }]),
            json!([{ "do": "hurry", "millis": 50, "step": query(SLEEP) }]),
        ] {
            trial.value(program(steps)).await;
        }
        assert!(start.elapsed() < Duration::from_secs(25), "five invocations of 30 s each took {:?}", start.elapsed());
        is_quiet(&database, "calls with less time").await;
    }

    /// The server gives each of them up by itself; what comes after has its full time again.
    async fn every_kind_of_call_may_have_less_time(door) {
        for prepare in ["\"always\"", "\"never\""] {
            let database = Database::with(SCHEMA).await;
            let trial = on_one_connection(&database, prepare, door).await;
            let gate = database.client().await;
            gate.batch_execute("begin; lock table locked").await.unwrap();
            let endless = "select pg_sleep(0.05)::text from generate_series(1, 100000)";
            let calls = [
                json!({ "query": SLEEP }),
                json!({ "execute": SLEEP }),
                json!({ "query": "select * from locked where number = $1", "arguments": [1] }),
                json!({ "pipeline": [["select 1", []], [SLEEP, []]] }),
                json!({ "pipeline": [["select * from locked where number = $1", [1]]] }),
                json!({ "batch": "select 1; select pg_sleep(600)" }),
                json!({ "copy_in": "copy slow from stdin", "pieces": ["1\n"] }),
                json!({ "copy_out": format!("copy ({endless}) to stdout") }),
            ];
            for call in calls {
                let within = json!({ "transaction": [{ "query": "select 1" }, call], "end": "commit" });
                let session = json!({ "session": [{ "timeout_ms": 50, "hurried": [call] }] });
                let hurried = json!({ "timeout_ms": 50, "hurried": [call, within] });
                // What connecting takes is no part of it.
                let results = trial.results(json!([{ "query": "select 1" }, hurried, session])).await;
                let [alone, within, held] = [&results[1][0], &results[1][1], &results[2][0][0]];
                for given_up in [alone, &within["steps"][1], held] {
                    assert_eq!(given_up["error"]["code"], "57014", "{prepare} {call}: {results}");
                }
                assert!(within["end"].to_string().contains("rolled back"), "{prepare} {call}: {results}");
            }
            let late = json!({ "transaction": [{ "execute": "insert into tardy values (1)" }], "end": "commit" });
            let whole = json!({ "query": "select pg_sleep(0.2)::text" });
            let batch = json!({ "batch": "select pg_sleep(0.2)" });
            let steps = json!([{ "timeout_ms": 50, "hurried": [late] }, whole, batch]);
            let results = trial.value(json!({ "steps": steps })).await;
            assert_eq!(results[0][0]["end"]["error"]["code"], "57014", "{results}");
            assert_eq!(results[1]["rows"], json!([[""]]), "{results}");
            assert!(results[2].is_null(), "{results}");
            assert_eq!(database.count("tardy").await, 0);
            gate.batch_execute("rollback").await.unwrap();
        }
    }

    /// By a statement that takes no transaction around it, or begins one itself.
    async fn a_batch_with_less_time_is_still_a_batch(door) {
        let database = Database::with("create table things (number int)").await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let time = json!({ "query": "select current_setting('statement_timeout')" });
        let steps = json!([
            { "timeout_ms": 5000, "hurried": [{ "batch": "vacuum things" }, { "batch": "begin; insert into things values (1)" }] },
            { "batch": "insert into things values (2); commit" },
            time,
        ]);
        let results = trial.value(json!({ "steps": steps })).await;
        assert_eq!(results[0], json!([null, null]), "{results}");
        assert_eq!(database.count("things").await, 2);
        assert_ne!(results[2]["rows"], json!([["5s"]]), "{results}");
    }

    /// Then it has what there is, of which the server knows.
    async fn a_call_may_be_given_more_time_than_there_is(door) {
        for prepare in ["\"always\"", "\"never\""] {
            let database = Database::create().await;
            let trial = on_one_connection(&database, prepare, door).await;
            let time = json!({ "query": "select current_setting('statement_timeout')" });
            let all = json!([
                time, { "batch": "select 1" }, { "pipeline": [["select 1", []]] },
                { "transaction": [time], "end": "commit" },
            ]);
            let hurried = |millis: u32| json!({ "timeout_ms": millis, "hurried": all });
            let steps = json!([time, hurried(60_000), hurried(u32::MAX)]);
            let results = trial.value(json!({ "steps": steps })).await;
            for longer in [&results[1], &results[2]] {
                assert_eq!(longer[0], results[0], "{results}");
                assert_eq!(longer[3]["steps"][0], results[0], "{results}");
            }
            assert!(!results.to_string().contains("\"error\""), "{results}");
        }
    }

    async fn a_connection_is_waited_for_no_longer_than_a_call_may_take(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let hurried = |step: Value| json!({ "timeout_ms": 50, "hurried": [step] });
        let waiting = json!({ "transaction": [{ "query": "select 1" }], "end": "commit" });
        let steps = json!([{ "parallel": [
            { "query": "select pg_sleep(1)::text" },
            hurried(json!({ "query": "select 1" })), hurried(waiting), hurried(json!({ "session": [] })),
        ] }]);
        let results = trial.value(json!({ "steps": steps })).await;
        assert_eq!(results[0][0]["rows"], json!([[""]]), "{results}");
        for index in 1..4 {
            let message = results[0][index][0]["error"]["message"].as_str().unwrap_or_default();
            let expected = "no connection to the database \"default\" came free within";
            assert!(message.starts_with(expected), "{results}");
        }
    }

    async fn a_connection_that_is_kept_is_waited_for_no_longer_than_a_call_may_take(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let slow = json!({ "query": "select pg_sleep(1)::text" });
        let hurried = json!({ "timeout_ms": 50, "hurried": [{ "query": "select 1" }] });
        let steps = json!([{ "batch": "set work_mem = '77MB'" }, { "parallel": [slow, hurried] }, { "query": "show work_mem" }]);
        let results = trial.value(json!({ "steps": steps })).await;
        assert_eq!(results[1][0]["rows"], json!([[""]]), "{results}");
        let message = results[1][1][0]["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("that this invocation keeps did not come free within"), "{results}");
        assert_eq!(results[2]["rows"], json!([["77MB"]]), "{results}");
    }

    /// Nobody is left to cancel anything.
    async fn without_its_host_a_statement_ends_by_the_servers_own_clock(door) {
        let all = [
            json!([query(SLEEP)]),
            json!([{ "do": "batch", "sql": SLEEP }]),
            json!([{ "do": "transaction", "steps": [query("select 1"), query(SLEEP)], "end": "commit" }]),
            json!([{ "do": "text", "steps": [query(SLEEP)], "end": "commit" }]),
            json!([{ "do": "session", "steps": [query(SLEEP)], "end": "drop" }]),
        ];
        // Each takes as long as the server was told, so they take that together.
        join_all(all.map(|steps| ends_without_its_host(door, steps))).await;
    }
}

async fn ends_without_its_host(door: Door, steps: Value) {
    let (database, trial) = trial(door, "\"always\"", LONGER).await;
    let event = program(steps.clone());
    match door {
        Door::Lambda => {
            let event = e2e::lambda::Event::new(event.to_string(), LONGER);
            trial.lambda().send(event);
        }
        Door::Local => {
            let address = trial.address().to_owned();
            tokio::spawn(async move {
                let body = event.to_string().into();
                e2e::local::invoke(&address, e2e::trial::FUNCTION, &[], body).await
            });
        }
    }
    database.sleeps_in(1).await;
    trial.host.kill();
    is_quiet(&database, &steps.to_string()).await;
}

/// It accepts connections, and says nothing.
#[tokio::test]
async fn a_server_that_says_nothing_is_not_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let silent = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((socket, _)) = listener.accept().await {
            held.push(socket);
        }
    });
    let url = format!("postgresql://anybody@{address}/anything");
    let trial = Setup::of(&PROGRAM)
        .url(&url)
        .timeout(TIMEOUT)
        .start(Door::Lambda)
        .await;
    for _ in 0..3 {
        let answer = trial
            .invoke(program(json!([query("select 1"), { "do": "spin" }])))
            .await;
        assert_eq!(answer.error().0, "Function.DeadlineExceeded");
        assert!(answer.took < ENDED, "{:?}", answer.took);
    }
    silent.abort();
}
