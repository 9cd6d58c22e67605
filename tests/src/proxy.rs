//! A proxy between the host and PostgreSQL: it notes what passes, and does harm when it is told to.
//!
//! What the host sends is noted message by message, as many together as have come at once: a *flush*; of each
//! statement its name and its text as well. What belongs to a login is not noted.

mod framing;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::{Database, run};
use framing::Framing;

/// What is read at a time: more than any request of a test.
const READ_BYTES: usize = 256 * 1024;

/// A proxy, which ends when it is dropped.
pub struct Proxy {
    url: String,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What the proxy does to the next bytes that pass, once.
#[derive(Debug, Clone)]
pub enum Harm {
    /// Passes so many bytes of the host's on, and closes both sides.
    CutRequest(usize),
    /// Passes so many bytes of the server's on, and closes both sides.
    CutAnswer(usize),
    /// Turns all bits of the server's byte at this place.
    Spoil(usize),
    /// Passes this on instead of what the server says.
    Replace(Vec<u8>),
    /// Passes the second of these on instead of the first, where the server says that.
    Exchange(Vec<u8>, Vec<u8>),
    /// Passes nothing of the server's on any more over the connection on which it speaks next.
    Silence,
    /// The same over the connection on which it says this, from there on.
    SilenceAt(&'static [u8]),
    /// The same over each connection on which it has let the host in.
    Mute,
    /// Holds back these bytes, with which the server ends what it says at a time, until [`Proxy::release`].
    HoldBack(&'static [u8]),
    /// The same until it is asked to cancel, of which it says nothing then.
    HoldBackUntilCancel(&'static [u8]),
    /// Takes requests to cancel, and passes none of them on.
    NeverCancel,
    /// Takes them and passes none on either, and says nothing of that. Lets go what is held back.
    HangCancel,
    /// Closes both sides at the first request behind each login.
    HangUp,
    /// Closes both sides in the middle of each login.
    CutLogins,
}

/// A transaction that was open has failed: the server is ready for no more than its end.
pub const FAILED: &[u8] = b"Z\0\0\0\x05E";

/// A portal has more rows than were asked for, and the server is ready for more.
pub const SUSPENDED: &[u8] = b"s\0\0\0\x04Z\0\0\0\x05T";

/// A savepoint is released, and the server ready for more.
pub const RELEASED: &[u8] = b"C\0\0\0\x0cRELEASE\0Z\0\0\0\x05T";

struct Shared {
    socket: PathBuf,
    state: Mutex<State>,
    /// Whether what the server says is held back.
    held: watch::Sender<bool>,
    /// Whether what the server says comes byte by byte.
    dripping: AtomicBool,
    /// Lets go what [`Harm::HoldBack`] holds back.
    release: Notify,
}

#[derive(Default)]
struct State {
    flushes: Vec<String>,
    statements: Vec<(String, String)>,
    answers: usize,
    answer_bytes: usize,
    request_bytes: usize,
    cancellations: usize,
    logins: usize,
    harm: Option<Harm>,
}

impl Proxy {
    /// A proxy in front of this database.
    pub fn of(database: &Database) -> Self {
        let directory = run::fresh_directory();
        let shared = Arc::new(Shared {
            socket: database.server.socket(),
            state: Mutex::default(),
            held: watch::Sender::new(false),
            dripping: AtomicBool::new(false),
            release: Notify::new(),
        });
        let name = shared.socket.file_name().expect("a socket has a name");
        let listener = UnixListener::bind(directory.join(name)).expect("the directory is new");
        let accepting = tokio::spawn(accept(listener, shared.clone()));
        Self {
            url: database.url_in(&directory),
            shared,
            accepting,
        }
    }

    /// The database's address, through the proxy.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Forgets what was noted so far.
    pub fn forget(&self) {
        let mut state = self.shared.state();
        *state = State {
            harm: state.harm.take(),
            ..State::default()
        };
    }

    /// The tags of the messages in each of the host's flushes, and how often the server said that it
    /// was ready for more. But for a lone `Sync`, by which the host asks of a connection that has
    /// rested whether it is still there: when it does depends on how busy the machine is.
    pub fn passed(&self) -> (Vec<String>, usize) {
        let state = self.shared.state();
        let (asking, flushes): (Vec<_>, Vec<_>) = state
            .flushes
            .iter()
            .cloned()
            .partition(|flush| flush == "S");
        (flushes, state.answers - asking.len())
    }

    /// The statements that the host has sent, as a name, which may be empty, and a text.
    pub fn statements(&self) -> Vec<(String, String)> {
        self.shared.state().statements.clone()
    }

    /// How many bytes the host has sent.
    pub fn request_bytes(&self) -> usize {
        self.shared.state().request_bytes
    }

    /// How many bytes the server has sent.
    pub fn answer_bytes(&self) -> usize {
        self.shared.state().answer_bytes
    }

    /// How often the host has asked the server to give something up.
    pub fn cancellations(&self) -> usize {
        self.shared.state().cancellations
    }

    /// How often the host was let in.
    pub fn logins(&self) -> usize {
        self.shared.state().logins
    }

    /// Does this to what passes next.
    pub fn harm(&self, harm: Harm) {
        self.shared.state().harm = Some(harm);
    }

    /// Takes back what harm was not done.
    pub fn spare(&self) {
        self.shared.state().harm = None;
    }

    /// Holds back what the server says, or lets it go.
    pub fn hold(&self, held: bool) {
        self.shared.held.send_replace(held);
    }

    /// Lets go what [`Harm::HoldBack`] holds back.
    pub fn release(&self) {
        self.shared.release.notify_one();
    }

    /// Passes on what the server says byte by byte, from now on.
    pub fn drip(&self) {
        self.shared.dripping.store(true, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("nothing panics while it is locked")
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    while let Ok((host, _)) = listener.accept().await {
        let shared = shared.clone();
        tokio::spawn(async move {
            // A server that is down is one that hangs up.
            if let Ok(server) = UnixStream::connect(&shared.socket).await {
                relay(host, server, &shared).await;
            }
        });
    }
}

/// Passes on what both say until one of them has nothing more to say, or harm ends it.
async fn relay(host: UnixStream, server: UnixStream, shared: &Shared) {
    let (from_host, to_host) = host.into_split();
    let (from_server, to_server) = server.into_split();
    let logged_in = AtomicBool::new(false);
    tokio::select! {
        () = requests(from_host, to_server, shared, &logged_in) => {}
        () = answers(from_server, to_host, shared, &logged_in) => {}
    }
}

async fn requests(
    mut host: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    shared: &Shared,
    logged_in: &AtomicBool,
) {
    let mut framing = Framing::startup();
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = host.read(&mut buffer).await {
        let tags = framing.feed(&buffer[..length]);
        let mut passing = length;
        let hangs;
        {
            let mut state = shared.state();
            state.cancellations += usize::from(framing.cancels);
            match state.harm {
                Some(Harm::NeverCancel) if framing.cancels => return,
                Some(Harm::HangUp) if logged_in.load(Ordering::Relaxed) => return,
                _ => {}
            }
            hangs = framing.cancels && matches!(state.harm, Some(Harm::HangCancel));
            let statements = std::mem::take(&mut framing.statements);
            if logged_in.load(Ordering::Relaxed) {
                state.request_bytes += length;
                state.statements.extend(statements);
                if !tags.is_empty() {
                    state.flushes.push(tags);
                }
                if let Some(Harm::CutRequest(left)) = &mut state.harm {
                    passing = length.min(*left);
                    *left -= passing;
                    if passing < length {
                        state.harm = None;
                    }
                }
            }
        }
        if hangs {
            shared.release.notify_one();
            std::future::pending::<()>().await;
        }
        if server.write_all(&buffer[..passing]).await.is_err() || passing < length {
            return;
        }
    }
}

async fn answers(
    mut server: OwnedReadHalf,
    mut host: OwnedWriteHalf,
    shared: &Shared,
    logged_in: &AtomicBool,
) {
    let mut framing = Framing::default();
    let mut held = shared.held.subscribe();
    let mut silent = false;
    let mut buffer = vec![0; READ_BYTES];
    while let Ok(length @ 1..) = server.read(&mut buffer).await {
        let mut passing = buffer[..length].to_vec();
        let ready = framing.feed(&passing).matches('Z').count();
        let (mut ends, mut late) = (false, Vec::new());
        if logged_in.load(Ordering::Relaxed) {
            let mut state = shared.state();
            state.answers += ready;
            state.answer_bytes += length;
            late = state.hold_back(&mut passing);
            ends = state.harm_answer(&mut passing, &mut silent);
        } else if matches!(shared.state().harm, Some(Harm::CutLogins)) {
            return;
        } else if ready > 0 {
            logged_in.store(true, Ordering::Relaxed);
            shared.state().logins += 1;
        }
        if silent {
            continue;
        }
        let _ = held.wait_for(|held| !held).await;
        let piece = match shared.dripping.load(Ordering::Relaxed) {
            true => 1,
            false => passing.len().max(1),
        };
        for piece in passing.chunks(piece) {
            if host.write_all(piece).await.is_err() {
                return;
            }
            tokio::task::yield_now().await;
        }
        if !late.is_empty() {
            shared.release.notified().await;
            if host.write_all(&late).await.is_err() {
                return;
            }
        }
        if ends {
            return;
        }
    }
}

impl State {
    /// Cuts off what is to come later.
    fn hold_back(&mut self, bytes: &mut Vec<u8>) -> Vec<u8> {
        match self.harm {
            Some(Harm::HoldBack(end)) if bytes.ends_with(end) => {
                self.harm = None;
                bytes.split_off(bytes.len() - end.len())
            }
            Some(Harm::HoldBackUntilCancel(end)) if bytes.ends_with(end) => {
                self.harm = Some(Harm::HangCancel);
                bytes.split_off(bytes.len() - end.len())
            }
            _ => Vec::new(),
        }
    }

    /// Does the harm that is due to what the server says. Whether the connection ends with it.
    fn harm_answer(&mut self, bytes: &mut Vec<u8>, silent: &mut bool) -> bool {
        match &mut self.harm {
            Some(Harm::CutAnswer(left)) if *left <= bytes.len() => {
                bytes.truncate(*left);
                self.harm = None;
                return true;
            }
            Some(Harm::CutAnswer(left)) => *left -= bytes.len(),
            Some(Harm::Spoil(place)) if *place < bytes.len() => {
                bytes[*place] = !bytes[*place];
                self.harm = None;
            }
            Some(Harm::Spoil(place)) => *place -= bytes.len(),
            Some(Harm::Replace(other)) => {
                *bytes = std::mem::take(other);
                self.harm = None;
            }
            Some(Harm::Exchange(said, other)) => {
                let place = bytes.windows(said.len()).position(|part| part == said);
                if let Some(place) = place {
                    bytes.splice(place..place + said.len(), std::mem::take(other));
                    self.harm = None;
                }
            }
            Some(Harm::Silence) => {
                *silent = true;
                self.harm = None;
            }
            Some(Harm::SilenceAt(said)) => {
                if bytes.windows(said.len()).any(|part| part == *said) {
                    *silent = true;
                    self.harm = None;
                }
            }
            Some(Harm::Mute) => *silent = true,
            // Done elsewhere.
            Some(
                Harm::CutRequest(_)
                | Harm::HoldBack(_)
                | Harm::HoldBackUntilCancel(_)
                | Harm::NeverCancel
                | Harm::HangCancel
                | Harm::HangUp
                | Harm::CutLogins,
            )
            | None => {}
        }
        false
    }
}
