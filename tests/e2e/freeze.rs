//! Lambda freezes an environment between two events; what happens meanwhile is found out at the thaw.

use e2e::guests::{COUNTER, QUERY};
use e2e::lambda::Event;
use e2e::{Database, Door, PATIENCE, Server, Setup, Trial};
use serde_json::{Value, json};

const PID: &str = "select pg_backend_pid()::text";

/// The environment stands still while `meanwhile` happens, and is thawed by the next event.
async fn frozen(trial: &Trial, meanwhile: impl Future<Output = ()>) -> Value {
    trial.lambda().parked(1).await;
    trial.host.freeze();
    meanwhile.await;
    let event = Event::new(
        json!({ "steps": [{ "query": PID }] }).to_string(),
        PATIENCE / 2,
    );
    let id = event.id.clone();
    trial.lambda().send(event);
    trial.host.thaw();
    let call = trial.lambda().answer(&id).await;
    assert_eq!(call.what, e2e::lambda::What::Response, "{:?}", call.body);
    serde_json::from_slice(&call.body).unwrap()
}

#[tokio::test]
async fn a_freeze_alone_changes_nothing() {
    let database = Database::create().await;
    let trial = Setup::of(&QUERY).with(&database).start(Door::Lambda).await;
    let before = trial.value(json!({ "steps": [{ "query": PID }] })).await;
    for _ in 0..5 {
        assert_eq!(frozen(&trial, async {}).await, before);
    }
}

#[tokio::test]
async fn a_connection_closed_during_the_freeze_is_replaced_without_an_error() {
    let database = Database::create().await;
    let trial = Setup::of(&QUERY).with(&database).start(Door::Lambda).await;
    let before = trial.value(json!({ "steps": [{ "query": PID }] })).await;
    let kill = async {
        let kill = "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where datname = $name";
        assert_eq!(database.observe(kill).await.as_deref(), Some("1"));
    };
    let after = frozen(&trial, kill).await;
    assert!(after[0].get("error").is_none(), "{after}");
    assert_ne!(after, before);
}

#[tokio::test]
async fn a_server_restarted_during_the_freeze_is_found_again_without_an_error() {
    let server = Server::own().await;
    let database = Database::create_on(&server).await;
    let trial = Setup::of(&QUERY).with(&database).start(Door::Lambda).await;
    trial.value(json!({ "steps": [{ "query": PID }] })).await;
    let restart = async {
        server.stop().await;
        server.start().await;
    };
    let after = frozen(&trial, restart).await;
    assert!(after[0].get("error").is_none(), "{after}");
    database.settles(1).await;
}

#[tokio::test]
async fn an_instance_is_warm_after_a_freeze() {
    let trial = Setup::of(&COUNTER).start(Door::Lambda).await;
    trial.value(json!({})).await;
    assert_eq!(frozen(&trial, async {}).await["served"], 2);
}
