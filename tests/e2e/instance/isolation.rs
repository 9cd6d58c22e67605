//! Nothing of one invocation reaches the next: through the database never, through memory only as
//! far as the function's isolation says, through the processor not at all.

use std::time::Duration;

use e2e::guests::{COUNTER, MISBEHAVE};
use e2e::{Database, Door, Gate, Setup};
use futures_util::future::join_all;
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (name text);
    create function conflict() returns text language sql
        as $$ select set_config('app.left', 'by a function', false) $$";

/// Leaves something on the only connection, in invocations that end in different ways, and looks
/// for it from the next one. That it was there at all is seen from the invocation itself.
async fn is_gone(door: Door, leave: Value, look: &str, clean: &str) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&MISBEHAVE)
        .with(&database)
        .database("pool_max", "1")
        .start(door)
        .await;
    let look = json!({ "query": look });
    let clean = json!([[clean]]);
    let mut steps = leave.as_array().expect("steps are a list").clone();

    for act in ["return", "fail", "panic"] {
        let answer = trial.invoke(json!({ "steps": steps, "act": act })).await;
        assert_eq!(answer.failed, act != "return", "{act}: {answer:?}");
        let after = trial.value(json!({ "steps": [look] })).await;
        assert_eq!(after["steps"][0]["rows"], clean, "after {act}");
    }
    assert_eq!(
        database
            .value("select count(*) from things")
            .await
            .as_deref(),
        Some("0")
    );

    steps.push(look);
    let seen = trial.value(json!({ "steps": steps })).await;
    let last = &seen["steps"][steps.len() - 1];
    assert_ne!(last["rows"], clean, "there was nothing to clean up: {seen}");
}

const INSERT: &str = "insert into things values ('left')";
const COUNT: &str = "select count(*)::text from things";

behind_both_doors! {
    /// The one that waits for a connection is told of the one that the other has kept.
    async fn two_calls_at_once_share_the_only_connection_that_one_of_them_keeps(door) {
        let database = Database::with(SCHEMA).await;
        let trial = Setup::of(&MISBEHAVE).with(&database).database("pool_max", "1").start(door).await;
        let step = json!({ "execute": "set work_mem to '12345kB'" });
        let look = json!({ "query": "select current_setting('work_mem')" });
        let answer = trial.value(json!({ "steps": [{ "parallel": [step, look, look] }] })).await;
        let parallel = &answer["steps"][0];
        assert_eq!(parallel[1]["rows"], json!([["12345kB"]]), "{answer}");
        assert_eq!(parallel[2]["rows"], json!([["12345kB"]]), "{answer}");
    }

    async fn an_open_begin_is_rolled_back(door) {
        is_gone(door, json!([{ "batch": format!("begin; {INSERT}") }]), COUNT, "0").await;
    }

    async fn a_begin_through_execute_is_rolled_back(door) {
        is_gone(door, json!([{ "execute": "begin" }, { "execute": INSERT }]), COUNT, "0").await;
    }

    async fn a_begin_through_query_is_rolled_back(door) {
        is_gone(door, json!([{ "query": "/* hidden */ BEGIN" }, { "query": INSERT }]), COUNT, "0").await;
    }

    async fn a_savepoint_of_an_open_begin_is_rolled_back(door) {
        let leave = json!([{ "batch": format!("begin; savepoint here; {INSERT}; release here") }]);
        is_gone(door, leave, COUNT, "0").await;
    }

    async fn a_failed_transaction_is_over(door) {
        is_gone(door, json!([{ "batch": format!("begin; {INSERT}; select 1 / 0") }]), COUNT, "0").await;
    }

    async fn a_set_is_reset(door) {
        let leave = json!([{ "execute": "set work_mem to '12345kB'" }]);
        is_gone(door, leave, "select current_setting('work_mem')", "4MB").await;
    }

    async fn a_set_within_a_batch_is_reset(door) {
        let leave = json!([{ "batch": "select 1; set default_transaction_read_only to on" }]);
        is_gone(door, leave, "select current_setting('default_transaction_read_only')", "off").await;
    }

    async fn a_setting_made_by_a_function_is_reset(door) {
        let leave = json!([{ "query": "select set_config('app.tenant', 'somebody', false)" }]);
        is_gone(door, leave, "select coalesce(current_setting('app.tenant', true), '')", "").await;
    }

    async fn a_setting_made_by_a_function_named_like_a_word_is_reset(door) {
        let leave = json!([{ "query": "select conflict()" }]);
        is_gone(door, leave, "select coalesce(current_setting('app.left', true), '')", "").await;
    }

    async fn a_set_role_is_reset(door) {
        let leave = json!([{ "batch": "set role pg_monitor" }]);
        is_gone(door, leave, "select (current_user = session_user)::text", "true").await;
    }

    async fn a_session_authorization_is_reset(door) {
        let leave = json!([{ "batch": "set session authorization pg_monitor" }]);
        is_gone(door, leave, "select (current_user <> 'pg_monitor')::text", "true").await;
    }

    async fn a_temporary_table_is_dropped(door) {
        let leave = json!([{ "execute": "create temporary table left_over (name text)" }]);
        is_gone(door, leave, "select (to_regclass('pg_temp.left_over') is null)::text", "true").await;
    }

    async fn an_advisory_lock_is_released(door) {
        let leave = json!([{ "query": "select pg_advisory_lock(4711)::text" }]);
        let look = "select count(*)::text from pg_locks where locktype = 'advisory' and objid = 4711
                    and pid = pg_backend_pid()";
        is_gone(door, leave, look, "0").await;
    }

    /// Where a call of a function does not look like one.
    async fn a_lock_that_is_taken_in_disguise_is_released(door) {
        let look = "select count(*)::text from pg_locks where locktype = 'advisory' and objid = 4712
                    and pid = pg_backend_pid()";
        for take in [
            "select a.id::text from generate_series(4712, 4712) as a (id) join generate_series(1, 1) as b (id)
                on pg_try_advisory_lock(a.id)",
            "select (4712::bigint).pg_advisory_lock::text",
            "select q.pg_try_advisory_lock::text from generate_series(4712::bigint, 4712) as q",
        ] {
            is_gone(door, json!([{ "query": take }]), look, "0").await;
        }
    }

    async fn a_setting_that_is_made_in_disguise_is_reset(door) {
        let look = "select coalesce(current_setting('local.kept', true), '')";
        for set in [
            "set local.kept = 'x'",
            "select E'a'\n'b\\'', set_config('local.kept', 'x', false) --'",
        ] {
            is_gone(door, json!([{ "query": set }]), look, "").await;
        }
    }

    async fn a_temporary_table_in_disguise_is_dropped(door) {
        let leave = json!([{ "execute": "create table U&\"pg\\005ftemp\".left_over (name text)" }]);
        is_gone(door, leave, "select (to_regclass('pg_temp.left_over') is null)::text", "true").await;
    }

    async fn a_sequences_last_value_is_only_ones_own(door) {
        let database = Database::with("create table numbered (id serial)").await;
        let trial = Setup::of(&MISBEHAVE).with(&database).database("pool_max", "1").start(door).await;
        let insert = json!({ "execute": "insert into numbered default values" });
        let nothing = json!({ "query": "select 'nothing'" });
        let last = json!({ "query": "select lastval()::text" });
        for before in [json!([]), json!([nothing]), json!([{ "batch": "savepoint a" }, nothing])] {
            trial.value(json!({ "steps": [insert] })).await;
            let mut within = before.as_array().expect("it is a list").clone();
            within.push(last.clone());
            let answer = trial.value(json!({ "steps": [{ "transaction": within, "end": "rollback" }] })).await;
            let steps = &answer["steps"][0]["steps"];
            assert_eq!(steps[within.len() - 1]["error"]["code"], "55000", "{answer}");
        }
        database.run("create function last() returns int8 language sql as 'select lastval()'").await;
        let last_of_function = json!({ "query": "select last()::text" });
        trial.value(json!({ "steps": [insert] })).await;
        let answer = trial.value(json!({ "steps": [last_of_function] })).await;
        assert_eq!(answer["steps"][0]["error"]["code"], "55000", "{answer}");
        let own = json!([{ "transaction": [nothing, insert, nothing, last], "end": "commit" }]);
        let answer = trial.value(json!({ "steps": own })).await;
        assert_eq!(answer["steps"][0]["steps"][3]["rows"], json!([["5"]]), "{answer}");
    }

    /// What it makes of a seed is known to everybody.
    async fn a_seed_is_forgotten_with_its_invocation(door) {
        let database = Database::create().await;
        let seeded = database.value("select setseed(0.5); select random()").await.expect("it is a number");
        let trial = Setup::of(&MISBEHAVE).with(&database).database("pool_max", "1").start(door).await;
        let look = json!([{ "query": "select random()::text, pg_backend_pid()::text" }]);
        let mut backends = Vec::new();
        for seed in [
            json!({ "query": "select setseed(0.5)" }),
            json!({ "execute": "do $$ begin perform setseed(0.5); end $$" }),
            json!({ "execute": "set seed = 0.5" }),
            json!({ "execute": "set local seed = 0.5" }),
            json!({ "query": "select set_config('seed', '0.5', false)" }),
        ] {
            trial.value(json!({ "steps": [seed] })).await;
            let answer = trial.value(json!({ "steps": look })).await;
            let row = &answer["steps"][0]["rows"][0];
            assert_ne!(row[0].as_str(), Some(seeded.as_str()), "{seed}");
            backends.push(row[1].clone());
        }
        backends.dedup();
        assert_eq!(backends.len(), 1, "a connection was lost: {backends:?}");
    }

    async fn a_statement_prepared_in_sql_is_deallocated(door) {
        let leave = json!([{ "execute": "prepare left_over as select 1" }]);
        let look = "select count(*)::text from pg_prepared_statements where name = 'left_over'";
        is_gone(door, leave, look, "0").await;
    }

    async fn a_cursor_with_hold_is_closed(door) {
        let leave = json!([{ "batch": "declare left_over cursor with hold for select 1" }]);
        is_gone(door, leave, "select count(*)::text from pg_cursors where name = 'left_over'", "0").await;
    }

    /// The guest forgets the handle, so that nothing in it ever ends the transaction.
    async fn a_transaction_whose_handle_is_forgotten_is_rolled_back(door) {
        let database = Database::with(SCHEMA).await;
        let trial = Setup::of(&MISBEHAVE).with(&database).database("pool_max", "2").start(door).await;
        let forget = json!({ "transaction": [{ "execute": INSERT }], "end": "forget" });
        for act in ["return", "fail", "panic"] {
            trial.invoke(json!({ "steps": [forget, forget], "act": act })).await;
            let after = trial.value(json!({ "steps": [{ "query": COUNT }] })).await;
            assert_eq!(after["steps"][0]["rows"], json!([["0"]]), "after {act}");
        }
        let idle = "select count(*) from pg_stat_activity where datname = $name and state <> 'idle'";
        database.until(idle, "0").await;
    }

    /// What the host itself keeps on a connection survives what a guest does to it.
    async fn a_guest_that_discards_all_does_not_break_the_next(door) {
        let database = Database::with(SCHEMA).await;
        let trial = Setup::of(&MISBEHAVE).with(&database).database("pool_max", "1").start(door).await;
        for discard in ["discard all", "deallocate all", "reset all"] {
            let before = trial.value(json!({ "steps": [{ "query": COUNT }] })).await;
            trial.value(json!({ "steps": [{ "batch": discard }] })).await;
            assert_eq!(
                trial.value(json!({ "steps": [{ "query": COUNT }] })).await,
                before,
                "after {discard}"
            );
            // Here nothing that fails can be tried again.
            let transaction = json!({ "transaction": [{ "execute": INSERT }, { "query": COUNT }], "end": "rollback" });
            for step in [&transaction, &json!({ "batch": discard }), &transaction] {
                let done = trial.value(json!({ "steps": [step] })).await;
                assert!(!done.to_string().contains("\"error\""), "after {discard}: {done}");
            }
        }
    }

    async fn what_an_invocation_leaves_on_a_connection_it_finds_there_itself(door) {
        let database = Database::with(SCHEMA).await;
        let trial = Setup::of(&MISBEHAVE).with(&database).start(door).await;
        let steps = json!([
            { "batch": "create temporary table own (name text)" },
            { "execute": "begin" },
            { "execute": "insert into own values ('here')" },
            { "execute": INSERT },
            { "execute": "commit" },
            { "query": "select name from own" },
        ]);
        let answer = trial.value(json!({ "steps": steps })).await;
        assert_eq!(answer["steps"][5]["rows"], json!([["here"]]));
        assert_eq!(database.value(COUNT).await.as_deref(), Some("1"));
    }

    async fn fresh_shares_no_memory(door) {
        let trial = Setup::of(&COUNTER).isolation("\"fresh\"").start(door).await;
        for _ in 0..3 {
            assert_eq!(trial.value(json!({})).await["served"], 1);
        }
    }

    async fn one_invocation_cannot_take_the_memory_of_another(door) {
        for isolation in ["\"fresh\"", "\"serial\"", "{ concurrent = 2 }"] {
            let trial =
                Setup::of(&MISBEHAVE).isolation(isolation).function("memory_mib", "32").start(door).await;
            let (error_type, _) = trial.error(json!({ "act": "grow" })).await;
            assert_eq!(error_type, "Function.OutOfMemory", "{isolation}");
            let answer = trial.value(json!({ "act": "swell", "mib": 8 })).await;
            assert_eq!(answer["act"], "swollen", "{isolation}");
        }
    }
}

/// The two wait in the database for each other's arrival, so they do overlap.
#[tokio::test]
async fn serial_and_fresh_never_run_two_invocations_in_one_instance() {
    for (door, isolation) in [
        (Door::Lambda, "\"serial\""),
        (Door::Local, "\"serial\""),
        (Door::Local, "\"fresh\""),
    ] {
        let database = Database::create().await;
        let gate = database.gate().await;
        let trial = Setup::of(&COUNTER)
            .isolation(isolation)
            .with(&database)
            .concurrency(2)
            .start(door)
            .await;
        let event = json!({ "sql": Gate::PASS });
        let open = async {
            gate.waited_for(2).await;
            gate.open().await;
        };
        let (first, second, ()) =
            tokio::join!(trial.value(event.clone()), trial.value(event.clone()), open);
        for answer in [first, second] {
            assert_eq!(
                (&answer["served"], &answer["together"]),
                (&json!(1), &json!(1)),
                "{door:?} {isolation}"
            );
        }
    }
}

/// A neighbour that computes without end takes the processor from nobody: all others are answered
/// while it still runs.
#[tokio::test]
async fn an_endless_loop_delays_nobody_in_another_instance() {
    for (door, isolation) in [
        (Door::Lambda, "\"serial\""),
        (Door::Local, "\"serial\""),
        (Door::Local, "\"fresh\""),
    ] {
        let trial = Setup::of(&MISBEHAVE)
            .isolation(isolation)
            .timeout(Duration::from_secs(8))
            .concurrency(4)
            .start(door)
            .await;
        let mut spinner = Box::pin(trial.invoke(json!({ "act": "spin" })));
        let others = async {
            for _ in 0..5 {
                join_all((0..2).map(|_| trial.value(json!({})))).await;
            }
        };
        tokio::select! {
            () = others => {}
            answer = &mut spinner => panic!("{door:?} {isolation}: the others waited for {answer:?}"),
        }
        assert_eq!(spinner.await.error().0, "Function.DeadlineExceeded");
    }
}

/// In one instance there is one processor; then a neighbour's endless loop costs the others their
/// time, but nobody more than that, and it does not outlive its deadline.
#[tokio::test]
async fn an_endless_loop_in_a_shared_instance_ends_with_its_deadline() {
    for door in [Door::Lambda, Door::Local] {
        let trial = Setup::of(&MISBEHAVE)
            .isolation("{ concurrent = 4 }")
            .function("instances_max", "1")
            .timeout(Duration::from_secs(2))
            .concurrency(4)
            .start(door)
            .await;
        let (spinner, neighbour) = tokio::join!(
            trial.invoke(json!({ "act": "spin" })),
            trial.invoke(json!({}))
        );
        assert_eq!(spinner.error().0, "Function.DeadlineExceeded");
        assert!(neighbour.took < Duration::from_secs(20), "{neighbour:?}");
        trial.value(json!({})).await;
    }
}

/// On classic Lambda it is refused.
#[tokio::test]
async fn a_listen_is_ended() {
    let leave = json!([{ "execute": "listen left_over" }]);
    let look = "select count(*)::text from pg_listening_channels()";
    is_gone(Door::Local, leave, look, "0").await;
}
