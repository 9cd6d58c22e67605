//! What `bootstrap` does as Lambda's runtime: from its start over each event to its end.

mod clocks;
mod drain;
mod drain_api;
mod emulators;
mod endings;
mod freeze;
mod lifecycle;
mod managed;
mod odd_replies;
mod receipts;
mod runtime_api;
mod runtime_api_connection;
mod snapshots;
