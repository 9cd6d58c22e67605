//! What the host offers to guests: `wit/`, item by item.
//!
//! Promises: a mistake of the guest's is an error that it can read, never a trap and never a panic.
//!
//! Left to others: whether a statement may be executed, which is checked where it is
//! ([`crate::database::session::work`]); which store the interfaces live in ([`crate::instance::state`]). This
//! floor has never heard of Lambda.

pub mod bindings;
pub mod clock;
pub mod postgres;
pub mod temporary;
