//! Packets that are lost without a word: a connection that is gone is found out long before the deadline, and
//! a server that only takes its time is not taken to be gone.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::guests::{MISBEHAVE, PROGRAM, QUERY};
use e2e::lambda::Event;
use e2e::tls_terminator::TlsTerminator;
use e2e::{
    CertificateAuthority, Clock, Cut, Database, Door, Middlebox, Server, Setup, Trial, eventually,
};
use serde_json::{Value, json};

const RULES: &str = "local all all trust\nhost all all 0.0.0.0/0 trust\n";

const SCHEMA: &str = "
    create table written (key bigint);
    create table slow (number int);
    create function tarry() returns trigger language plpgsql as
        $$ begin perform pg_sleep(12); return null; end $$;
    create trigger tarry before insert on slow for each statement execute function tarry();
    create function tarry_with_one() returns trigger language plpgsql as
        $$ begin perform pg_sleep(12); return new; end $$;
    create trigger tarry before insert on written for each row when (new.key = 13) execute function tarry_with_one();
";

/// What an invocation has that must not need it: far more than it takes to find a silence out.
const AMPLE: Duration = Duration::from_secs(120);

struct Scene {
    _server: Server,
    database: Database,
    middlebox: Middlebox,
    _terminator: Option<TlsTerminator>,
    trial: Trial,
}

impl Scene {
    async fn start() -> Self {
        let setup = Setup::of(&PROGRAM).database("pool_max", "1");
        Self::of(setup.timeout(AMPLE)).await
    }

    async fn of(setup: Setup) -> Self {
        Self::over(setup, false).await
    }

    /// The same, perhaps with TLS from the host to what stands before the middlebox.
    async fn over(mut setup: Setup, encrypted: bool) -> Self {
        let server = Server::listening().await;
        server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
        let database = Database::create_on(&server).await;
        database.run(SCHEMA).await;
        let middlebox = Middlebox::before(&format!("{}:5432", server.address())).await;
        let (mut address, name) = (middlebox.address(), &database.name);
        let (mut terminator, mut more) = (None, "");
        if encrypted {
            let identity = CertificateAuthority::new("The tests' own").issue("db.test");
            let behind = address.parse().expect("it is an address");
            let before = TlsTerminator::before(behind, &identity, &["postgresql"]).await;
            address = before.address().to_string();
            more = "?sslnegotiation=direct";
            setup = setup.database("tls", "{ verify = \"nothing\" }");
            terminator = Some(before);
        }
        let trial = setup
            .database(
                "url",
                &format!("\"postgres://postgres@{address}/{name}{more}\""),
            )
            .start(Door::Lambda)
            .await;
        Self {
            _server: server,
            database,
            middlebox,
            _terminator: terminator,
            trial,
        }
    }

    /// Runs a program, which must come to its end.
    async fn run(&self, steps: Value) {
        let program = json!({ "program": { "steps": steps, "fails": false } });
        self.trial.value(program).await;
    }

    /// Loses all packets once the server shows this.
    async fn lose_packets(&self, once: &str) {
        let sql = format!("select count(*) from pg_stat_activity where datname = $name and {once}");
        self.database.until(&sql, "1").await;
        assert_eq!(self.middlebox.cut(Cut::Drop).await, 1);
    }

    /// Its output may come after the answer.
    async fn said(&self, what: &str) {
        eventually(&format!("{what:?} in the log"), async || {
            (self.trial.host.lines(what) > 0).then_some(())
        })
        .await;
    }
}

/// It has rested for so long that the server is asked first.
#[tokio::test]
async fn what_would_be_sent_on_a_session_that_is_cut_off_was_not_executed() {
    let scene = Scene::start().await;
    let asked = json!({ "do": "query", "sql": "select 4711", "rows": "all" });
    let write = |key: u32| json!({ "do": "write", "key": key });
    // The first one has its statement prepared, which may fail without a doubt.
    let steps = json!([write(6), asked, { "do": "sleep", "millis": 3000 }, write(7)]);
    let held = json!([{ "do": "session", "steps": steps, "end": "drop" }]);
    tokio::join!(
        scene.run(held),
        scene.lose_packets("state = 'idle' and query = 'select 4711'")
    );
    scene.said("key 7 not").await;
    scene.run(json!([write(8)])).await;
    scene.said("key 8 done").await;
    let written = "select string_agg(key::text, ' ' order by key) from written";
    assert_eq!(scene.database.value(written).await.as_deref(), Some("6 8"));
}

/// The system takes what is sent to it, and nobody receives that.
#[tokio::test]
async fn what_is_sent_to_a_server_that_has_closed_meanwhile_was_not_executed() {
    closes_meanwhile(false).await;
}

/// What it says last then is TLS's own word.
#[tokio::test]
async fn what_is_sent_to_who_has_ended_tls_meanwhile_was_not_executed() {
    closes_meanwhile(true).await;
}

async fn closes_meanwhile(encrypted: bool) {
    let setup = Setup::of(&PROGRAM).database("pool_max", "1");
    let scene = Scene::over(setup.timeout(AMPLE), encrypted).await;
    let asked = json!({ "do": "query", "sql": "select 4711", "rows": "all" });
    let write = |key: u32| json!({ "do": "write", "key": key });
    let sleep = json!({ "do": "sleep", "millis": 5000 });
    for (key, held) in [
        (
            21,
            json!({ "do": "session", "steps": [write(20), asked, sleep, write(21)], "end": "drop" }),
        ),
        (
            22,
            json!({ "do": "transaction", "steps": [write(22), asked, sleep], "end": "commit" }),
        ),
    ] {
        let meanwhile = async {
            let waiting = "select count(*) from pg_stat_activity where datname = $name and state like 'idle%' \
                           and query = 'select 4711'";
            scene.database.until(waiting, "1").await;
            assert_eq!(scene.middlebox.cut(Cut::Finish).await, 1);
        };
        tokio::join!(scene.run(json!([held])), meanwhile);
        let told = format!("key {key} not");
        scene.said(&told).await;
    }
}

/// What it answers is lost, so nothing that was sent is without its acknowledgement.
#[tokio::test]
async fn a_server_that_works_and_is_cut_off_meanwhile_is_found_out() {
    let scene = Scene::start().await;
    let write = |key: u32| json!([{ "do": "write", "key": key }]);
    tokio::join!(
        scene.run(write(13)),
        scene.lose_packets("wait_event = 'PgSleep'")
    );
    scene.said("key 13 maybe").await;
    scene.run(write(9)).await;
    scene.said("key 9 done").await;
    // Nobody has told the server to give it up.
    let written = "select count(*) from written where key = 13";
    eventually("what was executed", async || {
        (scene.database.value(written).await? == "1").then_some(())
    })
    .await;
}

/// The same of the end of a transaction: what was done in it is undone, and that is known.
#[tokio::test]
async fn a_transaction_that_is_cut_off_while_it_rests_is_not_committed_and_says_so() {
    let scene = Scene::start().await;
    let asked = json!({ "do": "query", "sql": "select 4711", "rows": "all" });
    let steps = json!([{ "do": "write", "key": 5 }, asked, { "do": "sleep", "millis": 3000 }]);
    let held = json!([{ "do": "transaction", "steps": steps, "end": "commit" }]);
    tokio::join!(
        scene.run(held),
        scene.lose_packets("state = 'idle in transaction' and query = 'select 4711'")
    );
    scene.said("key 5 not").await;
}

/// It takes no more of the data for a while.
#[tokio::test]
async fn a_server_that_does_not_read_for_a_while_is_not_taken_to_be_gone() {
    let scene = Scene::start().await;
    let copy = json!({ "do": "copy_in", "sql": "copy slow from stdin where false", "pieces": 400, "end": "all" });
    let tx = json!([{ "do": "transaction", "steps": [copy, { "do": "write", "key": 3 }], "end": "commit" }]);
    scene.run(tx).await;
    scene.said("key 3 done").await;
}

/// Nobody is left to tell the server that a transaction is over: what it was told of time before must do.
#[tokio::test]
async fn what_a_killed_host_has_locked_behind_a_silent_network_is_free_in_time() {
    let server = Server::listening().await;
    server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
    let database = Database::create_on(&server).await;
    database
        .run("create table things (n int); insert into things values (0)")
        .await;
    let update = json!({ "execute": "update things set n = n + 10" });
    let sleep = json!({ "query": "select pg_sleep(600)::text" });
    for (steps, once) in [
        (json!([update]), "state = 'idle in transaction'"),
        (json!([update, sleep]), "wait_event = 'PgSleep'"),
    ] {
        let middlebox = Middlebox::before(&format!("{}:5432", server.address())).await;
        let (address, name) = (middlebox.address(), &database.name);
        let trial = Setup::of(&MISBEHAVE)
            .database("url", &format!("\"postgres://postgres@{address}/{name}\""))
            .start(Door::Lambda)
            .await;
        let held = json!({ "steps": [{ "transaction": steps, "end": "forget" }], "act": "sleep" });
        trial
            .lambda()
            .send(Event::new(held.to_string(), Duration::from_secs(4)));
        let sql = format!("select count(*) from pg_stat_activity where datname = $name and {once}");
        database.until(&sql, "1").await;
        assert_eq!(middlebox.cut(Cut::Drop).await, 1);
        trial.host.kill();
        let client = database.client().await;
        let update = "set lock_timeout = '60s'; update things set n = n + 1";
        client
            .batch_execute(update)
            .await
            .expect("the lock is free by then");
    }
    let n = database.value("select n from things").await;
    assert_eq!(n.as_deref(), Some("2"), "what was open was rolled back");
}

/// Whoever has less time than a connection has to answer does not find the next one in the same state.
#[tokio::test]
async fn a_silence_that_a_call_could_not_wait_for_is_known_to_those_after_it() {
    let clock = Clock::new();
    let setup = Setup::of(&QUERY).database("pool_max", "4").clock(&clock);
    let scene = Scene::of(setup).await;
    let wait = json!({ "query": "select pg_sleep(0.3)::text" });
    let wait = json!({ "steps": [{ "parallel": vec![wait; 4] }] });
    scene.trial.value(wait).await;
    clock.shift(60);
    assert_eq!(scene.middlebox.cut(Cut::Silence).await, 4);
    let hurried = json!({ "timeout_ms": 300, "hurried": vec![json!({ "query": "select 1" }); 4] });
    let results = scene.trial.value(json!({ "steps": [hurried] })).await;
    let unanswered = |result: &&Value| result.to_string().contains("of one that rested");
    let results = results[0].as_array().expect("each has a result");
    assert!(unanswered(&&results[0]), "{results:?}");
    assert_eq!(results.iter().filter(unanswered).count(), 1, "{results:?}");
}

/// Nobody looks at it while a guest computes, and then nobody waits for it any more.
#[tokio::test]
async fn an_answer_that_was_not_read_is_no_silence() {
    let clock = Clock::new();
    let setup = Setup::of(&MISBEHAVE)
        .database("pool_max", "4")
        .clock(&clock);
    let scene = Scene::of(setup).await;
    let sessions = async |number: usize| -> BTreeSet<String> {
        let pid = json!({ "query": "select pg_backend_pid()::text, pg_sleep(0.3)::text" });
        let steps = json!({ "steps": [{ "parallel": vec![pid; number] }] });
        let told = scene.trial.value(steps).await;
        let each = told["steps"][0].as_array().expect("each has a result");
        each.iter()
            .map(|one| one["rows"][0][0].to_string())
            .collect()
    };
    let before = sessions(4).await;
    assert_eq!(before.len(), 4, "{before:?}");
    clock.shift(60);
    let told = scene.trial.value(json!({ "act": "neglect" })).await;
    assert_eq!(told["act"], false, "it was asked whether it is there");
    let after = sessions(3).await;
    assert!(
        after.len() == 3 && after.is_subset(&before),
        "{before:?}, {after:?}"
    );
}

/// The answer has come before a freeze, in which the network forgets the connection, and is read after it.
#[tokio::test]
async fn a_connection_whose_answer_has_waited_for_a_thaw_is_asked_first() {
    let clock = Clock::new();
    let setup = Setup::of(&QUERY).database("pool_max", "1").clock(&clock);
    let scene = Scene::of(setup).await;
    let gate = scene.database.client().await;
    let lock = "select pg_advisory_lock(1)";
    gate.batch_execute(lock).await.expect("nobody has it");
    let freeze = async {
        let waiting = "select count(*) from pg_stat_activity where datname = $name and wait_event = 'advisory'";
        scene.database.until(waiting, "1").await;
        clock.shift(60);
        let unlock = "select pg_advisory_unlock(1)";
        gate.batch_execute(unlock).await.expect("it has the lock");
    };
    let wait = json!([{ "query": "select pg_advisory_xact_lock_shared(1)::text" }]);
    let (answer, ()) = tokio::join!(scene.trial.value(json!({ "steps": wait })), freeze);
    assert!(answer[0].get("error").is_none(), "{answer}");
    assert_eq!(scene.middlebox.cut(Cut::Silence).await, 1);
    let answer = scene
        .trial
        .value(json!({ "steps": [{ "query": "select 1" }] }))
        .await;
    assert_eq!(answer[0]["rows"], json!([[1]]), "{answer}");
}

/// It cannot be used again, and its lock is there for as long as the server knows nothing of that.
#[tokio::test]
async fn a_session_is_not_closed_by_a_good_bye_that_nobody_answers() {
    let scene = Scene::of(Setup::of(&QUERY).database("pool_max", "1")).await;
    let lock = json!({ "query": "select pg_advisory_lock(1)::text" });
    let held = json!({ "session": [lock, { "batch": "load 'plpgsql'" }], "close_after_ms": 3000 });
    let (results, ()) = tokio::join!(
        scene.trial.value(json!({ "steps": [held] })),
        scene.lose_packets("state = 'idle' and query like 'load%'")
    );
    let told = results[0]["error"]["message"].as_str().unwrap_or_default();
    assert!(told.contains("was lost"), "{results}");
}
