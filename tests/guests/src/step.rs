//! What an event may ask to be done with a database.

use serde::Deserialize;

use crate::cell::Argument;

/// One thing to do with a database.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Step {
    /// A query; its columns and rows are the result.
    Query {
        /// The SQL.
        query: String,
        /// Its arguments.
        #[serde(default)]
        arguments: Vec<Argument>,
    },
    /// A statement; the number of rows it affected is the result.
    Execute {
        /// The SQL.
        execute: String,
        /// Its arguments.
        #[serde(default)]
        arguments: Vec<Argument>,
    },
    /// A query for a single row; whether there is one is the result.
    Only {
        /// The SQL.
        only: String,
    },
    /// A query whose arguments' types are named.
    Typed {
        /// The SQL.
        typed: String,
        /// Its arguments with their types.
        values: Vec<(Argument, String)>,
    },
    /// Asks what a statement is; the columns with all that their types are made of are the result.
    Describe {
        /// The SQL.
        describe: String,
    },
    /// Statements in one go, without a result.
    Batch {
        /// The SQL.
        batch: String,
    },
    /// Steps within a transaction, which may be nested in another.
    Transaction {
        /// The steps.
        transaction: Vec<Step>,
        /// How it ends.
        end: End,
    },
    /// A query that is begun and then dropped.
    Abandon {
        /// The SQL.
        abandon: String,
        /// When, in milliseconds; else as soon as it has to wait.
        #[serde(default)]
        after_ms: u64,
    },
    /// Statements in one round trip; the rows affected by each are the result.
    Pipeline {
        /// The statements: SQL and arguments.
        pipeline: Vec<(String, Vec<Argument>)>,
    },
    /// The same, with the types of all arguments named.
    TypedPipeline {
        /// The statements: SQL, and arguments with their types.
        typed_pipeline: Vec<(String, Vec<(Argument, String)>)>,
    },
    /// Statements with less time than there is.
    Hurried {
        /// How long each may take, in milliseconds.
        timeout_ms: u64,
        /// The steps.
        hurried: Vec<Step>,
    },
    /// Steps on a connection that is held meanwhile.
    Session {
        /// The steps.
        session: Vec<Step>,
        /// After how many milliseconds it is closed; else it is dropped.
        #[serde(default)]
        close_after_ms: Option<u64>,
    },
    /// Waits for a notification on a channel, having sent one itself.
    Listen {
        /// The channel.
        listen: String,
        /// Whether it sends none.
        #[serde(default)]
        unheard: bool,
        /// A query of which the first row is read, and the others are dropped right before the wait.
        #[serde(default)]
        dropped: Option<String>,
    },
    /// A `COPY` into a table; the number of rows is the result.
    CopyIn {
        /// The SQL.
        copy_in: String,
        /// The data, piece by piece.
        pieces: Vec<String>,
        /// Whether it is dropped instead of being finished.
        #[serde(default)]
        unfinished: bool,
    },
    /// A `COPY` out of a table; the data are the result, or the length of the first piece if no
    /// more is read.
    CopyOut {
        /// The SQL.
        copy_out: String,
        /// Whether it is dropped after the first piece.
        #[serde(default)]
        unfinished: bool,
    },
    /// A query of which the first row is read, then other statements are executed; the error of the first
    /// that fails, or the number of rows in all.
    Streamed {
        /// The SQL.
        streamed: String,
        /// The other statements.
        meanwhile: Vec<String>,
        /// Whether the other rows are never read, nor given up.
        #[serde(default)]
        leaked: bool,
        /// After how many milliseconds each of the other statements is given up, if at all.
        #[serde(default)]
        given_up_ms: Option<u64>,
    },
    /// A query of which the first rows are read. The others wait for another statement, and are given up meanwhile;
    /// the number of rows that are affected by that is the result.
    Overtaken {
        /// The SQL.
        overtaken: String,
        /// The other statement.
        by: String,
        /// After how many milliseconds they are given up.
        given_up_ms: u64,
    },
    /// Queries at the same time, on the same connection; the number of rows of each, if those are in the
    /// order of their first column.
    AtOnce {
        /// The SQL.
        at_once: Vec<String>,
        /// After how many milliseconds all but the first are given up, if at all.
        #[serde(default)]
        given_up_ms: Option<u64>,
    },
    /// Steps at the same time.
    Parallel {
        /// The steps.
        parallel: Vec<Step>,
    },
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// By `commit`.
    Commit,
    /// By `rollback`.
    Rollback,
    /// By dropping its handle.
    Drop,
    /// Not at all: its handle stays for as long as the instance.
    Forget,
}
