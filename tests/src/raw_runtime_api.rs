//! A Runtime API of which a test writes each byte of each reply, for what HTTP allows and servers seldom say, and
//! for what is no HTTP at all. Tests that need neither use [`crate::lambda`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as Turn, Notify, mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::call::{What, what};
use crate::{PATIENCE, eventually, within};

/// What is said to everything but a request for the next event, the registration as an extension included.
const TAKEN: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

/// A Runtime API that replies as a test has told it to, until it is dropped.
pub struct RawRuntimeApi {
    address: SocketAddr,
    shared: Arc<Shared>,
    replies: mpsc::UnboundedSender<Reply>,
    server: JoinHandle<()>,
}

struct Shared {
    /// Whoever asks for an event has it, one after the other.
    replies: Turn<mpsc::UnboundedReceiver<Reply>>,
    /// What is said to everything else.
    taken: Bytes,
    receipts: watch::Sender<Receipts>,
    leaving: Mutex<Leaving>,
    answers: Mutex<Vec<Answer>>,
    /// How many requests for an event there were.
    asked: AtomicUsize,
    /// How many events were begun to be said, and not ended.
    halting: AtomicUsize,
}

/// Who is told that an answer was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipts {
    /// Whoever posts one.
    Sent,
    /// Nobody for now.
    Held,
    /// Whoever has posted the first copy of one; nobody else for now.
    SentToFirst,
    /// Nobody: its connection is closed instead.
    Lost,
}

/// What is done where whoever asks for an event has said that it will send nothing more, and has none yet.
#[derive(Debug, Clone, Default)]
pub enum Leaving {
    /// Its connection is closed.
    #[default]
    Close,
    /// Nothing else than before.
    Stay,
    /// This is said, as what was about to be said in any case.
    Say(Reply),
}

/// What is said to one request for the next event.
#[derive(Debug, Clone)]
pub struct Reply {
    bytes: Bytes,
    /// What is said later, and when.
    rest: Option<(Bytes, Arc<Notify>)>,
    closes: bool,
}

/// What a host has posted.
#[derive(Debug, Clone)]
pub struct Answer {
    /// As what.
    pub what: What,
    /// To which event.
    pub id: String,
    /// The rest.
    pub body: Bytes,
}

impl Reply {
    /// These bytes, after which the connection stays open.
    pub fn open(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            rest: None,
            closes: false,
        }
    }

    /// These bytes, and then the end of the connection.
    pub fn last(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            rest: None,
            closes: true,
        }
    }

    /// The same, and then the end of the connection.
    pub fn closing(mut self) -> Self {
        self.closes = true;
        self
    }

    /// The same without its last bytes.
    pub fn cut(mut self, bytes: usize) -> Self {
        self.bytes.truncate(self.bytes.len() - bytes);
        self
    }

    /// The same, but its last bytes are said only when this is notified.
    pub fn halting(mut self, bytes: usize) -> (Self, Arc<Notify>) {
        let go_on = Arc::new(Notify::new());
        let rest = self.bytes.split_off(self.bytes.len() - bytes);
        self.rest = Some((rest, Arc::clone(&go_on)));
        (self, go_on)
    }

    /// An event as there is nothing odd about it, but that it tells no time.
    pub fn event(id: &str, event: &str) -> Self {
        Self::event_with(id, "", event)
    }

    /// An event with so much time.
    pub fn event_within(id: &str, time: Duration, event: &str) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let deadline = now.expect("it is after 1970") + time;
        let deadline = deadline.as_millis();
        Self::event_with(
            id,
            &format!("Lambda-Runtime-Deadline-Ms: {deadline}\r\n"),
            event,
        )
    }

    /// An event with these lines in its head, each with its end.
    pub fn event_with(id: &str, lines: &str, event: &str) -> Self {
        let length = event.len();
        Self::open(format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {id}\r\n{lines}Content-Length: {length}\r\n\r\n{event}"
        ))
    }
}

impl RawRuntimeApi {
    /// Starts serving on a port of its own.
    pub async fn start() -> Self {
        Self::start_saying(TAKEN).await
    }

    /// The same, with these bytes for everything that is posted, after which the connection stays open.
    pub async fn start_saying(taken: &'static [u8]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the machine has a free port");
        let address = listener.local_addr().expect("it is bound");
        let (sender, replies) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared {
            replies: Turn::new(replies),
            taken: Bytes::from_static(taken),
            receipts: watch::Sender::new(Receipts::Sent),
            leaving: Mutex::default(),
            answers: Mutex::default(),
            asked: AtomicUsize::new(0),
            halting: AtomicUsize::new(0),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            replies: sender,
            server,
        }
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Says this to the next request for an event to which nothing was said yet.
    pub fn say(&self, reply: Reply) {
        let said = self.replies.send(reply);
        said.expect("it is received as long as this serves");
    }

    /// From now on it is told like this that an answer was taken, also of those that wait for it.
    pub fn receipts(&self, receipts: Receipts) {
        self.shared.receipts.send_replace(receipts);
    }

    /// From now on this is done where whoever asks for an event sends nothing more.
    pub fn leaving(&self, leaving: Leaving) {
        *self.shared.leaving.lock().unwrap() = leaving;
    }

    /// Waits until there were so many requests for an event.
    pub async fn asked_for(&self, count: usize) {
        within(PATIENCE, &format!("{count} requests"), async || {
            (self.asked() >= count).then_some(())
        })
        .await;
    }

    /// Waits until there were so many answers to an event.
    pub async fn answered(&self, id: &str, count: usize) {
        eventually(&format!("{count} answers to {id}"), async || {
            (self.answers(id) >= count).then_some(())
        })
        .await;
    }

    /// Waits for the answer to an event.
    pub async fn answer(&self, id: &str) -> Answer {
        eventually(&format!("an answer to {id}"), async || {
            let answers = self.shared.answers.lock().unwrap();
            answers.iter().find(|answer| answer.id == id).cloned()
        })
        .await
    }

    /// The last answer so far to an event that has one.
    pub fn last_answer(&self, id: &str) -> Answer {
        let answers = self.shared.answers.lock().unwrap();
        let last = answers.iter().rfind(|answer| answer.id == id);
        last.expect("there is one").clone()
    }

    /// How many requests for an event there were.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Waits until a reply halts in its middle, all that stands before that having been sent.
    pub async fn halts(&self) {
        let halting = || self.shared.halting.load(Ordering::SeqCst);
        eventually("a reply that halts", async || (halting() > 0).then_some(())).await;
    }

    /// How many answers there were to an event.
    pub fn answers(&self, id: &str) -> usize {
        let answers = self.shared.answers.lock().unwrap();
        answers.iter().filter(|answer| answer.id == id).count()
    }
}

impl Drop for RawRuntimeApi {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        connections.spawn(converse(socket, Arc::clone(&shared)));
    }
}

async fn converse(mut socket: TcpStream, shared: Arc<Shared>) {
    let mut input = Vec::new();
    while let Some((what, id, body)) = request(&mut socket, &mut input).await {
        let reply = match what {
            What::Next => {
                shared.asked.fetch_add(1, Ordering::SeqCst);
                let mut replies = shared.replies.lock().await;
                let mut more = [0];
                let reply = tokio::select! {
                    reply = replies.recv() => reply,
                    // The other side has gone away, or is about to.
                    _ = socket.peek(&mut more) => {
                        let leaving = shared.leaving.lock().unwrap().clone();
                        match leaving {
                            Leaving::Close => None,
                            Leaving::Stay => replies.recv().await,
                            Leaving::Say(reply) => Some(reply),
                        }
                    }
                };
                let Some(reply) = reply else { return };
                reply
            }
            _ => match receipt(&shared, Answer { what, id, body }).await {
                Some(receipt) => receipt,
                None => return,
            },
        };
        if socket.write_all(&reply.bytes).await.is_err() {
            return;
        }
        if let Some((rest, go_on)) = reply.rest {
            shared.halting.fetch_add(1, Ordering::SeqCst);
            go_on.notified().await;
            if socket.write_all(&rest).await.is_err() {
                return;
            }
        }
        if reply.closes {
            return;
        }
    }
}

/// Notes an answer. Returns what is said of it, if anything, once that is to be said.
async fn receipt(shared: &Shared, answer: Answer) -> Option<Reply> {
    let is_answer = matches!(answer.what, What::Response | What::Error);
    let is_first = {
        let mut answers = shared.answers.lock().unwrap();
        let is_first = answers.iter().all(|known| known.id != answer.id);
        answers.push(answer);
        is_first
    };
    let mut receipts = shared.receipts.subscribe();
    let is_told = |receipts: &Receipts| match receipts {
        Receipts::Sent | Receipts::Lost => true,
        Receipts::SentToFirst => is_first,
        Receipts::Held => false,
    };
    let receipts = match is_answer {
        true => *receipts.wait_for(is_told).await.ok()?,
        false => Receipts::Sent,
    };
    (receipts != Receipts::Lost).then(|| Reply::open(shared.taken.clone()))
}

/// The next request on a connection: what it is, to which event, and its body.
async fn request(socket: &mut TcpStream, input: &mut Vec<u8>) -> Option<(What, String, Bytes)> {
    let head = loop {
        if let Some(end) = input.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        if socket.read_buf(input).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&input[..head]).to_lowercase();
    if text.contains("transfer-encoding: chunked") {
        while !input.ends_with(b"0\r\n\r\n") {
            if socket.read_buf(input).await.ok()? == 0 {
                return None;
            }
        }
        let (what, id) = what(&Method::POST, text.split(' ').nth(1)?);
        return Some((what, id, Bytes::from(input.split_off(head))));
    }
    let (_, length) = text.split_once("content-length: ").unwrap_or(("", "0"));
    let length: usize = length.lines().next()?.trim().parse().ok()?;
    while input.len() < head + length {
        if socket.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
    let mut words = text.split(' ');
    let method = match words.next()? {
        "get" => Method::GET,
        _ => Method::POST,
    };
    let (what, id) = what(&method, words.next()?);
    let body = Bytes::copy_from_slice(&input[head..head + length]);
    input.drain(..head + length);
    Some((what, id, body))
}
