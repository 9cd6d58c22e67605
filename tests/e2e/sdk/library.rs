//! What the SDK adds to the host's calls, used as its documentation says.

use e2e::emf::Figures;
use e2e::guests::LIBRARY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::json;

const SCHEMA: &str = "create table things (id int4);
    create table many (id int4, name text, sizes float8[]);
    create table same (like many);
    insert into many select n, nullif(repeat('x', n % 300), 'x'), array[n, -0.5] from generate_series(1, 20000) n";

async fn trial(door: Door) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&LIBRARY)
        .with(&database)
        .database("pool_max", "3")
        .start(door)
        .await;
    (database, trial)
}

behind_both_doors! {
    async fn clients_transactions_and_sessions_are_used_alike(door) {
        let (_database, trial) = trial(door).await;
        assert_eq!(trial.value(json!("alike")).await, json!([2, 4, 6, 2, "serializable"]));
    }

    async fn rows_of_typed_values_are_copied_out_and_in(door) {
        let (_database, trial) = trial(door).await;
        assert_eq!(trial.value(json!("copy")).await, json!([20000, 0]));
    }

    async fn streams_count_their_rows_and_a_copy_is_one(door) {
        let (_database, trial) = trial(door).await;
        let digits = (1..=20000).map(|number: u32| number.to_string().len() + 1).sum::<usize>();
        let first = 4 + 4 + 4 + 4 + 20 + 2 * 12;
        assert_eq!(trial.value(json!("streams")).await, json!([
            digits,
            [first, null, 20000],
            [first, null, 20000],
            [8, null, 9],
            [null, 9, 9],
            [8, null, null],
        ]));
    }

    async fn a_refusal_has_what_the_server_says_of_where(door) {
        let (_database, trial) = trial(door).await;
        assert_eq!(trial.value(json!("refusals")).await, json!([
            [8, true, [true, true], true],
            [[9, "(select no from things)"], true, [true, true], true],
        ]));
    }

    async fn what_does_not_fit_a_copy_is_named_and_harms_nothing(door) {
        let (_database, trial) = trial(door).await;
        let said = trial.value(json!("misfits")).await;
        let misread = "the copy cannot be read:";
        assert_eq!(said, json!([1, [
            "row 1 of the copy: it takes 3 values, and 1 is given",
            "row 1 of the copy: column 2: cannot convert between the Rust type `i32` and the Postgres type `text`; \
             it takes `String`",
            format!("{misread} its data are not in binary format: the statement must say `(FORMAT binary)`"),
            format!("{misread} it has rows of 3 columns, and 2 types were given"),
            "COPY same, line 2, column id: invalid input syntax for type integer: \"the secret\" (SQLSTATE 22P02)",
        ]]));
    }
}

/// They wait for the only connection meanwhile, each with 10 MiB.
#[tokio::test]
async fn calls_under_way_have_a_limit_of_what_they_carry_together() {
    let database = Database::create().await;
    let setup = Setup::of(&LIBRARY).function("memory_mib", "512");
    let trial = setup
        .with(&database)
        .database("pool_max", "1")
        .toml("[log]\nmetrics = \"emf\"\n")
        .start(Door::Local)
        .await;
    let answer = trial.invoke(json!("weighty")).await;
    let figures = Figures::of(&trial.host, &answer.request_id).await;
    assert_eq!(answer.value(), json!([6, 4, 10]));
    assert_eq!(figures.get("DatabaseErrors"), 4.0);
}

/// The server has executed it by then, so that it would be done twice if it were made once more.
#[tokio::test]
async fn a_transaction_fails_by_a_call_that_was_given_up() {
    let (_database, trial) = trial(Door::Local).await;
    let said = json!([true, "25P02", true, false, 2]);
    assert_eq!(trial.value(json!("given up")).await, said);
}

#[tokio::test]
async fn what_no_column_can_have_is_read_all_the_same() {
    let (_database, trial) = trial(Door::Local).await;
    let kinds = ["record", "record", "_record", "_int4", "void"];
    assert_eq!(
        trial.value(json!("odd")).await,
        json!(kinds.map(|kind| (kind, true)))
    );
}

#[tokio::test]
async fn a_future_is_waited_for_no_longer_than_so() {
    let (database, trial) = trial(Door::Local).await;
    assert_eq!(
        trial.value(json!("time")).await,
        json!([true, 1, true, "said"])
    );
    database.rests().await;
}
