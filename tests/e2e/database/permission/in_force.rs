//! What is put in force for a function where the database, or the statement, does not take it: one error,
//! which names the place in the configuration.

use e2e::Trial;
use e2e::permission::{database, every, every_way, message, start};
use e2e::steps::Results;
use serde_json::{Value, json};

/// What comes of a statement in each way, each of which fails, but for what fails with its transaction.
async fn failures(trial: &Trial, sql: &str) -> Results {
    let results = every(trial.results(every_way(sql)).await).into_iter();
    let failed: Results = results
        .filter(|result| result["error"]["code"] != "25P02")
        .collect();
    let is_error = |result: &Value| !result["error"].is_null();
    assert!(failed.len() >= 5 && failed.iter().all(is_error), "{failed}");
    failed
}

behind_both_doors! {
    async fn a_role_that_is_not_there_is_named_with_its_place_in_the_configuration(door) {
        let database = database("").await;
        let trial = start(door, &database, "role = \"nobody_of_this_name\"").await;
        for result in failures(&trial, "select 1").await {
            let what = "not allowed: the database does not take `role` of [function.tested.database.default]: ERROR: \
                role \"nobody_of_this_name\" does not exist (SQLSTATE 22023)";
            assert!(message(&result).starts_with(what), "{result}");
        }
        let pipeline = json!([{ "pipeline": [["select 1", []], ["select 2", []]] }]);
        let result = &trial.results(pipeline).await[0];
        assert!(message(result).starts_with("not allowed: the database does not take `role` of"), "{result}");
    }

    async fn a_setting_that_the_database_does_not_take_is_told_from_the_functions_own_mistakes(door) {
        let database = database("").await;
        let permission = "read_only = true\nsettings = { \"app.kind\" = \"shop\", work_mem = \"much\" }";
        let trial = start(door, &database, permission).await;
        for result in failures(&trial, "select 1").await {
            assert!(message(&result).contains("does not take the setting `work_mem` of [function.tested"), "{result}");
        }
        let trial = start(door, &database, "read_only = true").await;
        for (sql, code) in [("select 1::float(0)", "22023"), ("select 1 +", "42601"), ("select set_config('nothing', '1', true)", "42704")] {
            for result in failures(&trial, sql).await {
                assert_eq!(result["error"]["code"], code, "{result}");
            }
        }
    }

    async fn what_runs_in_no_transaction_is_refused_where_something_is_put_in_force_for_one(door) {
        let database = database("").await;
        let kinds = "statements = [\"select\", \"ddl\", \"other\"]\n";
        for put in ["role = \"$app\"", "read_only = true", "settings = { \"app.kind\" = \"shop\" }"] {
            let trial = start(door, &database, &format!("{kinds}{put}")).await;
            // The other takes a transaction, and is then told that it may not write.
            let sqls = ["vacuum things", "create index concurrently on things (name)"];
            for sql in &sqls[..sqls.len() - usize::from(put == "read_only = true")] {
                let steps = json!([{ "query": sql }, { "execute": sql }, { "batch": sql }, { "session": [{ "query": sql }] }]);
                for result in trial.results(steps).await {
                    let result = result.get(0).unwrap_or(&result);
                    let why = "not allowed: the statement takes no transaction around it (ERROR: ";
                    assert!(message(result).starts_with(why), "{put}: {result}");
                    assert!(message(result).contains("[function.tested.database.default]"), "{put}: {result}");
                }
            }
        }
        let trial = start(door, &database, "statements = [\"other\"]").await;
        let steps = json!([{ "query": "vacuum things" }, { "execute": "vacuum things" }, { "batch": "vacuum things" }]);
        let results = trial.results(steps).await;
        assert!(results.iter().all(|result| result["error"].is_null()), "{results}");
    }
}
