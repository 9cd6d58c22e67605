//! In a transaction other calls have their turn while rows are read, however large those are.

use e2e::guests::{MISBEHAVE, QUERY};
use e2e::proxy::{FAILED, SUSPENDED};
use e2e::{Database, Door, Harm, Proxy, Setup, Trial, eventually};
use serde_json::{Value, json};

/// More than a batch, in the first rows that are fetched.
const WIDE: &str = "select g, repeat('x', 1000) from generate_series(1, 2000) g";
/// More of them than are held for a call to have its turn.
const HUGE: &str = "select g, repeat('x', 100000) from generate_series(1, 450) g";
/// One of the first rows cannot be made.
const FAILING: &str = "select g, repeat('x', 1000), 1 / (g - 400) from generate_series(1, 2000) g";

async fn trial(door: Door) -> (Database, Trial) {
    let database = Database::with("create table noted (id int4)").await;
    let trial = Setup::of(&QUERY).with(&database).start(door).await;
    (database, trial)
}

/// In a transaction, and in one on a connection of the guest's own.
fn transactions(steps: &Value, end: &str) -> [Value; 2] {
    let transaction = json!({ "transaction": steps, "end": end });
    [transaction.clone(), json!({ "session": [transaction] })]
}

/// What came of a transaction, wherever it was.
fn outcome(result: &Value) -> &Value {
    result.get(0).unwrap_or(result)
}

behind_both_doors! {
    async fn other_calls_have_their_turn_while_rows_are_read(door) {
        let (database, trial) = trial(door).await;
        let insert = "insert into noted values (1)";
        let steps = json!([
            { "streamed": WIDE, "meanwhile": [insert, "select 1", WIDE] },
            { "streamed": "fetch all from c", "meanwhile": [] },
            { "execute": insert },
        ]);
        for transaction in transactions(&steps, "commit") {
            let result = trial.result(&transaction).await;
            let outcome = outcome(&result);
            assert_eq!(outcome["steps"][0], json!({ "rows": 2000 }), "{result}");
            assert_eq!(outcome["steps"][1]["error"]["code"], "34000", "{result}");
        }
        // The cursor that there is none of has failed the transactions.
        assert_eq!(database.count("noted").await, 0);
    }

    /// The transaction has failed by then.
    async fn an_error_comes_behind_the_rows_that_were_read_for_another_call(door) {
        let (_database, trial) = trial(door).await;
        let steps = json!([
            { "streamed": FAILING, "meanwhile": [] },
        ]);
        let alone = trial.result(&transactions(&steps, "rollback")[0]).await;
        let steps = json!([{ "streamed": FAILING, "meanwhile": ["select 1"] }]);
        let beside = trial.result(&transactions(&steps, "rollback")[0]).await;
        assert_eq!(alone["steps"][0]["error"]["code"], "22012", "{alone}");
        assert_eq!(beside["steps"][0]["error"]["code"], "25P02", "{beside}");
        assert!(alone["end"].is_null() && beside["end"].is_null(), "{alone} {beside}");
    }

    async fn a_transaction_ends_as_it_is_told_to_though_rows_of_it_were_not_read(door) {
        let (database, trial) = trial(door).await;
        for (sql, number) in [(WIDE, "2"), (HUGE, "4")] {
            let steps = json!([
                { "execute": "insert into noted values (1)" },
                { "streamed": sql, "meanwhile": [], "leaked": true },
            ]);
            for end in ["rollback", "commit"] {
                for transaction in transactions(&steps, end) {
                    let result = trial.result(&transaction).await;
                    let end = outcome(&result).get("end");
                    assert_eq!(end, Some(&Value::Null), "{result}");
                }
            }
            assert_eq!(database.value("select count(*) from noted").await.as_deref(), Some(number));
        }
    }

    async fn rows_too_large_to_be_held_keep_others_from_their_turn_and_stay_whole(door) {
        let (_database, trial) = trial(door).await;
        let steps = json!([{ "streamed": HUGE, "meanwhile": ["select 1"] }, { "query": "select 2" }]);
        for transaction in transactions(&steps, "commit") {
            let result = trial.result(&transaction).await;
            let outcome = outcome(&result);
            let message = outcome["steps"][0]["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains("busy with the rows"), "{result}");
            assert_eq!(outcome["steps"][1]["rows"], json!([[2]]), "{result}");
            assert!(outcome["end"].is_null(), "{result}");
        }
    }

    async fn queries_at_the_same_time_run_one_after_another(door) {
        let (_database, trial) = trial(door).await;
        let steps = json!([{ "at_once": [WIDE, "select 1", WIDE, WIDE, "select 1"] }]);
        for transaction in transactions(&steps, "commit") {
            let result = trial.result(&transaction).await;
            let outcome = outcome(&result);
            assert_eq!(outcome["steps"][0], json!([2000, 1, 2000, 2000, 1]), "{result}");
            assert!(outcome["end"].is_null(), "{result}");
        }
    }

    /// What the other call has read until then stands before what is on its way.
    async fn rows_stay_whole_and_in_their_order_when_another_call_does_not_get_its_turn(door) {
        let (_database, trial) = trial(door).await;
        let slow = |rows: u32| format!(
            "select g, repeat('x', 20000), pg_sleep(0.001)::text from generate_series(1, {rows}) g"
        );
        for rows in [215, 225, 235, 245] {
            let steps = json!([{ "at_once": [slow(rows), "select 1"] }]);
            let result = trial.result(&transactions(&steps, "commit")[0]).await;
            assert_eq!(result["steps"][0][0], json!(rows), "{result}");
        }
        for given_up_ms in [60, 120, 180] {
            let steps = json!([{ "at_once": [slow(110), "select 1"], "given_up_ms": given_up_ms }]);
            let result = trial.result(&transactions(&steps, "commit")[0]).await;
            assert_eq!(result["steps"][0][0], json!(110), "{result}");
        }
    }

    /// The server has said why, and not yet that it is ready, when the other call is given up.
    async fn an_error_is_told_though_a_call_that_was_given_up_has_read_it(door) {
        let steps = json!([{ "streamed": FAILING, "meanwhile": ["select 1"], "given_up_ms": 300 }]);
        let result = held_back(door, FAILED, &transactions(&steps, "rollback")[0]).await;
        assert_eq!(result["steps"][0]["error"]["code"], "22012", "{result}");
    }

    /// The first ones are as many bytes as are passed on at a time, and nothing but the end of that answer is on
    /// its way when the other call has its turn.
    async fn rows_that_a_portal_still_has_are_read_though_another_call_has_met_none(door) {
        let rows = "select repeat('x', 521) from generate_series(1, 1000)";
        let steps = json!([{ "streamed": rows, "meanwhile": ["select 1"] }]);
        let result = held_back(door, SUSPENDED, &transactions(&steps, "commit")[0]).await;
        assert_eq!(result["steps"][0], json!({ "rows": 1000 }), "{result}");
    }

    /// The end of an answer comes when its rows have all been passed on.
    async fn no_batch_but_the_last_is_without_rows(door) {
        let database = Database::create().await;
        let proxy = Proxy::of(&database);
        let trial = Setup::of(&MISBEHAVE).through(&proxy).start(door).await;
        proxy.harm(Harm::HoldBack(SUSPENDED));
        let release = eventually("the first batch", async || {
            (trial.host.lines("500 rows are here") > 0).then(|| proxy.release())
        });
        let (told, ()) = tokio::join!(trial.value(json!({ "act": "read_batches" })), release);
        let batches: Vec<u64> = serde_json::from_value(told["act"].clone()).expect("they are numbers");
        let (last, others) = batches.split_last().expect("there is one at least");
        assert_eq!(others.iter().sum::<u64>() + last, 1000, "{told}");
        assert!(!others.is_empty() && !others.contains(&0), "{told}");
    }
}

/// What comes of a step whose first answer ends with these bytes, if they come when the step can go no further.
async fn held_back(door: Door, end: &'static [u8], step: &Value) -> Value {
    let database = Database::with("create table noted (id int4)").await;
    let proxy = Proxy::of(&database);
    let trial = Setup::of(&QUERY).through(&proxy).start(door).await;
    proxy.harm(Harm::HoldBack(end));
    let later = json!({ "session": [{ "query": "select pg_sleep(1)::text" }, { "query": "select 'given up by now'" }] });
    let both = json!({ "parallel": [step, later] });
    let release = async {
        let seen = "select count(*) from pg_stat_activity where datname = $name and query like 'select ''given up by%'";
        database.until(seen, "1").await;
        proxy.release();
    };
    let (mut results, ()) = tokio::join!(trial.result(&both), release);
    results[0].take()
}
