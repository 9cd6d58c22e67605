//! Transactions of a program: by a handle, by a closure, and within each other.

use std::cell::Cell;

use hearth::postgres::{Error, IsolationLevel, Transaction, TransactionBuilder};
use serde::Deserialize;

use super::kept::Kept;
use super::on::On;
use super::written::Written;
use super::{End, Place, Step};

/// What is asked of a transaction.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How much it sees of others, as SQL says it.
    isolation: Option<String>,
    read_only: Option<bool>,
    deferrable: Option<bool>,
    /// The name of its savepoint, where it is one.
    name: Option<String>,
}

impl Options {
    fn asked_of<'a>(&self, mut builder: TransactionBuilder<'a>) -> TransactionBuilder<'a> {
        builder = match self.isolation.as_deref() {
            None => builder,
            Some("serializable") => builder.isolation_level(IsolationLevel::Serializable),
            Some("repeatable read") => builder.isolation_level(IsolationLevel::RepeatableRead),
            Some("read committed") => builder.isolation_level(IsolationLevel::ReadCommitted),
            Some(_) => builder.isolation_level(IsolationLevel::ReadUncommitted),
        };
        if let Some(read_only) = self.read_only {
            builder = builder.read_only(read_only);
        }
        if let Some(deferrable) = self.deferrable {
            builder = builder.deferrable(deferrable);
        }
        builder
    }
}

impl Place<'_, '_> {
    /// A transaction on whatever this is.
    pub(super) async fn transaction(
        &mut self,
        steps: &[Step],
        end: End,
        options: &Options,
    ) -> Result<(), Error> {
        match &mut self.on {
            On::Client(client) => {
                let builder = options.asked_of(client.build_transaction());
                let mut transaction = builder.start().await?;
                let open = within(&mut transaction, steps, self.doubtful).await;
                if end == End::Keep {
                    Written::tell(&open, "not");
                    Kept::Transaction(transaction).keep();
                    return Ok(());
                }
                conclude(transaction, &open, end).await
            }
            On::Session(session) => {
                let builder = options.asked_of(session.build_transaction());
                let mut transaction = builder.start().await?;
                let open = within(&mut transaction, steps, self.doubtful).await;
                // Forgotten, it is still there, and the session's own calls are part of it.
                let left = matches!(end, End::Forget | End::Keep);
                self.doubtful.set(self.doubtful.get() || left);
                conclude(transaction, &open, end).await
            }
            On::Transaction(outer) => {
                let mut transaction = match &options.name {
                    Some(name) => outer.savepoint(name).await?,
                    None => outer.transaction().await?,
                };
                let open = within(&mut transaction, steps, self.doubtful).await;
                let ended = finish(transaction, end).await;
                match (end, &ended) {
                    // Nobody goes back to the savepoint, so it is part of what is around it.
                    (End::Forget | End::Keep, _) | (End::Commit, Ok(())) => {
                        self.written.open.extend(open);
                    }
                    _ => Written::tell(&open, "not"),
                }
                ended
            }
        }
    }

    /// A transaction that is done again if others are in its way. There is none within another.
    pub(super) async fn transact(
        &mut self,
        steps: &[Step],
        options: &Options,
    ) -> Result<(), Error> {
        let mut open = Vec::new();
        let doubtful = self.doubtful;
        let mut work = async |transaction: &mut Transaction<'_>| {
            open = within(transaction, steps, doubtful).await;
            Ok::<_, Error>(())
        };
        let result = match &mut self.on {
            On::Client(client) => {
                let builder = options.asked_of(client.build_transaction());
                builder.attempts_max(3).transact(&mut work).await
            }
            On::Session(session) => {
                let builder = options.asked_of(session.build_transaction());
                builder.attempts_max(3).transact(&mut work).await
            }
            On::Transaction(_) => return Ok(()),
        };
        Written::concluded(&open, &result);
        result
    }
}

/// Steps within a transaction; the keys that are written and not committed yet.
async fn within(
    transaction: &mut Transaction<'_>,
    steps: &[Step],
    doubtful: &Cell<bool>,
) -> Vec<i64> {
    let mut place = Place {
        on: On::Transaction(transaction),
        written: Written {
            open: Vec::new(),
            pending: true,
        },
        doubtful,
    };
    let _ = Box::pin(place.run(steps, false)).await;
    place.written.open
}

async fn conclude(transaction: Transaction<'_>, open: &[i64], end: End) -> Result<(), Error> {
    let ended = finish(transaction, end).await;
    match end {
        End::Commit => Written::concluded(open, &ended),
        _ => Written::tell(open, "not"),
    }
    ended
}

async fn finish(transaction: Transaction<'_>, end: End) -> Result<(), Error> {
    match end {
        End::Commit => transaction.commit().await,
        End::Rollback => transaction.rollback().await,
        End::Drop | End::Close => {
            drop(transaction);
            Ok(())
        }
        End::Forget | End::Keep => {
            std::mem::forget(transaction);
            Ok(())
        }
    }
}
