//! SIGTERM: what runs is answered, what is open is closed, and the process ends well.

use std::time::Duration;

use e2e::guests::{MISBEHAVE, QUERY};
use e2e::{Database, Setup};
use serde_json::json;

/// Longer than any drain may take, on a machine however busy.
const DRAINED: Duration = Duration::from_secs(20);

behind_both_doors! {
    async fn an_idle_host_ends_and_leaves_no_connection(door) {
        let database = Database::create().await;
        let mut trial = Setup::of(&QUERY).with(&database).start(door).await;
        trial.value(json!({ "steps": [{ "query": "select 1" }] })).await;
        database.settles(1).await;
        trial.host.terminate();
        assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
        database.settles(0).await;
    }

    /// The invocation waits for a lock, and gets it after the signal.
    async fn an_invocation_that_runs_is_answered_first(door) {
        let database = Database::create().await;
        let gate = database.client().await;
        gate.batch_execute("select pg_advisory_lock(1)").await.unwrap();
        let mut trial = Setup::of(&QUERY).with(&database).start(door).await;
        let drain = async {
            let waiting =
                "select count(*) from pg_stat_activity where datname = $name and wait_event = 'advisory'";
            database.until(waiting, "1").await;
            trial.host.terminate();
            gate.batch_execute("select pg_advisory_unlock(1)").await.unwrap();
        };
        let wait = json!({ "steps": [{ "query": "select pg_advisory_lock_shared(1)::text" }] });
        let (answer, ()) = tokio::join!(trial.value(wait), drain);
        assert_eq!(answer[0]["rows"], json!([[""]]));
        assert_eq!(trial.host.end(DRAINED).await.code(), Some(0));
        drop(gate);
        database.settles(0).await;
    }

    async fn an_invocation_that_never_ends_is_not_waited_for(door) {
        let mut trial = Setup::of(&MISBEHAVE).timeout(Duration::from_secs(60)).start(door).await;
        let mut log = trial.host.log().len();
        {
            let spin = trial.invoke(json!({ "act": "spin" }));
            let started = e2e::eventually("the guest's own line", async || {
                log = trial.host.log().iter().filter(|line| line.contains("spinning")).count();
                (log > 0).then_some(())
            });
            tokio::select! {
                _ = spin => panic!("it cannot have ended"),
                () = started => {}
            }
        }
        trial.host.terminate();
        trial.host.end(DRAINED).await;
    }

    /// Its statement would go on, on the server, for ten minutes.
    async fn a_query_that_never_ends_is_cancelled_on_the_server(door) {
        let database = Database::create().await;
        let mut trial = Setup::of(&QUERY).with(&database).timeout(Duration::from_secs(60)).start(door).await;
        let sleep = json!({ "steps": [{ "batch": "select pg_sleep(600)" }] });
        let sleeping =
            "select count(*) from pg_stat_activity where datname = $name and wait_event = 'PgSleep'";
        tokio::select! {
            _ = trial.invoke(sleep) => panic!("it cannot have ended"),
            () = database.until(sleeping, "1") => {}
        }
        trial.host.terminate();
        trial.host.end(DRAINED).await;
        database.settles(0).await;
    }
}
