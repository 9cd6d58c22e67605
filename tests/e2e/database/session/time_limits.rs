//! What the server is told of time: nothing that loosens what others have said.

use e2e::guests::QUERY;
use e2e::{Database, Door, Harm, Proxy, Setup, Trial};
use serde_json::{Value, json};

/// Longer than any limit here.
const SLEEP: &str = "select pg_sleep(1)::text";

/// A table into which nothing goes in time.
const SLOW: &str = "
    create table slow (number int);
    create function wait() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return new; end $$;
    create trigger wait before insert on slow for each row execute function wait();";

async fn trial(database: &Database, door: Door) -> Trial {
    let setup = Setup::of(&QUERY).with(database).database("pool_max", "1");
    setup.start(door).await
}

behind_both_doors! {
    /// Whoever runs the database says so, or the address.
    async fn a_limit_that_the_session_begins_with_is_not_made_longer(door) {
        for (settings, options) in [
            ("set statement_timeout = '300ms'", ""),
            ("set work_mem = '5MB'", "?options=-c%20statement_timeout%3D300"),
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
                let results = trial.results(json!([sleep])).await;
                assert!(results.to_string().contains("57014"), "{settings}{options} {sleep}: {results}");
            }
        }
    }

    /// Which session it is that a call meets, and what its limit is, is known there alone.
    async fn behind_a_pooler_no_call_has_more_time_than_its_session_begins_with(door) {
        let database = Database::create().await;
        let start = async |limit: &str| {
            database.run(&format!("alter database {} set statement_timeout = '{limit}'", database.name)).await;
            let setup = Setup::of(&QUERY).with(&database).database("pool_max", "1").database("prepare", "\"never\"");
            setup.start(door).await
        };
        let hurried = |millis: u32, step: &Value| json!({ "timeout_ms": millis, "hurried": [step] });
        let sleep = "select pg_sleep(600)::text";
        let trial = start("300ms").await;
        for call in [json!({ "query": sleep }), json!({ "batch": sleep }), json!({ "pipeline": [[sleep, []]] })] {
            let longer = hurried(20_000, &call);
            let within = json!({ "transaction": [{ "query": "select 1" }, longer], "end": "rollback" });
            let results = trial.results(json!([longer, within])).await;
            assert_eq!(results[0][0]["error"]["code"], "57014", "{longer}: {results}");
            assert_eq!(results[1]["steps"][1][0]["error"]["code"], "57014", "{longer}: {results}");
        }
        let trial = start("20s").await;
        let show = json!({ "query": "show statement_timeout" });
        let steps = json!([hurried(9000, &show), hurried(60_000, &show), show]);
        let results = trial.results(json!([{ "transaction": steps, "end": "commit" }])).await;
        let shown = &results[0]["steps"];
        let shown = [&shown[0][0], &shown[1][0], &shown[2]].map(|step| &step["rows"][0][0]);
        // Where it may be shorter than that, the host alone counts the time of a call.
        assert_eq!(shown, ["20s", "20s", "20s"], "{results}");
    }

    /// What resets a session takes the limits with it that the host has told.
    async fn a_call_that_resets_its_session_has_no_more_time_than_it_was_given(door) {
        let database = Database::create().await;
        let trial = trial(&database, door).await;
        let sleep = "select pg_sleep(600)::text";
        let batch = json!({ "batch": format!("reset all; {sleep}") });
        let pipeline = json!({ "pipeline": [["reset all", []], [sleep, []]] });
        for call in [batch, pipeline] {
            let hurried = json!({ "timeout_ms": 500, "hurried": [call] });
            let results = trial.results(json!([hurried])).await;
            assert!(results.to_string().contains("57014"), "{call}: {results}");
        }
    }

    /// The server would hear of neither the deadline nor a cancellation meanwhile.
    async fn a_text_that_the_server_would_read_for_minutes_is_refused(door) {
        let database = Database::create().await;
        let trial = trial(&database, door).await;
        for sql in ["/*".repeat(200_000), format!("select 1 {}", "+".repeat(100_000))] {
            for call in ["query", "batch"] {
                let result = trial.results(json!([{ call: sql }])).await;
                let message = result[0]["error"]["message"].as_str().unwrap_or_default();
                assert!(message.contains("operator characters"), "{call}: {message}");
            }
        }
        // As long as a text may be, and so that each of its tokens begins behind the same word.
        let digits = format!("select '{}'; select {}", "-".repeat(9_000), "$1$".repeat(300_000));
        let message = trial.results(json!([{ "batch": digits }])).await[0]["error"]["message"].to_string();
        assert!(message.contains("SQLSTATE"), "{message}");
    }

    async fn a_limit_that_a_guest_has_set_holds(door) {
        let database = Database::create().await;
        let trial = trial(&database, door).await;
        let (set, local) = ("set statement_timeout to 300", "set local statement_timeout to 300");
        let (asleep, given_up) = (json!({ "query": SLEEP }), json!({ "abandon": SLEEP, "after_ms": 50 }));
        let fails = json!({ "transaction": [{ "query": "select 1 / 0" }], "end": "rollback" });
        for (steps, nth) in [
            (json!([{ "session": [{ "batch": set }, given_up, asleep] }]), 2),
            (json!([{ "session": [{ "execute": set }, asleep] }]), 1),
            (json!([{ "transaction": [{ "batch": local }, fails, asleep], "end": "rollback" }]), 2),
        ] {
            let results = trial.results(steps.clone()).await;
            let steps_of = results[0].get("steps").unwrap_or(&results[0]);
            assert_eq!(steps_of[nth]["error"]["code"], "57014", "{steps}: {results}");
        }
        let after = trial.results(json!([asleep])).await;
        assert!(after[0].get("error").is_none(), "{after}");
    }

    /// The limit that the host has told went with it.
    async fn a_transaction_by_text_that_is_rolled_back_takes_no_limit_along(door) {
        let database = Database::create().await;
        for ends in [json!([{ "execute": "rollback" }]), json!([{ "batch": "rollback" }]), json!([])] {
            let trial = trial(&database, door).await;
            let mut steps = vec![json!({ "execute": "begin" })];
            steps.extend(ends.as_array().into_iter().flatten().cloned());
            trial.results(json!(steps)).await;
            let shown = trial.results(json!([{ "query": "show statement_timeout" }])).await;
            assert!(shown[0]["rows"][0][0].is_string(), "{shown}");
            assert_ne!(shown[0]["rows"], json!([["0"]]), "{ends}");
        }
    }

    async fn what_undoes_all_settings_takes_no_time_limit_along(door) {
        let database = Database::create().await;
        for reset in ["reset all", "discard all"] {
            for call in [json!({ "execute": reset }), json!({ "batch": reset })] {
                let trial = trial(&database, door).await;
                let show = json!({ "query": "show statement_timeout" });
                let results = trial.results(json!([{ "session": [show, call, show] }])).await;
                for shown in [&results[0][0], &results[0][2]] {
                    assert!(shown["rows"][0][0].is_string(), "{call}: {results}");
                    assert_ne!(shown["rows"], json!([["0"]]), "{call}: {results}");
                }
            }
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
        let results = trial.results(steps).await;
        assert_eq!(results[0][1]["rows"], json!([["serializable"]]), "{results}");
        assert!(!results.to_string().contains("\"error\""), "{results}");
        assert_eq!(trial.host.lines("SET LOCAL"), 0, "the guest has set nothing");
    }

    async fn a_call_that_has_less_time_leaves_the_others_theirs(door) {
        let database = Database::create().await;
        let plain = json!({ "query": "select set_config('app.x', '1', true)" });
        let hidden = json!({ "query": "select set_config($1, '1', true)", "arguments": ["app.x"] });
        let batch = json!({ "batch": "select set_config('app.x', '1', true)" });
        let show = json!({ "query": "show statement_timeout" });
        let hurried = |step: &Value| json!({ "timeout_ms": 5000, "hurried": [step] });
        for prepare in ["\"always\"", "\"never\""] {
            let setup = Setup::of(&QUERY).with(&database).database("pool_max", "1").database("prepare", prepare);
            let trial = setup.start(door).await;
            for call in [&plain, &hidden, &batch] {
                let others = json!({ "query": "select 1" });
                for steps in [
                    json!([{ "transaction": [hurried(call), show], "end": "commit" }]),
                    json!([{ "transaction": [hurried(&others), call, hurried(&others), show], "end": "commit" }]),
                    json!([{ "execute": "begin" }, hurried(call), show, { "execute": "rollback" }]),
                    json!([hurried(call), show]),
                ] {
                    let results = trial.results(steps.clone()).await.to_string();
                    assert!(!results.contains("\"5s\"") && !results.contains("\"error\""), "{prepare} {steps}: {results}");
                }
            }
        }
    }

    /// The server has room for one limit at a time: the guest's.
    async fn a_limit_that_a_guest_has_set_outlives_a_call_with_less_time(door) {
        let database = Database::with(SLOW).await;
        let limit = "statement_timeout = '40s'";
        for prepare in ["\"always\"", "\"never\""] {
            let setup = Setup::of(&QUERY).with(&database).database("pool_max", "1").database("prepare", prepare);
            let trial = setup.start(door).await;
            let quick = json!({ "timeout_ms": 9000, "hurried": [
                { "query": "select 1" }, { "execute": "select 1" }, { "batch": "select 1; select 2" },
                { "pipeline": [["select 1", []], ["select 2", []]] },
                { "typed": "select $1", "values": [[1, "int4"]] },
            ] });
            let show = json!({ "query": "show statement_timeout" });
            let session = json!({ "session": [{ "batch": format!("set {limit}") }, quick, show] });
            let transaction = |scope: &str| {
                let set = format!("set {scope} {limit}");
                json!({ "transaction": [{ "execute": set }, quick, show], "end": "commit" })
            };
            let mut steps = vec![transaction("local"), transaction("session")];
            steps.extend((prepare == "\"always\"").then_some(session));
            for step in steps {
                let results = trial.results(json!([step])).await;
                let steps_of = results[0].get("steps").unwrap_or(&results[0]);
                assert_eq!(steps_of[2]["rows"], json!([["40s"]]), "{prepare} {step}: {results}");
                assert!(!results.to_string().contains("\"error\""), "{prepare} {step}: {results}");
            }
        }
    }

    async fn beside_a_guests_own_limit_every_kind_of_call_may_have_less_time(door) {
        let database = Database::with(SLOW).await;
        let endless = "select pg_sleep(0.05)::text from generate_series(1, 100000)";
        let sleep = "select pg_sleep(600)::text";
        for prepare in ["\"always\"", "\"never\""] {
            let setup = Setup::of(&QUERY).with(&database).database("pool_max", "1").database("prepare", prepare);
            let trial = setup.start(door).await;
            for call in [
                json!({ "query": sleep }),
                json!({ "query": endless }),
                json!({ "execute": sleep }),
                json!({ "pipeline": [["select 1", []], [sleep, []]] }),
                json!({ "batch": "select 1; select pg_sleep(600)" }),
                json!({ "copy_in": "copy slow from stdin", "pieces": ["1\n"] }),
                json!({ "copy_out": format!("copy ({endless}) to stdout") }),
            ] {
                let hurried = json!({ "timeout_ms": 100, "hurried": [call] });
                let set = json!({ "batch": "set local statement_timeout = '40s'" });
                let within = json!({ "transaction": [set, hurried], "end": "rollback" });
                let result = trial.results(json!([within])).await;
                assert_eq!(result[0]["steps"][1][0]["error"]["code"], "57014", "{prepare} {call}: {result}");
                if prepare == "\"always\"" {
                    let set = json!({ "execute": "set statement_timeout = '40s'" });
                    let show = json!({ "query": "show statement_timeout" });
                    let result = trial.results(json!([{ "session": [set, hurried, show] }])).await;
                    assert_eq!(result[0][1][0]["error"]["code"], "57014", "{call}: {result}");
                    assert_eq!(result[0][2]["rows"], json!([["40s"]]), "{call}: {result}");
                }
            }
        }
    }

    async fn a_call_is_given_no_more_time_than_a_guests_own_limit(door) {
        let database = Database::create().await;
        let trial = trial(&database, door).await;
        let set = json!({ "batch": "set statement_timeout = 300" });
        let sleep = "select pg_sleep(600)::text";
        for call in [json!({ "query": sleep }), json!({ "batch": sleep }), json!({ "pipeline": [[sleep, []]] })] {
            let hurried = json!({ "timeout_ms": 20_000, "hurried": [call] });
            let result = trial.results(json!([{ "session": [set, hurried] }])).await;
            assert_eq!(result[0][1][0]["error"]["code"], "57014", "{call}: {result}");
        }
    }
}

/// What limits a session begins with is asked again where a server could not say it, and not where it knows of none.
#[tokio::test]
async fn a_server_that_could_not_say_its_limits_is_asked_again() {
    let database = Database::create().await;
    let limit = "set statement_timeout = '20s'";
    database
        .run(&format!("alter database {} {limit}", database.name))
        .await;
    for (code, fails) in [
        ("53200", true),
        ("57014", true),
        ("42704", false),
        ("0A000", false),
    ] {
        let proxy = Proxy::of(&database);
        let setup = Setup::of(&QUERY)
            .through(&proxy)
            .database("pool_max", "1")
            .database("warm", "0");
        let trial = setup.start(Door::Lambda).await;
        let fields = format!("SERROR\0VERROR\0C{code}\0Mnot now\0\0");
        let length = u32::try_from(fields.len() + 4)
            .expect("it is short")
            .to_be_bytes();
        let refusal = [b"E", &length[..], fields.as_bytes(), b"Z\0\0\0\x05I"].concat();
        proxy.harm(Harm::Replace(refusal));
        let show = json!({ "query": "show statement_timeout" });
        let steps = json!([{ "query": "select 1" }, { "timeout_ms": 25_000, "hurried": [show] }]);
        let results = trial.value(json!({ "steps": steps })).await;
        let shown = &results[1][0]["rows"][0][0];
        match fails {
            true => {
                assert_eq!(results[0]["error"]["code"], code, "{results}");
                assert_eq!(shown, "20s", "{code}: {results}");
            }
            false => {
                assert_eq!(results[0]["rows"], json!([[1]]), "{code}: {results}");
                assert_eq!(shown, "25s", "{code}: {results}");
            }
        }
    }
}
