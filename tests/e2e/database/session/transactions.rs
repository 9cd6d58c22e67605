//! Transactions run as they were asked to, within one another, and again when others are in the way.

use std::time::Duration;

use e2e::guests::{PROGRAM, QUERY, TRANSACT};
use e2e::{Database, Door, Harm, Proxy, Setup, Trial};
use futures_util::future::join_all;
use serde_json::{Value, json};

const SCHEMA: &str = "
    create table things (id int4 primary key, n int4 not null);
    insert into things values (1, 0), (2, 0);
    create function conflict(code text) returns text language plpgsql as
        $$ begin raise exception 'in the way' using errcode = code; end $$;
    create sequence tries;
    create function conflict_twice() returns trigger language plpgsql as
        $$ begin if nextval('tries') <= 2 then perform conflict('40001'); end if; return null; end $$;
    create table checked (id int4);
    create constraint trigger at_commit after insert on checked deferrable initially deferred
        for each row execute function conflict_twice();
    create table checked_at_once (id int4 check (conflict('40001') <> ''));
    create function wait() returns trigger language plpgsql as
        $$ begin perform pg_advisory_xact_lock(1); return null; end $$;
    create table awaited (id int4);
    create constraint trigger at_commit after insert on awaited deferrable initially deferred
        for each row execute function wait();
";

/// How many sessions wait for an advisory lock.
const WAITING: &str =
    "select count(*) from pg_stat_activity where datname = $name and wait_event = 'advisory'";
/// A statement that waits for whoever holds the lock 1.
const MEET: &str = "select pg_advisory_xact_lock(1)::text";

async fn trial(door: Door) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&TRANSACT).with(&database).start(door).await;
    (database, trial)
}

behind_both_doors! {
    /// Else what follows on the session would be done within it, and lost with it.
    async fn a_dropped_transaction_is_over_though_one_within_it_was_leaked(door) {
        let database = Database::with(e2e::program::SCHEMA).await;
        let trial = Setup::of(&PROGRAM).with(&database).start(door).await;
        let write = |key: u64| json!({ "do": "write", "key": key, "way": "execute" });
        let within = json!({ "do": "transaction", "end": "forget", "steps": [write(1)] });
        let around = json!({ "do": "transaction", "end": "drop", "steps": [within, write(2)] });
        let session = json!({ "do": "session", "end": "drop", "steps": [around, write(3)] });
        trial.value(json!({ "program": { "steps": [session], "fails": false } })).await;
        let written = "select string_agg(key::text, ' ') from written";
        assert_eq!(database.value(written).await.as_deref(), Some("3"));
    }

    /// The first of them finds the connection lost, and the other waits behind it.
    async fn calls_at_the_same_time_are_made_in_the_transaction_that_has_another_connection(door) {
        let database = Database::with(e2e::program::SCHEMA).await;
        let proxy = Proxy::of(&database);
        let setup = Setup::of(&PROGRAM).through(&proxy).database("warm", "0").database("pool_max", "1");
        let trial = setup.start(door).await;
        proxy.harm(Harm::CutRequest(0));
        let write = |key: u32| json!({ "do": "batch", "sql": format!("insert into written values ({key})") });
        let both = json!({ "do": "join", "steps": [write(1), write(2)] });
        let transaction = json!({ "do": "transaction", "steps": [both], "end": "commit" });
        trial.value(json!({ "program": { "steps": [transaction], "fails": false } })).await;
        let written = "select string_agg(key::text, ' ' order by key) from written";
        assert_eq!(database.value(written).await.as_deref(), Some("1 2"));
    }

    /// What the host tells the server of time goes before it, but in a request of its own.
    async fn what_runs_in_no_transaction_is_executed_as_well(door) {
        let database = Database::with("create table things (number int)").await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        let vacuum = json!({ "execute": "vacuum things" });
        let index = json!({ "execute": "create index concurrently if not exists numbered on things (number)" });
        for steps in [
            json!([vacuum, index]),
            json!([{ "query": "vacuum things" }, { "query": "vacuum things" }, index]),
            json!([{ "session": [index, vacuum] }]),
            json!([{ "timeout_ms": 5000, "hurried": [vacuum, index] }]),
        ] {
            let results = trial.value(json!({ "steps": steps })).await;
            assert!(!results.to_string().contains("error"), "{results}");
        }
        let setup = Setup::of(&QUERY).with(&database).database("prepare", "\"never\"");
        let steps = json!([{ "query": "vacuum things" }, { "timeout_ms": 5000, "hurried": [{ "query": "vacuum things" }] }]);
        let results = setup.start(door).await.value(json!({ "steps": steps })).await;
        assert_eq!([&results[0]["rows"], &results[1][0]["rows"]], [&json!([]), &json!([])], "{results}");
        let several = json!([{ "execute": "vacuum things; drop table things" }]);
        let results = trial.value(json!({ "steps": several })).await;
        assert_eq!(results[0]["error"]["code"], "42601", "{results}");
    }

    /// Another session changes the row between the transaction's look at it and its update.
    async fn a_transaction_that_cannot_be_serialized_is_done_again(door) {
        let (database, trial) = trial(door).await;
        for isolation in ["repeatable read", "serializable"] {
            let other = database.client().await;
            other.batch_execute("select pg_advisory_lock(1)").await.unwrap();
            let steps = json!(["select n::text from things where id = 1", MEET,
                "update things set n = n + 10 where id = 1 returning n::text"]);
            let event = json!({ "isolation": isolation, "steps": steps });
            let meddle = async {
                database.until(WAITING, "1").await;
                other.batch_execute("update things set n = 5 where id = 1").await.unwrap();
                other.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
            };
            let (answer, ()) = tokio::join!(trial.value(event), meddle);
            assert_eq!(answer, json!({ "attempts": 2, "results": ["5", "", "15"] }), "{isolation}");
        }
    }

    /// The two take the same rows in opposite order. The other waits first, and for an hour if need
    /// be, so it is the guest whom the server picks. Its second attempt is kept waiting, by whoever inherits
    /// its lock, until the other is done: it could be in the other's way again.
    async fn a_transaction_that_is_in_a_deadlock_is_done_again(door) {
        let (database, trial) = trial(door).await;
        let (gate, other) = (database.client().await, database.client().await);
        let heir = database.client().await;
        gate.batch_execute("select pg_advisory_lock(1)").await.unwrap();
        other
            .batch_execute("set deadlock_timeout = '1h'; begin; update things set n = 1 where id = 2")
            .await
            .unwrap();
        let steps = json!(["select pg_advisory_xact_lock(3)::text", "set local deadlock_timeout = '1ms'",
            "update things set n = n + 1 where id = 1", MEET,
            "update things set n = n + 1 where id = 2 returning n::text"]);
        let open = async {
            let blocked = "select count(*) from pg_stat_activity
                where datname = $name and wait_event = 'transactionid'";
            database.until(blocked, "1").await;
            database.until(WAITING, "2").await;
            gate.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        };
        let cross = async {
            database.until(WAITING, "1").await;
            let inheriting = heir.batch_execute("select pg_advisory_lock(3)");
            let crossing = other.batch_execute("update things set n = 1 where id = 1; commit");
            let (inherited, crossed, ()) = tokio::join!(inheriting, crossing, open);
            inherited.and(crossed).unwrap();
            heir.batch_execute("select pg_advisory_unlock(3)").await.unwrap();
        };
        let (answer, ()) = tokio::join!(trial.value(json!({ "steps": steps })), cross);
        assert_eq!(answer, json!({ "attempts": 2, "results": ["", null, null, "", "2"] }));
    }

    async fn a_commit_that_is_refused_for_others_is_done_again(door) {
        let (database, trial) = trial(door).await;
        let steps = json!(["insert into checked values (1)"]);
        let answer = trial.value(json!({ "steps": steps })).await;
        assert_eq!(answer, json!({ "attempts": 3, "results": [null] }));
        assert_eq!(database.count("checked").await, 1);
    }

    /// The closure hides the error, and then returns as if all were well.
    async fn a_conflict_that_nobody_mentions_is_noticed(door) {
        let (_database, trial) = trial(door).await;
        let steps = json!([{ "try": "select conflict('40P01')" }]);
        let answer = trial.value(json!({ "attempts_max": 3, "steps": steps })).await;
        assert_eq!(answer["attempts"], 3, "{answer}");
        assert!(answer["error"]["message"].as_str().unwrap().contains("rolled back"), "{answer}");
    }

    async fn a_conflict_in_a_pipeline_is_one(door) {
        let (_database, trial) = trial(door).await;
        let steps = json!([{ "pipeline": ["select 1", "select conflict('40001')"] }]);
        let answer = trial.value(json!({ "attempts_max": 3, "steps": steps })).await;
        assert_eq!((&answer["attempts"], &answer["error"]["code"]), (&json!(3), &json!("40001")));
    }

    async fn a_conflict_in_a_copy_is_one_whatever_becomes_of_it(door) {
        let (_database, trial) = trial(door).await;
        for copy in [
            json!({ "copy_in": "copy checked_at_once from stdin", "data": "1\n" }),
            json!({ "copy_out": "copy (select conflict('40001')) to stdout" }),
        ] {
            let answer = trial.value(json!({ "attempts_max": 3, "steps": [copy] })).await;
            assert_eq!((&answer["attempts"], &answer["error"]["message"]), (&json!(3), &json!("not copied")));
        }
    }

    async fn what_is_no_conflict_is_not_done_again(door) {
        let (database, trial) = trial(door).await;
        let update = "update things set n = 9";
        for (steps, error) in [
            (json!([update, { "fail": "out of stock" }]), "out of stock"),
            (json!([update, "select 1 / 0"]), "division by zero (SQLSTATE 22012)"),
            (
                json!([update, { "nested": [{ "try": "select conflict('40001')" }], "end": "rollback" },
                    "select 'well'", { "fail": "another thing" }]),
                "another thing",
            ),
        ] {
            let answer = trial.value(json!({ "steps": steps })).await;
            assert_eq!((&answer["attempts"], &answer["error"]["message"]), (&json!(1), &json!(error)));
            assert_eq!(database.value("select max(n) from things").await.as_deref(), Some("0"));
        }
    }

    /// Nobody can know whether it was committed.
    async fn a_commit_that_was_cut_off_is_not_done_again(door) {
        let (database, trial) = trial(door).await;
        let gate = database.gate().await;
        let kill = async {
            gate.waited_for(1).await;
            let kill = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                where datname = $name and wait_event = 'advisory'";
            database.observe(kill).await;
        };
        let event = json!({ "steps": ["insert into awaited values (1)"] });
        let (answer, ()) = tokio::join!(trial.value(event), kill);
        assert_eq!(answer["attempts"], 1, "{answer}");
        assert!(answer["error"].is_object(), "{answer}");
    }

    /// It always conflicts, and is made as often as it may; or as often as there is time for it: a third attempt would take
    /// all that is left of 12 s, and then some.
    async fn a_transaction_is_given_up_in_time(door) {
        let (database, patient) = trial(door).await;
        let hurried = Setup::of(&TRANSACT).with(&database).timeout(Duration::from_secs(12)).start(door).await;
        let conflict = "select conflict('40001')";
        for (trial, attempts_max, steps, attempts) in [
            (&patient, 3, json!([conflict]), 3..=3),
            (&hurried, 1_000_000, json!(["select pg_sleep(4)::text", conflict]), 1..=2),
        ] {
            let answer = trial.value(json!({ "attempts_max": attempts_max, "steps": steps })).await;
            assert_eq!(answer["error"]["code"], "40001", "{answer}");
            let made = answer["attempts"].as_u64().expect("it is a number");
            assert!(attempts.contains(&made), "{answer}");
        }
    }

    async fn many_that_change_the_same_row_all_succeed(door) {
        let database = Database::with(SCHEMA).await;
        let setup = Setup::of(&TRANSACT).with(&database).isolation("{ concurrent = 8 }").concurrency(8);
        let trial = setup.start(door).await;
        let steps = json!(["select n::text from things where id = 1",
            "update things set n = n + 1 where id = 1"]);
        let event = json!({ "isolation": "serializable", "attempts_max": 1_000, "steps": steps });
        let answers = join_all((0..40).map(|_| trial.value(event.clone()))).await;
        assert!(answers.iter().all(|answer| answer["error"].is_null()), "{answers:?}");
        let n = database.value("select n from things where id = 1").await;
        assert_eq!(n.as_deref(), Some("40"));
    }

    async fn a_transaction_runs_as_it_was_asked_to(door) {
        let (_database, trial) = trial(door).await;
        let steps = json!(["show transaction_isolation", "show transaction_read_only",
            "show transaction_deferrable"]);
        for (options, expected) in [
            (json!({}), ["read committed", "off", "off"]),
            (json!({ "isolation": "read uncommitted" }), ["read uncommitted", "off", "off"]),
            (json!({ "isolation": "read committed", "read_only": false }), ["read committed", "off", "off"]),
            (json!({ "isolation": "repeatable read", "read_only": true }), ["repeatable read", "on", "off"]),
            (
                json!({ "isolation": "serializable", "read_only": true, "deferrable": true }),
                ["serializable", "on", "on"],
            ),
            (json!({ "deferrable": false }), ["read committed", "off", "off"]),
        ] {
            let mut event = options.clone();
            event["steps"] = steps.clone();
            assert_eq!(trial.value(event).await["results"], json!(expected), "{options}");
        }
        let event = json!({ "read_only": true, "steps": ["delete from things"] });
        assert_eq!(trial.value(event).await["error"]["code"], "25006");
    }

    /// Whatever the host has to say to the server first: from PostgreSQL 18 on, what stands before a statement in
    /// its request makes a transaction of that.
    async fn a_procedure_commits_on_its_way_whatever_goes_before_it(door) {
        let database = Database::with(
            "create table things (n int);
             create procedure add(n int, out added int) language plpgsql as
                $$ begin insert into things values (n); commit; added := n; insert into things values (n); end $$",
        ).await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let call = json!({ "query": "call add(1, null)" });
        let typed = json!({ "typed": "call add($1, null)", "values": [[1, "int4"]] });
        let untyped = json!({ "query": "call add($1, null)", "arguments": [1] });
        let block = json!({ "execute": "do $$ begin insert into things values (1); commit; end $$" });
        let piped = json!({ "pipeline": [["call add($1, null)", [1]]] });
        for step in [
            call.clone(),
            json!({ "session": [{ "batch": "set work_mem = '5MB'" }, typed, piped] }),
            json!({ "timeout_ms": 5000, "hurried": [call, untyped, block, piped] }),
            piped.clone(),
            untyped.clone(),
            block.clone(),
        ] {
            for _ in 0..2 {
                let results = trial.value(json!({ "steps": [step, untyped, { "query": "show statement_timeout" }] })).await;
                assert!(!results.to_string().contains("\"error\""), "{step}: {results}");
                assert_eq!(results[1]["rows"], json!([[1]]), "{step}: {results}");
                assert_ne!(results[2]["rows"], json!([["5s"]]), "{step}");
            }
        }
    }

    async fn transactions_within_one_another_end_each_for_itself(door) {
        let (_database, trial) = trial(door).await;
        let add = |n: u32| json!(format!("update things set n = n + {n} where id = 1"));
        let nested = |steps: Value, end: &str| json!({ "nested": steps, "end": end });
        let named = |steps: Value, end: &str| json!({ "nested": steps, "end": end, "name": "same; \"name\"" });
        let n = json!("select n::text from things where id = 1");
        for (steps, expected) in [
            (json!([add(1), nested(json!([add(10)]), "commit"), n]), "11"),
            (json!([add(1), nested(json!([add(10)]), "rollback"), n]), "1"),
            (json!([add(1), nested(json!([add(10)]), "drop"), n]), "1"),
            (json!([add(1), nested(json!([{ "try": "select 1 / 0" }]), "drop"), n]), "1"),
            (json!([nested(json!([add(1), nested(json!([add(10)]), "commit")]), "drop"), n]), "0"),
            (json!([nested(json!([add(1), nested(json!([add(10)]), "drop")]), "commit"), n]), "1"),
            (json!([nested(json!([add(1)]), "drop"), nested(json!([add(10)]), "commit"), n]), "10"),
            (json!([named(json!([add(1), named(json!([add(10)]), "drop")]), "commit"), n]), "1"),
            (json!([named(json!([add(1), named(json!([add(10)]), "drop")]), "drop"), n]), "0"),
            (json!([named(json!([add(1), named(json!([add(10)]), "commit")]), "drop"), n]), "0"),
        ] {
            let answer = trial.value(json!({ "steps": steps })).await;
            let last = answer["results"].as_array().and_then(|results| results.last());
            assert_eq!(last, Some(&json!(expected)), "{steps}: {answer}");
            trial.value(json!({ "steps": ["update things set n = 0"] })).await;
        }
    }

    /// If the sleeper held it up, it would never be answered, since the sleeper is never done.
    async fn an_invocation_that_sleeps_keeps_no_other_from_running(door) {
        let database = Database::with(SCHEMA).await;
        let setup = Setup::of(&TRANSACT)
            .with(&database)
            .isolation("{ concurrent = 2 }")
            .concurrency(2);
        let trial = setup.start(door).await;
        let steps = json!(["select pg_advisory_lock(2)::text", { "sleep_ms": 600_000 }]);
        let sleeper = trial.invoke(json!({ "steps": steps }));
        let other = async {
            let held = "select count(*) from pg_locks where locktype = 'advisory' and objid = 2
                and database = (select oid from pg_database where datname = $name)";
            database.until(held, "1").await;
            trial.value(json!({ "steps": ["select 'awake'"] })).await
        };
        tokio::select! {
            slept = sleeper => panic!("the sleeper was first: {slept:?}"),
            awake = other => assert_eq!(awake["results"], json!(["awake"])),
        }
    }
}
