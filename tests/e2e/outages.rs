//! A database that goes away and comes back between two invocations costs nobody an error.

use e2e::guests::QUERY;
use e2e::{Database, Server, Setup, Trial};
use serde_json::{Value, json};

const PID: &str = "select pg_backend_pid()::text";

async fn pid(trial: &Trial) -> Value {
    trial.value(json!({ "steps": [{ "query": PID }] })).await[0]["rows"][0][0].clone()
}

behind_both_doors! {
    async fn a_server_that_was_restarted_between_two_invocations(door) {
        let server = Server::own().await;
        let database = Database::create_on(&server).await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        for _ in 0..3 {
            let before = pid(&trial).await;
            server.stop().await;
            server.start().await;
            assert_ne!(pid(&trial).await, before);
            database.settles(1).await;
        }
    }

    /// It does not close its connections well, but says something and is gone.
    async fn a_server_that_crashed_between_two_invocations(door) {
        let server = Server::listening().await;
        server.set_up(&[("pg_hba.conf", "local all all trust\nhost all all 0.0.0.0/0 trust\n")], &[]).await;
        let database = Database::create_on(&server).await;
        // On a Unix socket the first write fails; on TCP it is taken, for nobody.
        let url = format!("postgresql://postgres@{}/{}", server.address(), database.name);
        let trial = Setup::of(&QUERY)
            .database("url", &format!("{url:?}"))
            .start(door)
            .await;
        for _ in 0..3 {
            let before = pid(&trial).await;
            server.crash().await;
            assert_ne!(pid(&trial).await, before);
            database.settles(1).await;
        }
    }

    async fn a_backend_that_was_terminated_between_two_invocations(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        for _ in 0..3 {
            let before = pid(&trial).await;
            let kill =
                "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where datname = $name";
            assert_eq!(database.observe(kill).await.as_deref(), Some("1"));
            assert_ne!(pid(&trial).await, before);
            database.settles(1).await;
        }
    }

    async fn all_backends_of_a_pool_terminated_between_two_invocations(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "4").start(door).await;
        let sleep = json!({ "query": "select pg_sleep(0.2)::text" });
        let steps = json!({ "steps": [{ "parallel": [sleep, sleep, sleep, sleep] }] });
        trial.value(steps.clone()).await;
        database.settles(4).await;
        let kill =
            "select count(pg_terminate_backend(pid, 10000)) from pg_stat_activity where datname = $name";
        assert_eq!(database.observe(kill).await.as_deref(), Some("4"));
        let answer = trial.value(steps).await;
        assert!(answer[0].as_array().unwrap().iter().all(|result| result.get("error").is_none()), "{answer}");
        database.settles(4).await;
    }

    /// In the middle of a statement it cannot be known what happened, and that is what is said.
    async fn a_backend_that_is_terminated_during_a_statement(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        let sleep = json!({ "steps": [{ "query": "select pg_sleep(600)::text" }] });
        let kill = async {
            let sleeping =
                "select count(*) from pg_stat_activity where datname = $name and wait_event = 'PgSleep'";
            database.until(sleeping, "1").await;
            database
                .observe("select pg_terminate_backend(pid) from pg_stat_activity where datname = $name")
                .await;
        };
        let (answer, ()) = tokio::join!(trial.value(sleep), kill);
        let error = &answer[0]["error"];
        assert!(
            error["code"] == "57P01" || error["message"].as_str().unwrap().contains("may have been executed"),
            "{answer}"
        );
        pid(&trial).await;
        database.settles(1).await;
    }

    async fn a_server_that_is_down_is_an_error_and_up_again_is_none(door) {
        let server = Server::own().await;
        let database = Database::create_on(&server).await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        pid(&trial).await;
        server.stop().await;
        let down = trial.value(json!({ "steps": [{ "query": PID }] })).await;
        let message = down[0]["error"]["message"].as_str().unwrap_or_else(|| panic!("{down}"));
        assert!(message.contains("cannot be reached"), "{message}");
        server.start().await;
        pid(&trial).await;
    }

    /// The host starts without its database: a function may not need it today.
    async fn a_server_that_is_down_when_the_host_starts(door) {
        let server = Server::own().await;
        let database = Database::create_on(&server).await;
        server.stop().await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        trial.value(json!({ "steps": [] })).await;
        server.start().await;
        pid(&trial).await;
    }
}
