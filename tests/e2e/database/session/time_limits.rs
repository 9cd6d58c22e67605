//! What the server is told of time: nothing that loosens what others have said.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup, Trial};
use serde_json::{Value, json};

const SLEEP: &str = "select pg_sleep(3)::text";

async fn trial(database: &Database, door: Door) -> Trial {
    let setup = Setup::of(&QUERY).with(database).database("pool_max", "1");
    setup.start(door).await
}

async fn results(trial: &Trial, steps: Value) -> Value {
    trial.value(json!({ "steps": steps })).await
}

behind_both_doors! {
    /// Whoever runs the database says so, or the address.
    async fn a_limit_that_the_session_begins_with_is_not_made_longer(door) {
        for (settings, options) in [
            ("set statement_timeout = '700ms'", ""),
            ("set work_mem = '5MB'", "?options=-c%20statement_timeout%3D700"),
        ] {
            let database = Database::create().await;
            database.run(&format!("alter database {} {settings}", database.name)).await;
            let url = format!("{:?}", format!("{}{options}", database.url()));
            let setup = Setup::of(&QUERY).database("url", &url).database("pool_max", "1");
            let trial = setup.start(door).await;
            for sleep in [
                json!({ "query": SLEEP }),
                json!({ "session": [{ "query": SLEEP }] }),
                json!({ "transaction": [{ "query": SLEEP }], "end": "rollback" }),
                json!({ "timeout_ms": 1500, "hurried": [{ "query": SLEEP }, { "batch": SLEEP }] }),
            ] {
                let results = results(&trial, json!([sleep])).await;
                assert!(results.to_string().contains("57014"), "{settings}{options} {sleep}: {results}");
            }
        }
    }

    async fn a_limit_that_a_guest_has_set_holds(door) {
        let database = Database::create().await;
        let trial = trial(&database, door).await;
        let (set, local) = ("set statement_timeout to 700", "set local statement_timeout to 700");
        let (asleep, given_up) = (json!({ "query": SLEEP }), json!({ "abandon": SLEEP, "after_ms": 50 }));
        let fails = json!({ "transaction": [{ "query": "select 1 / 0" }], "end": "rollback" });
        for (steps, nth) in [
            (json!([{ "session": [{ "batch": set }, given_up, asleep] }]), 2),
            (json!([{ "session": [{ "execute": set }, asleep] }]), 1),
            (json!([{ "transaction": [{ "batch": local }, fails, asleep], "end": "rollback" }]), 2),
        ] {
            let results = results(&trial, steps.clone()).await;
            let steps_of = results[0].get("steps").unwrap_or(&results[0]);
            assert_eq!(steps_of[nth]["error"]["code"], "57014", "{steps}: {results}");
        }
        let after = results(&trial, json!([asleep])).await;
        assert!(after[0].get("error").is_none(), "{after}");
    }

    /// The limit that the host has told went with it.
    async fn a_transaction_by_text_that_is_rolled_back_takes_no_limit_along(door) {
        let database = Database::create().await;
        for ends in [json!([{ "execute": "rollback" }]), json!([{ "batch": "rollback" }]), json!([])] {
            let trial = trial(&database, door).await;
            let mut steps = vec![json!({ "execute": "begin" })];
            steps.extend(ends.as_array().into_iter().flatten().cloned());
            results(&trial, json!(steps)).await;
            let shown = results(&trial, json!([{ "query": "show statement_timeout" }])).await;
            assert!(shown[0]["rows"][0][0].is_string(), "{shown}");
            assert_ne!(shown[0]["rows"], json!([["0"]]), "{ends}");
        }
    }

    async fn a_transaction_by_text_that_has_less_time_takes_its_isolation_level(door) {
        let database = Database::create().await;
        let trial = trial(&database, door).await;
        let begin = "begin isolation level serializable";
        let level = "show transaction_isolation";
        let steps = json!([
            { "timeout_ms": 5000, "hurried": [{ "execute": begin }, { "query": level }, { "execute": "rollback" }] },
            { "timeout_ms": 5000, "hurried": [{ "pipeline": [[begin, []], ["select 1", []], ["rollback", []]] }] },
        ]);
        let results = results(&trial, steps).await;
        assert_eq!(results[0][1]["rows"], json!([["serializable"]]), "{results}");
        assert!(!results.to_string().contains("\"error\""), "{results}");
        let warned = trial.host.log().iter().any(|line| line.contains("SET LOCAL"));
        assert!(!warned, "the guest has set nothing: {:?}", trial.host.log());
    }
}
