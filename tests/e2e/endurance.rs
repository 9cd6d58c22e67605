//! Every fifth invocation meets a fault, of its own making or of the world's, and no other notices:
//! each of them is answered rightly, nothing is done twice, and in the end nothing is left over.
//!
//! `HEARTH_ENDURANCE_INVOCATIONS` says how many invocations there are, and `HEARTH_ENDURANCE_SLOTS`
//! how many at a time on Managed Instances.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::guests::MISBEHAVE;
use e2e::host::Holdings;
use e2e::lambda::{Call, Event, Fate, What};
use e2e::{Clock, Cut, Database, Door, Middlebox, Server, Setup, Trial};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::sync::{Mutex, RwLock};

const RULES: &str = "local all all trust\nhost all all 0.0.0.0/0 trust\n";
/// The time of an invocation that is to be answered.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The time of one that is to reach its deadline.
const SHORT: Duration = Duration::from_secs(1);
/// Invocations after which everything that stays warm is.
const WARM: usize = 100;
/// What the allocator may keep of freed memory, in KiB: each thread that has had an answer of 6 MiB in its
/// hands leaves room for another.
const ALLOCATOR_KIB: u64 = 8 * 1024;
/// What the host writes when an invocation has given back all that it had borrowed.
const SETTLED: &str = "the pool after an invocation";

/// What befalls an invocation.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The function does what it should not, after a statement of its own.
    Act(&'static str),
    /// The event is nothing that the function takes.
    Garbage,
    /// The function does not come to its end in time.
    Late(&'static str),
    /// A statement does not come to its end in time.
    Waits,
    /// The function's own connection ends under it.
    Killed,
    /// The function leaves a transaction open, and traps.
    Unfinished,
    /// The way to the Runtime API fails it.
    Fate(Fate),
    /// All connections to the database are cut before it, and some time passes.
    Network(Cut),
    /// The server ends all connections before it.
    Terminated,
    /// All connections to the Runtime API are cut before it.
    Api(Cut),
    /// The environment stands still before it, and the clock on the wall moves by so many seconds.
    Frozen(i64),
}

const EVERYWHERE: [Fault; 24] = [
    Fault::Act("panic"),
    Fault::Late("spin"),
    Fault::Network(Cut::Reset),
    Fault::Act("trap"),
    Fault::Waits,
    Fault::Fate(Fate::AnswersLost(1)),
    Fault::Act("grow"),
    Fault::Network(Cut::Silence),
    Fault::Garbage,
    Fault::Api(Cut::Reset),
    Fault::Act("recurse"),
    Fault::Killed,
    Fault::Fate(Fate::ReceiptLost),
    Fault::Act("answer"),
    Fault::Network(Cut::Finish),
    Fault::Unfinished,
    Fault::Fate(Fate::Refused(410)),
    Fault::Act("exit"),
    Fault::Terminated,
    Fault::Fate(Fate::Refused(413)),
    Fault::Network(Cut::ResetLater),
    Fault::Late("sleep"),
    Fault::Api(Cut::Finish),
    Fault::Fate(Fate::Refused(400)),
];

/// What only happens where one event is handled at a time.
const CLASSIC: [Fault; 4] = [
    Fault::Frozen(3600),
    Fault::Fate(Fate::EventLost),
    Fault::Frozen(-3600),
    Fault::Fate(Fate::Refused(403)),
];

struct Stage {
    faults: Vec<Fault>,
    slots: usize,
    clock: Clock,
    database: Database,
    middlebox: Middlebox,
    trial: Trial,
    /// Held for reading by each invocation, and for writing by what befalls all that run.
    peace: RwLock<()>,
    number: AtomicUsize,
    /// The numbers that are noted for certain.
    certain: Mutex<Vec<i64>>,
    rejected: AtomicUsize,
    /// Invocations that have their answer.
    answered: AtomicUsize,
    /// Errors of a deadline's that came after it all the same, on a machine that is too busy.
    late: AtomicUsize,
}

impl Stage {
    async fn new(slots: usize, faults: Vec<Fault>) -> Self {
        let server = Server::listening().await;
        server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
        let database = Database::create_on(&server).await;
        database.run("create table noted (number int8)").await;
        let middlebox = Middlebox::before(&format!("{}:5432", server.address())).await;
        let clock = Clock::new();
        let url = format!(
            "\"postgres://postgres@{}/{}\"",
            middlebox.address(),
            database.name
        );
        let trial = Setup::of(&MISBEHAVE)
            // What is freed of large answers goes back to the system at once, whichever thread had
            // them: else the C library raises this by itself, and keeps room in each thread.
            .variable("MALLOC_MMAP_THRESHOLD_", "131072")
            // A guest's memory never shrinks; what it was once in need of is not to look like a leak.
            .function("retire", "{ memory_mib = 8 }")
            .database("url", &url)
            .database("pool_max", &slots.to_string())
            // Each statement has a text of its own: what is kept of them is soon all that may be.
            .database("statements_max", "16")
            .timeout(TIMEOUT)
            .clock(&clock)
            .behind_middlebox()
            .concurrency(slots)
            .toml("[log]\nlevel = \"debug\"\n")
            .start(Door::Lambda)
            .await;
        Self {
            faults,
            slots,
            clock,
            database,
            middlebox,
            trial,
            peace: RwLock::default(),
            number: AtomicUsize::new(0),
            certain: Mutex::default(),
            rejected: AtomicUsize::new(0),
            answered: AtomicUsize::new(0),
            late: AtomicUsize::new(0),
        }
    }

    /// Invokes the function as soon as Lambda can.
    async fn invoke(&self, event: Event, fate: Option<Fate>) -> Call {
        loop {
            if let Some(call) = self.trial.lambda().invoke(event.clone(), fate).await {
                self.answered.fetch_add(1, Ordering::Relaxed);
                return call;
            }
            self.rejected.fetch_add(1, Ordering::Relaxed);
            self.trial.lambda().some_parked().await;
        }
    }

    /// Waits until the host has done all that comes after the answers, while nobody invokes. What it
    /// gives back later has not rested, and so is not asked whether it is still there.
    async fn settled(&self) {
        let answered = self.answered.load(Ordering::Relaxed);
        let settled = || self.trial.host.lines(SETTLED);
        let what = format!("{answered} invocations that have given everything back");
        e2e::eventually(&what, async || (settled() >= answered).then_some(())).await;
    }

    /// An invocation that must be answered rightly: it notes its number and returns it.
    async fn is_right(&self, number: usize, fate: Option<Fate>, what: &str) {
        let insert = format!("insert into noted values ({number}) returning number::text");
        let insert = json!({ "query": insert });
        let (steps, rows) = match number % 3 {
            0 => (
                json!([{ "transaction": [insert], "end": "commit" }]),
                "/steps/0/steps/0/rows/0/0",
            ),
            _ => (json!([insert]), "/steps/0/rows/0/0"),
        };
        let event = self.trial.event(json!({ "steps": steps }).to_string());
        let call = self.invoke(event, fate).await;
        let told = String::from_utf8_lossy(&call.body);
        let status = match fate {
            Some(Fate::Refused(status)) => status,
            _ => 202,
        };
        assert_eq!(
            (call.what, call.status),
            (What::Response, status),
            "{what}: {told}"
        );
        let answer: Value = serde_json::from_slice(&call.body).unwrap();
        assert_eq!(
            answer.pointer(rows),
            Some(&json!(number.to_string())),
            "{what}: {told}"
        );
        self.certain.lock().await.push(number as i64);
    }

    /// An invocation that must be answered with an error.
    async fn fails(&self, event: Value, timeout: Duration, error: &str) {
        let event = Event::new(event.to_string(), timeout).header(
            "Lambda-Runtime-Deadline-Ms",
            &self.clock.unix_ms_in(timeout).to_string(),
        );
        let call = self.invoke(event, None).await;
        let told = String::from_utf8_lossy(&call.body);
        let is_late = timeout == SHORT && call.status == 410;
        self.late.fetch_add(usize::from(is_late), Ordering::Relaxed);
        let is_told = call.what == What::Error && (is_late || call.status == 202);
        assert!(is_told, "{error}: {}, {told}", call.status);
        assert!(told.contains(error), "{error}: {told}");
    }

    async fn meets(&self, number: usize, fault: Fault) {
        let what = format!("invocation {number}, {fault:?}");
        let note = json!({ "execute": format!("insert into noted values ({number})") });
        match fault {
            Fault::Act(act) => {
                self.fails(json!({ "steps": [note], "act": act }), TIMEOUT, "errorType")
                    .await;
            }
            Fault::Garbage => self.fails(json!([number]), TIMEOUT, "InvalidEvent").await,
            Fault::Late(act) => {
                self.fails(json!({ "act": act }), SHORT, "DeadlineExceeded")
                    .await;
            }
            Fault::Waits => {
                let wait = json!({ "query": "select pg_sleep(600)::text" });
                self.fails(json!({ "steps": [wait] }), SHORT, "DeadlineExceeded")
                    .await;
            }
            Fault::Killed => {
                let kill =
                    json!({ "query": "select pg_terminate_backend(pg_backend_pid())::text" });
                let event = json!({ "steps": [kill], "act": "fail" });
                self.fails(event, TIMEOUT, "Misbehaved").await;
            }
            Fault::Unfinished => {
                let steps = json!([{ "transaction": [note], "end": "forget" }]);
                self.fails(json!({ "steps": steps, "act": "trap" }), TIMEOUT, "Trap")
                    .await;
            }
            Fault::Fate(fate) => self.is_right(number, Some(fate), &what).await,
            Fault::Network(cut) => {
                self.clock.shift(2);
                self.middlebox.cut(cut).await;
            }
            Fault::Terminated => {
                self.clock.shift(2);
                self.database.end_sessions().await;
            }
            Fault::Api(cut) => {
                let lambda = self.trial.lambda();
                lambda.parked(self.slots).await;
                let asked = lambda.asked();
                self.trial.middlebox().cut(cut).await;
                // Lambda takes notice as well, before it sends another event.
                lambda.asked_again(asked + self.slots).await;
                lambda.parked(self.slots).await;
            }
            Fault::Frozen(seconds) => {
                self.trial.lambda().parked(1).await;
                self.trial.host.freeze();
                self.clock.shift(seconds);
            }
        }
    }

    /// The next invocation.
    async fn go_on(&self) {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        if !number.is_multiple_of(5) {
            let _peace = self.peace.read().await;
            return self
                .is_right(number, None, &format!("invocation {number}"))
                .await;
        }
        let fault = self.faults[number / 5 % self.faults.len()];
        let is_own = !matches!(
            fault,
            Fault::Network(_) | Fault::Terminated | Fault::Api(_) | Fault::Frozen(_)
        );
        if is_own {
            let _peace = self.peace.read().await;
            return self.meets(number, fault).await;
        }
        let _alone = self.peace.write().await;
        self.settled().await;
        self.meets(number, fault).await;
        let what = format!("invocation {number} after {fault:?}");
        tokio::join!(self.is_right(number, None, &what), async {
            if let Fault::Frozen(_) = fault {
                self.trial.lambda().parked(0).await;
                self.trial.host.thaw();
            }
        });
    }

    /// Goes on until there were so many invocations.
    async fn until(&self, invocations: usize) {
        let slots = (0..self.slots).map(|_| async {
            while self.number.load(Ordering::Relaxed) < invocations {
                self.go_on().await;
            }
        });
        join_all(slots).await;
    }

    /// How many connections the server sees while the host rests, and what that holds by then.
    async fn holdings(&self) -> (u64, Holdings) {
        self.trial.lambda().parked(self.slots).await;
        self.settled().await;
        (self.database.backends().await, self.trial.host.holdings())
    }

    /// Each number that is certain was noted once, and no other twice.
    async fn check(&self) {
        let certain = self.certain.lock().await;
        let certain: Vec<String> = certain.iter().map(i64::to_string).collect();
        let missing = format!(
            "select count(*) from unnest('{{{}}}'::int8[]) n
             where not exists (select from noted where number = n)",
            certain.join(",")
        );
        let twice =
            "select count(*) from (select from noted group by number having count(*) > 1) more";
        assert_eq!(self.database.value(&missing).await.as_deref(), Some("0"));
        assert_eq!(self.database.value(twice).await.as_deref(), Some("0"));
        let late = self.late.load(Ordering::Relaxed);
        assert!(
            late * 100 <= self.number.load(Ordering::Relaxed),
            "{late} late"
        );
        assert!(certain.len() * 5 >= self.number.load(Ordering::Relaxed) * 4);
    }
}

fn number_from(variable: &str, usual: usize) -> usize {
    let given = std::env::var(variable).ok();
    given.map_or(usual, |text| text.parse().expect("it is to be a number"))
}

async fn endures(slots: usize, faults: Vec<Fault>) {
    let invocations = number_from("HEARTH_ENDURANCE_INVOCATIONS", 400);
    let stage = Stage::new(slots, faults).await;
    // As many as are needed to meet each fault, and to use all slots.
    stage.until(WARM.max(slots * 5)).await;
    let before = stage.holdings().await;
    for tenth in 1..=10 {
        stage.until(invocations * tenth / 10).await;
        println!("{tenth}/10: {:?}", stage.holdings().await);
    }
    let after = stage.holdings().await;
    stage.check().await;
    println!(
        "{before:?} after the first {WARM} invocations, {after:?} after {invocations}; \
         {} times nobody asked for an event",
        stage.rejected.load(Ordering::Relaxed)
    );
    let ((backends, before), (backends_after, after)) = (before, after);
    assert!(backends_after <= backends.max(slots as u64));
    // Beside the pool's connections there are those to Lambda, and what every process has open.
    let others = before.descriptors - backends as usize;
    assert!(after.descriptors <= others + slots + 2);
    assert!(after.threads <= before.threads + 2);
    assert!(after.memory_kib <= before.memory_kib + ALLOCATOR_KIB);
}

#[tokio::test]
async fn one_event_at_a_time_with_a_fault_in_every_fifth() {
    endures(1, [&EVERYWHERE[..], &CLASSIC].concat()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_events_at_a_time_with_a_fault_in_every_fifth() {
    let slots = number_from("HEARTH_ENDURANCE_SLOTS", 16);
    endures(slots, EVERYWHERE.to_vec()).await;
}
