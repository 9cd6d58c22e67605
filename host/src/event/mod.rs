//! Where events come from and answers go to.
//!
//! Each front door turns what it receives into an [`Invocation`](crate::invocation::Invocation)
//! and an answer back into what its other side expects. This floor knows neither guests nor
//! databases.

mod chunk;
pub mod lambda;
pub mod local;
