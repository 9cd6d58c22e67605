//! Handles that are kept in the instance, where other invocations find them: later ones, and those that share
//! it. They must be of no use to any but their own.

use std::cell::{Cell, RefCell};
use std::pin::pin;

use hearth::postgres::{CopyIn, CopyOut, Error, RowStream, Session, Statement, Transaction};

/// A handle that is kept.
pub enum Kept {
    Transaction(Transaction<'static>),
    Session(Session),
    Rows(RowStream),
    CopyIn(CopyIn),
    CopyOut(CopyOut),
}

thread_local! {
    static KEPT: RefCell<Vec<(u64, Kept)>> = const { RefCell::new(Vec::new()) };
    static STATEMENT: RefCell<Option<Statement>> = const { RefCell::new(None) };
    static INVOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// The one that is being polled.
    static CURRENT: Cell<u64> = const { Cell::new(0) };
}

/// The number of an invocation that begins.
pub fn begin() -> u64 {
    INVOCATIONS.set(INVOCATIONS.get() + 1);
    INVOCATIONS.get()
}

/// The number of the invocation that is being polled.
pub fn current() -> u64 {
    CURRENT.get()
}

/// Runs a part of an invocation.
pub async fn within<F: Future>(invocation: u64, part: F) -> F::Output {
    let mut part = pin!(part);
    std::future::poll_fn(|cx| {
        let outer = CURRENT.replace(invocation);
        let polled = part.as_mut().poll(cx);
        CURRENT.set(outer);
        polled
    })
    .await
}

impl Kept {
    /// Keeps it.
    pub fn keep(self) {
        KEPT.with_borrow_mut(|kept| kept.push((current(), self)));
    }
}

/// Keeps a statement, which belongs to no invocation and no connection.
pub fn keep_statement(statement: Statement) {
    STATEMENT.set(Some(statement));
}

/// The statement that was kept last.
pub fn statement() -> Option<Statement> {
    STATEMENT.with_borrow(Clone::clone)
}

/// Uses what was kept last, for the last time. If that is another invocation's, says what came of it.
pub async fn use_one() -> Result<(), Error> {
    let Some((invocation, kept)) = KEPT.with_borrow_mut(Vec::pop) else {
        return Ok(());
    };
    let used = match kept {
        Kept::Transaction(transaction) => transaction.batch_execute("select 1").await,
        Kept::Session(session) => session.batch_execute("select 1").await,
        Kept::Rows(mut rows) => loop {
            match rows.try_next().await {
                Ok(Some(_)) => {}
                // All of them were here already.
                Ok(None) => return Ok(()),
                Err(error) => break Err(error),
            }
        },
        Kept::CopyIn(mut copy) => copy.write("1\n").await,
        Kept::CopyOut(mut copy) => match copy.try_next().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        },
    };
    if invocation != current() {
        match &used {
            Ok(()) => println!("a handle of another invocation works"),
            Err(error) => println!("a handle of another invocation: {error}"),
        }
    }
    used
}
