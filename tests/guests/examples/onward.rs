//! Goes on after its answer, on command: with work of its own, or by making the answer.

use std::hint::black_box;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream;
use hearth::{Answer, Body, Encoded, Failure, Http, Streamed};
use serde::Deserialize;
use serde_json::{Value, json};
use test_guests::program::crash::trap;
use test_guests::{Step, run};

/// Invocations so far.
static SERVED: AtomicU32 = AtomicU32::new(0);
/// Pieces of work that were done to their end.
static DONE: AtomicU32 = AtomicU32::new(0);
/// Answers that nobody read to their end.
static GONE: AtomicU32 = AtomicU32::new(0);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Event {
    /// What to do before the answer.
    #[serde(default)]
    first: Vec<Act>,
    /// What to do after the answer, all at the same time.
    #[serde(default)]
    after: Vec<Vec<Act>>,
    /// What to do as the answer.
    stream: Option<Vec<Act>>,
    /// What to do as the answer, which is a stream of what is sent.
    items: Option<Vec<Act>>,
    /// What the answer says to HTTP.
    http: Option<Head>,
    /// Whether it fails instead of answering.
    #[serde(default)]
    fails: bool,
}

#[derive(Deserialize)]
struct Head {
    status: u16,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    cookies: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    /// Does something with the database; an error is a failure.
    Step(Step),
    Print(String),
    Sleep(u64),
    /// Sleeps as WASI does, which keeps all others in the instance from moving.
    Block(u64),
    /// Begins to print this text again and again, and tells nobody of it.
    Stray(String),
    Fail(String),
    /// Fails with this message for that reason.
    FailBecause(String, String),
    /// Fails with a type and a message that have so many bytes each.
    FailAtLength(usize),
    Panic(String),
    /// Sends this text as a piece of the answer.
    Send(String),
    /// Sends so many bytes as one piece, and gives that up after so many milliseconds.
    Tear(usize, u64),
    /// Sends so many bytes, in pieces of 64 KiB, and prints how many there were by then.
    SendBytes(usize),
    SendForever,
    /// Begins work after the answer.
    Then(Vec<Act>),
    /// Computes for so many milliseconds, and gives nobody a turn.
    Compute(u64),
    /// Asks for so many bytes, and does without them.
    Want(usize),
    Trap,
    Spin,
    /// Computes for ever too, but gives others their turns.
    Turn,
}

enum Reply {
    Json(Value),
    Streamed(Streamed),
    HttpJson(Http<Value>),
    HttpStreamed(Http<Streamed>),
}

impl Answer for Reply {
    fn encode(self) -> Result<Encoded, Failure> {
        match self {
            Self::Json(value) => value.encode(),
            Self::Streamed(streamed) => streamed.encode(),
            Self::HttpJson(http) => http.encode(),
            Self::HttpStreamed(http) => http.encode(),
        }
    }
}

#[hearth::function]
async fn handle(event: Event) -> Result<Reply, hearth::Error> {
    let served = SERVED.fetch_add(1, SeqCst) + 1;
    let counts = json!({ "served": served, "done": DONE.load(SeqCst), "gone": GONE.load(SeqCst) });
    act(event.first, None).await?;
    event.after.into_iter().for_each(begin);
    if event.fails {
        return Err(Failure::new("Failed", "as it was told").into());
    }
    let items = event.items.map(|acts| {
        let items = stream::iter(acts).filter_map(async |item| match item {
            Act::Send(text) => Some(Ok(text)),
            other => act(vec![other], None).await.err().map(Err),
        });
        Streamed::from_stream(items)
    });
    let streamed = event.stream.map(|acts| {
        Streamed::new(async move |body| {
            let ended = act(acts, Some(body)).await;
            if ended
                .as_ref()
                .is_err_and(|error| error.is::<hearth::Gone>())
            {
                println!("gone");
                GONE.fetch_add(1, SeqCst);
            }
            ended
        })
    });
    Ok(match (event.http, streamed.or(items)) {
        (None, None) => Reply::Json(counts),
        (None, Some(streamed)) => Reply::Streamed(streamed),
        (Some(head), None) => Reply::HttpJson(with(head, counts)),
        (Some(head), Some(streamed)) => Reply::HttpStreamed(with(head, streamed)),
    })
}

fn with<B: Answer>(head: Head, body: B) -> Http<B> {
    let http = Http::new(head.status, body);
    let headers = head.headers.into_iter();
    let http = headers.fold(http, |http, (name, value)| http.header(name, value));
    head.cookies.into_iter().fold(http, Http::cookie)
}

fn begin(work: Vec<Act>) {
    hearth::wait_until(async {
        act(work, None).await?;
        DONE.fetch_add(1, SeqCst);
        Ok::<(), hearth::Error>(())
    });
}

async fn act(acts: Vec<Act>, mut body: Option<Body>) -> Result<(), hearth::Error> {
    let mut sent = 0;
    for act in acts {
        match act {
            Act::Step(step) => {
                let results = run(&hearth::postgres::default()?, vec![step]).await;
                if let Some(error) = results[0].get("error") {
                    return Err(error.to_string().into());
                }
            }
            Act::Print(text) => println!("{text}"),
            Act::Sleep(ms) => hearth::sleep(Duration::from_millis(ms)).await,
            Act::Block(ms) => std::thread::sleep(Duration::from_millis(ms)),
            Act::Stray(text) => wit_bindgen::spawn_local(stray(text)),
            Act::Fail(text) => return Err(Failure::new("Failed", text).into()),
            Act::FailBecause(text, cause) => {
                return Err(Failure::new("Failed", text).because(cause).into());
            }
            Act::FailAtLength(bytes) => {
                return Err(Failure::new("T".repeat(bytes), "m".repeat(bytes)).into());
            }
            Act::Panic(text) => panic!("{text}"),
            Act::Send(text) => writer(&mut body).send(text).await?,
            Act::Tear(bytes, ms) => {
                let sending = writer(&mut body).send(vec![b'x'; bytes]);
                let sent = hearth::timeout(Duration::from_millis(ms), sending).await;
                println!("torn: {}", sent.is_none());
            }
            Act::SendBytes(bytes) => send(writer(&mut body), bytes, &mut sent).await?,
            Act::SendForever => send(writer(&mut body), usize::MAX, &mut sent).await?,
            Act::Then(work) => begin(work),
            Act::Compute(ms) => {
                let begun = Instant::now();
                while begun.elapsed() < Duration::from_millis(ms) {
                    black_box((0..10_000).fold(0, |sum, number| black_box(sum ^ number)));
                }
            }
            Act::Want(bytes) => _ = black_box(Vec::<u8>::new()).try_reserve_exact(bytes),
            Act::Trap => trap(),
            Act::Spin => loop {
                black_box(0);
            },
            Act::Turn => loop {
                wit_bindgen::yield_async().await;
            },
        }
    }
    Ok(())
}

async fn stray(text: String) {
    loop {
        hearth::sleep(Duration::from_millis(5)).await;
        println!("{text}");
    }
}

fn writer(body: &mut Option<Body>) -> &mut Body {
    body.as_mut().expect("only a streamed answer is sent")
}

async fn send(body: &mut Body, bytes: usize, sent: &mut usize) -> Result<(), hearth::Error> {
    let mut left = bytes;
    while left > 0 {
        let piece = left.min(64 * 1024);
        body.send(vec![b'x'; piece]).await?;
        left -= piece;
        *sent += piece;
        println!("sent {sent}");
    }
    Ok(())
}
