//! Write functions for Hearth, which runs WebAssembly components on AWS Lambda (and, just the
//! same, on your own machine) and keeps them and their database connections warm.
//!
//! A function is one `async fn`. This is a whole one:
//!
#![doc = concat!("```\n", include_str!("../../guests/hello/src/lib.rs"), "```")]
//!
//! Events and answers are JSON, by serde. State that should last between invocations lives in ordinary `static`s: a
//! warm instance keeps its memory.
//!
//! # What is in here
//!
//! | item | for |
//! |---|---|
//! | [`#[hearth::function]`](macro@function) | making an `async fn` the function |
//! | [`Context`] | the invocation's request id, deadline and origin |
//! | [`Error`], [`Failure`], [`Blame`] | what the caller is told when it fails |
//! | [`sleep`], [`timeout`] | waiting, and limiting a wait |
//! | [`wait_until`] | going on after the answer |
//! | [`Streamed`], [`Body`], [`Gone`] | answers that go out while they are made |
//! | [`Http`] | answers with an HTTP status and headers |
//! | [`Raw`] | events and answers that are not JSON |
//! | [`Event`], [`Answer`], [`Encoded`] | events and answers in formats of your own |
//! | [`postgres`] | the database |
//! | [`declare!`] | queries that are checked before they are deployed |
//!
//! # Building and running
//!
//! A function is a library with `crate-type = ["cdylib"]`, built for the target `wasm32-wasip2`
//! (`rustup target add wasm32-wasip2`). Until this crate is published it is used from a clone of
//! its repository:
//!
//! ```toml
//! [package]
//! name = "shop"
//! version = "0.1.0"
//! edition = "2024"
//!
//! [lib]
//! crate-type = ["cdylib"]
//!
//! [dependencies]
//! hearth = { path = "../hearth/guest-sdk" }
//! serde = { version = "1", features = ["derive"] }
//! ```
//!
//! ```console
//! $ cargo build --release --target wasm32-wasip2
//! ```
//!
//! The result, `target/wasm32-wasip2/release/shop.wasm`, is a component. A `hearth.toml` names it,
//! and `hearth serve` runs it as a local Lambda:
//!
//! ```toml
//! [function.shop]
//! component = "target/wasm32-wasip2/release/shop.wasm"
//! databases = ["default"]          # what it may open; nothing unless listed
//!
//! [database.default]
//! url = "postgres://postgres@localhost/shop"
//! ```
//!
//! ```console
//! $ hearth serve
//! $ curl -d '{"sku": "lamp"}' http://127.0.0.1:9000/2015-03-31/functions/shop/invocations
//! ```
//!
//! Without `url`, the host takes `DATABASE_URL`, or starts a PostgreSQL of its own beside `hearth.toml`.
//! `setup = ["schema.sql"]` fills the database. `hearth invoke shop -d '{"sku": "lamp"}'`
//! handles one event and ends.
//!
//! Under `[profile.release]`, set `strip = "debuginfo"`, not `strip = true`: it keeps the names of functions, which
//! traces of traps show. Set `lto = true` there as well: with it, a function that read 10,000 rows took an eighth less
//! processor time.
//!
//! The crate also compiles for the machine you work on, so handlers can be linted, documented and unit-tested with
//! plain `cargo test`; only calls of the host panic there. Add `"rlib"` to `crate-type` if other crates, or tests in
//! `tests/`, are to use yours.
//!
//! # Events, answers and the context
//!
//! The handler takes its event and, if it wants it, the [`Context`]. Events and answers are JSON, by serde:
//!
//! ```
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Order {
//!     sku: String,
//!     #[serde(default)]
//!     quantity: u32,
//! }
//!
//! #[derive(Serialize)]
//! struct Receipt {
//!     request: String,
//!     text: String,
//! }
//!
//! #[hearth::function]
//! async fn handle(order: Order, cx: hearth::Context) -> Result<Receipt, hearth::Error> {
//!     println!("{} ms are left", cx.remaining().as_millis());
//!     Ok(Receipt {
//!         request: cx.request_id().to_owned(),
//!         text: format!("{} times {}", order.quantity, order.sku),
//!     })
//! }
//! ```
//!
//! An event's type owns all that is in it (serde's `DeserializeOwned`: a `String`, not a `&str`). `serde_json::Value`
//! takes any JSON, [`Raw`] any bytes. An event that does not fit never reaches the handler: its caller reads
//! `Function.InvalidEvent` and where it went wrong. An answer may have 6 MiB. A [`Streamed`] one goes out while it is
//! made, and [`Http`] adds a status and headers.
//!
//! # Errors
//!
//! A handler may return any error that converts into [`Error`]; with `?` nearly every error does. The caller reads its
//! text with the type `Function.Error`. A [`Failure`] has a type that a caller can match on, and says whose mistake it
//! was:
//!
//! ```
//! use hearth::Failure;
//!
//! fn check(quantity: u32) -> Result<u32, Failure> {
//!     match quantity {
//!         0 => Err(Failure::caller("EmptyOrder", "order at least one")),
//!         1..=100 => Ok(quantity),
//!         _ => Err(Failure::new("Unavailable", "nobody has so many")),
//!     }
//! }
//! # assert!(check(0).is_err());
//! ```
//!
//! With the crate `anyhow`, return `anyhow::Result` from the handler too, and switch on the feature `anyhow`. Do not
//! mix them: `?` cannot turn an [`Error`], which is a `Box<dyn std::error::Error + Send + Sync>`, into an
//! `anyhow::Error`.
//!
//! An error leaves the instance warm. A panic or a trap ends the invocation (`Function.Panic`,
//! `Function.Trap`) and the instance with it: the next event gets a new one.
//!
//! # State, and what is made once
//!
//! A warm instance keeps its memory, so what is to last lives in a `static`: an `OnceLock`, a `Mutex`, an atomic. Use
//! it as a cache only: an instance may be replaced at any time, and several run side by side. With the isolation
//! `serial`, the default, an instance handles one event at a time. With `{ concurrent = N }` it handles up to N, so
//! hold no lock across an `.await`. With `fresh` nothing stays. What is slow to make belongs in
//! [`init`](macro@function#warming-up). With Lambda's SnapStart an instance is made once and copied: see
//! [snapshots](macro@function#snapshots).
//!
//! # Output
//!
//! What is printed to stdout and stderr becomes the log, line by line, each with the request id of
//! its invocation; so do panic messages. `println!` is enough. An invocation may print 1 MiB.
//!
//! A line that is a JSON object keeps its `level`. In a log of JSON its other members stand beside those of the host
//! (`timestamp`, `requestId`, `function` …), which it cannot replace. So loggers that write JSON fit, such as
//! `tracing-subscriber` with its features `fmt` and `json`, set up by `init`. This example also uses types of other
//! crates as values of the database:
//!
#![doc = concat!("```ignore\n", include_str!("../../tests/guests/examples/crates.rs"), "```")]
//!
//! ```toml
//! postgres_array = "0.11"
//! postgres_range = "0.11"
//! tracing = { version = "0.1", default-features = false }
//! tracing-subscriber = { version = "0.3", default-features = false, features = ["fmt", "json"] }
//! ```
//!
//! `flatten_event` puts `message` and the fields where the host looks for them. The subscriber drops what is below
//! `INFO`, unless `with_max_level` says otherwise. Of what is left, the host's level decides.
//!
//! # Time
//!
//! [`Context::remaining`] is the time until the deadline. Shortly before that the host answers with
//! `Function.DeadlineExceeded`, cancels what runs in the database, and retires the instance. To wait, use [`sleep`],
//! which lets others run. Futures run side by side under `futures_util::join!` or `futures_util::future::join_all`;
//! there is no other thread, and no executor is needed. [`wait_until`] goes on with work after the answer.
//!
//! # The environment
//!
//! `std::env::var` sees the variables that `environment = { … }` of the function's section lists, and no others. There
//! is no network: a guest reaches databases through the host, and nothing else. HTTP clients, AWS's SDK, S3, SQS and
//! Redis do not work, though some of their crates compile.
//!
//! There are no files either, unless `temporary_mib = 64` gives the function a temporary directory: `/tmp`, for
//! `std::fs` as usual (`std::env::temp_dir` does not know of it). It is empty when an invocation begins, and holds that
//! many MiB at most; a write beyond that fails with `EIO`. It is gone when the invocation has ended, with all files
//! that are still open, so a `File` in a `static` is of no use to the next invocation. Invocations that run in one
//! instance at the same time have one each. Links cannot be made. There is no directory in `init` and hooks.
//!
//! # The database
//!
//! [`postgres`] has a guide of its own: queries, parameters, rows, streams, transactions, sessions, `COPY`, errors. The
//! shortest program:
//!
//! ```
//! #[hearth::function]
//! async fn handle(sku: String) -> Result<i64, hearth::Error> {
//!     let db = hearth::postgres::open("default")?;
//!     let row = db.query_one("SELECT count(*) FROM product WHERE sku = $1", &[&sku]).await?;
//!     Ok(row.get(0))
//! }
//! ```
//!
#![doc = include_str!("lambda_runtime.md")]
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it adds |
//! |---|---|
//! | `anyhow` | a [`Failure`] inside an `anyhow::Error` is found |
//! | `inter-task-wakeup` | with `isolation = { concurrent = N }`: an invocation may wait for another, as on an asynchronous mutex; it makes each wait for the host a little slower |
//! | `derive`, `array-impls`, `with-…` | PostgreSQL types, see [`postgres`] |

pub mod postgres;

mod after;
#[doc(hidden)]
pub mod bindings;
mod context;
mod event;
mod failure;
mod function;
mod http;
mod sleep;
mod streamed;

pub use after::{Conclusion, wait_until};
pub use context::Context;
pub use event::{Answer, Encoded, Event, Raw};
pub use failure::{Blame, Error, Failure};
pub use http::Http;
pub use sleep::{sleep, timeout};
pub use streamed::{Body, Gone, Streamed};

/// Makes an `async fn` the function of this component.
///
/// ```
/// #[hearth::function]
/// async fn handle(event: serde_json::Value, cx: hearth::Context) -> Result<String, hearth::Error> {
///     Ok(format!("{event} by {}", cx.request_id()))
/// }
/// ```
///
/// - The **event** is anything that implements [`Event`]: [`Raw`], or what serde can deserialize into a type that owns
///   all that is in it (`DeserializeOwned`: a `String`, not a `&str`). An event that does not fit never reaches the
///   function; its caller receives the error type `Function.InvalidEvent` and where it went wrong.
/// - The [`Context`] may be left out.
/// - It returns a **`Result`** whose value implements [`Answer`]: what serde can serialize, [`Raw`],
///   a [`Streamed`] answer, or one with an HTTP status ([`Http`]).
/// - Its **error** is anything that converts into [`Error`]: any error, a `String`, a `&'static
///   str`, an `anyhow::Error`. A [`Failure`] chooses what the caller can match on.
///
/// The `async fn` itself stays as it is and can be called in unit tests.
///
/// A component has one function, so only one `async fn` in a crate can be marked.
///
/// # Warming up
///
/// `init` names an `async fn` that runs once in each instance, before its first event, for work whose result is worth
/// keeping in a `static`. It cannot reach databases. If it fails, the instance is not used.
///
/// ```
/// use std::sync::OnceLock;
///
/// static PRICES: OnceLock<Vec<u32>> = OnceLock::new();
///
/// async fn warm_up() -> Result<(), hearth::Error> {
///     PRICES.get_or_init(|| vec![1, 2, 3]);
///     Ok(())
/// }
///
/// #[hearth::function(init = warm_up)]
/// async fn handle(product: usize) -> Result<Option<u32>, hearth::Error> {
///     Ok(PRICES.get().and_then(|prices| prices.get(product)).copied())
/// }
/// ```
///
/// # Snapshots
///
/// With Lambda's SnapStart an environment is started once, a snapshot is made of it, and every later environment is a
/// copy of that snapshot. Two more functions can be named, of the same form as `init`:
///
/// - `snapshot` runs in each instance after `init` and before the snapshot is made, to forget what must not be stored
///   in it, such as a secret. It has what the start has left of its time, at most 120 s.
/// - `restored` runs in each instance of every copy, before its first event. With it the instances go on as they are,
///   and keep what `init` made. **Without it they are built anew**, `init` included, in each copy: that is always safe,
///   but takes as long as `init` takes.
///
/// ```
/// use std::collections::BTreeMap;
/// use std::sync::Mutex;
/// use std::time::SystemTime;
///
/// static RATES: Mutex<BTreeMap<String, f64>> = Mutex::new(BTreeMap::new());
/// static STARTED: Mutex<Option<SystemTime>> = Mutex::new(None);
///
/// /// Slow, and the same for every copy.
/// async fn warm_up() -> Result<(), hearth::Error> {
///     let mut rates = RATES.lock().expect("nobody panics");
///     rates.extend((0..1000).map(|number| (format!("zone {number}"), f64::from(number).sqrt())));
///     Ok(())
/// }
///
/// /// What no two copies may have in common.
/// async fn renew() -> Result<(), hearth::Error> {
///     *STARTED.lock().expect("nobody panics") = Some(SystemTime::now());
///     Ok(())
/// }
///
/// #[hearth::function(init = warm_up, restored = renew)]
/// async fn handle(zone: String) -> Result<Option<f64>, hearth::Error> {
///     Ok(RATES.lock().expect("nobody panics").get(&zone).copied())
/// }
/// ```
///
/// Whoever writes `restored` promises that it has renewed all that must differ between copies. Everything else in
/// memory is the same in all of them, perhaps in a thousand at a time:
///
/// | what | in a copy |
/// |---|---|
/// | random numbers drawn from the system (`getrandom`, `rand::rngs::SysRng`, version 4 of `uuid` as it comes) | new each time |
/// | generators that seed themselves once (`rand::rng()`, `fastrand`, your own) | **the same sequence everywhere**: seed them anew, as with `rand::rng().reseed()` |
/// | the keys of `std::collections::HashMap` and `HashSet` | if `init` or `snapshot` has made one: **the same everywhere**, for later maps too, and nothing can renew them: where callers choose the keys, take a `BTreeMap`, or a hasher that `restored` seeds. Otherwise they are drawn after the restore |
/// | identifiers, tokens, nonces and times that are in a `static` | **the same everywhere**: make them anew |
/// | `std::time::SystemTime` | right |
/// | `std::time::Instant` | goes on from the snapshot, and need not count the time in between |
/// | environment variables | those of the start before the snapshot |
/// | connections to databases, and what the host keeps of them | new: the host sees to it |
/// | `hearth::postgres::Statement`s that are kept | still right |
///
/// Like `init`, neither can reach databases, and neither has an invocation, so there is no [`wait_until`]. Output is
/// logged. Lambda gives a restore 10 s in all; the host gives `restored` 9 s, or what `restore_timeout_ms` under
/// `[lambda]` says. If one of them fails, panics or takes too long, Lambda is told, and that environment handles no
/// event. An instance that is built later is no copy: only its `init` runs. Without a snapshot (plain Lambda, the local
/// host) neither runs.
///
/// # Misuse
///
/// Misuse does not compile, and the error says what to write instead:
///
/// ```compile_fail
/// #[hearth::function]
/// fn handle(event: String) -> Result<String, hearth::Error> {
///     Ok(event)
/// }
/// ```
///
/// ```compile_fail
/// #[hearth::function]
/// async fn handle(event: String) -> String {
///     event
/// }
/// ```
///
/// ```compile_fail,E0428
/// #[hearth::function]
/// async fn one(event: String) -> Result<String, hearth::Error> {
///     Ok(event)
/// }
///
/// mod other {
///     #[hearth::function]
///     async fn another(event: String) -> Result<String, hearth::Error> {
///         Ok(event)
///     }
/// }
/// # fn main() {}
/// ```
pub use hearth_macros::function;

// What the derives of `postgres-types` expand to is looked for in a crate named `postgres_types`,
// which this crate can be: see `postgres`. No part of the interface.
#[cfg(feature = "derive")]
#[doc(hidden)]
pub use postgres_types::*;

/// What `#[hearth::function]` expands to; no part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::hearth::function::invocation::Verdict;
    pub use crate::bindings::{self, Context, Failure, Guest, export};
    pub use crate::function::{Answered, answer, context, decode, exported, hook, restored, run};
    pub use crate::postgres::record;
    pub use hearth_macros::line_of;
}

/// The result of a future that never waits.
#[cfg(test)]
fn poll_ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(future).poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("it waits"),
    }
}
