//! Connections that cannot be made, or not in time, where there are others, or other servers.

use std::net::Ipv4Addr;

use e2e::guests::QUERY;
use e2e::{Database, Door, Server, Setup};
use serde_json::{Value, json};
use tokio::net::TcpListener;

const RULES: &str = "local all all trust\nhost all all 0.0.0.0/0 trust\n";

/// A database on a server that listens on TCP and lets everyone in.
async fn database() -> Database {
    let server = Server::listening().await;
    server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
    Database::create_on(&server).await
}

/// A listener, and where it is.
async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// The results of these steps at the same time.
async fn at_once(door: Door, setup: Setup, steps: Value) -> Value {
    let trial = setup.start(door).await;
    trial
        .value(json!({ "steps": [{ "parallel": steps }] }))
        .await[0]
        .clone()
}

behind_both_doors! {
    /// Half of what connecting may take would be more than all that the call has.
    async fn a_host_that_is_silent_leaves_time_for_the_next_to_a_call_in_a_hurry(door) {
        let database = database().await;
        let (_silent, silent) = listener().await;
        let url = format!("\"postgres://postgres@{silent},{}/{}\"", database.server.address(), database.name);
        let setup = Setup::of(&QUERY)
            .database("url", &url)
            .database("connect_timeout_ms", "30000")
            .database("warm", "0");
        let hurried = json!([{ "timeout_ms": 6000, "hurried": [{ "query": "select 'here'" }] }]);
        let results = at_once(door, setup, hurried).await;
        assert_eq!(results[0][0]["rows"], json!([["here"]]), "{results}");
    }
}
