//! SQL as far as the host reads it: its words, what kinds of statement there are in a text, what it
//! may leave behind on its connection, and what in it would undo a permission.
//!
//! Promises: the text is taken apart as PostgreSQL takes it apart, whatever its version and
//! settings; where that cannot be told, the text is [`guard::Risk::Ambiguous`] and so refused by
//! whoever depends on it.
//!
//! Each file answers one question, and each question is asked by somebody else:
//!
//! | file | the question | who asks |
//! |---|---|---|
//! | [`text`] | May it be sent at all? | `session/work`, `session/savepoint`, `warming` |
//! | [`scan_cost`] | Would the server read it for minutes? | [`text`] |
//! | [`kinds`] | What kinds of statement are in it? | `permission`, `connection`, most files here |
//! | [`guard`] | What in it would undo a permission? | `permission` |
//! | [`residue`] | What does it leave behind in its session? | `statement`, and `connection` for what it says |
//! | [`session_state`] | Does it need a session of its own? | `session/shared`, for sessions that a pooler shares |
//! | [`name_resolution`] | Do names mean something else behind it? | `statement` |
//! | [`time_limits`] | Does it set how long the server waits? | `statement`, `connection/server_timeouts` |
//! | [`transaction_mode`] | Does it ask for transactions that only read? | `statement` |
//! | [`only_reads`] | Does it do nothing but read? | `session/{work,place,cursor}` |
//! | [`ending`] | Does it end its transaction, or a part of it? | `statement`, `session/{work,shared}` |
//! | [`outside_transactions`] | Must it stand alone in its request? | `session/work`, `connection` |
//! | [`varying_columns`] | Can its columns be others next time? | `connection/{pipeline,preparation}`, `Database` |
//! | [`copying`] | Does it move data beside itself, and which way? | `session/{work,place}`, `connection/copying` |
//! | [`copy_header`] | Do its data begin with a line of names? | `connection/copying` |
//! | [`listening`] | Does it begin to listen? | `session` |
//! | [`lexer`], [`words`], [`parentheses`] | What are its words? | the files above |
//! | `harmless` | Does this word call nothing? | [`residue`] |
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
