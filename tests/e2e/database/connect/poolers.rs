//! Behind a PgBouncer in transaction mode, which gives the server's sessions to others between any two
//! transactions. There are two of them here for the host's four connections.

use std::time::Duration;

use e2e::guests::{QUERY, TRANSACT};
use e2e::steps::message;
use e2e::{Database, Door, Guest, Pooler, Proxy, Setup, Trial};
use futures_util::future::join_all;
use serde_json::json;

const SCHEMA: &str =
    "create table things (id int4 primary key, name text); insert into things values (0, 'zero');
    create function spoil() returns text language sql as
    $$ select set_config('app.spoilt', 'yes', false) || pg_advisory_lock(1)::text $$";

fn setup(guest: &Guest, pooler: &Pooler, prepare: &str) -> Setup {
    Setup::of(guest)
        .url(pooler.url())
        .database("prepare", &format!("{prepare:?}"))
        .database("pool_max", "4")
        .isolation("{ concurrent = 8 }")
        .concurrency(8)
}

/// Nothing where there is no PgBouncer.
async fn trial(door: Door) -> Option<(Database, Pooler, Trial)> {
    let database = Database::with(SCHEMA).await;
    let pooler = Pooler::of(&database).await?;
    let trial = setup(&QUERY, &pooler, "never").start(door).await;
    Some((database, pooler, trial))
}

const SELECT: &str = "select name from things where id = $1";

/// Many invocations at once, each with several statements, in transactions and outside.
async fn many_at_once(trial: &Trial, database: &Database) {
    let event = |id: usize| {
        let name = format!("thing {id}");
        let insert =
            json!({ "execute": "insert into things values ($1, $2)", "arguments": [id, name] });
        let select = json!({ "query": SELECT, "arguments": [id] });
        let typed = json!({ "typed": SELECT, "values": [[0, "int4"]] });
        json!({ "steps": [
            { "transaction": [insert, select], "end": "commit" },
            select,
            { "pipeline": [[SELECT, [id]], ["select 1", []]] },
            { "parallel": [typed, select] },
        ] })
    };
    for round in 0..4 {
        let ids = (1..=16).map(|id| round * 16 + id);
        let answers = join_all(ids.clone().map(|id| trial.value(event(id)))).await;
        for (id, answer) in ids.zip(answers) {
            let own = json!([[format!("thing {id}")]]);
            assert_eq!(answer[0]["steps"][1]["rows"], own, "{answer}");
            assert_eq!(answer[1]["rows"], own, "{answer}");
            assert_eq!(
                answer[2][0],
                json!({ "affected": 1, "rows": 1 }),
                "{answer}"
            );
            assert_eq!(answer[3][0]["rows"], json!([["zero"]]), "{answer}");
            assert_eq!(answer[3][1]["rows"], own, "{answer}");
        }
    }
    assert_eq!(database.count("things where id > 0").await, 64);
    // PgBouncer has two; this test's own is gone a moment later.
    let two = "select count(*) <= 2 from pg_stat_activity where datname = $name";
    database.until(two, "t").await;
}

behind_both_doors! {
    /// It would give such a session to nobody else any more: Amazon RDS Proxy calls it pinned.
    async fn nothing_is_said_for_which_a_pooler_would_keep_a_session_apart(door) {
        let database = Database::with(SCHEMA).await;
        let proxy = Proxy::of(&database);
        let trial = Setup::of(&QUERY).through(&proxy).database("prepare", "\"never\"").start(door).await;
        let select = json!({ "query": SELECT, "arguments": [0] });
        let write = json!({ "execute": "insert into things values (1, 'one') on conflict do nothing" });
        let many = json!({ "query": "select n from generate_series(1, 3000) n" });
        let mix = json!([
            select, write, many,
            { "typed": SELECT, "values": [[0, "int4"]] },
            { "pipeline": [[SELECT, [0]], ["select 1", []]] },
            { "typed_pipeline": [[SELECT, [[0, "int4"]]]] },
            { "batch": "select 1; select 2" },
            { "copy_in": "copy things from stdin with (format csv)", "pieces": ["7,seven\n"] },
            { "copy_out": "copy things to stdout" },
            { "transaction": [many, select, { "query": "select 1 / 0" }], "end": "commit" },
            { "transaction": [write, { "transaction": [select, write], "end": "rollback" }, select], "end": "commit" },
            { "session": [select, { "transaction": [select], "end": "drop" }, many] },
            { "parallel": [select, many, select] },
        ]);
        for _ in 0..2 {
            assert_eq!(trial.results(mix.clone()).await[0]["rows"], json!([["zero"]]));
        }
        let statements = proxy.statements();
        assert!(statements.iter().any(|(_, text)| text == SELECT), "{statements:?}");
        for (name, text) in statements {
            assert_eq!(name, "", "{text}");
            let pins = ["SET ", "set_config", "RESET", "DISCARD", "DEALLOCATE", "LISTEN"];
            assert!(!pins.iter().any(|word| text.contains(word)), "{text}");
        }
    }

    async fn many_invocations_share_few_sessions(door) {
        let Some((database, _pooler, trial)) = trial(door).await else { return };
        many_at_once(&trial, &database).await;
    }

    async fn errors_cursors_and_copies_are_as_without_it(door) {
        let Some((_database, _pooler, trial)) = trial(door).await else { return };
        let many = "select n from generate_series(1, 3000) n";
        let copy = "copy things from stdin with (format csv)";
        let results = trial.results(json!([
            { "query": "select 1 / 0" },
            { "transaction": [{ "query": "select 1 / 0" }], "end": "commit" },
            { "transaction": [{ "query": many }, { "query": SELECT, "arguments": [0] }], "end": "commit" },
            { "query": many },
            { "copy_in": copy, "pieces": ["7,seven\n"] },
            { "copy_in": copy, "pieces": ["8,eight\n"], "unfinished": true },
            { "copy_out": "copy (select * from things order by id) to stdout with (format csv)" },
            { "batch": "begin; update things set name = 'x' where id = 0; rollback" },
            { "query": SELECT, "arguments": [0] },
        ])).await;
        assert_eq!(results[0]["error"]["code"], "22012");
        assert!(message(&results[1]["end"]).contains("rolled back"), "{results}");
        assert_eq!(results[2]["steps"][0]["rows"].as_array().map(Vec::len), Some(3000));
        assert_eq!(results[2]["steps"][1]["rows"], json!([["zero"]]));
        assert_eq!(results[3]["rows"].as_array().map(Vec::len), Some(3000));
        assert_eq!(results[4], json!({ "copied": 1 }));
        assert_eq!(results[6]["text"], "0,zero\n7,seven\n");
        assert_eq!(results[8]["rows"], json!([["zero"]]));
    }

    /// Whoever looks through the pooler afterwards sees sessions as they were.
    async fn what_a_transaction_leaves_behind_is_gone_with_it(door) {
        let Some((database, _pooler, trial)) = trial(door).await else { return };
        let spoilt = json!([
            { "query": "select spoil()" },
            { "batch": "set work_mem = '12345kB'; create temporary table mine (id int4)" },
        ]);
        let look = json!({ "query": "select current_setting('work_mem'), coalesce(current_setting('app.spoilt', true), ''),
            to_regclass('pg_temp.mine') is null" });
        for (end, held) in ["commit", "rollback", "drop"].iter().flat_map(|end| [(end, false), (end, true)]) {
            let transaction = json!({ "transaction": spoilt, "end": end });
            let step = if held { json!({ "session": [transaction] }) } else { transaction };
            trial.results(json!([step])).await;
            for _ in 0..2 {
                let seen = trial.results(json!([{ "parallel": [look, look] }])).await;
                for seen in seen[0].as_array().expect("two") {
                    assert_eq!(seen["rows"], json!([["4MB", "", true]]), "after {end}, {held}");
                }
            }
            let locks = "select count(*) from pg_locks where locktype = 'advisory'
                         and database = (select oid from pg_database where datname = $name)";
            database.until(locks, "0").await;
        }
    }

    /// Of a message of several statements the server skips the rest.
    async fn what_a_transaction_leaves_behind_is_gone_also_if_its_commit_fails(door) {
        let Some((database, _pooler, trial)) = trial(door).await else { return };
        database.run("create table noted (id int4 references things deferrable initially deferred)").await;
        let steps = json!([{ "query": "select spoil()" }, { "execute": "insert into noted values (99)" }]);
        let result = &trial.results(json!([{ "transaction": steps, "end": "commit" }])).await[0];
        assert_eq!(result["end"]["error"]["code"], "23503", "{result}");
        let locks = "select count(*) from pg_locks where locktype = 'advisory'
                     and database = (select oid from pg_database where datname = $name)";
        assert_eq!(database.observe(locks).await.as_deref(), Some("0"), "it is gone before the error is told");
    }

    /// The session would go to others before it could be reset.
    async fn a_transaction_is_ended_by_its_handle_alone(door) {
        let Some((database, _pooler, trial)) = trial(door).await else { return };
        for end in [
            json!({ "execute": "commit" }),
            json!({ "query": "ROLLBACK" }),
            json!({ "batch": "select 1; commit; select 2" }),
            json!({ "pipeline": [["select 1", []], ["commit and chain", []]] }),
        ] {
            let write = json!({ "execute": "update things set name = 'uno'" });
            let steps = json!([{ "batch": "set work_mem = '77MB'" }, { "query": "select spoil()" }, end, write]);
            let transaction = json!({ "transaction": steps, "end": "commit" });
            let show = json!({ "query": "show work_mem" });
            let results = trial.results(json!([transaction, { "session": [transaction] }, { "parallel": [show, show] }])).await;
            for transaction in [&results[0], &results[1][0]] {
                assert!(message(&transaction["steps"][2]).contains("`prepare = \"never\"`"), "{end}: {transaction}");
                assert_eq!(transaction["steps"][3], json!({ "affected": 1 }), "{end}: {transaction}");
                assert!(transaction["end"].is_null(), "{end}: {transaction}");
            }
            for seen in results[2].as_array().expect("two") {
                assert_eq!(seen["rows"], json!([["4MB"]]), "{end}");
            }
        }
        drop(database);
    }

    async fn what_needs_a_session_of_its_own_is_refused(door) {
        let Some((_database, _pooler, trial)) = trial(door).await else { return };
        let results = trial.results(json!([
            { "batch": "set work_mem = '12345kB'" },
            { "execute": "listen news" },
            { "batch": "create temporary table mine (id int4)" },
            { "query": "select pg_advisory_lock(1)" },
            { "session": [{ "query": "select pg_advisory_lock(1)" }, { "query": SELECT, "arguments": [0] }] },
            { "transaction": [{ "batch": "set local work_mem = '12345kB'" }, { "query": "show work_mem" }], "end": "commit" },
            { "query": "show work_mem" },
            { "batch": "create table \"pg_temp\".mine (id int4)" },
            { "batch": "select 1 as id into local temporary mine" },
            { "query": "select U&\"set_config\"('app.spoilt', 'yes', false)" },
        ])).await;
        for refused in results[..4].iter().chain(&results[7..]).chain([&results[4][0]]) {
            assert!(message(refused).contains("`prepare = \"never\"`"), "{refused}");
        }
        assert_eq!(results[4][1]["rows"], json!([["zero"]]));
        let listening = json!({ "steps": [{ "session": [{ "listen": "news" }] }] });
        let refused = trial.value(listening).await;
        assert!(message(&refused[0][0]).contains("`prepare = \"never\"`"), "{refused}");
        assert_eq!(results[5]["steps"][1]["rows"], json!([["12345kB"]]));
        assert_eq!(results[6]["rows"], json!([["4MB"]]));
    }

    /// They are calls, and look like any other statement.
    async fn what_a_call_changes_in_its_session_is_refused_as_well(door) {
        let Some((_database, _pooler, trial)) = trial(door).await else { return };
        let outside = [
            json!({ "query": "select set_config('app.spoilt', 'yes', false)" }),
            json!({ "query": "select set_config('app.spoilt', $1, false)", "arguments": ["yes"] }),
            json!({ "query": "(select pg_advisory_lock(1)::text)" }),
            json!({ "query": "insert into things select 7, pg_advisory_lock(1)::text returning name" }),
            json!({ "execute": "select setseed(0.5)" }),
            json!({ "copy_out": "copy (select pg_try_advisory_lock(1)) to stdout" }),
        ];
        for refused in trial.results(json!(outside)).await {
            assert!(message(&refused).contains("`prepare = \"never\"`"), "{refused}");
        }
        let seen = "select coalesce(current_setting('app.spoilt', true), '')";
        let results = trial.results(json!([
            { "transaction": [outside[0], { "query": seen }], "end": "commit" },
            { "query": "select set_config('app.spoilt', 'briefly', true)" },
            { "parallel": [{ "query": seen }, { "query": seen }] },
        ])).await;
        assert_eq!(results[0]["steps"][1]["rows"], json!([["yes"]]), "{results}");
        assert_eq!(results[1]["rows"], json!([["briefly"]]), "{results}");
        for result in results[2].as_array().expect("both have one") {
            assert_eq!(result["rows"], json!([[""]]), "{results}");
        }
    }

    async fn a_call_may_have_less_time_there_too(door) {
        let Some((_database, _pooler, trial)) = trial(door).await else { return };
        let sleep = json!({ "query": "select pg_sleep(60)" });
        let results = trial.results(json!([
            { "timeout_ms": 50, "hurried": [sleep, { "transaction": [sleep], "end": "rollback" }] },
            { "parallel": [{ "query": "show statement_timeout" }, { "query": "show statement_timeout" }] },
        ])).await;
        assert_eq!(results[0][0]["error"]["code"], "57014", "{results}");
        assert_eq!(results[0][1]["steps"][0]["error"]["code"], "57014", "{results}");
        assert_eq!(results[1][0]["rows"], json!([["0"]]), "{results}");
        assert_eq!(results[1][1]["rows"], json!([["0"]]), "{results}");
    }

    async fn a_query_is_cancelled_at_the_deadline_through_it(door) {
        let database = Database::with(SCHEMA).await;
        let Some(pooler) = Pooler::of(&database).await else { return };
        let trial = setup(&QUERY, &pooler, "never").timeout(Duration::from_secs(2)).start(door).await;
        for step in [
            json!({ "query": "select pg_sleep(600)::text" }),
            json!({ "transaction": [{ "query": "select pg_sleep(600)::text" }], "end": "commit" }),
        ] {
            let (kind, _) = trial.error(json!({ "steps": [step] })).await;
            assert_eq!(kind, "Function.DeadlineExceeded");
            database.rests().await;
        }
        assert_eq!(trial.results(json!([{ "query": SELECT, "arguments": [0] }])).await[0]["rows"], json!([["zero"]]));
    }

    /// It says so in the server's place, which goes on all the same.
    async fn a_statement_that_the_pooler_gives_up_is_executed_no_second_time(door) {
        let database = Database::with("create table noted (id int4)").await;
        let Some(pooler) = Pooler::impatient(&database).await else { return };
        let trial = setup(&QUERY, &pooler, "never").start(door).await;
        let insert = json!({ "execute": "insert into noted select 7 from pg_sleep(2)" });
        for (step, times) in [(insert.clone(), 1), (json!({ "session": [insert] }), 2)] {
            let result = trial.result(step).await;
            let told = result.to_string();
            assert!(told.contains("may have been executed"), "{told}");
            let active = "select count(*) from pg_stat_activity where datname = $name and state = 'active'";
            database.until(active, "0").await;
            assert_eq!(database.count("noted").await, times);
        }
    }

    async fn transactions_run_as_they_are_asked_to_and_again_after_a_conflict(door) {
        let database = Database::with("create table counter (n int4); insert into counter values (0)").await;
        let Some(pooler) = Pooler::of(&database).await else { return };
        let trial = setup(&TRANSACT, &pooler, "never").start(door).await;
        let event = json!({ "isolation": "serializable", "attempts_max": 1000,
            "steps": ["select n::text from counter", "update counter set n = n + 1"] });
        let answers = join_all((0..20).map(|_| trial.value(event.clone()))).await;
        assert!(answers.iter().all(|answer| answer["error"].is_null()), "{answers:?}");
        assert_eq!(database.value("select n from counter").await.as_deref(), Some("20"));
    }
}

/// The same with a PgBouncer that prepares statements where they are executed, and knows nothing of
/// those that have no name.
#[tokio::test]
async fn a_pooler_that_follows_statements_is_no_hindrance() {
    let database = Database::with(SCHEMA).await;
    let Some(pooler) = Pooler::with_statements(&database).await else {
        return;
    };
    for prepare in ["never", "always"] {
        let trial = setup(&QUERY, &pooler, prepare).start(Door::Lambda).await;
        many_at_once(&trial, &database).await;
        database.run("delete from things where id > 0").await;
    }
}
