//! A fake of Lambda's Runtime API: a queue of events for the host, and a record of every call.
//!
//! It answers as AWS's own implementation does ([`rules`]), or with the status codes that a test
//! chooses, and freezes nothing by itself: see [`crate::Host::freeze`].

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::DATE;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;

use crate::arrival::{Arrived, Reader, Reading};
use crate::call;
pub use crate::call::{Call, What};
use crate::{Clock, PATIENCE, eventually};

mod event;
mod parked;
pub mod rules;

pub use event::Event;
pub use rules::{Fate, Mode};

use parked::Parked;
use rules::{LOST, Rules};

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
    /// How many calls of `/next` there were.
    asked: AtomicUsize,
    /// One permit for each copy of the snapshot that runs.
    restored: Semaphore,
    /// How many calls wait for a restore.
    snapshots: AtomicUsize,
    /// How many extensions wait.
    extensions: AtomicUsize,
    rules: Mutex<Rules>,
    /// Who waits for the answer to an event.
    callers: Mutex<HashMap<String, oneshot::Sender<Call>>>,
    calls: Mutex<Vec<Call>>,
    /// What its clock shows, where that is not the true time.
    clock: Option<Clock>,
    /// The statuses chosen for calls to come.
    statuses: Mutex<Vec<(What, u16)>>,
}

impl Lambda {
    /// Starts serving on a port of its own, one event at a time.
    pub async fn start() -> Self {
        Self::start_in(Mode::Classic, None).await
    }

    /// Starts serving on a port of its own, with this clock on the wall, if it is not the true one.
    pub async fn start_in(mode: Mode, clock: Option<Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the machine has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            events: Mutex::default(),
            waiting: Semaphore::new(0),
            parked: AtomicUsize::new(0),
            reader: Reader::default(),
            asked: AtomicUsize::new(0),
            restored: Semaphore::new(0),
            snapshots: AtomicUsize::new(0),
            extensions: AtomicUsize::new(0),
            rules: Mutex::new(Rules::new(mode)),
            callers: Mutex::default(),
            calls: Mutex::default(),
            clock,
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

    /// Invokes the function, and waits for the answer that Lambda takes or refuses. None if Lambda
    /// cannot even send the event, since nobody asks for one: so it is on Managed Instances.
    pub async fn invoke(&self, event: Event, fate: Option<Fate>) -> Option<Call> {
        let answer = self.shared.admit(event, fate)?;
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        Some(
            answer
                .expect("every event is answered")
                .expect("it is kept"),
        )
    }

    /// Answers the next call of this kind with this status.
    pub fn reply(&self, what: What, status: u16) {
        self.shared.statuses.lock().unwrap().push((what, status));
    }

    /// Lets the next call of this kind get lost: its connection ends without a reply.
    pub fn lose(&self, what: What) {
        self.reply(what, LOST);
    }

    /// From now on answers are read like this.
    pub fn read(&self, reading: Reading) {
        self.shared.reader.set(reading);
    }

    /// Waits until so many bytes of an answer have arrived.
    pub async fn arrived(&self, id: &str, bytes: usize) {
        let reader = &self.shared.reader;
        let what = format!("{bytes} bytes of the answer to {id}");
        eventually(&what, async || (reader.progress(id) >= bytes).then_some(())).await;
    }

    /// Every call so far, in the order in which they were answered.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Waits until this many calls of `/next` wait for an event.
    pub async fn parked(&self, count: usize) {
        let parked = || self.shared.parked.load(Ordering::SeqCst);
        let what = format!("{count} calls of /next that wait");
        eventually(&what, async || (parked() == count).then_some(())).await;
    }

    /// Waits until an event could be handed out at once.
    pub async fn some_parked(&self) {
        let parked = || self.shared.parked.load(Ordering::SeqCst);
        let queued = || self.shared.events.lock().unwrap().len();
        let what = "a call of /next that waits";
        eventually(what, async || (parked() > queued()).then_some(())).await;
    }

    /// How many calls of `/next` there were.
    pub fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::SeqCst)
    }

    /// Waits until there were so many.
    pub async fn asked_again(&self, count: usize) {
        let what = format!("{count} calls of /next");
        eventually(&what, async || (self.asked() >= count).then_some(())).await;
    }

    /// Waits until the host may be made a snapshot of.
    pub async fn snapshot(&self) {
        let waits = || self.shared.snapshots.load(Ordering::SeqCst) == 1;
        eventually("a call that waits for a restore", async || {
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
        eventually(what, async || {
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
    shared.rules.lock().unwrap().begin(&id);
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
        status: 0,
        begun,
        at: Instant::now(),
    };
    call.status = match what {
        What::Response | What::Error => shared.judge(&call)?,
        _ => shared.status(what)?,
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
        let response = headers.fold(Response::builder(), |response, (name, value)| {
            response.header(name, value)
        });
        response.body(event.payload.into())
    } else {
        Response::builder()
            .status(call.status)
            .header("Content-Type", "application/json")
            .header("Lambda-Extension-Identifier", "an-extension")
            .body(rules::text(call.status).into())
    };
    shared.note(call)?;
    let mut response = response.expect("a test's headers can be sent");
    if let Some(clock) = &shared.clock {
        response.headers_mut().insert(DATE, clock.date());
    }
    Ok(response)
}

impl Shared {
    /// Puts an event into the queue, if Lambda would take it now.
    fn admit(&self, event: Event, fate: Option<Fate>) -> Option<oneshot::Receiver<Call>> {
        let mut rules = self.rules.lock().unwrap();
        let mut events = self.events.lock().unwrap();
        let parked = self.parked.load(Ordering::SeqCst);
        if rules.mode() == Mode::Managed && parked <= events.len() {
            return None;
        }
        if let Some(fate) = fate {
            rules.destine(&event.id, fate);
        }
        let (caller, answer) = oneshot::channel();
        let mut callers = self.callers.lock().unwrap();
        callers.insert(event.id.clone(), caller);
        events.push_back(event);
        self.waiting.add_permits(1);
        Some(answer)
    }

    /// The status that a test chose for the next call of this kind.
    fn chosen(&self, what: What) -> Option<u16> {
        let mut statuses = self.statuses.lock().unwrap();
        let at = statuses.iter().position(|(chosen, _)| *chosen == what);
        at.map(|at| statuses.remove(at).1)
    }

    /// The status for a call of this kind: the one that a test chose, or that of success.
    fn status(&self, what: What) -> io::Result<u16> {
        match self.chosen(what) {
            Some(LOST) => Err(io::Error::other("the call is lost")),
            Some(status) => Ok(status),
            None => Ok(match what {
                What::Next | What::Restore | What::Register | What::Wait => 200,
                What::Other => 404,
                _ => 202,
            }),
        }
    }

    /// The status for an answer, if it arrives.
    fn judge(&self, call: &Call) -> io::Result<u16> {
        let mut rules = self.rules.lock().unwrap();
        if rules.loses_answer(&call.id) {
            return Err(io::Error::other("the answer is lost"));
        }
        let chosen = self.chosen(call.what);
        Ok(rules.judge(call, chosen))
    }

    /// Keeps a call, and tells the caller whose answer it is; an error if the host is not to know.
    fn note(&self, mut call: Call) -> io::Result<()> {
        call.at = Instant::now();
        let is_answer = matches!(call.what, What::Response | What::Error);
        if is_answer && let Some(caller) = self.callers.lock().unwrap().remove(&call.id) {
            let _ = caller.send(call.clone());
        }
        let lost = match call.what {
            What::Next => Fate::EventLost,
            _ => Fate::ReceiptLost,
        };
        let lost = self.rules.lock().unwrap().happens(&call.id, lost);
        self.calls.lock().unwrap().push(call);
        match lost {
            true => Err(io::Error::other("the reply is lost")),
            false => Ok(()),
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
        self.asked.fetch_add(1, Ordering::SeqCst);
        if let Some(event) = self.rules.lock().unwrap().unanswered() {
            return event;
        }
        let _parked = Parked::new(&self.parked);
        let waiting = self.waiting.acquire().await;
        waiting.expect("it is never closed").forget();
        let event = self.events.lock().unwrap().pop_front();
        let event = event.expect("there is a permit for each event");
        self.rules.lock().unwrap().hand_out(&event);
        event
    }
}
