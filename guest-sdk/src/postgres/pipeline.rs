//! Several statements in one round trip.
//!
//! Promises: they are executed in their order, all or none; what is not known of them is asked for
//! all at once; an error says which of them it was.

use std::fmt;

use postgres_types::{Oid, ToSql, Type};

use super::call::{self, Host};
use super::cells::{self, Batch};
use super::declared::{Declared, Parameters};
use super::error::{Error, Kind};
use super::row::Row;
use super::statement::sealed::Source;
use super::statement::{Statement, ToStatement};
use crate::bindings::hearth::postgres::client as wire;

/// Statements that will be executed in one round trip; see
/// [`Client::pipeline`](super::Client::pipeline).
#[must_use = "nothing is executed without `run`"]
pub struct Pipeline<'a, H> {
    host: &'a H,
    calls: Vec<Planned<'a>>,
}

/// A statement of a pipeline, with its parameters.
struct Planned<'a> {
    text: Text,
    params: Vec<&'a (dyn ToSql + Sync)>,
}

enum Text {
    Plain(String),
    Typed(String, Vec<Oid>, Vec<Type>),
    Prepared(Statement),
}

impl Planned<'_> {
    fn source(&self) -> Source<'_> {
        match &self.text {
            Text::Plain(sql) => Source::Text(sql),
            Text::Typed(sql, oids, types) => Source::Typed(sql, oids, types),
            Text::Prepared(statement) => Source::Prepared(statement),
        }
    }
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
        }
    }

    /// Adds a statement. It is neither looked at nor executed before [`run`](Self::run), until which
    /// the parameters are borrowed: what is computed for it alone needs a name (`let text =
    /// format!(…);`) before the pipeline.
    pub fn add<T>(&mut self, statement: &T, params: &[&'a (dyn ToSql + Sync)]) -> &mut Self
    where
        T: ?Sized + ToStatement,
    {
        let text = match statement.source() {
            Source::Text(sql) | Source::Typed(sql, ..) => Text::Plain(sql.to_owned()),
            Source::Prepared(statement) => Text::Prepared(statement.clone()),
        };
        self.push(text, params.to_vec())
    }

    /// Adds a declared query, whose [`read`](Declared::read) then takes its rows from the outcome.
    pub fn add_declared<P: Parameters, R>(&mut self, query: &'a Declared<P, R>) -> &mut Self {
        self.add(query.sql(), &query.list())
    }

    /// As [`add`](Self::add), naming the type of each parameter, so that the server need not be asked
    /// for them.
    pub fn add_typed(
        &mut self,
        query: &str,
        params: &[(&'a (dyn ToSql + Sync), Type)],
    ) -> &mut Self {
        let params = params.iter().map(|(value, type_)| (*value, type_.clone()));
        let (params, oids, types) = call::parted(params);
        self.push(Text::Typed(query.to_owned(), oids, types), params)
    }

    fn push(&mut self, text: Text, params: Vec<&'a (dyn ToSql + Sync)>) -> &mut Self {
        self.calls.push(Planned { text, params });
        self
    }

    /// How many statements were added.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Whether none was added. To run nothing is no error, and calls nobody.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Executes the statements, and returns what each has answered, in their order.
    ///
    /// Outside of a transaction they are one of their own: if one fails, none has had an effect.
    /// In a transaction that has then failed. [`Error::pipeline_index`] says which it was.
    ///
    /// One that ends a transaction (`COMMIT`) may only be the last, and is refused before.
    ///
    /// The server is asked about the parameters of all of them before it executes any: one that has
    /// parameters cannot use a table that another one creates, unless their types are named
    /// ([`add_typed`](Self::add_typed)).
    ///
    /// A parameter that does not fit is found before anything is executed. The texts and parameters of all
    /// of them may have 15 MiB together, their rows 8 MiB.
    pub async fn run(&mut self) -> Result<Vec<Outcome>, Error> {
        let calls = std::mem::take(&mut self.calls);
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        for (index, planned) in calls.iter().enumerate() {
            let number = cells::within_a_statement(planned.params.len());
            number.map_err(|error| error.of_call(index))?;
        }
        let mut known = self.known(&calls).await?;
        // Each of them may have changed since it was last used, and is told of alone.
        for _ in 0..=calls.len() {
            let encoded = match self.encoded(&calls, &known) {
                Err(misfit) if misfit.may_be_of_an_older_type() => {
                    known = self.known_otherwise(&calls, &known, misfit).await?;
                    continue;
                }
                encoded => encoded?,
            };
            match self.host.send_pipeline(encoded).await {
                Ok(outcomes) => return self.outcomes(&calls, known, outcomes),
                Err(wire::PipelineError {
                    index: Some(index),
                    error: wire::Error::StatementChanged(newer),
                }) => {
                    let Some(changed) = calls.get(index as usize) else {
                        return Err(Error::malformed("it names a statement that there is not"));
                    };
                    let (sql, named) = call::parts(changed.source());
                    let newer = call::remember(self.host, sql, named, newer)?;
                    for (call, known) in calls.iter().zip(&mut known) {
                        if call::parts(call.source()) == (sql, named) {
                            *known = Some(newer.clone());
                        }
                    }
                }
                Err(error) => return Err(refused(error.into(), &calls, &known)),
            }
        }
        Err(Error::new(Kind::StatementChanged))
    }

    /// What is known of the statements, after asking for all of which it has to be known.
    async fn known(&self, calls: &[Planned<'a>]) -> Result<Vec<Option<Statement>>, Error> {
        let mut known: Vec<_> = calls
            .iter()
            .map(|planned| call::remembered(self.host, planned.source()))
            .collect();
        let mut missing: Vec<usize> = Vec::new();
        for (index, planned) in calls.iter().enumerate() {
            let own = call::parts(planned.source());
            let is_asked = known[index].is_none()
                && call::must_be_known(self.host, planned.source(), planned.params.is_empty());
            if is_asked
                && !missing
                    .iter()
                    .any(|other| call::parts(calls[*other].source()) == own)
            {
                missing.push(index);
            }
        }
        if missing.is_empty() {
            return Ok(known);
        }
        let sources = missing.iter().map(|index| calls[*index].source());
        let described = call::describe(self.host, sources).await;
        let described = described.map_err(|error| match error.pipeline_index() {
            Some(nth) => error.of_call(missing.get(nth).copied().unwrap_or(nth)),
            None if missing.len() == 1 && error.is_of_a_statement() => error.of_call(missing[0]),
            None => error,
        })?;
        for (planned, known) in calls.iter().zip(&mut known) {
            let own = call::parts(planned.source());
            let same = |statement: &&Statement| statement.source() == own;
            if known.is_none() {
                *known = described.iter().find(same).cloned();
            }
        }
        Ok(known)
    }

    /// What the server says of the statements, if a parameter did not fit what was known of one; the misfit, if it
    /// says nothing new.
    async fn known_otherwise(
        &self,
        calls: &[Planned<'a>],
        known: &[Option<Statement>],
        misfit: Error,
    ) -> Result<Vec<Option<Statement>>, Error> {
        let version = |known: &Option<Statement>| known.as_ref().map(Statement::version);
        match self.known(calls).await {
            Ok(newer) if !newer.iter().map(version).eq(known.iter().map(version)) => Ok(newer),
            Ok(_) => Err(misfit),
            Err(refusal) => Err(call::graver(self.host, refusal, misfit)),
        }
    }

    fn encoded(
        &self,
        calls: &[Planned<'a>],
        known: &[Option<Statement>],
    ) -> Result<Vec<wire::Call>, Error> {
        let mut bytes = 0;
        let each = calls.iter().zip(known).enumerate();
        let encoded = each.map(|(index, (planned, known))| {
            let encoded =
                call::encoded(self.host, planned.source(), known.as_ref(), &planned.params);
            let encoded = encoded.map_err(|error| error.of_call(index))?;
            bytes += call::bytes(&encoded.sql, &encoded.types) + encoded.arguments.len();
            cells::within_a_call(bytes).map_err(|error| error.of_call(index))?;
            Ok(encoded)
        });
        encoded.collect()
    }

    fn outcomes(
        &self,
        calls: &[Planned<'a>],
        known: Vec<Option<Statement>>,
        outcomes: Vec<wire::Outcome>,
    ) -> Result<Vec<Outcome>, Error> {
        if outcomes.len() != calls.len() {
            return Err(Error::malformed(
                "it has another number of results than calls",
            ));
        }
        let each = outcomes.into_iter().zip(calls).zip(known);
        let read = each.map(|((outcome, planned), known)| {
            let statement = match (outcome.statement, known) {
                (Some(newer), _) => {
                    let (sql, named) = call::parts(planned.source());
                    call::remember(self.host, sql, named, newer)?
                }
                (None, Some(statement)) => statement,
                (None, None) => return Err(Error::malformed("it does not describe a statement")),
            };
            let affected = outcome.rows.affected;
            let batch = Batch::parse(outcome.rows, statement.columns().len())?;
            Ok(Outcome {
                rows: Row::all(&statement, batch),
                affected,
            })
        });
        read.collect()
    }
}

/// An error, with what is known of the values that it may be about.
fn refused(error: Error, calls: &[Planned<'_>], known: &[Option<Statement>]) -> Error {
    let Some((planned, known)) = error
        .pipeline_index()
        .and_then(|index| calls.get(index).zip(known.get(index)))
    else {
        return error;
    };
    let source = planned.source();
    error.of_values(call::parts(source).0, call::types(source, known.as_ref()))
}

impl<H> fmt::Debug for Pipeline<'_, H> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Pipeline")
            .field("calls", &self.calls.len())
            .finish_non_exhaustive()
    }
}
