//! A statement that its connection has prepared, and that no longer fits or is no longer there.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::json;

use super::round_trips::{self, SELECT, flushes};

async fn trial(door: Door, schema: &str) -> (Database, Trial) {
    let database = Database::with(schema).await;
    let trial = Setup::of(&QUERY).with(&database).start(door).await;
    (database, trial)
}

behind_both_doors! {
    /// The plan that the connection has no longer fits, outside of a transaction and first in one.
    async fn a_statement_that_no_longer_fits_heals(door) {
        let (database, proxy, trial) = round_trips::trial(door, "\"serial\"").await;
        let all = json!({ "query": "select * from things" });
        let insert = json!({ "query": "insert into things (id) values (9) returning *" });
        let pipeline = json!({ "pipeline": [["insert into things (id) values (9)", []], ["select * from things", []]] });
        trial.all_done(json!([all, insert, pipeline])).await;
        for (column, step) in [
            ("a", json!([all])),
            ("b", json!([{ "transaction": [all], "end": "commit" }])),
            ("c", json!([insert])),
            ("d", json!([{ "transaction": [insert], "end": "commit" }])),
            ("e", json!([pipeline])),
            ("f", json!([{ "transaction": [pipeline], "end": "commit" }])),
        ] {
            database.run("delete from things where id = 9").await;
            database.run(&format!("alter table things add column {column} int4")).await;
            let seen = flushes(&proxy, &trial, step.clone()).await;
            assert!(seen.len() > 1, "{step}: {seen:?}");
            let is_insert = step.to_string().contains("insert");
            assert_eq!(database.count("things where id = 9").await, u64::from(is_insert), "{step}");
        }
    }

    async fn a_statement_that_the_server_has_forgotten_heals(door) {
        let (_database, proxy, trial) = round_trips::trial(door, "\"serial\"").await;
        let query = json!({ "query": SELECT, "arguments": [1] });
        trial.all_done(json!([query])).await;
        for step in [query.clone(), json!({ "transaction": [query], "end": "commit" })] {
            trial.all_done(json!([{ "batch": "deallocate all" }])).await;
            let results = trial.all_done(json!([step])).await;
            assert!(results.to_string().contains("one"), "{results}");
        }
        drop(proxy);
    }

    /// It commits before it fails in a way that looks like a forgotten statement.
    async fn what_has_committed_is_never_done_again(door) {
        let (database, _proxy, trial) = round_trips::trial(door, "\"serial\"").await;
        let body = |code: &str, message: &str| format!(
            "insert into things values (8); commit; raise exception '{message}' using errcode = '{code}'"
        );
        for (done, (code, message)) in (1..).zip([
            ("26000", "prepared statement does not exist"),
            ("0A000", "cached plan must not change result type"),
            ("42883", "no binary output function available for type x"),
            ("08P01", "bind message supplies 1 parameters"),
            ]) {
            let sql = format!("do $$ begin {}; end $$", body(code, message));
            let result = trial.result(json!({ "execute": sql })).await;
            assert_eq!(result["error"]["code"], code, "{result}");
            assert_eq!(database.count("things where id = 8").await, done, "{code}");
        }
    }

    /// The host has the statement prepared, and the table changes under it.
    async fn a_statement_survives_a_change_of_its_table(door) {
        let (database, trial) =
            trial(door, "create table things (id int4); insert into things values (1)").await;
        let step = json!({ "query": "select * from things" });
        for (change, columns, row) in [
            ("select 1", json!(["id"]), json!([1])),
            ("alter table things add column name text default 'x'", json!(["id", "name"]), json!([1, "x"])),
            ("alter table things alter column id type text", json!(["id", "name"]), json!(["1", "x"])),
            ("alter table things drop column id", json!(["name"]), json!(["x"])),
        ] {
            database.run(change).await;
            let result = trial.result(step.clone()).await;
            assert_eq!(result, json!({ "columns": columns, "rows": [row] }), "{change}");
        }
    }

    /// A change that comes between two statements of a transaction fails that, and no other.
    async fn a_statement_that_no_longer_fits_in_a_transaction_fails_once(door) {
        let (database, trial) = trial(door, "create table things (id int4)").await;
        let steps = json!([{ "execute": "insert into things values (1)" }, { "query": "select * from things" }]);
        let transaction = json!({ "transaction": steps, "end": "commit" });
        trial.result(transaction.clone()).await;
        database.run("alter table things add column name text").await;
        let failed = trial.result(transaction.clone()).await;
        assert_eq!(failed["steps"][1]["error"]["code"], "0A000", "{failed}");
        let healed = trial.result(transaction).await;
        assert_eq!(healed["steps"][1]["rows"], json!([[1, null], [1, null]]), "{healed}");
    }

    /// As one does to take a label out of an enumeration. The statement has the old type for its
    /// parameter, on the connection and in the host.
    async fn a_statement_survives_a_parameter_that_has_another_type_now(door) {
        let schema = "create type mood as enum ('fine', 'tired', 'sad');
            create table things (feels mood, id int4); insert into things values ('fine', 1)";
        let (database, trial) = trial(door, schema).await;
        let count = json!({ "query": "select count(*) from things where feels = $1", "arguments": ["fine"] });
        let insert = json!({ "execute": "insert into things (feels) values ($1)", "arguments": ["tired"] });
        let other = json!({ "query": "select count(*) from things where id = $1", "arguments": [null] });
        let first = json!({ "transaction": [count], "end": "commit" });
        let later = json!({ "transaction": [{ "query": "select 1" }, count], "end": "commit" });
        let all = json!({ "steps": [count, insert, other, first, later] });
        let expected = trial.value(all.clone()).await;
        assert!(!expected.to_string().contains("error"), "{expected}");
        let renew = "alter type mood rename to old; create type mood as enum ('fine', 'tired');
            alter table things alter column feels type mood using feels::text::mood; drop type old;
            alter table things alter column id type text";
        database.run(renew).await;
        for step in [&count, &insert, &other] {
            let result = trial.result(step.clone()).await;
            assert!(result["error"].is_null(), "{step}: {result}");
        }
        let undo = "alter table things alter column id type int4 using id::int4";
        database.run(&format!("{renew}; {undo}")).await;
        assert!(trial.result(first).await["end"].is_null());
        database.run(&format!("{renew}; {undo}")).await;
        let failed = trial.result(later.clone()).await;
        assert!(failed["steps"][1]["error"]["code"].is_string(), "{failed}");
        let healed = trial.result(later).await;
        assert_eq!(healed["steps"][1]["rows"], json!([[1]]), "{healed}");
        // A connection that has prepared nothing.
        database.run(&format!("{renew}; {undo}")).await;
        database.end_sessions().await;
        for step in [&count, &insert, &other] {
            let result = trial.result(step.clone()).await;
            assert!(result["error"].is_null(), "{step}: {result}");
        }
    }

    /// The host knows the statement with its formats, a new connection does not.
    async fn a_statement_survives_a_column_more_on_a_connection_that_lacks_it(door) {
        let (database, trial) = trial(door, "create table things (id int4, may aclitem)").await;
        let step = json!({ "query": "select * from things" });
        trial.result(step.clone()).await;
        database.end_sessions().await;
        database.run("alter table things add column name text; insert into things values (1)").await;
        let result = trial.result(step).await;
        assert_eq!(result, json!({ "columns": ["id", "may", "name"], "rows": [[1, null, null]] }));
    }
}
