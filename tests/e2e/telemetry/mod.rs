//! What is seen from outside.

mod log_levels;
mod log_readers;
mod logs;
mod metrics;
mod traces;
