//! A result of any size takes a fixed amount of memory, and one that is not read to its end costs
//! nothing afterwards.

use e2e::guests::{MISBEHAVE, STREAM};
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

/// Rows of the large results.
const MILLION: u64 = 1_000_000;
/// What the guest has of memory in all. A million of its rows are several times as much.
const GUEST_MIB: &str = "16";
/// How much more the whole process may hold for a result of any size than for one row: what the
/// guest has at most, a batch, and what is read ahead of it.
const GROWTH_KIB_MAX: u64 = 24 * 1024;

async fn trial(door: Door, pool_max: &str) -> (Database, Trial) {
    let database = Database::create().await;
    let trial = Setup::of(&STREAM)
        .with(&database)
        .database("pool_max", pool_max)
        .function("memory_mib", GUEST_MIB)
        .start(door)
        .await;
    (database, trial)
}

/// Reads a result of so many bytes, and rows if they are counted, in each place where that can be
/// done.
async fn in_bounded_memory(sql: &str, copy: bool, rows: Option<u64>, bytes: u64) {
    let (_database, trial) = trial(Door::Lambda, "2").await;
    trial.value(json!({ "sql": "select 1" })).await;
    let before = trial.host.memory_peak_kib();
    for within in ["database", "transaction", "session"] {
        let event = json!({ "sql": sql, "copy": copy, "within": within });
        let answer = trial.value(event).await;
        let read = &answer["read"];
        assert_eq!(read["error"], Value::Null, "{within}");
        assert_eq!(read["bytes"], bytes, "{within}: {answer}");
        if let Some(rows) = rows {
            assert_eq!(read["rows"], rows, "{within}: {answer}");
        }
        let grown = trial.host.memory_peak_kib() - before;
        assert!(grown < GROWTH_KIB_MAX, "{within}: {grown} KiB more");
    }
}

#[tokio::test]
async fn a_million_rows_need_a_fixed_amount_of_memory() {
    let sql = format!("select n, 'row ' || n from generate_series(1, {MILLION}) n");
    in_bounded_memory(&sql, false, Some(MILLION), 9_888_896).await;
}

#[tokio::test]
async fn a_copy_of_a_million_rows_needs_a_fixed_amount_of_memory() {
    let sql =
        format!("copy (select n, 'row ' || n from generate_series(1, {MILLION}) n) to stdout");
    // Each with a tab, and at its end a line feed.
    let bytes = 9_888_896 + 5_888_896 + 2 * MILLION;
    in_bounded_memory(&sql, true, None, bytes).await;
}

/// Each row is larger than a batch.
#[tokio::test]
async fn rows_larger_than_a_batch_need_a_fixed_amount_of_memory() {
    let sql = "select n, repeat('x', 1024 * 1024) from generate_series(1, 200) n";
    in_bounded_memory(sql, false, Some(200), 200 << 20).await;
}

behind_both_doors! {
    async fn an_error_in_mid_result_comes_after_the_rows_before_it(door) {
        let (_database, trial) = trial(door, "1").await;
        // In the first batch, and in a later one.
        for at in [1_000, 150_000] {
            let sql = format!("select n, 1 / (n - {at}) from generate_series(1, 200000) n");
            for within in ["database", "transaction", "session"] {
                let answer = trial.value(json!({ "sql": sql, "within": within })).await;
                let read = &answer["read"];
                assert_eq!(read["rows"], at - 1, "{within}: {answer}");
                assert_eq!(read["error"]["error"]["code"], "22012", "{within}: {answer}");
                match within {
                    "transaction" => assert_eq!(answer["after"]["error"]["code"], "25P02", "{answer}"),
                    _ => assert!(answer["after"].is_i64(), "{answer}"),
                }
            }
        }
    }

    async fn an_error_in_mid_copy_comes_after_the_data_before_it(door) {
        let (_database, trial) = trial(door, "1").await;
        let sql = "copy (select 1 / (n - 500) from generate_series(1, 1000) n) to stdout";
        for within in ["database", "transaction", "session"] {
            let answer = trial.value(json!({ "sql": sql, "copy": true, "within": within })).await;
            let read = &answer["read"];
            // Zeros, but for 1 / -1, and line feeds.
            assert_eq!(read["bytes"], 2 * 499 + 1, "{within}: {answer}");
            assert_eq!(read["error"]["error"]["code"], "22012", "{within}: {answer}");
        }
    }

    /// To a guest that goes on all the same.
    async fn what_follows_an_error_in_mid_copy_is_not_told_as_its_end(door) {
        let database = Database::create().await;
        let trial = Setup::of(&MISBEHAVE).with(&database).start(door).await;
        let reads = &trial.value(json!({ "act": "read_on" })).await["act"];
        // Zeros, but for 1 / -1, and line feeds.
        assert_eq!(reads[0], 2 * 499 + 1, "{reads}");
        assert!(reads[1].to_string().contains("22012"), "{reads}");
        assert!(reads[2].to_string().contains("Ended"), "{reads}");
    }

    /// The result would take an hour; its connection is the only one.
    async fn a_result_that_is_left_half_way_costs_nothing_afterwards(door) {
        let (database, trial) = trial(door, "1").await;
        let slow = "select generate_series(1, 1000000000), repeat('x', 1000)";
        let copy = format!("copy ({slow}) to stdout");
        for (sql, copy) in [(slow, false), (&*copy, true)] {
            for within in ["database", "transaction", "session"] {
                for then in ["drop", "forget", "trap"] {
                    let what = format!("{within} {then} {copy}");
                    let event =
                        json!({ "sql": sql, "copy": copy, "within": within, "stop_after": 2, "then": then });
                    let answer = trial.invoke(event).await;
                    assert_eq!(answer.failed, then == "trap", "{what}: {answer:?}");
                    if then == "drop" {
                        let answer = answer.value();
                        let next = &answer["after"];
                        // There is no other way to stop a COPY than to cancel it.
                        let is_failed = next["error"]["code"] == "25P02";
                        let may_fail = copy && within == "transaction";
                        assert!(next.is_i64() || (is_failed && may_fail), "{what}: {answer}");
                    }
                    let after = trial.value(json!({ "sql": "select 1", "within": within })).await;
                    assert_eq!(after["read"]["rows"], 1, "{what}: {after}");
                    database.rests().await;
                }
            }
        }
        database.settles(1).await;
    }

    /// The first has more rows on the way than were read when it is dropped, so that it is tidied up
    /// after; by then the second has the connection.
    async fn a_result_after_one_that_was_dropped_is_whole(door) {
        let (_database, trial) = trial(door, "1").await;
        let dropped = "select repeat('x', 1000) from generate_series(1, 2000)";
        let rows = "select n, repeat('x', 1000) from generate_series(1, 2000) n";
        let copy = format!("copy ({rows}) to stdout");
        for (sql, copy) in [(rows, false), (&*copy, true)] {
            for within in ["database", "transaction", "session"] {
                let event = json!({ "dropped": dropped, "sql": sql, "copy": copy, "within": within });
                let answer = trial.value(event).await;
                let read = &answer["read"];
                assert_eq!(read["error"], Value::Null, "{within}: {answer}");
                // A line of a COPY has the number, a tab and a line feed besides.
                let bytes = if copy { 2_010_893 } else { 2_000_000 };
                assert_eq!(read["bytes"], bytes, "{within}: {answer}");
                assert!(answer["after"].is_i64(), "{within}: {answer}");
            }
        }
    }

    /// The other's rows are on their way when more of the first's are asked for.
    async fn a_result_goes_on_after_another_one_was_dropped(door) {
        let (_database, trial) = trial(door, "1").await;
        let dropped = "select repeat('x', 1000) from generate_series(1, 2000)";
        let sql = "select n, 'x' from generate_series(1, 2000) n";
        let answer = trial.value(json!({ "sql": sql, "meanwhile": "another", "dropped": dropped })).await;
        assert_eq!(answer["read"]["error"], Value::Null, "{answer}");
        assert_eq!((&answer["read"]["rows"], &answer["read"]["bytes"]), (&json!(2000), &json!(2000)));
        assert!(answer["after"].is_i64() && answer["end"].is_null(), "{answer}");
    }

    /// Asked for more of its rows, the server would fail the transaction that is open by now.
    async fn a_result_that_ended_with_its_transaction_harms_no_other(door) {
        let (_database, trial) = trial(door, "1").await;
        let sql = "select generate_series(1, 2000)";
        for meanwhile in ["next_transaction", "back_before_it"] {
            let answer = trial.value(json!({ "sql": sql, "meanwhile": meanwhile })).await;
            let read = &answer["read"];
            assert_eq!(read["rows"], 500, "{meanwhile}: {answer}");
            assert!(read["error"]["error"]["message"].as_str().unwrap().contains("ended"), "{answer}");
            assert!(answer["after"].is_i64() && answer["end"].is_null(), "{meanwhile}: {answer}");
        }
        // The guest has some of them, and the host had others.
        let wide = "select n, repeat('x', 4000) from generate_series(1, 2000) n";
        let answer = trial.value(json!({ "sql": wide, "meanwhile": "call_and_next_transaction" })).await;
        assert!(answer["read"]["rows"].as_u64().unwrap() < 500, "{answer}");
        assert!(answer["read"]["error"]["error"]["message"].as_str().unwrap().contains("ended"), "{answer}");
        assert!(answer["after"].is_i64() && answer["end"].is_null(), "{answer}");
        let answer = trial.value(json!({ "sql": sql, "meanwhile": "back_behind_it" })).await;
        assert_eq!(answer["read"]["rows"], 2000, "{answer}");
        assert!(answer["after"].is_i64() && answer["end"].is_null(), "{answer}");
    }

    async fn a_result_without_rows_has_its_columns_everywhere(door) {
        let (_database, trial) = trial(door, "1").await;
        let sql = "select n as number, 'x' as word from generate_series(1, 0) n";
        for within in ["database", "transaction", "session"] {
            // Also when the statement is known.
            for _ in 0..2 {
                let answer = trial.value(json!({ "sql": sql, "within": within })).await;
                assert_eq!(answer["read"]["columns"], json!(["number", "word"]), "{within}");
                assert_eq!(answer["read"]["rows"], 0, "{within}");
            }
        }
    }

    /// The rows before it arrive, and the connection is of use afterwards.
    async fn a_row_that_is_too_large_is_refused_with_the_limit_and_a_way_around(door) {
        let (_database, trial) = trial(door, "1").await;
        let cell = "repeat('x', 20 * 1000 * 1000)";
        let sql = format!("select n, case n when 3 then {cell} else 'small' end from generate_series(1, 5) n");
        let copy = format!("copy ({sql}) to stdout");
        for (sql, copy) in [(&*sql, false), (&*copy, true)] {
            for within in ["database", "transaction", "session"] {
                let answer = trial.value(json!({ "sql": sql, "copy": copy, "within": within })).await;
                let read = &answer["read"];
                let message = read["error"]["error"]["message"].as_str().unwrap();
                assert!(message.contains("8388608") && message.contains("substring"), "{message}");
                assert_ne!(read["rows"], 0, "{within}: {answer}");
                // A COPY is cancelled if its rest would take long.
                let may_fail = copy && within == "transaction";
                assert!(answer["after"].is_i64() || may_fail, "{within}: {answer}");
            }
        }
        // The way around.
        let pieces = format!(
            "with large as materialized (select {cell} as cell)
             select n, substring(cell from 1 + (n - 1) * 4000000 for 4000000) from large, generate_series(1, 5) n"
        );
        let answer = trial.value(json!({ "sql": pieces })).await;
        assert_eq!(answer["read"]["bytes"], 20 * 1000 * 1000, "{answer}");
    }
}
