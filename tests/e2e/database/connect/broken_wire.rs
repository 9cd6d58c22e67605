//! Whatever happens to the bytes between the host and the server: a call ends with the truth, nothing
//! is executed twice, and the next call is served.

use std::time::Duration;

use e2e::guests::QUERY;
use e2e::{Answer, Database, Door, Harm, Proxy, Setup, Trial, eventually};
use serde_json::{Value, json};

const SCHEMA: &str = "create table things (id int4); create type mood as enum ('fine')";

/// What a call has that is expected to end by its deadline.
const TIMEOUT: Duration = Duration::from_secs(2);

struct Scene {
    database: Database,
    proxy: Proxy,
    trial: Trial,
}

impl Scene {
    async fn of(timeout: Duration) -> Self {
        let database = Database::with(SCHEMA).await;
        let proxy = Proxy::of(&database);
        let setup = Setup::of(&QUERY)
            .through(&proxy)
            .database("pool_max", "1")
            .timeout(timeout);
        let trial = setup.start(Door::Lambda).await;
        let scene = Self {
            database,
            proxy,
            trial,
        };
        scene.warm_up().await;
        scene
    }

    async fn step(&self, step: Value) -> Value {
        self.trial.value(json!({ "steps": [step] })).await[0].clone()
    }

    /// Sees to it that the connection is there, and knows the statements. Harm may be left that was to be done
    /// far into a request: there are some in which the server is told of a time limit as well.
    async fn warm_up(&self) {
        self.proxy.spare();
        for step in [insert(0), transaction(0)] {
            let result = self.step(step).await;
            assert!(!result.to_string().contains("\"error\""), "{result}");
        }
    }

    /// How many bytes pass in each direction while this is done.
    async fn bytes(&self, step: Value) -> (usize, usize) {
        self.step(step.clone()).await;
        self.proxy.forget();
        self.step(step).await;
        (self.proxy.request_bytes(), self.proxy.answer_bytes())
    }

    /// How often this was inserted.
    async fn count(&self, id: usize) -> usize {
        let sql = format!("select count(*) from things where id = {id}");
        let count = self.database.value(&sql).await;
        count
            .and_then(|count| count.parse().ok())
            .expect("it is a number")
    }

    /// Waits until no transaction of a connection that was cut is open any more.
    async fn rest(&self) {
        self.database.rests().await;
    }
}

fn insert(id: usize) -> Value {
    json!({ "execute": "insert into things values ($1)", "arguments": [id] })
}

fn transaction(id: usize) -> Value {
    json!({ "transaction": [insert(id)], "end": "commit" })
}

/// What is wrong, if anything is.
fn message(result: &Value) -> Option<&str> {
    result["error"]["message"].as_str()
}

const DOUBT: &str = "may have been executed";

#[tokio::test]
async fn an_answer_that_is_cut_anywhere_leaves_a_doubt_and_nothing_is_done_twice() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let (_, bytes) = scene.bytes(insert(0)).await;
    let mut doubts = 0;
    for place in 0..=bytes {
        scene.warm_up().await;
        scene.proxy.harm(Harm::CutAnswer(place));
        let result = scene.step(insert(1000 + place)).await;
        if let Some(message) = message(&result) {
            assert!(message.contains(DOUBT), "after {place} bytes: {message}");
            doubts += 1;
        }
        assert_eq!(
            scene.count(1000 + place).await,
            1,
            "after {place} bytes: {result}"
        );
    }
    assert!(doubts > 0, "nothing was cut");
}

#[tokio::test]
async fn a_request_that_is_cut_anywhere_is_not_repeated() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let (bytes, _) = scene.bytes(insert(0)).await;
    let mut doubts = 0;
    for place in 0..bytes {
        scene.warm_up().await;
        scene.proxy.harm(Harm::CutRequest(place));
        let result = scene.step(insert(1000 + place)).await;
        if let Some(message) = message(&result) {
            assert!(message.contains(DOUBT), "after {place} bytes: {message}");
            doubts += 1;
        }
        scene.rest().await;
        let expected = usize::from(message(&result).is_none());
        assert_eq!(
            scene.count(1000 + place).await,
            expected,
            "after {place} bytes: {result}"
        );
    }
    assert!(doubts > 0, "nothing was cut");
}

/// Its rows are there before the server is asked what their types are.
#[tokio::test]
async fn a_first_query_that_is_cut_anywhere_is_not_done_twice() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let first = |id: usize| json!({ "query": format!("insert into things values ({id}) returning 'fine'::mood") });
    scene.proxy.forget();
    scene.step(first(999)).await;
    assert_eq!(
        scene.proxy.passed().1,
        2,
        "one for the rows, and one for the types"
    );
    let mut doubts = 0;
    for place in (0..=scene.proxy.answer_bytes()).step_by(3) {
        scene.warm_up().await;
        scene.proxy.harm(Harm::CutAnswer(place));
        let result = scene.step(first(1000 + place)).await;
        if let Some(message) = message(&result) {
            assert!(message.contains(DOUBT), "after {place} bytes: {message}");
            doubts += 1;
        }
        assert_eq!(
            scene.count(1000 + place).await,
            1,
            "after {place} bytes: {result}"
        );
    }
    assert!(doubts > 0, "nothing was cut");
}

#[tokio::test]
async fn a_commit_that_is_cut_says_that_it_may_have_been_done() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let (_, bytes) = scene.bytes(transaction(0)).await;
    let mut seen = [0; 2];
    for place in 0..=bytes {
        scene.warm_up().await;
        scene.proxy.harm(Harm::CutAnswer(place));
        let result = scene.step(transaction(1000 + place)).await;
        scene.rest().await;
        let count = scene.count(1000 + place).await;
        assert!(count <= 1, "after {place} bytes: {result}");
        match message(&result["end"]) {
            None => assert_eq!(count, 1, "after {place} bytes: {result}"),
            Some(message) if count == 1 => assert!(message.contains(DOUBT), "{message}"),
            // It was cut before, in mid-statement or between the two.
            Some(message) => assert!(
                message.contains("was lost") || result["steps"][0].to_string().contains(DOUBT),
                "{result}"
            ),
        }
        seen[count] += 1;
    }
    assert!(seen[0] > 0 && seen[1] > 1, "{seen:?}");
}

/// Also where the end comes right behind the server's refusal of a statement, which is all that the guest hears then.
#[tokio::test]
async fn a_transaction_by_text_that_is_cut_anywhere_goes_on_nowhere_else() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let run = async |id: usize| {
        let steps = json!([
            { "batch": "begin" }, insert(id), { "query": "select 1/0" }, insert(id), { "batch": "commit" },
        ]);
        scene.trial.value(json!({ "steps": steps })).await
    };
    run(1).await;
    scene.proxy.forget();
    run(1).await;
    let mut cut = 0;
    for place in 0..=scene.proxy.answer_bytes() {
        scene.warm_up().await;
        scene.proxy.harm(Harm::CutAnswer(place));
        let results = run(1000 + place).await;
        cut += usize::from(results.to_string().contains("lost"));
        scene.rest().await;
        let count = scene.count(1000 + place).await;
        assert_eq!(count, 0, "after {place} bytes: {results}");
    }
    assert!(cut > 0, "nothing was cut");
}

/// The `BEGIN` goes before the text, in a request of its own, and so the text was not sent when that is lost.
#[tokio::test]
async fn a_text_whose_transaction_is_cut_before_it_leaves_no_doubt() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let by_text = |id: usize| {
        let text = json!({ "batch": format!("insert into things values ({id})") });
        json!({ "transaction": [text], "end": "commit" })
    };
    for harm in [Harm::CutRequest(0), Harm::CutRequest(3), Harm::CutAnswer(0)] {
        scene.warm_up().await;
        scene.proxy.harm(harm.clone());
        let result = scene.step(by_text(1)).await;
        assert_eq!(result, json!({ "steps": [null], "end": null }), "{harm:?}");
    }
    assert_eq!(scene.count(1).await, 3);
}

/// What ends the call that was given up goes before the commit, and is lost.
#[tokio::test]
async fn a_commit_that_was_not_sent_leaves_no_doubt() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let given_up = json!({ "streamed": "select 1", "meanwhile": ["select pg_sleep(600)"], "given_up_ms": 1000 });
    let cut = async {
        scene.database.sleeps_in(1).await;
        scene.proxy.harm(Harm::CutAnswer(0));
    };
    let step = json!({ "transaction": [insert(1), given_up], "end": "commit" });
    let (result, ()) = tokio::join!(scene.step(step), cut);
    let message = message(&result["end"]).unwrap_or_else(|| panic!("no error: {result}"));
    assert!(!message.contains(DOUBT), "{result}");
    assert_eq!(scene.count(1).await, 0);
}

#[tokio::test]
async fn a_pipeline_that_is_cut_is_done_whole_or_not_at_all() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let sql = "insert into things values ($1)";
    let pipeline = |id: usize| json!({ "pipeline": [[sql, [id]], [sql, [id]], [sql, [id]]] });
    let (requests, answers) = scene.bytes(pipeline(0)).await;
    let requests = (0..requests).step_by(7).map(Harm::CutRequest);
    let harms = requests.chain((0..answers).step_by(5).map(Harm::CutAnswer));
    for (index, harm) in harms.enumerate() {
        scene.warm_up().await;
        scene.step(pipeline(0)).await;
        scene.proxy.harm(harm.clone());
        let result = scene.step(pipeline(1000 + index)).await;
        scene.rest().await;
        let count = scene.count(1000 + index).await;
        match message(&result) {
            None => assert_eq!(count, 3, "{harm:?}: {result}"),
            Some(message) => {
                assert!(message.contains(DOUBT), "{harm:?}: {message}");
                assert!(count == 0 || count == 3, "{harm:?}: {count}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_postgresqls_protocol_is_an_error_and_ends_the_connection() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    let garbage: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        &[0; 64],
        &[255; 64],
        b"2\0\0\0\x04Z\0\0\0\x05X",
        b"2\0\0\0\x04C\xff\xff\xff\xff",
        b"T\0\0\0\x04",
    ];
    for (index, garbage) in garbage.into_iter().enumerate() {
        scene.warm_up().await;
        let before = scene
            .step(json!({ "query": "select pg_backend_pid()" }))
            .await;
        scene.proxy.harm(Harm::Replace(garbage.to_vec()));
        let result = scene.step(insert(1000 + index)).await;
        let message = message(&result).unwrap_or_else(|| panic!("{garbage:?}: {result}"));
        assert!(
            message.contains("not PostgreSQL's protocol"),
            "{garbage:?}: {message}"
        );
        assert_eq!(scene.count(1000 + index).await, 1);
        let after = scene
            .step(json!({ "query": "select pg_backend_pid()" }))
            .await;
        assert_ne!(after["rows"], before["rows"], "{garbage:?}");
    }
}

/// Nobody can notice it in a value; everywhere else it is an error, at the latest at the deadline.
#[tokio::test]
async fn a_byte_that_is_spoilt_anywhere_does_no_harm_to_the_next_call() {
    let scene = Scene::of(TIMEOUT).await;
    let (_, bytes) = scene.bytes(insert(0)).await;
    for place in 0..bytes {
        scene.warm_up().await;
        scene.proxy.harm(Harm::Spoil(place));
        let event = json!({ "steps": [insert(1000 + place)] });
        let answer = scene.trial.invoke(event).await;
        assert!(
            !answer.failed || answer.error().0 == "Function.DeadlineExceeded",
            "{answer:?}"
        );
        let next = scene.step(json!({ "query": "select 'whole'" })).await;
        assert_eq!(next["rows"], json!([["whole"]]), "byte {place}");
        assert_eq!(scene.count(1000 + place).await, 1, "byte {place}");
    }
}

#[tokio::test]
async fn a_server_that_falls_silent_is_given_up_at_the_deadline() {
    let scene = Scene::of(TIMEOUT).await;
    for (id, step) in [(1, insert(1)), (2, transaction(2))] {
        scene.warm_up().await;
        scene.proxy.forget();
        scene.proxy.harm(Harm::Silence);
        let answer: Answer = scene.trial.invoke(json!({ "steps": [step] })).await;
        assert_eq!(answer.error().0, "Function.DeadlineExceeded");
        let next = scene.step(json!({ "query": "select 'whole'" })).await;
        assert_eq!(next["rows"], json!([["whole"]]));
        assert!(
            scene.proxy.cancellations() > 0,
            "the server was asked to give it up"
        );
        scene.rest().await;
        assert!(scene.count(id).await <= 1);
    }
}

/// The answer is on its way for as long as it takes, and nothing else is sent meanwhile.
#[tokio::test]
async fn an_answer_that_is_late_is_waited_for() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    scene.proxy.forget();
    scene.proxy.hold(true);
    let held = async {
        eventually("the row is there", async || {
            (scene.count(5).await == 1).then_some(())
        })
        .await;
        scene.proxy.hold(false);
    };
    let (result, ()) = tokio::join!(scene.step(insert(5)), held);
    assert_eq!(result, json!({ "affected": 1 }));
    assert_eq!(scene.count(5).await, 1);
    assert_eq!(scene.proxy.passed(), (vec!["BES".to_owned()], 1));
}

#[tokio::test]
async fn an_answer_may_come_byte_by_byte() {
    let scene = Scene::of(Duration::from_secs(30)).await;
    scene.proxy.drip();
    let sql = "select n, repeat('x', n) from generate_series(1, 60) n";
    let within = json!({ "transaction": [{ "query": sql }, { "query": "select 'fine'::mood" }], "end": "commit" });
    let rows = scene.step(json!({ "query": sql })).await;
    let row = |n: usize| json!([n, "x".repeat(n)]);
    assert_eq!(rows["rows"], (1..=60).map(row).collect::<Value>());
    let results = scene.step(within).await;
    assert_eq!(results["steps"][0]["rows"], rows["rows"], "{results}");
    assert_eq!(results["steps"][1]["rows"], json!([["fine"]]));
    let copied = scene
        .step(json!({ "copy_out": "copy (select repeat('y', 2000)) to stdout" }))
        .await;
    assert_eq!(copied["bytes"], 2001);
}
