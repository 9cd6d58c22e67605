//! A connection that is always in use is replaced all the same, at its age, and nobody notices but the server.

use std::collections::HashSet;

use e2e::guests::QUERY;
use e2e::{Clock, Database, Door, Proxy, Setup, Trial};
use serde_json::{Value, json};

const PID: &str = "select pg_backend_pid()::text";

/// What a connection may serve for, and how long it rests between two uses, in seconds: too short for it to be
/// replaced on that account.
const LIFETIME: &str = "1000";
/// See [`LIFETIME`].
const REST: i64 = 200;

struct Scene {
    clock: Clock,
    database: Database,
    proxy: Proxy,
    trial: Trial,
}

impl Scene {
    async fn start() -> Self {
        let database = Database::create().await;
        let proxy = Proxy::of(&database);
        let clock = Clock::new();
        let trial = Setup::of(&QUERY)
            .through(&proxy)
            .database("lifetime_s", LIFETIME)
            .clock(&clock)
            .start(Door::Lambda)
            .await;
        Self {
            clock,
            database,
            proxy,
            trial,
        }
    }

    /// How often the host has said good-bye to the server.
    fn farewells(&self) -> usize {
        let (flushes, _) = self.proxy.passed();
        flushes.iter().filter(|flush| *flush == "X").count()
    }

    async fn pid(&self) -> Value {
        let answer = self
            .trial
            .value(json!({ "steps": [{ "query": PID }] }))
            .await;
        assert!(answer[0].get("error").is_none(), "{answer}");
        answer[0]["rows"][0][0].clone()
    }
}

/// It is up to a tenth less, and so the fifth rest of five is the one after which it is over.
#[tokio::test]
async fn a_connection_in_steady_use_is_replaced_at_its_age() {
    let scene = Scene::start().await;
    let mut pids = HashSet::new();
    for life in 1..=3 {
        let first = scene.pid().await;
        assert!(pids.insert(first.clone()), "{first} has served already");
        for _ in 0..4 {
            scene.clock.shift(REST);
            assert_eq!(scene.pid().await, first, "it is not old yet");
        }
        assert_eq!(scene.farewells(), life - 1);
        scene.clock.shift(REST);
    }
    scene.pid().await;
    assert_eq!(scene.farewells(), 3);
    scene.database.settles(1).await;
}

#[tokio::test]
async fn a_connection_that_an_invocation_has_is_not_taken_from_it() {
    let scene = Scene::start().await;
    let gate = scene.database.gate().await;
    let (look, wait) = (
        json!({ "query": PID }),
        json!({ "query": "select pg_advisory_xact_lock_shared(1)::text" }),
    );
    let held = json!({ "steps": [
        { "batch": "set application_name = 'kept'" }, look, wait, look,
    ] });
    let ages = async {
        gate.waited_for(1).await;
        scene.clock.shift(5_000);
        gate.open().await;
    };
    let (answer, ()) = tokio::join!(scene.trial.value(held), ages);
    assert_eq!(answer[1]["rows"], answer[3]["rows"], "{answer}");
    assert!(answer[1].get("error").is_none(), "{answer}");
    assert_ne!(
        scene.pid().await,
        answer[1]["rows"][0][0],
        "the next one's is new"
    );
}
