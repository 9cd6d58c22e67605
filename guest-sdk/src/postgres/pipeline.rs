//! Several statements in one round trip.
//!
//! Promises: they are executed in their order, all or none; a call that fails says which it was.

use std::fmt;

use postgres_types::{Oid, ToSql, Type};

use super::call::{self, Host};
use super::cells::Batch;
use super::error::Error;
use super::row::Row;
use super::statement::sealed::Source;
use super::statement::{Statement, ToStatement};
use crate::bindings::hearth::postgres::client as wire;

/// Statements that will be executed in one round trip; see
/// [`Client::pipeline`](super::Client::pipeline).
#[must_use = "nothing is executed without `run`"]
pub struct Pipeline<'a, H> {
    host: &'a H,
    calls: Vec<wire::Call>,
    known: Vec<Prepared>,
}

/// What is known of a call's statement before it is executed.
struct Prepared {
    sql: String,
    named: Vec<Oid>,
    statement: Option<Statement>,
}

/// What one statement of a pipeline has answered.
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// All of its rows.
    pub rows: Vec<Row>,
    /// How many rows it affected, or returned.
    pub affected: u64,
}

impl<'a, H: Host> Pipeline<'a, H> {
    pub(super) fn new(host: &'a H) -> Self {
        Self {
            host,
            calls: Vec::new(),
            known: Vec::new(),
        }
    }

    /// Adds a statement. It is not executed yet; but if its types are not known, the host is asked
    /// for them.
    pub async fn add<T>(
        &mut self,
        statement: &T,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<&mut Self, Error>
    where
        T: ?Sized + ToStatement,
    {
        self.push(statement.source(), params).await
    }

    /// As [`add`](Self::add), naming the type of each parameter, so that the host need not be asked.
    pub async fn add_typed(
        &mut self,
        query: &str,
        params: &[(&(dyn ToSql + Sync), Type)],
    ) -> Result<&mut Self, Error> {
        let params = params.iter().map(|(value, type_)| (*value, type_.clone()));
        let (params, oids, types) = call::parted(params);
        self.push(Source::Typed(query, &oids, &types), &params)
            .await
    }

    async fn push(
        &mut self,
        source: Source<'_>,
        params: &[&(dyn ToSql + Sync)],
    ) -> Result<&mut Self, Error> {
        let known = call::known(self.host, source, params.is_empty()).await?;
        let (sql, named) = call::parts(source);
        self.calls
            .push(call::encoded(self.host, source, known.as_ref(), params)?);
        self.known.push(Prepared {
            sql: sql.to_owned(),
            named: named.to_vec(),
            statement: known,
        });
        Ok(self)
    }

    /// Executes the statements, and returns what each has answered, in their order.
    ///
    /// Outside of a transaction they are one of their own: if one fails, none has had an effect.
    /// In a transaction that has then failed.
    pub async fn run(self) -> Result<Vec<Outcome>, Error> {
        let outcomes = self.host.pipeline(self.calls).await?;
        if outcomes.len() != self.known.len() {
            return Err(Error::malformed(
                "it has another number of results than calls",
            ));
        }
        let mut results = Vec::with_capacity(outcomes.len());
        for (outcome, known) in outcomes.into_iter().zip(self.known) {
            let statement = match (outcome.statement, known.statement) {
                (Some(newer), _) => call::remember(self.host, &known.sql, &known.named, newer)?,
                (None, Some(statement)) => statement,
                (None, None) => return Err(Error::malformed("it does not describe a statement")),
            };
            let batch = Batch::parse(outcome.rows, statement.columns().len())?;
            results.push(Outcome {
                rows: Row::all(&statement, batch),
                affected: outcome.affected,
            });
        }
        Ok(results)
    }
}

impl<H> fmt::Debug for Pipeline<'_, H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pipeline")
            .field("calls", &self.calls.len())
            .finish_non_exhaustive()
    }
}
