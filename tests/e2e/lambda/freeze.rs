//! Lambda freezes an environment between two events; what happens meanwhile is found out at the
//! thaw, by the host, and costs the next invocation nothing but a moment.

use std::time::Duration;

use e2e::guests::{COUNTER, ONWARD, QUERY};
use e2e::lambda::{Call, Event, What};
use e2e::{Clock, Cut, Database, Door, Gate, Middlebox, Server, Setup, Trial};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const PID: &str = "select pg_backend_pid()::text";
const RULES: &str = "local all all trust\nhost all all 0.0.0.0/0 trust\n";

/// What the invocation after a thaw may take: the time in which a connection has to answer, a new
/// one instead, and a machine however busy. Whatever is late is an error of the deadline's.
const BOUND: Duration = Duration::from_secs(10);

/// How long environments rest, in seconds of the wall clock: next to nothing, some seconds, until
/// middleboxes and this host forget a connection, until the server does.
const RESTS: [i64; 4] = [2, 29, 400, 3600];

async fn answer(trial: &Trial, event: Event) -> Call {
    let id = event.id.clone();
    trial.lambda().send(event);
    trial.lambda().answer(&id).await
}

/// The environment stands still while `meanwhile` happens, and is thawed by the next event, whose
/// answer is returned.
async fn frozen(trial: &Trial, steps: Value, meanwhile: impl Future<Output = ()>) -> Value {
    trial.lambda().parked(1).await;
    trial.host.freeze();
    meanwhile.await;
    let event = trial.event(json!({ "steps": steps }).to_string());
    let thawed = async {
        // As Lambda does: the event is there first.
        trial.lambda().parked(0).await;
        trial.host.thaw();
    };
    let (call, ()) = tokio::join!(answer(trial, event), thawed);
    assert_eq!(call.what, What::Response, "{:?}", call.body);
    serde_json::from_slice(&call.body).unwrap()
}

async fn pid_after(trial: &Trial, meanwhile: impl Future<Output = ()>) -> Value {
    frozen(trial, json!([{ "query": PID }]), meanwhile).await
}

#[tokio::test]
async fn a_freeze_alone_changes_nothing() {
    let database = Database::create().await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .timeout(BOUND)
        .start(Door::Lambda)
        .await;
    let before = trial.value(json!({ "steps": [{ "query": PID }] })).await;
    for _ in 0..5 {
        assert_eq!(pid_after(&trial, async {}).await, before);
    }
}

#[tokio::test]
async fn a_connection_closed_during_the_freeze_is_replaced_without_an_error() {
    let database = Database::create().await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .timeout(BOUND)
        .start(Door::Lambda)
        .await;
    let before = trial.value(json!({ "steps": [{ "query": PID }] })).await;
    let kill = async {
        assert_eq!(database.end_sessions().await, 1);
    };
    let after = pid_after(&trial, kill).await;
    assert!(after[0].get("error").is_none(), "{after}");
    assert_ne!(after, before);
}

#[tokio::test]
async fn a_server_restarted_during_the_freeze_is_found_again_without_an_error() {
    let server = Server::own().await;
    let database = Database::create_on(&server).await;
    let trial = Setup::of(&QUERY)
        .with(&database)
        .timeout(BOUND)
        .start(Door::Lambda)
        .await;
    trial.value(json!({ "steps": [{ "query": PID }] })).await;
    let restart = async {
        server.stop().await;
        server.start().await;
    };
    let after = pid_after(&trial, restart).await;
    assert!(after[0].get("error").is_none(), "{after}");
    database.settles(1).await;
}

/// What the host and its connection, which lasts longer, know of the statement is told to no new instance
/// any more.
#[tokio::test]
async fn a_type_that_was_altered_meanwhile_is_seen_by_new_instances() {
    let database = Database::with(
        "create type mood as enum ('fine'); create type pair as (one int4);
         create table things (feels mood, two pair)",
    )
    .await;
    let clock = Clock::new();
    let trial = Setup::of(&QUERY)
        .with(&database)
        .isolation("\"fresh\"")
        .clock(&clock)
        .start(Door::Lambda)
        .await;
    let steps = json!({ "steps": [{ "describe": "select * from things" }, { "query": PID }] });
    let before = trial.value(steps.clone()).await;
    let alter = "alter type mood add value 'tired'; alter type pair add attribute other text";
    database.run(alter).await;
    clock.shift(90);
    let after = trial.value(steps).await;
    assert_eq!(before[1], after[1], "the connection is the same");
    for made_of in ["tired", "other"] {
        let is_told = |answer: &Value| answer[0].to_string().contains(made_of);
        assert!(is_told(&after) && !is_told(&before), "{before} {after}");
    }
}

#[tokio::test]
async fn an_instance_is_warm_after_a_freeze() {
    let trial = Setup::of(&COUNTER).timeout(BOUND).start(Door::Lambda).await;
    trial.value(json!({})).await;
    let served = frozen(&trial, json!([]), async {}).await;
    assert_eq!(served["served"], 2);
}

/// A database behind a middlebox, and a function in front of both.
struct Scene {
    clock: Clock,
    database: Database,
    middlebox: Middlebox,
    trial: Trial,
    /// The number that the last invocation has noted.
    number: i64,
}

impl Scene {
    async fn with_pool(pool_max: &str) -> Self {
        static SERVER: OnceCell<Server> = OnceCell::const_new();
        let server = SERVER.get_or_init(|| async {
            let server = Server::listening().await;
            server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
            server
        });
        let server = server.await;
        let database = Database::create_on(server).await;
        database.run("create table noted (number int8)").await;
        let middlebox = Middlebox::before(&format!("{}:5432", server.address())).await;
        let clock = Clock::new();
        let url = format!(
            "\"postgres://postgres@{}/{}\"",
            middlebox.address(),
            database.name
        );
        let trial = Setup::of(&QUERY)
            .database("url", &url)
            .database("pool_max", pool_max)
            .timeout(BOUND)
            .clock(&clock)
            .start(Door::Lambda)
            .await;
        Self {
            clock,
            database,
            middlebox,
            trial,
            number: 0,
        }
    }

    /// A step that notes the next number: an insert alone, or one in a transaction.
    fn note(&mut self) -> Value {
        self.number += 1;
        let insert = json!({ "execute": format!("insert into noted values ({})", self.number) });
        match self.number % 2 {
            0 => insert,
            _ => json!({ "transaction": [insert, { "query": PID }], "end": "commit" }),
        }
    }

    /// Each number was noted once.
    async fn check(&self) {
        let wrong = format!(
            "select coalesce(string_agg(n::text, ' '), '') from generate_series(1, {}) n
             where (select count(*) from noted where number = n) <> 1",
            self.number
        );
        assert_eq!(self.database.value(&wrong).await.as_deref(), Some(""));
    }
}

/// However long the rest, and whatever the network does meanwhile.
#[tokio::test]
async fn a_connection_cut_during_the_freeze_is_replaced_once_and_nothing_is_done_twice() {
    let mut scene = Scene::with_pool("8").await;
    let note = scene.note();
    scene.trial.value(json!({ "steps": [note] })).await;
    let cuts = Cut::ALL.map(Some).into_iter().chain([None]);
    for (cut, seconds) in cuts.flat_map(|cut| RESTS.map(|seconds| (cut, seconds))) {
        let before = scene.middlebox.connects();
        let note = scene.note();
        let meanwhile = async {
            scene.clock.shift(seconds);
            if let Some(cut) = cut {
                assert_eq!(scene.middlebox.cut(cut).await, 1, "{cut:?}");
            }
        };
        let answer = frozen(&scene.trial, json!([note]), meanwhile).await;
        assert!(
            !answer.to_string().contains("error"),
            "{cut:?}, {seconds} s: {answer}"
        );
        let connects = scene.middlebox.connects() - before;
        let most = usize::from(cut.is_some() || seconds >= 300);
        assert!(
            connects <= most,
            "{cut:?}, {seconds} s: {connects} connects"
        );
        scene.check().await;
    }
}

/// Were each of them waited for, the invocation would reach its deadline.
#[tokio::test]
async fn many_connections_fallen_silent_are_waited_for_once() {
    let scene = Scene::with_pool("40").await;
    let wait = json!({ "query": "select pg_sleep(0.3)::text" });
    let parallel = json!({ "parallel": vec![wait; 40] });
    scene.trial.value(json!({ "steps": [parallel] })).await;
    let open = scene.middlebox.connects();
    assert!(open > 20, "{open} connections");
    let meanwhile = async {
        scene.clock.shift(60);
        scene.middlebox.cut(Cut::Silence).await;
    };
    let answer = frozen(
        &scene.trial,
        json!([{ "query": "select 'here'" }]),
        meanwhile,
    )
    .await;
    assert_eq!(answer[0]["rows"], json!([["here"]]));
    assert_eq!(scene.middlebox.connects(), open + 1);
}

/// It takes most of the time that it has to answer, and is not given up for it.
#[tokio::test]
async fn a_server_that_is_slow_is_not_taken_for_dead() {
    let scene = Scene::with_pool("1").await;
    scene
        .trial
        .value(json!({ "steps": [{ "query": PID }] }))
        .await;
    let before = scene.middlebox.connects();
    scene.middlebox.delay(Duration::from_millis(100));
    for _ in 0..3 {
        let answer = pid_after(&scene.trial, async { scene.clock.shift(10) }).await;
        assert!(answer[0].get("error").is_none(), "{answer}");
    }
    assert_eq!(scene.middlebox.connects(), before);
}

/// The clock jumps while a statement runs: the deadline is where it was, the connection is kept.
#[tokio::test]
async fn a_clock_that_jumps_during_an_invocation_harms_nobody() {
    let mut scene = Scene::with_pool("2").await;
    for seconds in [3600, -7200, 3600] {
        let gate = scene.database.gate().await;
        let wait = json!({ "query": "select pg_advisory_xact_lock_shared(1)::text" });
        let steps = json!([wait, scene.note()]);
        let jump = async {
            gate.waited_for(1).await;
            scene.clock.shift(seconds);
            gate.open().await;
        };
        let (answer, ()) = tokio::join!(scene.trial.value(json!({ "steps": steps })), jump);
        assert!(!answer.to_string().contains("error"), "{answer}");
        scene.check().await;
    }
    let few = "select count(*) <= 2 from pg_stat_activity where datname = $name";
    scene.database.until(few, "t").await;
}

/// A machine that stood still in the middle of an invocation: the network has forgotten the
/// connection, and with it what was not committed.
#[tokio::test]
async fn a_connection_cut_in_a_transaction_is_an_error_and_nothing_is_done_twice() {
    let mut scene = Scene::with_pool("2").await;
    for cut in [Cut::Reset, Cut::Finish] {
        let gate = scene.database.gate().await;
        let lost = json!({ "transaction": [
            { "execute": "insert into noted values (-1)" },
            { "query": Gate::PASS },
            { "execute": "insert into noted values (-1)" },
        ], "end": "commit" });
        let steps = json!({ "steps": [lost, scene.note()] });
        let cutting = async {
            gate.waited_for(1).await;
            scene.trial.host.freeze();
            assert_eq!(scene.middlebox.cut(cut).await, 1);
            gate.open().await;
            scene.trial.host.thaw();
        };
        let (answer, ()) = tokio::join!(scene.trial.value(steps), cutting);
        let told = answer[0].to_string();
        assert!(told.contains("connection"), "{cut:?}: {told}");
        assert!(
            !answer[1].to_string().contains("error"),
            "{cut:?}: {answer}"
        );
        scene.check().await;
    }
    assert_eq!(scene.database.count("noted where number < 0").await, 0);
}

/// Nothing ever comes back: the deadline ends it, and the next invocation is served at once.
#[tokio::test]
async fn a_connection_that_falls_silent_under_a_statement_is_ended_by_the_deadline() {
    let scene = Scene::with_pool("1").await;
    let event = json!({ "steps": [{ "query": "select pg_sleep(600)::text" }] });
    let silence = async {
        scene.database.sleeps_in(1).await;
        assert_eq!(scene.middlebox.cut(Cut::Silence).await, 1);
    };
    let event = Event::new(event.to_string(), Duration::from_secs(2));
    let (call, ()) = tokio::join!(answer(&scene.trial, event), silence);
    assert_eq!(call.what, What::Error);
    let told = String::from_utf8_lossy(&call.body);
    assert!(told.contains("DeadlineExceeded"), "{told}");
    // It was cancelled over a connection of its own.
    scene.database.sleeps_in(0).await;
    scene
        .trial
        .value(json!({ "steps": [{ "query": PID }] }))
        .await;
    assert!(
        scene
            .trial
            .host
            .log()
            .iter()
            .all(|line| !line.contains("panicked"))
    );
}

/// The process stands still for longer than the invocation had, before its work first waits for something.
#[tokio::test]
async fn a_freeze_takes_no_time_from_suspended_work_that_has_not_come_to_rest() {
    let database = Database::with("create table notes (note text)").await;
    let trial = Setup::of(&ONWARD)
        .with(&database)
        .function("after_answer", "\"suspend\"")
        .timeout(Duration::from_secs(2))
        .start(Door::Lambda)
        .await;
    let note = json!({ "step": { "execute": "insert into notes values ('done')" } });
    let work = json!([{ "compute": 300 }, { "sleep": 50 }, note]);
    trial.value(json!({ "after": [work] })).await;
    trial.lambda().parked(1).await;
    trial.host.freeze();
    let rest = database.client().await;
    rest.batch_execute("select pg_sleep(4)").await.unwrap();
    trial.host.thaw();
    trial.value(json!({ "first": [{ "sleep": 500 }] })).await;
    assert_eq!(database.count("notes").await, 1);
    assert_eq!(trial.host.lines("Function.DeadlineExceeded"), 0);
}
