//! Notifications: heard by a session that waits for them where nothing is frozen meanwhile, and refused elsewhere.

use e2e::guests::QUERY;
use e2e::steps::message;
use e2e::{Database, Door, Setup, Trial};
use serde_json::json;

async fn trial(door: Door) -> (Database, Trial) {
    let database = Database::create().await;
    let trial = Setup::of(&QUERY).with(&database).start(door).await;
    (database, trial)
}

const PID: &str = "select pg_backend_pid()";

/// On the local host and on Managed Instances, however few events those have at a time.
#[tokio::test]
async fn a_notification_is_heard_where_nothing_is_frozen() {
    let database = Database::create().await;
    let setup = || Setup::of(&QUERY).with(&database);
    let one_at_a_time = setup().variable("AWS_LAMBDA_MAX_CONCURRENCY", "1");
    let managed = setup().variable("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances");
    for (door, setup) in [
        (Door::Local, setup()),
        (Door::Lambda, setup().concurrency(2)),
        (Door::Lambda, one_at_a_time),
        (Door::Lambda, managed),
    ] {
        let trial = setup.start(door).await;
        let steps = json!([{ "session": [{ "listen": "Some \"channel\"" }] }]);
        let heard = trial.results(steps).await;
        assert_eq!(
            heard[0][0],
            json!({ "channel": "Some \"channel\"", "payload": "said by the function itself" })
        );
    }
}

/// The query would take an hour, and its connection is the one that waits. Its rows come one by one:
/// those of a function in `FROM` are all made before the first is sent.
#[tokio::test]
async fn a_notification_is_told_from_the_rows_of_a_query_that_was_dropped() {
    let (_database, trial) = trial(Door::Local).await;
    let slow = "select repeat('x', 1000) from (select generate_series(1, 1000000000)) many";
    let steps = json!([{ "session": [
        { "query": PID }, { "listen": "here", "dropped": slow }, { "query": PID },
    ] }]);
    let heard = trial.results(steps).await;
    assert_eq!(heard[0][1]["channel"], "here", "{heard:?}");
    assert_eq!(heard[0][0]["rows"], heard[0][2]["rows"], "{heard:?}");
}

/// Nothing is executed while it is waited for, so nobody need wonder what was.
#[tokio::test]
async fn what_ends_the_wait_for_a_notification_is_said() {
    let (database, trial) = trial(Door::Local).await;
    let wait =
        json!({ "session": [{ "listen": "here", "unheard": true }, { "query": "select 1" }] });
    let kill = async {
        let listening = "select count(*) from pg_stat_activity where datname = $name
                         and state = 'idle' and query ilike 'listen%'";
        database.until(listening, "1").await;
        database.end_sessions().await
    };
    let (results, ended) =
        tokio::join!(trial.results(json!([wait, { "query": "select 2" }])), kill);
    assert_eq!(ended, 1);
    assert_eq!(results[0][0]["error"]["code"], "57P01", "{results}");
    assert!(
        !message(&results[0][1]).contains("may have been executed"),
        "{results}"
    );
    assert_eq!(results[1]["rows"], json!([[2]]));
}

#[tokio::test]
async fn a_notification_is_refused_where_lambda_freezes_the_environment() {
    let (_database, trial) = trial(Door::Lambda).await;
    let steps = json!([
        { "session": [{ "listen": "here" }] },
        { "execute": "/* now */ listen here" },
        { "batch": "select 1; LISTEN here" },
        { "query": "select count(*)::text from pg_listening_channels()" },
    ]);
    let refused = trial.results(steps).await;
    for refused in [&refused[0][0], &refused[1], &refused[2]] {
        assert!(message(refused).contains("frozen"), "{refused}");
    }
    assert_eq!(refused[3]["rows"], json!([["0"]]));
}
