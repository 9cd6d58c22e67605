//! Nothing that an invocation leaves in a session of the database reaches the next one: transactions, settings,
//! temporary tables, locks and all else that PostgreSQL keeps for a session. Where the text of a statement
//! hardly shows what it leaves, see `isolation_in_disguise.rs`.

use e2e::guests::MISBEHAVE;
use e2e::{Database, Door, Setup};
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (name text)";

/// Leaves something on the only connection, in invocations that end in different ways, and looks
/// for it from the next one. That it was there at all is seen from the invocation itself.
pub(super) async fn is_gone(door: Door, leave: Value, look: &str, clean: &str) {
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
    assert_eq!(database.count("things").await, 0);

    steps.push(look);
    let seen = trial.value(json!({ "steps": steps })).await;
    let last = &seen["steps"][steps.len() - 1];
    assert_ne!(last["rows"], clean, "there was nothing to clean up: {seen}");
}

const INSERT: &str = "insert into things values ('left')";
const COUNT: &str = "select count(*)::text from things";

behind_both_doors! {
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
        database.rests().await;
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
}

/// On classic Lambda it is refused.
#[tokio::test]
async fn a_listen_is_ended() {
    let leave = json!([{ "execute": "listen left_over" }]);
    let look = "select count(*)::text from pg_listening_channels()";
    is_gone(Door::Local, leave, look, "0").await;
}
