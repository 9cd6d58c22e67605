//! Hearth's host: WebAssembly functions on AWS Lambda and on a laptop, with instances and a
//! PostgreSQL pool that stay warm between invocations.
//!
//! In the order in which an event passes through:
//!
//! - [`event`]: what comes in, as an [`invocation`], and how the answer goes out;
//! - [`serve`]: the environment, and an invocation's way through it;
//! - [`instance`]: warm guests, who may use them, and when they are retired;
//! - [`interface`]: what guests can ask of the host, as `wit/` says it;
//! - [`database`]: pools, connections, and what one invocation has borrowed of them.
//!
//! [`bootstrap`] and [`command`] put these together for the two binaries; [`cluster`] is the local
//! host's own PostgreSQL.
//!
//! On the ground, for all of them: [`fault`], [`limits`], [`config`], [`telemetry`], [`shutdown`].
//! Imports go down this list, never up. `ARCHITECTURE.md` has the whole story.

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
pub mod serve;
pub mod shutdown;
pub mod telemetry;

pub use bootstrap::bootstrap;
pub use command::hearth;
pub use fault::Fault;
#[cfg(feature = "compile")]
pub use instance::engine::compile;
