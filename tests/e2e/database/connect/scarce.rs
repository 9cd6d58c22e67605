//! Connections that cannot be made, or not in time, where there are others, or other servers.

use std::net::Ipv4Addr;

use e2e::guests::QUERY;
use e2e::{Database, Door, Server, Setup};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

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

    /// Whoever waits for one more has the one that there is when that comes free.
    async fn a_server_that_takes_no_more_connections_is_used_through_those_there_are(door) {
        let database = database().await;
        let role = format!("{}_only", database.name);
        database.run(&format!("create role {role} login connection limit 1")).await;
        let url = format!("\"postgres://{role}@{}/{}\"", database.server.address(), database.name);
        let setup = Setup::of(&QUERY).database("url", &url).database("pool_max", "3");
        let wait = json!({ "query": "select pg_backend_pid(), pg_sleep(1)::text" });
        let results = at_once(door, setup, json!([wait, wait, wait])).await;
        let pid = |index: usize| results[index]["rows"][0][0].clone();
        assert!(pid(0).is_number(), "{results}");
        assert_eq!([pid(1), pid(2)], [pid(0), pid(0)], "{results}");
    }

    /// As behind a firewall that has forgotten its rules: what has gone on before still does.
    async fn a_server_that_no_new_connection_reaches_is_used_through_those_there_are(door) {
        let database = database().await;
        let server = format!("{}:5432", database.server.address());
        let (first_only, address) = listener().await;
        tokio::spawn(async move {
            let (mut host, _) = first_only.accept().await.unwrap();
            let mut server = TcpStream::connect(server).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut host, &mut server).await;
        });
        let url = format!("\"postgres://postgres@{address}/{}\"", database.name);
        let setup = Setup::of(&QUERY).database("url", &url).database("pool_max", "2");
        let wait = json!({ "query": "select pg_sleep(1)::text" });
        let results = at_once(door, setup, json!([wait, wait])).await;
        assert_eq!(results[0]["rows"], results[1]["rows"], "{results}");
        assert!(results[0].get("error").is_none(), "{results}");
    }

    /// Also who gets in line behind others meanwhile. Of the third no connection was made yet.
    async fn a_server_that_takes_no_more_connections_is_the_reason_for_all_whom_it_has_refused(door) {
        let database = database().await;
        let role = format!("{}_none", database.name);
        database.run(&format!("create role {role} login connection limit 0")).await;
        let url = format!("\"postgres://{role}@{}/{}\"", database.server.address(), database.name);
        let setup = Setup::of(&QUERY)
            .database("url", &url)
            .database("pool_max", "1")
            .database("warm", "0");
        let hurried = json!({ "timeout_ms": 3500, "hurried": [{ "query": "select 1" }] });
        let results = at_once(door, setup, json!([hurried, hurried, hurried])).await;
        let refused = (0..3).filter(|index| results[index][0].to_string().contains("too many connections"));
        assert!(refused.count() >= 2, "{results}");
        assert!(!results.to_string().contains("has answered yet"), "{results}");
    }
}
