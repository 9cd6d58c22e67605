//! A Runtime API of which a test writes each byte: what HTTP allows and servers seldom say, and what is
//! no HTTP at all.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hyper::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as Turn, mpsc};
use tokio::task::{JoinHandle, JoinSet};

use crate::call::{What, what};
use crate::{PATIENCE, within};

/// What is said to everything but a request for the next event, the registration as an extension included.
const TAKEN: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

/// One of them, serving until it is dropped.
pub struct Handmade {
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
    answers: Mutex<Vec<Answer>>,
}

/// What is said to one request for the next event.
#[derive(Debug, Clone)]
pub struct Reply {
    bytes: Bytes,
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
            closes: false,
        }
    }

    /// These bytes, and then the end of the connection.
    pub fn last(bytes: impl Into<Bytes>) -> Self {
        Self {
            bytes: bytes.into(),
            closes: true,
        }
    }

    /// An event as there is nothing odd about it, but that it tells no time.
    pub fn event(id: &str, event: &str) -> Self {
        let length = event.len();
        Self::open(format!(
            "HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: {id}\r\nContent-Length: {length}\r\n\r\n{event}"
        ))
    }
}

impl Handmade {
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
            answers: Mutex::default(),
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

    /// Waits for the answer to an event.
    pub async fn answer(&self, id: &str) -> Answer {
        within(PATIENCE, &format!("an answer to {id}"), async || {
            let answers = self.shared.answers.lock().unwrap();
            answers.iter().find(|answer| answer.id == id).cloned()
        })
        .await
    }

    /// How many answers there were to an event.
    pub fn answers(&self, id: &str) -> usize {
        let answers = self.shared.answers.lock().unwrap();
        answers.iter().filter(|answer| answer.id == id).count()
    }
}

impl Drop for Handmade {
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
                let mut replies = shared.replies.lock().await;
                let mut more = [0];
                let reply = tokio::select! {
                    reply = replies.recv() => reply,
                    // The other side has gone away.
                    _ = socket.peek(&mut more) => return,
                };
                let Some(reply) = reply else { return };
                reply
            }
            _ => {
                let answer = Answer { what, id, body };
                shared.answers.lock().unwrap().push(answer);
                Reply::open(shared.taken.clone())
            }
        };
        if socket.write_all(&reply.bytes).await.is_err() || reply.closes {
            return;
        }
    }
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
