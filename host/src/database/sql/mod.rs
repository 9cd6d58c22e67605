//! SQL as far as the host reads it: its words, what kinds of statement there are in a text, what it
//! may leave behind on its connection, and what in it would undo a permission.
//!
//! Promises: the text is taken apart as PostgreSQL takes it apart, whatever its version and
//! settings; where that cannot be told, the text is [`guard::Risk::Ambiguous`] and so refused by
//! whoever depends on it.
//!
//! Left to others: what is done with a judgement ([`crate::database::permission`],
//! [`crate::database::connection`]).

pub mod copy_header;
pub mod copying;
pub mod ending;
pub mod guard;
mod harmless;
pub mod kinds;
pub mod lexer;
pub mod listening;
pub mod name_resolution;
pub mod only_reads;
pub mod outside_transactions;
pub mod parentheses;
pub mod residue;
pub mod scan_cost;
pub mod session_state;
pub mod text;
pub mod time_limits;
pub mod transaction_mode;
pub mod varying_columns;
pub mod words;
