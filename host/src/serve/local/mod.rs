//! The local Lambda: the Invoke API on a port of this machine, in front of the same engine that runs on Lambda.
//!
//! Promises:
//! - an invocation that has begun runs to its end, also when its caller goes away;
//! - a caller has its answer before the host makes clean what the invocation has borrowed of the database;
//! - the drain takes no longer than [`limits::DRAIN_TIMEOUT_LOCAL`]. It takes no time at all for a user who insists. The
//!   log tells of invocations that it had to end.
//!
//! Left to others: what a caller may say ([`crate::event::local`]), and the invocation itself
//! ([`crate::serve::Environment`]).

mod events;
mod invoke;
mod report;
mod streaming;
mod tasks;

use std::collections::BTreeMap;
use std::future::{Future, IntoFuture as _};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::serve::ListenerExt as _;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::time::Instant;
use uuid::Uuid;

use super::Environment;
use crate::config::Config;
use crate::event::local::{ErrorType, Refusal, is_stream};
use crate::limits;
use crate::shutdown::Shutdown;

use tasks::Tasks;

/// What all connections share.
struct Host {
    environment: Environment,
    memory_mib: BTreeMap<String, u32>,
    tasks: Tasks,
    /// One permit for each asynchronous event that may wait or run at a time.
    events: Arc<Semaphore>,
    /// For each function, held by the one asynchronous event of it that waits for an instance.
    turns: BTreeMap<String, Mutex<()>>,
    closing: watch::Receiver<bool>,
    address: SocketAddr,
}

impl Host {
    fn memory_mib(&self, function: &str) -> u32 {
        self.memory_mib.get(function).copied().unwrap_or_default()
    }
}

/// Answers invocations from this listener until the process is to end; then drains the environment.
pub async fn serve(
    environment: Environment,
    config: &Config,
    listener: TcpListener,
    shutdown: &Shutdown,
) -> io::Result<()> {
    let (close, closing) = watch::channel(false);
    let memory_mib = config
        .functions
        .values()
        .map(|function| (function.name.clone(), function.memory_mib));
    let turns = environment.function_names();
    let turns = turns.map(|name| (name.to_owned(), Mutex::default()));
    let turns: BTreeMap<String, Mutex<()>> = turns.collect();
    let host = Arc::new(Host {
        environment,
        memory_mib: memory_mib.collect(),
        tasks: Tasks::default(),
        events: Arc::new(Semaphore::new(limits::EVENTS_PENDING_MAX)),
        turns,
        closing: closing.clone(),
        address: listener.local_addr()?,
    });
    let router = Router::new()
        .route("/", get(index))
        .route("/2015-03-31/functions/{name}/invocations", post(respond))
        .route("/2014-11-13/functions/{name}/invoke-async", post(respond))
        .route("/2014-11-13/functions/{name}/invoke-async/", post(respond))
        .route(
            "/2021-11-15/functions/{name}/response-streaming-invocations",
            post(respond),
        )
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_so)
        .with_state(Arc::clone(&host));
    // Answers are small and must not wait for the acknowledgement of their headers.
    let listener = listener.tap_io(|connection| {
        let _ = connection.set_nodelay(true);
    });
    let server = axum::serve(listener, router)
        .with_graceful_shutdown(closed(closing))
        .into_future();
    let mut server = std::pin::pin!(server);
    tokio::select! {
        ended = &mut server => return ended,
        () = shutdown.requested() => {}
    }
    let _ = close.send(true);
    tokio::select! {
        () = drain(&host, server) => {}
        () = shutdown.insisted() => tracing::warn!("what still ran was not waited for"),
    }
    Ok(())
}

async fn drain(host: &Host, server: impl Future<Output = io::Result<()>>) {
    let patience = limits::DRAIN_TIMEOUT_LOCAL - limits::SETTLE_ALL_TIMEOUT;
    let deadline = Instant::now() + patience;
    // The connections are closed first, since an open one can begin another invocation.
    let _ = tokio::time::timeout_at(deadline, server).await;
    let left = host.tasks.finish(deadline).await;
    if left > 0 {
        tracing::warn!(
            invocations = left,
            "ended invocations that were still running after {} s of drain",
            patience.as_secs()
        );
    }
    host.environment.drain(limits::SETTLE_ALL_TIMEOUT).await;
}

/// Waits until the host is closing, or gone.
async fn closed(mut closing: watch::Receiver<bool>) {
    let _ = closing.wait_for(|closing| *closing).await;
}

async fn index(State(host): State<Arc<Host>>) -> Response {
    let names: Vec<&str> = host.environment.function_names().collect();
    let (address, first) = (host.address, names.first().copied().unwrap_or("NAME"));
    let list: String = names.iter().map(|name| format!("  {name}\n")).collect();
    let text = format!(
        "Hearth, a local Lambda, with these functions:\n\n{list}\n\
         Invoke one with boto3 or another client of Lambda, given this endpoint, or with curl:\n\n  \
         curl -d '{{}}' http://{address}/2015-03-31/functions/{first}/invocations\n  \
         aws lambda invoke --endpoint-url http://{address} --region us-east-1 --no-sign-request \\\n    \
           --function-name {first} /dev/stdout\n"
    );
    let mut response = Response::new(Body::from(text));
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

/// Answers one call, in the way that its path asks for.
async fn respond(State(host): State<Arc<Host>>, request: Request) -> Response {
    let request_id = new_request_id();
    let answer = match is_stream(request.uri()) {
        true => streaming::invoke(&host, &request_id, request).await,
        false => invoke::invoke(&host, &request_id, request).await,
    };
    answer.unwrap_or_else(|refusal| refused(&refusal, &request_id))
}

async fn nothing_here(request: Request) -> Response {
    let (head, body) = request.into_parts();
    invoke::discard(&head.headers, body).await;
    let message = format!(
        "There is nothing at {}. Functions are invoked by POST /2015-03-31/functions/NAME/invocations; GET / lists them.",
        head.uri.path()
    );
    refused(
        &Refusal::new(ErrorType::UnknownOperation, message),
        &new_request_id(),
    )
}

async fn not_so(request: Request) -> Response {
    let (head, body) = request.into_parts();
    invoke::discard(&head.headers, body).await;
    let message = format!("{} is not allowed at {}.", head.method, head.uri.path());
    refused(
        &Refusal::new(ErrorType::MethodNotAllowed, message),
        &new_request_id(),
    )
}

fn new_request_id() -> String {
    Uuid::new_v4().to_string()
}

fn refused(refusal: &Refusal, request_id: &str) -> Response {
    let mut response = Response::new(Body::from(refusal.body()));
    *response.status_mut() = refusal.error_type.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(
        "x-amzn-errortype",
        HeaderValue::from_static(refusal.error_type.as_str()),
    );
    if refusal.error_type == ErrorType::TooManyRequests {
        headers.insert("retry-after", HeaderValue::from_static("1"));
    }
    invoke::insert(headers, "x-amzn-requestid", request_id);
    response
}
