//! A statement that its connection has prepared, and that no longer fits or is no longer there.

use serde_json::json;

use super::round_trips::{SELECT, flushes, steps, trial};

behind_both_doors! {
    /// The plan that the connection has no longer fits, outside of a transaction and first in one.
    async fn a_statement_that_no_longer_fits_heals(door) {
        let (database, proxy, trial) = trial(door, "\"serial\"").await;
        let all = json!({ "query": "select * from things" });
        let insert = json!({ "query": "insert into things (id) values (9) returning *" });
        let pipeline = json!({ "pipeline": [["insert into things (id) values (9)", []], ["select * from things", []]] });
        steps(&trial, json!([all, insert, pipeline])).await;
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
            let inserted = database.value("select count(*) from things where id = 9").await;
            let expected = if step.to_string().contains("insert") { "1" } else { "0" };
            assert_eq!(inserted.as_deref(), Some(expected), "{step}");
        }
    }

    async fn a_statement_that_the_server_has_forgotten_heals(door) {
        let (_database, proxy, trial) = trial(door, "\"serial\"").await;
        let query = json!({ "query": SELECT, "arguments": [1] });
        steps(&trial, json!([query])).await;
        for step in [query.clone(), json!({ "transaction": [query], "end": "commit" })] {
            steps(&trial, json!([{ "batch": "deallocate all" }])).await;
            let results = steps(&trial, json!([step])).await;
            assert!(results.to_string().contains("one"), "{results}");
        }
        drop(proxy);
    }

    /// It commits before it fails in a way that looks like a forgotten statement.
    async fn what_has_committed_is_never_done_again(door) {
        let (database, _proxy, trial) = trial(door, "\"serial\"").await;
        let body = |code: &str, message: &str| format!(
            "insert into things values (8); commit; raise exception '{message}' using errcode = '{code}'"
        );
        for (index, (code, message)) in [
            ("26000", "prepared statement does not exist"),
            ("0A000", "cached plan must not change result type"),
            ("42883", "no binary output function available for type x"),
            ("08P01", "bind message supplies 1 parameters"),
        ].into_iter().enumerate() {
            let sql = format!("do $$ begin {}; end $$", body(code, message));
            let result = trial.value(json!({ "steps": [{ "execute": sql }] })).await;
            assert_eq!(result[0]["error"]["code"], code, "{result}");
            let count = database.value("select count(*) from things where id = 8").await;
            assert_eq!(count, Some((index + 1).to_string()), "{code}");
        }
    }
}
