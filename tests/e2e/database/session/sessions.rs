//! A connection that a function holds, `COPY` both ways, notifications, pipelines, and calls with
//! less time than there is.

use e2e::guests::{PROGRAM, QUERY};
use e2e::permission::flat;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (id int4 primary key, name text)";

async fn trial(door: Door, isolation: &str) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .database("pool_max", "3")
        .function("isolation", isolation)
        .start(door)
        .await;
    (database, trial)
}

/// The results of steps, one for each.
async fn results(trial: &Trial, steps: Value) -> Vec<Value> {
    let answer = trial.value(json!({ "steps": steps })).await;
    answer.as_array().expect("each step has a result").clone()
}

fn message(result: &Value) -> &str {
    result["error"]["message"]
        .as_str()
        .unwrap_or_else(|| panic!("no error: {result}"))
}

const PID: &str = "select pg_backend_pid()";

behind_both_doors! {
    /// Not only soon after, as if it had been dropped; also where its connection cannot be used again.
    async fn what_a_session_held_is_free_as_soon_as_it_is_closed(door) {
        let (_database, trial) = trial(door, "\"serial\"").await;
        let locks = "select count(*) from pg_locks where locktype = 'advisory'
                     and database = (select oid from pg_database where datname = current_database())";
        for last in ["select 1", "begin", "load 'plpgsql'", "rollback to nothing"] {
            for _ in 0..5 {
                let steps = json!([
                    { "session": [{ "query": "select pg_advisory_lock(4711)::text" }, { "batch": last }], "close_after_ms": 0 },
                    { "query": locks },
                ]);
                let results = results(&trial, steps).await;
                assert_eq!(results[0].as_array().map(Vec::len), Some(2), "{results:?}");
                assert_eq!(results[1]["rows"], json!([[0]]), "{last}: {results:?}");
            }
        }
        let lost = json!([{ "session": [{ "batch": "set idle_session_timeout = '20ms'" }], "close_after_ms": 500 }]);
        assert!(message(&results(&trial, lost).await[0]).contains("connection to the database was lost"));
        assert_eq!(results(&trial, json!([{ "query": "select 1" }])).await[0]["rows"], json!([[1]]));
    }

    async fn a_session_keeps_its_connection_and_loses_what_it_left_there(door) {
        let (database, trial) = trial(door, "\"serial\"").await;
        let steps = json!([
            { "session": [
                { "query": PID },
                { "batch": "set work_mem to '12345kB'; create temporary table mine (id int4)" },
                { "query": "select current_setting('work_mem'), to_regclass('pg_temp.mine') is not null" },
                { "query": "select pg_advisory_lock(4711)::text" },
                { "query": PID },
            ] },
            { "query": "select current_setting('work_mem'), to_regclass('pg_temp.mine') is not null" },
        ]);
        for _ in 0..3 {
            let results = results(&trial, steps.clone()).await;
            let inside = results[0].as_array().expect("steps have results");
            assert_eq!(inside[0]["rows"], inside[4]["rows"]);
            assert_eq!(inside[2]["rows"], json!([["12345kB", true]]));
            assert_eq!(results[1]["rows"], json!([["4MB", false]]));
        }
        // Other databases of the cluster have locks of their own.
        let locks = "select count(*) from pg_locks where locktype = 'advisory'
                     and database = (select oid from pg_database where datname = current_database())";
        e2e::eventually("the lock is released", async || {
            (database.value(locks).await.as_deref() == Some("0")).then_some(())
        }).await;
    }

    /// What is made while the names lead there lasts for the session, however short that was.
    async fn a_table_that_is_temporary_by_its_search_path_alone_is_left_to_nobody(door) {
        let database = Database::with("create table orders (note text)").await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let make = [
            "create table orders (note text)",
            "create view orders as select 'theirs'::text as note",
            "select 'theirs'::text as note into orders",
            "select 'theirs'::text as note, 1 insert into orders",
        ];
        let lead = [
            "set local search_path = 'pg_temp'",
            "set local \"Search_Path\" = 'pg_temp'",
            "set local schema 'pg_temp'",
            "select set_config('search_path', 'pg_temp', true)",
        ];
        for (lead, make) in lead.iter().flat_map(|lead| make.map(|make| (lead, make))) {
            let whole = json!({ "batch": format!("{lead}; {make}") });
            let apart = json!({ "transaction": [{ "batch": lead }, { "batch": make }], "end": "commit" });
            for steps in [json!([whole]), json!([apart])] {
                results(&trial, steps.clone()).await;
                let write = json!([{ "execute": "insert into orders values ('mine')" }]);
                assert_eq!(results(&trial, write).await[0], json!({ "affected": 1 }), "{steps}");
                let real = "with gone as (delete from public.orders returning 1) select count(*) from gone";
                assert_eq!(database.value(real).await.as_deref(), Some("1"), "{steps}");
            }
        }
    }

    async fn rows_are_copied_into_a_table_in_pieces_that_end_anywhere(door) {
        let (database, trial) = trial(door, "\"serial\"").await;
        let copy = "copy things from stdin with (format csv)";
        let results = results(&trial, json!([
            { "copy_in": copy, "pieces": ["1,o", "ne\n2,tw", "", "o\n"] },
            { "transaction": [{ "copy_in": copy, "pieces": ["3,three\n"] }], "end": "rollback" },
            { "session": [{ "copy_in": copy, "pieces": ["4,four\n"] }] },
            { "copy_out": "copy (select * from things order by id) to stdout with (format csv)" },
        ])).await;
        assert_eq!(results[0], json!({ "copied": 2 }));
        assert_eq!(results[1]["steps"][0], json!({ "copied": 1 }));
        assert_eq!(results[2][0], json!({ "copied": 1 }));
        assert_eq!(results[3]["text"], "1,one\n2,two\n4,four\n");
        assert_eq!(database.value("select count(*) from things").await.as_deref(), Some("3"));
    }

    async fn a_copy_that_fails_or_is_dropped_copies_nothing(door) {
        let (database, trial) = trial(door, "\"serial\"").await;
        let copy = "copy things from stdin with (format csv)";
        for steps in [
            json!([{ "copy_in": copy, "pieces": ["1,one\n"], "unfinished": true }]),
            json!([{ "copy_in": copy, "pieces": ["1,one\n1,two\n"] }]),
            json!([{ "copy_in": copy, "pieces": ["no number,one\n", "2,two\n"] }]),
            json!([{ "copy_in": "copy nowhere from stdin", "pieces": ["1\n"] }]),
            json!([{ "session": [{ "copy_in": copy, "pieces": ["1,one\n"], "unfinished": true }, { "query": PID }] }]),
            json!([{ "transaction": [{ "copy_in": copy, "pieces": ["1,one\n"], "unfinished": true }], "end": "commit" }]),
        ] {
            let mut steps = steps.as_array().expect("a list").clone();
            steps.push(json!({ "query": "select count(*) from things" }));
            let results = results(&trial, Value::Array(steps.clone())).await;
            assert_eq!(results[1]["rows"], json!([[0]]), "{steps:?}: {results:?}");
        }
        assert_eq!(database.value("select count(*) from things").await.as_deref(), Some("0"));
    }

    /// More notices than the sockets on the way hold, while as much data are on their way to the server.
    async fn a_copy_in_of_which_the_server_has_much_to_say_goes_on(door) {
        let (database, trial) = trial(door, "\"serial\"").await;
        database.run("
            create function tell() returns trigger language plpgsql as
                $$ begin raise notice '%', new.name; return new; end $$;
            create trigger tell before insert on things for each row execute function tell()
        ").await;
        let name = "x".repeat(1000);
        let piece = |first: u32| (first..first + 50).map(|id| format!("{id},{name}\n")).collect::<String>();
        let pieces: Vec<String> = (0..60).map(|index| piece(50 * index)).collect();
        let copy = json!({ "copy_in": "copy things from stdin with (format csv)", "pieces": pieces });
        let results = results(&trial, json!([copy, { "query": "select count(*) from things" }])).await;
        assert_eq!(results[0], json!({ "copied": 3000 }), "{results:?}");
        assert_eq!(results[1]["rows"], json!([[3000]]));
    }

    /// While more data wait to be taken than the sockets on the way hold.
    async fn what_the_server_says_of_data_that_it_has_yet_to_take_is_told(door) {
        let (database, trial) = trial(door, "\"serial\"").await;
        database.run("
            create function tell() returns trigger language plpgsql as
                $$ begin raise notice 'Taken: %', new.name; return new; end $$;
            create trigger tell before insert on things for each row execute function tell()
        ").await;
        let name = "x".repeat(100_000);
        let data: String = (0..30).map(|id| format!("{id},{name}\n")).collect();
        let copy = json!({ "copy_in": "copy things from stdin with (format csv)", "pieces": [data] });
        assert_eq!(results(&trial, json!([copy])).await[0], json!({ "copied": 30 }));
        e2e::eventually("a line for each", async || (trial.host.lines("Taken: ") == 30).then_some(())).await;
    }

    /// What is remembered of them has not room for all, and those that come last push out the first.
    async fn statements_of_a_pipeline_may_take_more_than_is_remembered(door) {
        let labels: Vec<String> = (0..1000).map(|number| format!("'mood {number}'")).collect();
        let database = Database::with(&format!("create type mood as enum ({})", labels.join(", "))).await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let call = |number: u32| json!([format!("select 'mood 7'::mood as m{number} where $1::int4 > 0"), [1]]);
        let pipeline = json!({ "pipeline": (0..60).map(call).collect::<Vec<_>>() });
        let results = results(&trial, json!([pipeline, pipeline, { "transaction": [pipeline], "end": "commit" }])).await;
        let each = json!(vec![json!({ "affected": 1, "rows": 1 }); 60]);
        assert_eq!([&results[0], &results[1], &results[2]["steps"][0]], [&each; 3]);
    }

    async fn what_is_no_copy_in_that_direction_says_so(door) {
        let (database, trial) = trial(door, "\"serial\"").await;
        let insert = "insert into things values (77, 'never')";
        let sent = format!("copy ({insert} returning id) to stdout");
        let results = results(&trial, json!([
            { "copy_in": "select 1", "pieces": [] },
            { "copy_in": sent, "pieces": [] },
            { "copy_in": "copy things from '/dev/null'", "pieces": [] },
            { "copy_out": "copy things from stdin" },
            { "copy_out": format!("{insert}; copy things to stdout") },
            { "query": "copy things from stdin" },
            { "execute": "copy things to stdout" },
            { "batch": format!("{insert}; copy things from stdin") },
            { "batch": sent },
            { "transaction": [{ "batch": format!("{insert}; {sent}") }], "end": "commit" },
            { "query": "select 1" },
        ])).await;
        let results = flat(results);
        for (index, wrong) in results[..10].iter().enumerate() {
            let words = match index {
                ..3 => "this takes COPY … FROM STDIN",
                3..5 => "this takes COPY … TO STDOUT",
                _ => "use copy-in or copy-out (in Rust `copy_in`, `copy_out`)",
            };
            assert!(message(wrong).contains(words), "{index}: {results:?}");
        }
        assert_eq!(results.last().unwrap()["rows"], json!([[1]]));
        // Whoever is told that it was refused may do it again.
        assert_eq!(database.value("select count(*) from things where id = 77").await.as_deref(), Some("0"));
    }

    /// The second one's turn comes when the first waits for the guest, which is about to send its data.
    async fn a_copy_that_was_called_beside_another_does_not_take_its_data(door) {
        let database = Database::with("create table things (number int); create table written (key bigint)").await;
        let trial = Setup::of(&PROGRAM).with(&database).start(door).await;
        let copy = |table: &str| json!({ "do": "copy_in", "sql": format!("copy {table} from stdin"), "pieces": 3, "end": "all" });
        let both = json!({ "do": "join", "steps": [copy("things"), copy("written")] });
        let session = json!({ "do": "session", "steps": [both], "end": "drop" });
        trial.value(json!({ "program": { "steps": [session], "fails": false } })).await;
        let counts = "select (select count(*) from things) || ' ' || (select count(*) from written)";
        assert_eq!(database.value(counts).await.as_deref(), Some("30000 0"));
    }

    async fn a_table_of_any_size_is_copied_out_and_may_be_left_half_read(door) {
        let (_database, trial) = trial(door, "\"serial\"").await;
        let large = "copy (select repeat('x', 99) from generate_series(1, 100000)) to stdout";
        let results = results(&trial, json!([
            { "copy_out": large },
            { "copy_out": large, "unfinished": true },
            { "transaction": [{ "copy_out": large, "unfinished": true }, { "query": "select 1" }], "end": "commit" },
            { "query": "select 1" },
        ])).await;
        assert_eq!(results[0]["bytes"], 100 * 100_000);
        assert_eq!(results[1], json!({ "some": true }));
        assert_eq!(results[3]["rows"], json!([[1]]));
    }

    async fn a_pipeline_is_done_whole_or_not_at_all(door) {
        let (database, trial) = trial(door, "\"serial\"").await;
        let insert = |id: u32| json!(["insert into things values ($1, $2)", [id, "a thing"]]);
        let pipeline = |calls: Value| json!([{ "pipeline": calls }]);
        let done = results(&trial, pipeline(json!([insert(1), insert(2), ["select * from things", []]]))).await;
        assert_eq!(done[0], json!([
            { "affected": 1, "rows": 0 }, { "affected": 1, "rows": 0 }, { "affected": 2, "rows": 2 },
        ]));
        let failed = results(&trial, pipeline(json!([insert(3), insert(1), insert(4)]))).await;
        assert_eq!(failed[0]["error"]["code"], "23505", "{failed:?}");
        let within = json!([{ "transaction": [{ "pipeline": [insert(5), insert(6)] }], "end": "commit" }]);
        results(&trial, within).await;
        assert_eq!(database.value("select string_agg(id::text, ' ' order by id) from things").await.as_deref(), Some("1 2 5 6"));
    }

    async fn a_call_may_have_less_time_than_its_invocation(door) {
        let (_database, trial) = trial(door, "\"serial\"").await;
        let results = results(&trial, json!([
            // What connecting takes is no part of it.
            { "query": "select 1" },
            { "timeout_ms": 500, "hurried": [
                { "query": "select pg_sleep(60)" },
                { "transaction": [{ "query": "select 1" }, { "query": "select pg_sleep(60)" }], "end": "commit" },
            ] },
            { "query": "select pg_sleep(0.7)::text" },
        ])).await;
        assert_eq!(results[1][0]["error"]["code"], "57014", "{results:?}");
        assert_eq!(results[1][1]["steps"][1]["error"]["code"], "57014", "{results:?}");
        assert!(message(&results[1][1]["end"]).contains("rolled back"), "{results:?}");
        assert_eq!(results[2]["rows"], json!([[""]]));
    }
}

#[tokio::test]
async fn a_notification_is_heard_where_nothing_is_frozen() {
    let database = Database::with(SCHEMA).await;
    for (door, slots) in [(Door::Local, 1), (Door::Lambda, 2)] {
        let setup = Setup::of(&QUERY).with(&database).concurrency(slots);
        let trial = setup.start(door).await;
        let steps = json!([{ "session": [{ "listen": "Some \"channel\"" }] }]);
        let heard = results(&trial, steps).await;
        assert_eq!(
            heard[0][0],
            json!({ "channel": "Some \"channel\"", "payload": "said by the function itself" })
        );
    }
}

/// The query would take an hour, and its connection is the one that waits. Its rows come one by one:
/// those of a function in `FROM` are all made before the first is sent.
#[tokio::test]
async fn a_notification_is_told_from_the_rows_of_a_query_that_was_dropped() {
    let (_database, trial) = trial(Door::Local, "\"serial\"").await;
    let slow = "select repeat('x', 1000) from (select generate_series(1, 1000000000)) many";
    let steps = json!([{ "session": [
        { "query": PID }, { "listen": "here", "dropped": slow }, { "query": PID },
    ] }]);
    let heard = results(&trial, steps).await;
    assert_eq!(heard[0][1]["channel"], "here", "{heard:?}");
    assert_eq!(heard[0][0]["rows"], heard[0][2]["rows"], "{heard:?}");
}

/// Nothing is executed while it is waited for, so nobody need wonder what was.
#[tokio::test]
async fn what_ends_the_wait_for_a_notification_is_said() {
    let (database, trial) = trial(Door::Local, "\"serial\"").await;
    let wait =
        json!({ "session": [{ "listen": "here", "unheard": true }, { "query": "select 1" }] });
    let kill = async {
        let listening = "select count(*) from pg_stat_activity where datname = $name
                         and state = 'idle' and query ilike 'listen%'";
        database.until(listening, "1").await;
        let end = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where datname = $name";
        database.observe(end).await
    };
    let (results, ended) = tokio::join!(
        results(&trial, json!([wait, { "query": "select 2" }])),
        kill
    );
    assert_eq!(ended.as_deref(), Some("1"));
    assert_eq!(results[0][0]["error"]["code"], "57P01", "{results:?}");
    assert!(
        !message(&results[0][1]).contains("may have been executed"),
        "{results:?}"
    );
    assert_eq!(results[1]["rows"], json!([[2]]));
}

#[tokio::test]
async fn a_notification_is_refused_where_lambda_freezes_the_environment() {
    let (_database, trial) = trial(Door::Lambda, "\"serial\"").await;
    let steps = json!([
        { "session": [{ "listen": "here" }] },
        { "execute": "/* now */ listen here" },
        { "batch": "select 1; LISTEN here" },
        { "query": "select count(*)::text from pg_listening_channels()" },
    ]);
    let refused = results(&trial, steps).await;
    for refused in [&refused[0][0], &refused[1], &refused[2]] {
        assert!(message(refused).contains("frozen"), "{refused}");
    }
    assert_eq!(refused[3]["rows"], json!([["0"]]));
}
