//! A server, or who stands before it, that says it is ready without a word of what it has done, or once more than it
//! was asked: nothing of that is taken for an answer.

use e2e::guests::QUERY;
use e2e::{Database, Door, Harm, Proxy, Setup, Trial};
use serde_json::{Value, json};

const READY: &[u8] = b"Z\0\0\0\x05I";

struct Scene {
    database: Database,
    proxy: Proxy,
    trial: Trial,
}

impl Scene {
    async fn start() -> Self {
        let database = Database::with("create table things (id int4)").await;
        let proxy = Proxy::of(&database);
        let setup = Setup::of(&QUERY).through(&proxy).database("pool_max", "1");
        let trial = setup.start(Door::Lambda).await;
        Self {
            database,
            proxy,
            trial,
        }
    }

    async fn step(&self, step: &Value) -> Value {
        self.trial.value(json!({ "steps": [step] })).await[0].clone()
    }

    /// What comes of a step if the second of these is passed on for the first.
    async fn exchanged(&self, step: &Value, said: &[u8], other: &[u8]) -> Value {
        self.proxy
            .harm(Harm::Exchange(said.to_vec(), other.to_vec()));
        self.step(step).await
    }

    /// Whether what comes next is served, and on a connection that is not out of step.
    async fn goes_on(&self) {
        for word in ["whole", "sound"] {
            let next = json!({ "query": format!("select '{word}' from generate_series(1, 2)") });
            let next = self.step(&next).await;
            assert_eq!(next["rows"], json!([[word], [word]]), "{next}");
        }
    }
}

fn insert() -> Value {
    json!({ "execute": "insert into things values (1)" })
}

#[tokio::test]
async fn that_a_server_is_ready_does_not_say_what_it_has_done() {
    let scene = Scene::start().await;
    let inserted = b"C\0\0\0\x0fINSERT 0 1\0";
    let batch = json!({ "batch": "insert into things values (1)" });
    let pipeline = json!({ "pipeline": [["insert into things values (1)", []]] });
    let returning = json!({ "query": "insert into things values (1) returning id" });
    let transaction = json!({ "transaction": [insert()], "end": "commit" });
    let copied = json!({ "copy_in": "copy things from stdin", "pieces": ["1\n"] });
    for (step, tag) in [
        (insert(), &inserted[..]),
        (batch, inserted),
        (pipeline, inserted),
        (returning, inserted),
        (transaction, b"C\0\0\0\x0bCOMMIT\0"),
        (copied, b"C\0\0\0\x0bCOPY 1\0"),
    ] {
        let result = scene.exchanged(&step, tag, b"").await;
        let told = result.to_string();
        assert!(told.contains("not PostgreSQL's protocol"), "{step}: {told}");
        scene.goes_on().await;
    }
    assert_eq!(
        scene.database.count("things").await,
        6,
        "each was done, and once"
    );
}

#[tokio::test]
async fn a_server_that_is_ready_in_the_middle_is_not_at_the_end() {
    let scene = Scene::start().await;
    let row = b"D\0\0\0\x0e\0\x01\0\0\0\x04\0\0\0\x02";
    let data = b"G\0\0\0\x09\0\0\x01\0\0";
    let query = json!({ "query": "select generate_series(1, 3)" });
    let copy = json!({ "copy_in": "copy things from stdin", "pieces": ["1\n", "2\n"] });
    for (step, said, other) in [
        (query, &row[..], [READY, row].concat()),
        (copy, data, [data, READY].concat()),
    ] {
        let result = scene.exchanged(&step, said, &other).await;
        let told = result.to_string();
        assert!(told.contains("not PostgreSQL's protocol"), "{step}: {told}");
        scene.goes_on().await;
    }
}

#[tokio::test]
async fn a_server_that_is_ready_twice_has_not_answered_what_comes_next() {
    let scene = Scene::start().await;
    let transaction = json!({ "transaction": [insert()], "end": "commit" });
    for (step, said) in [(transaction, &b"COMMIT\0"[..]), (insert(), b"INSERT 0 1\0")] {
        let said = [said, READY].concat();
        let twice = [&said[..], READY].concat();
        let result = scene.exchanged(&step, &said, &twice).await;
        assert!(!result.to_string().contains("error"), "{step}: {result}");
        scene.goes_on().await;
    }
    // Nobody looks at a connection that is held.
    let query = json!({ "query": "select 'whole' from generate_series(1, 2)" });
    let held = json!({ "session": [{ "transaction": [insert()], "end": "commit" }, query] });
    let said = [b"COMMIT\0", READY].concat();
    let result = scene
        .exchanged(&held, &said, &[&said[..], READY].concat())
        .await;
    let told = result[1].to_string();
    assert!(told.contains("was lost"), "{result}");
    scene.goes_on().await;
    assert_eq!(scene.database.count("things").await, 3);
}
