//! Does what a function should not do, on command; with some SQL before it, if the event brings any.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use futures_util::future::poll_immediate;
use hearth::__private::bindings::hearth::postgres::client::{self as wire, Database};
use hearth::postgres::Client;
use hearth::{Context, Failure};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use test_guests::program::crash::{grow, recurse, recurse_with_arrays, spin, trap};
use test_guests::{Step, run};

static INVOCATIONS: AtomicU32 = AtomicU32::new(0);
/// The context of an earlier invocation.
static KEPT: Mutex<Option<Context>> = Mutex::new(None);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    #[serde(default)]
    steps: Vec<Step>,
    #[serde(default)]
    act: Act,
    /// How much memory `swell` takes.
    #[serde(default = "much")]
    mib: usize,
    /// What `print` and `mutter` print, or what `fail` calls its failure.
    #[serde(default)]
    text: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    #[default]
    Return,
    Count,
    Swell,
    Panic,
    Trap,
    Spin,
    Recurse,
    RecurseWithArrays,
    Grow,
    Exit,
    Fail,
    Err,
    Leak,
    Sleep,
    Answer,
    /// Answers with what JSON has no form for.
    AnswerInNoForm,
    Print,
    /// Prints it without a line break.
    Mutter,
    Flood,
    Keep,
    AskKept,
    /// Reads on behind an error of a `COPY`.
    ReadOn,
    /// Reads rows in a transaction batch by batch.
    ReadBatches,
    /// Begins a call, and drops it a while later without having looked at it.
    Neglect,
    /// Uses and drops a transaction that its own text has ended, beside the next one of its session.
    BeginAnother,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Told {
    Json(Value),
    /// Keys that are no text.
    Pairs(BTreeMap<(u32, u32), u32>),
}

fn much() -> usize {
    32
}

#[hearth::function]
async fn handle(event: Event, cx: Context) -> Result<Told, hearth::Error> {
    let invocations = INVOCATIONS.fetch_add(1, SeqCst) + 1;
    let steps = match event.steps.is_empty() {
        true => Vec::new(),
        false => run(&hearth::postgres::default()?, event.steps).await,
    };
    let act = match event.act {
        Act::Count => json!(invocations),
        Act::Keep => json!(
            KEPT.lock()
                .expect("nobody panics here")
                .insert(cx)
                .is_first()
        ),
        Act::AskKept => {
            let kept = KEPT.lock().expect("nobody panics here").take();
            json!(kept.expect("one was kept").request_id())
        }
        Act::BeginAnother => told(begin_another().await),
        Act::ReadOn => told(read_on().await),
        Act::ReadBatches => told(read_batches().await),
        Act::Neglect => json!(neglect(&hearth::postgres::default()?).await),
        Act::Swell => {
            black_box(vec![1_u8; event.mib << 20]);
            json!("swollen")
        }
        Act::Fail => {
            let name = match event.text.as_str() {
                "" => "Misbehaved",
                text => text,
            };
            return Err(Failure::new(name, "as it was told").into());
        }
        Act::Err => return Err("as it was told".into()),
        Act::AnswerInNoForm => return Ok(Told::Pairs([((1, 2), 3)].into())),
        act => misbehave(act, &event.text),
    };
    Ok(Told::Json(json!({ "steps": steps, "act": act })))
}

fn told(done: Result<Value, wire::Error>) -> Value {
    done.unwrap_or_else(|error| json!(format!("{error:?}")))
}

const OPTIONS: wire::TransactionOptions = wire::TransactionOptions {
    isolation_level: None,
    read_only: None,
    deferrable: None,
};

async fn read_on() -> Result<Value, wire::Error> {
    let sql = "copy (select 1 / (n - 500) from generate_series(1, 1000) n) to stdout";
    let copy = Database::open("default")?
        .copy_out(sql.to_owned(), None)
        .await?;
    let mut reads = Vec::new();
    for _ in 0..3 {
        let read = copy.read(1 << 20).await;
        reads.push(told(read.map(|piece| json!(piece.len()))));
    }
    Ok(json!(reads))
}

/// Of the first batch it says when it is there. How many rows there are in each.
async fn read_batches() -> Result<Value, wire::Error> {
    let tx = Database::open("default")?.begin(OPTIONS, None).await?;
    let call = wire::Call {
        sql: "select repeat('x', 521) from generate_series(1, 1000)".to_owned(),
        types: Vec::new(),
        version: 0,
        arguments: Vec::new(),
        timeout_ms: None,
    };
    let answer = tx.query(call).await?;
    println!("{} rows are here", answer.first.rows);
    let mut batches = vec![answer.first.rows];
    if let Some(rest) = answer.rest {
        loop {
            let batch = rest.next(1 << 20).await?;
            batches.push(batch.rows);
            if batch.last {
                break;
            }
        }
    }
    Ok(json!(batches))
}

/// Whether it was ready at once.
async fn neglect(db: &Client) -> bool {
    let mut call = Box::pin(db.execute("select 1", &[]));
    let was_ready = poll_immediate(call.as_mut()).await.is_some();
    std::thread::sleep(Duration::from_millis(300));
    was_ready
}

async fn begin_another() -> Result<Value, wire::Error> {
    let insert = || "insert into things values ('left')".to_owned();
    let session = Database::open("default")?.session(None).await?;
    let one = session.begin(OPTIONS).await?;
    one.batch_execute("commit".to_owned(), None).await?;
    let other = session.begin(OPTIONS).await?;
    other.batch_execute(insert(), None).await?;
    let through_one = one.batch_execute(insert(), None).await;
    let ended = one.commit(None).await;
    drop(one);
    other.batch_execute(insert(), None).await?;
    other.commit(None).await?;
    let all = [through_one, ended];
    Ok(all.map(|done| told(done.map(|()| Value::Null))).into())
}

// Inlined, it would be on no stack trace.
#[inline(never)]
fn misbehave(act: Act, text: &str) -> Value {
    match act {
        Act::Panic => panic!("as it was told"),
        Act::Trap => trap(),
        Act::Spin => {
            println!("spinning");
            spin()
        }
        Act::Recurse => json!(recurse(0)),
        Act::RecurseWithArrays => json!(recurse_with_arrays(0)),
        Act::Grow => grow(),
        Act::Exit => std::process::exit(3),
        Act::Leak => {
            let open = || Database::open("default").ok();
            let kept: Option<Vec<_>> = (0..10_000).map(|_| open()).collect();
            panic!(
                "{} handles",
                kept.expect("the database is the function's").len()
            )
        }
        Act::Sleep => {
            println!("sleeping");
            std::thread::sleep(Duration::from_secs(600));
            Value::Null
        }
        Act::Answer => json!("x".repeat(6 * 1024 * 1024 + 101)),
        Act::Print => {
            text.lines().for_each(|line| println!("{line}"));
            eprint!("on the other output, without an end");
            Value::Null
        }
        Act::Mutter => {
            print!("{text}");
            Value::Null
        }
        Act::Flood => {
            let line = "x".repeat(1000);
            (0..3000).for_each(|_| println!("{line}"));
            Value::Null
        }
        _ => Value::Null,
    }
}
