//! Hearth's host: WebAssembly functions on AWS Lambda and on a laptop, with instances and a
//! PostgreSQL pool that stay warm between invocations.
//!
//! [`mod@bootstrap`] and [`command`] are the two binaries, put together of what follows; [`cluster`] is the
//! local host's own PostgreSQL. In the order in which an event passes through:
//!
//! - [`event`]: what comes in, as an [`invocation`], and how the answer goes out;
//! - [`serve`]: the environment, and an invocation's way through it;
//! - [`instance`]: warm guests, who may use them, and when they are retired;
//! - [`interface`]: what guests can ask of the host, as `wit/` says it;
//! - [`database`]: pools, connections, and what one invocation has borrowed of them.
//!
//! On the ground, for all of them: [`invocation`], [`fault`], [`limits`], [`config`], [`telemetry`],
//! [`shutdown`], `lock`. Imports go down this list, never up, which `tests/e2e/tidy` checks. `ARCHITECTURE.md` has
//! the whole story.

#![allow(
    rustdoc::private_intra_doc_links,
    reason = "it is documented for those who change it, and with all that is private"
)]

pub mod bootstrap;
pub mod cluster;
pub mod command;
pub mod config;
pub mod database;
pub mod event;
pub mod fault;
pub mod instance;
pub mod interface;
pub mod invocation;
pub mod limits;
mod lock;
pub mod serve;
pub mod shutdown;
pub mod telemetry;

pub use bootstrap::bootstrap;
pub use command::hearth;
pub use fault::Fault;
#[cfg(feature = "compile")]
pub use instance::engine::compile;
