//! PostgreSQL for functions, floor by floor as in the host.

mod connect;
mod permission;
mod session;
