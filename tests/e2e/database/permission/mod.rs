//! What a function may do there, and as whom.

mod caps;
mod declared;
mod disguises;
mod in_force;
mod permissions;
mod tenancy;
