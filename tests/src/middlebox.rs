//! What stands between a host and a server on a real network, and forgets, closes or resets the
//! connections that lead through it: a NAT gateway, a firewall, a load balancer.
//!
//! It passes bytes on as they come, counts the connections, and cuts those that are open when a
//! test says so; those that are made later are not touched.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both sides are reset.
    Reset,
    /// Both sides are told that nothing more comes.
    Finish,
    /// Neither side is told anything. What they send is taken, and goes nowhere.
    Silence,
    /// Neither side is told anything until it sends something; then it is reset. So do the NAT
    /// gateways of AWS after 350 s of rest.
    ResetLater,
}

impl Cut {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Reset, Self::Finish, Self::Silence, Self::ResetLater];
}

/// One of them, in front of one server, until it is dropped.
pub struct Middlebox {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    connects: AtomicUsize,
    /// How long bytes are on their way in each direction.
    delay: Mutex<Duration>,
    /// How each open connection is told to end.
    open: Mutex<Vec<watch::Sender<Option<Cut>>>>,
}

impl Middlebox {
    /// Begins to pass connections on to this address, `host:port`.
    pub async fn before(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("the machine has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let server = tokio::spawn(serve(listener, target.to_owned(), Arc::clone(&shared)));
        Self {
            address,
            shared,
            server,
        }
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// How many connections were made through it so far.
    pub fn connects(&self) -> usize {
        self.shared.connects.load(Ordering::SeqCst)
    }

    /// From now on, bytes are on their way for so long, in each direction.
    pub fn delay(&self, delay: Duration) {
        *self.shared.delay.lock().unwrap() = delay;
    }

    /// Ends all connections that are open now, and returns how many there were.
    pub fn cut(&self, how: Cut) -> usize {
        let open = std::mem::take(&mut *self.shared.open.lock().unwrap());
        let told = open.iter().filter(|flow| flow.send(Some(how)).is_ok());
        told.count()
    }
}

impl Drop for Middlebox {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, target: String, shared: Arc<Shared>) {
    // Dropping the set ends the connections.
    let mut flows = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        shared.connects.fetch_add(1, Ordering::SeqCst);
        let (cut, told) = watch::channel(None);
        let mut open = shared.open.lock().unwrap();
        open.retain(|flow| !flow.is_closed());
        open.push(cut);
        drop(open);
        flows.spawn(flow(client, target.clone(), Arc::clone(&shared), told));
        while flows.try_join_next().is_some() {}
    }
}

async fn flow(
    mut client: TcpStream,
    target: String,
    shared: Arc<Shared>,
    mut told: watch::Receiver<Option<Cut>>,
) {
    let Ok(mut server) = TcpStream::connect(&target).await else {
        reset(client);
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let pass = async {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        tokio::join!(
            pass(from_client, to_server, &shared),
            pass(from_server, to_client, &shared)
        )
    };
    let how = tokio::select! {
        _ = pass => return,
        how = told.wait_for(Option::is_some) => how.map_or(None, |how| *how),
    };
    match how {
        Some(Cut::Reset) | None => {
            reset(client);
            reset(server);
        }
        Some(Cut::Finish) => {
            let _ = tokio::join!(finish(client), finish(server));
        }
        Some(Cut::Silence) => {
            let (client, server) = (client.into_split(), server.into_split());
            tokio::join!(swallow(client.0), swallow(server.0));
        }
        Some(Cut::ResetLater) => {
            tokio::join!(reset_later(client), reset_later(server));
        }
    }
}

/// Passes bytes on in one direction, and their end.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, shared: &Shared) {
    let mut bytes = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let delay = *shared.delay.lock().unwrap();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

fn reset(stream: TcpStream) {
    let _ = stream.set_zero_linger();
}

/// What still comes is taken: unread, it would make the end a reset.
async fn finish(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    swallow(stream).await;
}

async fn swallow(mut stream: impl AsyncRead + Unpin) {
    let _ = tokio::io::copy(&mut stream, &mut sink()).await;
}

async fn reset_later(mut stream: TcpStream) {
    let _ = stream.read(&mut [0; 1]).await;
    reset(stream);
}
