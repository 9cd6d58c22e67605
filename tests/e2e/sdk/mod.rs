//! What a function is written with.

mod crates;
mod library;
