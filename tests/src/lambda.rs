//! A fake of Lambda's Runtime API: a queue of events for the host, and a record of every call.
//!
//! It answers as AWS's own implementation does, with the status codes a test chooses, and freezes
//! nothing by itself: see [`crate::Host::freeze`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use crate::arrival::{Arrived, Reader, Reading};
use crate::call;
pub use crate::call::{Call, What};
use crate::{PATIENCE, within};

const REQUEST_ID: &str = "Lambda-Runtime-Aws-Request-Id";

/// One event for the host.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its request id.
    pub id: String,
    /// Its payload.
    pub payload: Bytes,
    /// The headers it comes with.
    pub headers: Vec<(String, String)>,
}

impl Event {
    /// An event with this payload, to be answered within `timeout` of now.
    pub fn new(payload: impl Into<Bytes>, timeout: Duration) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(1);
        let id = format!(
            "00000000-e2e0-4000-8000-{:012x}",
            NUMBER.fetch_add(1, Ordering::Relaxed)
        );
        let deadline = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is after 1970")
            + timeout;
        let headers = [
            (REQUEST_ID, id.clone()),
            (
                "Lambda-Runtime-Deadline-Ms",
                deadline.as_millis().to_string(),
            ),
            (
                "Lambda-Runtime-Invoked-Function-Arn",
                "arn:aws:lambda:eu-central-1:123456789012:function:tested".to_owned(),
            ),
            (
                "Lambda-Runtime-Trace-Id",
                "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
                    .to_owned(),
            ),
            ("Content-Type", "application/json".to_owned()),
        ];
        let headers = headers
            .map(|(name, value)| (name.to_owned(), value))
            .to_vec();
        Self {
            id,
            payload: payload.into(),
            headers,
        }
    }

    /// The same event with one more header, or another value for one it has.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        if name.eq_ignore_ascii_case(REQUEST_ID) {
            self.id = value.to_owned();
        }
        self.headers
            .retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// The fake, serving until it is dropped.
pub struct Lambda {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    events: Mutex<VecDeque<Event>>,
    /// One permit for each event in the queue.
    waiting: Semaphore,
    /// How many calls of `/next` wait for an event.
    parked: AtomicUsize,
    reader: Reader,
    /// One permit for each copy of the snapshot that runs.
    restored: Semaphore,
    /// How many calls wait for a restore.
    snapshots: AtomicUsize,
    /// How many extensions wait.
    extensions: AtomicUsize,
    calls: Mutex<Vec<Call>>,
    /// The statuses chosen for calls to come.
    statuses: Mutex<Vec<(What, u16)>>,
}

impl Lambda {
    /// Starts serving on a port of its own.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the machine has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            events: Mutex::default(),
            waiting: Semaphore::new(0),
            parked: AtomicUsize::new(0),
            reader: Reader::default(),
            restored: Semaphore::new(0),
            snapshots: AtomicUsize::new(0),
            extensions: AtomicUsize::new(0),
            calls: Mutex::default(),
            statuses: Mutex::default(),
        });
        let server = tokio::spawn(serve(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            server,
        }
    }

    /// The value of `AWS_LAMBDA_RUNTIME_API`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Puts an event into the queue.
    pub fn send(&self, event: Event) {
        self.shared.events.lock().unwrap().push_back(event);
        self.shared.waiting.add_permits(1);
    }

    /// Answers the next call of this kind with this status.
    pub fn reply(&self, what: What, status: u16) {
        self.shared.statuses.lock().unwrap().push((what, status));
    }

    /// From now on answers are read like this.
    pub fn read(&self, reading: Reading) {
        self.shared.reader.set(reading);
    }

    /// Waits until so many bytes of an answer have arrived.
    pub async fn arrived(&self, id: &str, bytes: usize) {
        let reader = &self.shared.reader;
        let what = format!("{bytes} bytes of the answer to {id}");
        within(PATIENCE, &what, async || {
            (reader.progress(id) >= bytes).then_some(())
        })
        .await;
    }

    /// Every call so far, in the order in which they were answered.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Waits until this many calls of `/next` wait for an event.
    pub async fn parked(&self, count: usize) {
        let parked = || self.shared.parked.load(Ordering::SeqCst);
        let what = format!("{count} calls of /next that wait");
        within(PATIENCE, &what, async || (parked() == count).then_some(())).await;
    }

    /// Waits until the host may be made a snapshot of.
    pub async fn snapshot(&self) {
        let waits = || self.shared.snapshots.load(Ordering::SeqCst) == 1;
        within(PATIENCE, "a call that waits for a restore", async || {
            waits().then_some(())
        })
        .await;
    }

    /// Says that the host has been restored from a snapshot.
    pub fn restore(&self) {
        self.shared.restored.add_permits(1);
    }

    /// How many extensions wait for what never comes.
    pub fn extensions(&self) -> usize {
        self.shared.extensions.load(Ordering::SeqCst)
    }

    /// Waits for the answer to an event, whichever it is.
    pub async fn answer(&self, id: &str) -> Call {
        let is_answer =
            |call: &Call| matches!(call.what, What::Response | What::Error) && call.id == id;
        self.call(&format!("an answer to {id}"), is_answer).await
    }

    /// Waits for a call.
    pub async fn call(&self, what: &str, wanted: impl Fn(&Call) -> bool) -> Call {
        within(PATIENCE, what, async || {
            let calls = self.shared.calls.lock().unwrap();
            calls.iter().find(|call| wanted(call)).cloned()
        })
        .await
    }
}

impl Drop for Lambda {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    // Dropping the set ends the connections: a host must see its Lambda go.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let _ = socket.set_nodelay(true);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let service = service_fn(|request| handle(request, &shared));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        });
    }
}

async fn handle(request: Request<Incoming>, shared: &Shared) -> io::Result<Response<Full<Bytes>>> {
    let begun = Instant::now();
    let (head, body) = request.into_parts();
    let (what, id) = call::what(&head.method, head.uri.path());
    let Arrived {
        body,
        pieces,
        trailers,
    } = shared.reader.read(&id, body).await?;
    let mut call = Call {
        what,
        id,
        headers: head.headers,
        body,
        pieces,
        trailers,
        status: shared.status(what),
        begun,
        at: Instant::now(),
    };
    let success = call.status == 200;
    match what {
        What::Restore if success => shared.restored().await,
        What::Wait if success => {
            let _waits = Parked::new(&shared.extensions);
            std::future::pending().await
        }
        _ => {}
    }
    let response = if what == What::Next && success {
        let event = shared.next().await;
        call.id = event.id.clone();
        let headers = event.headers.iter();
        headers
            .fold(Response::builder(), |response, (name, value)| {
                response.header(name, value)
            })
            .body(event.payload.into())
    } else {
        let text = match call.status {
            202 => r#"{"status":"OK"}"#,
            410 => r#"{"errorType":"InvokeTimeout","errorMessage":"Invoke timed out"}"#,
            413 => {
                r#"{"errorType":"RequestEntityTooLarge","errorMessage":"Exceeded maximum allowed payload size (6291556 bytes)."}"#
            }
            _ => r#"{"errorType":"Other","errorMessage":"as the test chose"}"#,
        };
        Response::builder()
            .status(call.status)
            .header("Content-Type", "application/json")
            .header("Lambda-Extension-Identifier", "an-extension")
            .body(text.into())
    };
    call.at = Instant::now();
    shared.calls.lock().unwrap().push(call);
    Ok(response.expect("a test's headers can be sent"))
}

impl Shared {
    /// The status for a call of this kind: the one that a test chose, or that of success.
    fn status(&self, what: What) -> u16 {
        let mut statuses = self.statuses.lock().unwrap();
        match (
            statuses.iter().position(|(chosen, _)| *chosen == what),
            what,
        ) {
            (Some(at), _) => statuses.remove(at).1,
            (None, What::Next | What::Restore | What::Register | What::Wait) => 200,
            (None, What::Other) => 404,
            (None, _) => 202,
        }
    }

    /// Waits until the host is a copy of its snapshot.
    async fn restored(&self) {
        let _parked = Parked::new(&self.snapshots);
        let restored = self.restored.acquire().await;
        restored.expect("it is never closed").forget();
    }

    /// The next event. Whoever asks may go away while waiting; then the event stays.
    async fn next(&self) -> Event {
        let _parked = Parked::new(&self.parked);
        self.waiting
            .acquire()
            .await
            .expect("it is never closed")
            .forget();
        self.events
            .lock()
            .unwrap()
            .pop_front()
            .expect("there is a permit for each event")
    }
}

/// Counts a waiting call for as long as it waits.
struct Parked<'a>(&'a AtomicUsize);

impl<'a> Parked<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
