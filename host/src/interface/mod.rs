//! What the host offers to guests: `wit/`, item by item.
//!
//! Promises: whatever a guest passes is checked here before it goes further down; a mistake of the
//! guest's is an error that it can read, never a trap and never a panic.
//!
//! Left to others: which store the interfaces live in ([`crate::instance::state`]). This floor has
//! never heard of Lambda.

pub mod bindings;
pub mod clock;
pub mod postgres;
pub mod temporary;
