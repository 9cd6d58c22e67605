//! Whatever a connection is lost with, the guest is told what became of that, and of no more than there is doubt.

use e2e::guests::{LOST, QUERY, TRANSACT};
use e2e::{Database, Door, Guest, Harm, Proxy, Setup, Trial};
use serde_json::{Value, json};

const DOUBT: &str = "may have been executed";
/// Ends its own connection.
const END: &str = "select pg_terminate_backend(pg_backend_pid())";

struct Scene {
    database: Database,
    proxy: Proxy,
    trial: Trial,
}

async fn scene(guest: &Guest, door: Door) -> Scene {
    let database = Database::with(
        "create table things (number int4); create sequence tries;
        create function refused_once() returns text language plpgsql as $$ begin
            if nextval('tries') = 1 then raise 'again' using errcode = '40001'; end if;
            return 'done';
        end $$",
    )
    .await;
    let proxy = Proxy::of(&database);
    let setup = Setup::of(guest)
        .through(&proxy)
        .database("pool_max", "3")
        .database("connect_timeout_ms", "1000");
    Scene {
        trial: setup.start(door).await,
        database,
        proxy,
    }
}

impl Scene {
    async fn results(&self, steps: Value) -> Vec<Value> {
        let answer = self.trial.value(json!({ "steps": steps })).await;
        answer.as_array().expect("each step has a result").clone()
    }

    async fn count(&self) -> Option<String> {
        let count = "select count(*) from things";
        self.database.value(count).await
    }

    async fn numbers(&self) -> Option<String> {
        let numbers = "select string_agg(number::text, ' ' order by number) from things";
        self.database.value(numbers).await
    }
}

fn insert(number: u32) -> Value {
    json!({ "execute": format!("insert into things values ({number})") })
}

/// Whether this says that the connection is lost, in the host's words or in the server's last ones.
fn is_lost(result: &Value) -> bool {
    let in_words = message(result).is_some_and(|told| told.contains("was lost"));
    in_words || result["error"]["code"] == "57P01"
}

fn message(result: &Value) -> Option<&str> {
    result["error"]["message"].as_str()
}

behind_both_doors! {
    /// It would be committed without the statement that found no connection.
    async fn a_transaction_that_finds_no_other_connection_is_over(door) {
        let scene = scene(&LOST, door).await;
        let said = scene.trial.value(json!("none to spare")).await;
        assert_eq!(said, json!([true, true, true, true, true]));
        scene.trial.value(json!("two")).await;
        scene.proxy.harm(Harm::CutLogins);
        let said = scene.trial.value(json!("none to log in to")).await;
        assert_eq!(said, json!([true, true, true]));
        assert_eq!(scene.count().await.as_deref(), Some("0"));
    }

    /// Neither goes on elsewhere with what the other has begun, also if it was called before that.
    async fn calls_that_wait_for_the_same_other_connection_are_lost_with_it(door) {
        let scene = scene(&LOST, door).await;
        let told = json!([[true, true, true, true, true], 0]);
        assert_eq!(scene.trial.value(json!("lost twice")).await, told);
    }

    /// Nobody knows whether the server holds it still.
    async fn a_session_that_was_lost_with_a_lock_is_not_closed_well(door) {
        let scene = scene(&LOST, door).await;
        let said = scene.trial.value(json!("closed")).await;
        assert_eq!(said, json!([false, false, false, null]));
    }

    /// Nothing is copied before the server has heard that it has all.
    async fn a_copy_that_is_lost_before_its_end_leaves_no_doubt(door) {
        let scene = scene(&LOST, door).await;
        let said = scene.trial.value(json!("copied")).await;
        assert_eq!(said, json!([[false, false, false], 0]));
    }

    async fn a_call_that_does_not_come_to_its_turn_fails_the_transaction_by_text(door) {
        let scene = scene(&QUERY, door).await;
        let slow = json!({ "query": "select pg_sleep(2)::text" });
        let hurried = json!({ "timeout_ms": 50, "hurried": [insert(1)] });
        let results = scene.results(json!([
            { "batch": "begin" }, { "parallel": [slow, hurried] }, insert(2), { "batch": "commit" },
        ])).await;
        let told = message(&results[1][1][0]).unwrap_or_default();
        assert!(told.contains("did not come free"), "{results:?}");
        assert_eq!(results[2]["error"]["code"], "25P02", "{results:?}");
        assert_eq!(scene.count().await.as_deref(), Some("0"));
    }

    /// Whoever waits for the connection has its turn before it is known that it is lost.
    async fn a_transaction_by_text_whose_beginning_is_lost_stays_lost_whoever_waits(door) {
        let scene = scene(&QUERY, door).await;
        let begin = json!({ "batch": format!("begin; select pg_sleep(0.3); {END}") });
        let hold = json!({ "session": [{ "query": "select pg_sleep(0.6)::text" }] });
        let waits = json!({ "query": "select 1" });
        let results = scene.results(json!([
            { "batch": "set application_name = 'kept'" },
            { "parallel": [hold, hold, begin, waits] },
            insert(1), { "batch": "commit" }, insert(2),
        ])).await;
        for lost in [&results[1][2], &results[1][3], &results[2], &results[3]] {
            assert!(is_lost(lost), "{results:?}");
        }
        assert_eq!(results[4], json!({ "affected": 1 }), "{results:?}");
        assert_eq!(scene.numbers().await.as_deref(), Some("2"));
    }

    /// Nor is it begun by asking what that is.
    async fn a_transaction_by_text_is_not_ended_by_asking_what_that_is(door) {
        let scene = scene(&QUERY, door).await;
        let begin = json!({ "batch": format!("begin; {END}") });
        let results = scene.results(json!([
            begin, { "describe": "commit" }, { "describe": "begin" }, insert(1), { "batch": "commit" }, insert(2),
        ])).await;
        for lost in &results[..5] {
            assert!(is_lost(lost), "{results:?}");
        }
        assert_eq!(results[5], json!({ "affected": 1 }), "{results:?}");
        assert_eq!(scene.numbers().await.as_deref(), Some("2"));
    }

    /// What makes such an error may be a function's own.
    async fn a_transaction_by_text_that_fails_as_if_it_were_lost_is_there(door) {
        let scene = scene(&QUERY, door).await;
        let raise = "do $$ begin raise 'elsewhere' using errcode = '08006'; end $$";
        let results = scene.results(json!([
            { "batch": "begin" }, insert(1), { "batch": raise }, insert(2), { "batch": "rollback" },
            { "batch": format!("begin; {raise}") }, insert(3), { "batch": "rollback" }, insert(4),
        ])).await;
        for failed in [&results[3], &results[6]] {
            assert_eq!(failed["error"]["code"], "25P02", "{results:?}");
        }
        // Nothing is kept yet on which it could go on.
        let begin = json!({ "batch": format!("begin; {raise}") });
        let results = scene.results(json!([begin, insert(5), { "batch": "rollback" }, insert(6)])).await;
        assert!(is_lost(&results[1]), "{results:?}");
        assert_eq!(scene.numbers().await.as_deref(), Some("4 6"), "{results:?}");
    }

    /// To ask what a statement is executes nothing that could be missing.
    async fn asking_that_does_not_come_to_its_turn_leaves_the_transaction_by_text_well(door) {
        let scene = scene(&QUERY, door).await;
        let slow = json!({ "query": "select pg_sleep(1)::text" });
        let hurried = json!({ "timeout_ms": 50, "hurried": [{ "describe": "select 2" }] });
        let results = scene.results(json!([
            { "batch": "begin" }, insert(1), { "parallel": [slow, hurried] }, insert(2), { "batch": "commit" },
        ])).await;
        let told = message(&results[2][1][0]).unwrap_or_default();
        assert!(told.contains("did not come free"), "{results:?}");
        assert_eq!(results[3], json!({ "affected": 1 }), "{results:?}");
        assert_eq!(scene.numbers().await.as_deref(), Some("1 2"));
    }
}

#[tokio::test]
async fn a_copy_that_is_cut_anywhere_leaves_a_doubt_only_once_its_end_is_sent() {
    let scene = scene(&QUERY, Door::Lambda).await;
    let copy = json!([{ "copy_in": "copy things from stdin", "pieces": ["1\n", "2\n"] }]);
    scene.results(copy.clone()).await;
    scene.proxy.forget();
    scene.results(copy.clone()).await;
    let mut doubts = [0; 2];
    for place in 0..=scene.proxy.answer_bytes() {
        scene.proxy.spare();
        scene.results(copy.clone()).await;
        scene.database.run("truncate things").await;
        scene.proxy.harm(Harm::CutAnswer(place));
        let results = scene.results(copy.clone()).await;
        let Some(message) = message(&results[0]) else {
            continue;
        };
        let is_doubtful = message.contains(DOUBT);
        doubts[usize::from(is_doubtful)] += 1;
        let copied = scene.count().await.as_deref() == Some("2");
        assert!(is_doubtful || !copied, "after {place} bytes: {message}");
    }
    assert!(doubts[0] > 0 && doubts[1] > 0, "{doubts:?}");
}

/// Whatever the server does with it, it commits nothing.
#[tokio::test]
async fn a_commit_of_what_has_failed_leaves_no_doubt_wherever_it_is_cut() {
    let scene = scene(&QUERY, Door::Lambda).await;
    let transaction =
        |ended: &str| json!([{ "transaction": [insert(1), { "query": ended }], "end": "commit" }]);
    scene.results(transaction("select 1/0")).await;
    scene.proxy.forget();
    scene.results(transaction("select 1/0")).await;
    let mut lost = 0;
    for place in 0..=scene.proxy.answer_bytes() {
        scene.proxy.spare();
        scene.results(transaction("select 1/0")).await;
        scene.proxy.harm(Harm::CutAnswer(place));
        let results = scene.results(transaction("select 1/0")).await;
        let message = message(&results[0]["end"]).unwrap_or_else(|| panic!("{results:?}"));
        assert!(!message.contains(DOUBT), "after {place} bytes: {message}");
        lost += usize::from(message.contains("was lost"));
    }
    assert!(lost > 0, "no commit was cut");
    assert_eq!(scene.count().await.as_deref(), Some("0"));
}

/// Where the statement was lost, nobody knows why; where the commit was, nothing was committed of the first attempt, and
/// perhaps of the second.
#[tokio::test]
async fn a_transaction_in_others_way_is_done_again_though_its_commit_was_cut() {
    let scene = scene(&TRANSACT, Door::Lambda).await;
    let event = json!({ "steps": [{ "try": "select refused_once()" }] });
    let mut outcomes = Vec::new();
    loop {
        scene.database.run("alter sequence tries restart").await;
        let place = 3 * outcomes.len();
        scene.proxy.harm(Harm::CutAnswer(place));
        scene.proxy.forget();
        let result = scene.trial.value(event.clone()).await;
        let is_cut = scene.proxy.answer_bytes() > place;
        if !is_cut {
            break;
        }
        outcomes.push(result.get("error").is_none());
    }
    // More of them than where only the server's last word on the statement was cut.
    let lost = |(_, is_done): &(usize, &bool)| !**is_done;
    let first = outcomes.iter().enumerate().find(lost);
    let last = outcomes.iter().enumerate().rfind(lost);
    let between = first
        .zip(last)
        .map_or(&[][..], |((first, _), (last, _))| &outcomes[first..last]);
    let again = between.iter().filter(|is_done| **is_done).count();
    assert!(again > 4, "{outcomes:?}");
}

/// What was meant for it would be committed statement by statement.
#[tokio::test]
async fn a_transaction_by_text_whose_beginning_is_lost_is_gone_on_with_nowhere() {
    let scene = scene(&QUERY, Door::Lambda).await;
    for (end, is_told) in [("commit", true), ("rollback", false), ("begin", false)] {
        scene.results(json!([insert(0)])).await;
        scene.proxy.harm(Harm::CutAnswer(0));
        let results = scene
            .results(json!([
                { "batch": "begin" }, insert(1), { "batch": end }, insert(2), { "batch": "rollback" },
            ]))
            .await;
        for lost in &results[..2] {
            let message = message(lost).unwrap_or_else(|| panic!("{end}: {results:?}"));
            assert!(message.contains("was lost"), "{end}: {results:?}");
        }
        assert_eq!(
            message(&results[2]).is_some(),
            is_told,
            "{end}: {results:?}"
        );
        assert_eq!(results[3], json!({ "affected": 1 }), "{end}: {results:?}");
    }
    assert_eq!(scene.numbers().await.as_deref(), Some("0 0 0 2 2"));
}
