//! What stands between a host and a server on a real network, and forgets, closes or resets the
//! connections that lead through it: a NAT gateway, a firewall, a load balancer.
//!
//! It passes bytes on as they come, counts the connections, and cuts those that are open when a
//! test says so; those that are made later are not touched.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};

/// The instruction of a socket's filter that passes on so many bytes of a packet.
const RETURN_CONSTANT: u16 = 0x06;

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Both sides are reset.
    Reset,
    /// Both sides are told that nothing more comes.
    Finish,
    /// Neither side is told anything. What they send is taken, and goes nowhere.
    Silence,
    /// What both sides send is lost on the way: nobody says that it has come.
    Drop,
    /// Neither side is told anything until it sends something; then it is reset. So do the NAT
    /// gateways of AWS after 350 s of rest.
    ResetLater,
}

impl Cut {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Reset,
        Self::Finish,
        Self::Silence,
        Self::Drop,
        Self::ResetLater,
    ];
}

/// A middlebox in front of one server, until it is dropped.
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
    open: Mutex<Vec<oneshot::Sender<Order>>>,
}

/// How a connection is to end, and who is told when that is done.
type Order = (Cut, oneshot::Sender<()>);

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

    /// Ends all connections that are open now, and returns how many there were. By then both sides
    /// have been told what they are to be told.
    pub async fn cut(&self, how: Cut) -> usize {
        let open = std::mem::take(&mut *self.shared.open.lock().unwrap());
        let mut count = 0;
        for flow in open {
            let (done, is_done) = oneshot::channel();
            if flow.send((how, done)).is_ok() && is_done.await.is_ok() {
                count += 1;
            }
        }
        count
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
        let (cut, told) = oneshot::channel();
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
    told: oneshot::Receiver<Order>,
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
    let order = tokio::select! {
        _ = pass => return,
        order = told => order,
    };
    let Ok((how, done)) = order else { return };
    match how {
        Cut::Reset => {
            reset(client);
            reset(server);
            let _ = done.send(());
        }
        Cut::Finish => {
            let _ = tokio::join!(client.shutdown(), server.shutdown());
            let _ = done.send(());
            // Unread, what still comes would make the end a reset.
            tokio::join!(swallow(&mut client), swallow(&mut server));
        }
        Cut::Silence => {
            let _ = done.send(());
            // The server, too, comes to know at last.
            tokio::select! {
                () = swallow(&mut client) => {}
                () = swallow(&mut server) => {}
            }
        }
        Cut::Drop => {
            // A filter that lets nothing through, acknowledgements included.
            let nothing = [SockFilter::new(RETURN_CONSTANT, 0, 0, 0)];
            for stream in [&client, &server] {
                let filtered = SockRef::from(stream).attach_filter(&nothing);
                filtered.expect("a socket takes a filter");
            }
            let _ = done.send(());
            pending::<()>().await;
        }
        Cut::ResetLater => {
            let _ = done.send(());
            tokio::select! {
                _ = client.readable() => {}
                _ = server.readable() => {}
            }
            reset(client);
            reset(server);
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

async fn swallow(stream: &mut TcpStream) {
    let _ = tokio::io::copy(stream, &mut sink()).await;
}
