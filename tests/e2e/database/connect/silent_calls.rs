//! A call that has less time than its invocation ends in that time also where the server, or the network, says nothing.

use std::time::Duration;

use e2e::guests::QUERY;
use e2e::{Database, Door, Harm, Proxy, Setup, Trial};
use serde_json::{Value, json};

const SCHEMA: &str = "
    create table things (id int4);
    create table checked (id int4);
    create function tarry() returns trigger language plpgsql as $$ begin perform pg_sleep(600); return null; end $$;
    create constraint trigger tarry after insert on checked deferrable initially deferred
        for each row execute function tarry();";

/// What the invocation has: far more than its calls.
const TIMEOUT: Duration = Duration::from_secs(20);

async fn scene(door: Door, prepare: &str) -> (Database, Proxy, Trial) {
    let database = Database::with(SCHEMA).await;
    let proxy = Proxy::of(&database);
    let setup = Setup::of(&QUERY)
        .through(&proxy)
        .database("pool_max", "1")
        .database("prepare", prepare)
        .timeout(TIMEOUT);
    let trial = setup.start(door).await;
    (database, proxy, trial)
}

/// Nothing is connected to before the first call.
async fn unserved(door: Door, pool_max: &str) -> (Database, Proxy, Trial) {
    let database = Database::with(SCHEMA).await;
    let proxy = Proxy::of(&database);
    let setup = Setup::of(&QUERY)
        .through(&proxy)
        .database("pool_max", pool_max)
        .database("warm", "0")
        .timeout(TIMEOUT);
    let trial = setup.start(door).await;
    (database, proxy, trial)
}

fn hurried(step: &Value) -> Value {
    json!({ "timeout_ms": 400, "hurried": [step] })
}

/// By itself, in a session, and in a transaction.
fn hurried_everywhere(step: &Value) -> [Value; 3] {
    [
        hurried(step),
        json!({ "session": [hurried(step)] }),
        json!({ "transaction": [hurried(step)], "end": "rollback" }),
    ]
}

/// The result of a step, behind which the invocation goes on.
async fn result(trial: &Trial, step: &Value) -> Value {
    let next = json!({ "query": "select 'whole'" });
    let results = trial.value(json!({ "steps": [step, next] })).await;
    assert_eq!(results[1]["rows"], json!([["whole"]]), "{step}: {results}");
    results[0].clone()
}

fn calls() -> [Value; 7] {
    let insert = "insert into things values ($1)";
    [
        json!({ "execute": insert, "arguments": [1] }),
        json!({ "query": "select id from things" }),
        json!({ "pipeline": [[insert, [1]], ["select 1", []]] }),
        json!({ "batch": "select 1; select 2" }),
        json!({ "streamed": "select n from generate_series(1, 2000) n", "meanwhile": [] }),
        json!({ "copy_in": "copy things from stdin", "pieces": ["1\n"] }),
        json!({ "copy_out": "copy things to stdout" }),
    ]
}

behind_both_doors! {
    /// What asks the server to give a call up has a connection of its own, and that may hang.
    async fn an_answer_that_comes_while_a_request_to_cancel_hangs_is_passed_on(door) {
        let (database, proxy, trial) = scene(door, "\"always\"").await;
        let insert = json!({ "execute": "insert into things values ($1)", "arguments": [1] });
        let transaction = json!({ "transaction": [insert], "end": "commit" });
        for (step, end) in [
            (insert, &b"INSERT 0 1\0Z\0\0\0\x05I"[..]),
            (transaction, b"COMMIT\0Z\0\0\0\x05I"),
            (json!({ "query": "select 4711" }), b"Z\0\0\0\x05I"),
            (json!({ "pipeline": [["select 4711", []]] }), b"Z\0\0\0\x05I"),
        ] {
            result(&trial, &hurried(&step)).await;
            proxy.harm(Harm::HoldBackUntilCancel(end));
            let done = result(&trial, &hurried(&step)).await.to_string();
            assert!(!done.contains("error"), "{step}: {done}");
            proxy.spare();
        }
        assert_eq!(database.value("select count(*) from things").await.as_deref(), Some("4"));
    }

    /// The call has not begun, and ends in its time all the same.
    async fn a_call_that_has_a_time_does_not_wait_for_what_an_earlier_one_has_left(door) {
        let begin = json!({ "batch": "begin" });
        let given_up = json!({ "abandon": "select pg_sleep(600)", "after_ms": 100 });
        let rows = "select case n when 300 then 'mute' else repeat('x', 4000) end from generate_series(1, 400) n";
        let unread = json!({ "streamed": rows, "meanwhile": [], "leaked": true });
        for (left, said) in [(given_up, &b"57014"[..]), (unread, b"mute")] {
            let (_database, proxy, trial) = scene(door, "\"always\"").await;
            // It knows the texts, and the server says them no more.
            result(&trial, &hurried(&json!({ "query": "select 1" }))).await;
            proxy.harm(Harm::SilenceAt(said));
            let steps = [&begin, &left, &hurried(&json!({ "query": "select 1" }))];
            let results = trial.value(json!({ "steps": steps })).await;
            let told = results[2].to_string();
            let in_time = told.contains("was not executed") || told.contains("did not come free within");
            assert!(in_time, "{left}: {results}");
            result(&trial, &json!({ "query": "select 1" })).await;
        }
    }

    /// Each would take as long.
    async fn a_call_that_has_a_time_tries_no_other_connection_once_that_is_over(door) {
        let (_database, proxy, trial) = unserved(door, "4").await;
        let call = json!({ "query": "select 1" });
        for step in hurried_everywhere(&call) {
            proxy.harm(Harm::Mute);
            proxy.forget();
            let lost = trial.value(json!({ "steps": [step] })).await[0].to_string();
            assert!(lost.contains("was lost"), "{step}: {lost}");
            assert_eq!(proxy.logins(), 1, "{step}");
            proxy.spare();
        }
    }

    /// A server that lets everybody in and serves nobody is not overrun.
    async fn connections_that_are_gone_as_soon_as_they_are_made_are_made_with_pauses(door) {
        let (_database, proxy, trial) = unserved(door, "200").await;
        let call = json!({ "query": "select 1" });
        for step in hurried_everywhere(&call) {
            proxy.harm(Harm::HangUp);
            proxy.forget();
            let lost = trial.value(json!({ "steps": [step] })).await[0].to_string();
            // The last attempt may have been cut short.
            let told = lost.contains("was not executed") || lost.contains("could be made within");
            assert!(told, "{step}: {lost}");
            let logins = proxy.logins();
            assert!((1..20).contains(&logins), "{step}: {logins}");
        }
        proxy.spare();
        result(&trial, &call).await;
    }

    async fn a_call_that_has_a_time_ends_in_it_if_the_server_says_nothing(door) {
        for prepare in ["\"always\"", "\"never\""] {
            let (_database, proxy, trial) = scene(door, prepare).await;
            for call in calls() {
                let steps = [
                    hurried(&call),
                    json!({ "session": [hurried(&call)] }),
                    json!({ "transaction": [hurried(&call)], "end": "rollback" }),
                ];
                for step in steps {
                    // The host knows what there is to know, and the connection has answered just now.
                    result(&trial, &step).await;
                    proxy.forget();
                    proxy.harm(Harm::Silence);
                    let lost = result(&trial, &step).await.to_string();
                    // What had not begun was done elsewhere.
                    assert!(lost.contains("was lost") || !lost.contains("error"), "{prepare} {step}: {lost}");
                }
            }
        }
    }

    async fn an_answer_that_has_no_end_leaves_a_doubt(door) {
        let (database, proxy, trial) = scene(door, "\"always\"").await;
        let insert = json!({ "execute": "insert into things values ($1)", "arguments": [1] });
        let transaction = json!({ "transaction": [insert], "end": "commit" });
        for (step, end) in [
            (insert, &b"INSERT 0 1\0Z\0\0\0\x05I"[..]),
            (transaction, b"COMMIT\0Z\0\0\0\x05I"),
            (json!({ "query": "select 4711" }), b"Z\0\0\0\x05I"),
            (json!({ "copy_in": "copy things from stdin", "pieces": ["1\n"] }), b"COPY 1\0Z\0\0\0\x05I"),
        ] {
            result(&trial, &hurried(&step)).await;
            proxy.harm(Harm::Exchange(end.to_vec(), Vec::new()));
            let lost = result(&trial, &hurried(&step)).await.to_string();
            assert!(lost.contains("was lost") && lost.contains("may have been executed"), "{step}: {lost}");
        }
        assert_eq!(database.count("things").await, 6);
    }

    /// The server's own limit is over when it commits.
    async fn a_call_that_has_a_time_ends_in_it_if_its_commit_takes_longer(door) {
        let (database, _proxy, trial) = scene(door, "\"always\"").await;
        for call in [
            json!({ "execute": "insert into checked values (1)" }),
            json!({ "pipeline": [["insert into checked values (1)", []]] }),
            json!({ "batch": "insert into checked values (1)" }),
        ] {
            let ended = result(&trial, &hurried(&call)).await;
            assert_eq!(ended[0]["error"]["code"], "57014", "{call}: {ended}");
        }
        assert_eq!(database.count("checked").await, 0);
    }
}
