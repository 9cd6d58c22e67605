//! From an address to a connection, and what may become of it.

mod broken_wire;
mod connecting;
mod credentials;
mod failover;
mod iam;
mod lifetimes;
mod out_of_step;
mod outages;
mod poolers;
mod scarce;
mod silence;
mod silent_calls;
mod tls;
