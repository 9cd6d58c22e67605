//! A database that goes away and comes back between two invocations costs nobody an error.

use e2e::certificate_authority::file;
use e2e::guests::QUERY;
use e2e::{Database, Server, Setup, Trial, database};
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
            .url(&url)
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
            assert_eq!(database.end_sessions().await, 1);
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
        assert_eq!(database.end_sessions().await, 4);
        let answer = trial.value(steps).await;
        assert!(answer[0].as_array().unwrap().iter().all(|result| result.get("error").is_none()), "{answer}");
        database.settles(4).await;
    }

    /// Each looks alive for a moment, in which it is borrowed.
    async fn backends_of_a_pool_that_are_just_being_terminated(door) {
        let database = Database::with("create table things (id int4)").await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "8").start(door).await;
        let query = json!({ "query": "select 1" });
        let open = json!({ "steps": [{ "parallel": vec![json!({ "query": "select 1 from pg_sleep(0.05)" }); 8] }] });
        let steps = json!({ "steps": [query, { "transaction": [query], "end": "commit" }, { "session": [query] }] });
        for round in 0..30 {
            trial.value(open.clone()).await;
            database
                .observe("select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = $name")
                .await;
            let answer = trial.value(steps.clone()).await.to_string();
            assert!(!answer.contains("error"), "round {round}: {answer}");
        }
    }

    /// In the middle of a statement it cannot be known what happened, and that is what is said.
    async fn a_backend_that_is_terminated_during_a_statement(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).start(door).await;
        let sleep = json!({ "steps": [{ "query": "select pg_sleep(600)::text" }] });
        let kill = async {
            database.sleeps_in(1).await;
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
        assert!(message.starts_with("cannot reach the database: "), "{message}");
        assert_eq!(message.matches("reach").count(), 1, "{message}");
        server.start().await;
        pid(&trial).await;
    }

    /// It is restored from an archive, and starts up for as long as that does not answer.
    async fn a_server_that_starts_up_is_waited_for_or_passed_over(door) {
        let server = Server::listening().await;
        let other = Server::shared().await;
        let archive = file("before", "").with_file_name("archive");
        let restore = format!("until test -e {}; do sleep 0.01; done; false", archive.display());
        let files = [("pg_hba.conf", database::RULES), ("recovery.signal", "")];
        server.set_up(&files, &[("restore_command", &restore)]).await;

        let one = format!("postgres://postgres@{}", server.address());
        let folder = other.socket().parent().unwrap().display().to_string().replace('/', "%2F");
        let setup = |url: &str| {
            let url = format!("\"{url}/postgres\"");
            Setup::of(&QUERY).database("url", &url).toml("[log]\nlevel = \"debug\"")
        };
        let patient = setup(&one).database("connect_timeout_ms", "60000").timeout(e2e::PATIENCE);
        let (patient, hasty, choosy) = tokio::join!(
            patient.start(door),
            setup(&one).database("connect_timeout_ms", "2000").start(door),
            setup(&format!("{one},{folder}")).start(door)
        );
        let place = json!({ "steps": [{ "query": "select current_setting('listen_addresses')" }] });
        let here = json!([[server.address().to_string()]]);
        for trial in [&patient, &hasty, &choosy] {
            assert_eq!(trial.value(place.clone()).await[0]["rows"], here);
        }

        server.stop().await;
        let meanwhile = async {
            e2e::eventually("a server that starts up", async || {
                (server.refusal().await? == "57P03").then_some(())
            })
            .await;
            let refused = hasty.value(place.clone()).await;
            let message = refused[0]["error"]["message"].as_str().unwrap_or_else(|| panic!("{refused}"));
            assert!(message.contains("57P03"), "{message}");
            assert_eq!(choosy.value(place.clone()).await[0]["rows"], json!([[""]]));
            let answers = async {
                e2e::eventually("more than one refusal", async || {
                    (patient.host.lines("57P03") > 1).then_some(())
                })
                .await;
                std::fs::write(&archive, "").unwrap();
            };
            tokio::join!(patient.value(place.clone()), answers).0
        };
        let ((), answer) = tokio::join!(server.start(), meanwhile);
        assert_eq!(answer[0]["rows"], here, "{answer}");
        assert_eq!(hasty.value(place).await[0]["rows"], here);
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
