//! The harness of the end-to-end tests.
//!
//! A test describes a function with a [`Setup`], starts it behind one of the two front doors
//! ([`Door`]) and gets a [`Trial`], which it sends events to. Around it stand a fake Runtime API
//! ([`lambda`]), the real binaries ([`host`]), and a real PostgreSQL ([`database`]), if need be behind a
//! [`proxy`].
//!
//! | module | what it is |
//! |---|---|
//! | [`setup`], [`trial`], [`answer`] | a function to run, one that runs, and what it has answered |
//! | [`host`], [`clock`] | the binaries under test as processes, and the time that they see |
//! | [`lambda`], [`arrival`], [`raw_runtime_api`] | a fake Runtime API, how it reads answers, and one written byte by byte |
//! | [`local`] | a caller of the local host |
//! | [`database`], [`pooler`] | a real PostgreSQL, and a real PgBouncer |
//! | [`proxy`], [`middlebox`], [`tls_terminator`] | what stands in the way: on PostgreSQL's messages, on TCP, with TLS |
//! | [`steps`], [`permission`], [`program`], [`ledger`] | what guests do with a database, as told or at random, and the check of that |
//! | [`component`] | components with more in them than their guests need |
//! | [`emf`], [`collector`] | readers of figures and of spans |
//! | [`ldap`], [`rds_token`], [`certificate_authority`] | who says of a password, a token or a certificate whether it is good |
//! | [`run`], [`rng`] | what a test run leaves on the machine, and random numbers |
//!
//! Nothing here waits for a length of time: it waits for a condition, with a bound.

#![allow(
    clippy::unwrap_used,
    reason = "a test that finds something else than it should is to fail"
)]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub mod answer;
pub mod arrival;
mod call;
pub mod certificate_authority;
pub mod clock;
pub mod collector;
pub mod component;
pub mod database;
pub mod emf;
pub mod host;
pub mod lambda;
pub mod ldap;
pub mod ledger;
pub mod local;
pub mod middlebox;
pub mod permission;
pub mod pooler;
pub mod program;
pub mod proxy;
pub mod raw_runtime_api;
pub mod rds_token;
pub mod rng;
pub mod run;
pub mod setup;
pub mod steps;
pub mod tls_terminator;
pub mod trial;

pub use answer::Answer;
pub use certificate_authority::CertificateAuthority;
pub use clock::Clock;
pub use database::{Database, Gate, Server};
pub use host::Host;
pub use ldap::Ldap;
pub use middlebox::{Cut, Middlebox};
pub use pooler::Pooler;
pub use proxy::{Harm, Proxy};
pub use raw_runtime_api::RawRuntimeApi;
pub use rng::Rng;
pub use setup::Setup;
pub use trial::{Door, Trial};

/// How long anything may take that has no bound of its own. Reaching it is a failure; nothing is
/// ever expected to take so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How often a condition is looked at while it is waited for.
const GLANCE: Duration = Duration::from_millis(5);

/// A function to run: a component built for these tests, or one of the examples.
pub struct Guest {
    /// Its name, as its file has it.
    pub name: &'static str,
    wasm: &'static str,
    compiled: OnceLock<PathBuf>,
}

impl Guest {
    const fn new(name: &'static str, wasm: &'static str) -> Self {
        Self {
            name,
            wasm,
            compiled: OnceLock::new(),
        }
    }

    /// The component.
    pub fn wasm(&self) -> &Path {
        Path::new(self.wasm)
    }

    /// The component, compiled once per run.
    pub fn compiled(&self) -> &Path {
        self.compiled.get_or_init(|| {
            let path = run::directory().join(format!("{}.cwasm", self.name));
            hearth_host::compile(self.wasm(), &path)
                .unwrap_or_else(|fault| panic!("compiling {}: {fault}", self.name));
            path
        })
    }
}

/// The guests, as `build.rs` built them.
pub mod guests {
    use super::Guest;

    include!(concat!(env!("OUT_DIR"), "/guests.rs"));
}

/// Waits until `look` finds something, at most for `bound`.
pub async fn within<T>(bound: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(start.elapsed() < bound, "waited {bound:?} in vain: {what}");
        tokio::time::sleep(GLANCE).await;
    }
}

/// Waits until `look` finds something.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// A binary of this package. Cargo puts it one floor above the tests.
fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let directory = test
        .ancestors()
        .nth(2)
        .expect("cargo puts tests into `deps`");
    directory.join(name)
}
