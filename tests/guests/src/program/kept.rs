//! Handles that outlive their invocation, in a guest that is warm. They must be of no use any more.

use std::cell::{Cell, RefCell};

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
}

/// An invocation begins; nothing that was kept before is its own.
pub fn begin() {
    INVOCATIONS.set(INVOCATIONS.get() + 1);
}

impl Kept {
    /// Keeps it.
    pub fn keep(self) {
        KEPT.with_borrow_mut(|kept| kept.push((INVOCATIONS.get(), self)));
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

/// Uses what was kept last, for the last time. Says so if it works for another invocation than its
/// own.
pub async fn use_one() -> Result<(), Error> {
    let Some((invocation, kept)) = KEPT.with_borrow_mut(Vec::pop) else {
        return Ok(());
    };
    let used = match kept {
        Kept::Transaction(transaction) => transaction.batch_execute("select 1").await,
        Kept::Session(session) => session.batch_execute("select 1").await,
        // The first rows are here already.
        Kept::Rows(mut rows) => return rows.try_next().await.map(|_| ()),
        Kept::CopyIn(mut copy) => copy.write("1\n").await,
        Kept::CopyOut(mut copy) => match copy.try_next().await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => return Ok(()),
            Err(error) => Err(error),
        },
    };
    if used.is_ok() && invocation != INVOCATIONS.get() {
        println!("a handle of another invocation works");
    }
    used
}
