//! The order of things in a call: find the statement, encode, call the host, believe its answer.
//!
//! Arguments are encoded for a version of their statement. It comes from the cache; failing that,
//! the host is asked to prepare first, unless there are no arguments or their types are named. If the host says that the
//! version is out of date, it has executed nothing: the arguments are encoded anew and the call is
//! made once more. An argument that does not fit may be right, and what is remembered wrong: the server is asked, and if
//! it says something else, the arguments are encoded for that.
//!
//! Promises: one call of the host for a statement that is known, has no arguments, or whose
//! arguments' types are named, two otherwise; no lock is held across a call. Left to others: who the host is to a
//! [`Client`](super::Client), a [`Transaction`](super::Transaction) or a [`Session`](super::Session).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postgres_types::{BorrowToSql, Oid, Type};

use super::cache::StatementCache;
use super::cells;
use super::error::{Error, Kind};
use super::row_stream::RowStream;
use super::statement::Statement;
use super::statement::sealed::Source;
use super::transact::Trouble;
use crate::bindings::hearth::postgres::client as wire;

/// What executes statements: a database, a transaction or a session. Public as the bound of
/// [`GenericClient`](super::GenericClient), but nobody outside can name it.
#[expect(
    async_fn_in_trait,
    reason = "a guest has one thread, and no one else implements it"
)]
pub trait Host {
    fn statements(&self) -> &Mutex<StatementCache>;
    /// Where the transaction, if it is one, takes note of what befalls its rows.
    fn trouble(&self) -> Option<Trouble> {
        None
    }
    /// How long the server may take for each call, if less than the invocation has.
    fn timeout(&self) -> Option<Duration> {
        None
    }
    async fn send_prepare(
        &self,
        drafts: Vec<wire::Draft>,
    ) -> Result<Vec<wire::Statement>, wire::PipelineError>;
    async fn send_query(&self, call: wire::Call) -> Result<wire::Answer, wire::Error>;
    async fn send_execute(&self, call: wire::Call) -> Result<u64, wire::Error>;
    async fn send_pipeline(
        &self,
        calls: Vec<wire::Call>,
    ) -> Result<Vec<wire::Outcome>, wire::PipelineError>;
    async fn send_batch(&self, sql: String) -> Result<(), wire::Error>;
    async fn send_copy_in(&self, sql: String) -> Result<wire::CopyIn, wire::Error>;
    async fn send_copy_out(&self, sql: String) -> Result<wire::CopyOut, wire::Error>;
}

/// Asks the server about a statement, whatever is known of it: who wants to know what it is like, and does not execute it,
/// would not notice that it has changed.
pub(super) async fn prepare(
    host: &impl Host,
    sql: &str,
    named: &[Type],
) -> Result<Statement, Error> {
    let named: Vec<Oid> = named.iter().map(number).collect();
    let source = Source::Typed(sql, &named, &[]);
    let described = describe_all(host, std::iter::once(source), |_| true).await?;
    only(described)
}

/// Executes a statement and returns its rows.
pub(super) async fn query<P: BorrowToSql>(
    host: &impl Host,
    source: Source<'_>,
    arguments: &[P],
) -> Result<RowStream, Error> {
    let (sql, named) = parts(source);
    let (answer, known) = call(host, source, arguments, |call| host.send_query(call)).await?;
    let statement = match (answer.statement, known) {
        (Some(newer), _) => remember(host, sql, named, newer)?,
        (None, Some(known)) => known,
        (None, None) => return Err(Error::malformed("it does not describe the statement")),
    };
    RowStream::new(statement, answer.first, answer.rest, host.trouble())
}

/// Executes a statement and returns how many rows it affected.
pub(super) async fn execute<P: BorrowToSql>(
    host: &impl Host,
    source: Source<'_>,
    arguments: &[P],
) -> Result<u64, Error> {
    let (affected, _) = call(host, source, arguments, |call| host.send_execute(call)).await?;
    Ok(affected)
}

/// Makes a call, again if the statement changed, and returns also the statement for which its
/// arguments were encoded.
async fn call<P: BorrowToSql, R, F>(
    host: &impl Host,
    source: Source<'_>,
    arguments: &[P],
    make: impl Fn(wire::Call) -> F,
) -> Result<(R, Option<Statement>), Error>
where
    F: Future<Output = Result<R, wire::Error>>,
{
    cells::within_a_statement(arguments.len())?;
    let (sql, named) = parts(source);
    let mut known = known(host, source, arguments.is_empty()).await?;
    let (mut changed, mut asked) = (false, false);
    loop {
        let call = match encoded(host, source, known.as_ref(), arguments) {
            Err(misfit) if misfit.may_be_of_an_older_type() && known.is_some() && !asked => {
                asked = true;
                known = Some(described_otherwise(host, source, known, misfit).await?);
                continue;
            }
            call => call?,
        };
        match make(call).await {
            Ok(result) => return Ok((result, known)),
            Err(wire::Error::StatementChanged(newer)) => {
                known = Some(remember(host, sql, named, newer)?);
                if std::mem::replace(&mut changed, true) {
                    return Err(Error::new(Kind::StatementChanged));
                }
            }
            Err(error) => {
                let types = types(source, known.as_ref());
                return Err(Error::from(error).of_values(sql, types));
            }
        }
    }
}

/// What the server says of a statement for which an argument did not fit; the misfit, if that is nothing new.
async fn described_otherwise(
    host: &impl Host,
    source: Source<'_>,
    known: Option<Statement>,
    misfit: Error,
) -> Result<Statement, Error> {
    let version = known.as_ref().map(Statement::version);
    match describe_one(host, source).await {
        Ok(described) if Some(described.version()) != version => Ok(described),
        Ok(_) => Err(misfit),
        Err(refusal) => Err(graver(host, refusal, misfit)),
    }
}

/// What to tell if the server refuses to say more of a statement for which an argument did not fit. Nothing was executed,
/// and the misfit is what the caller can mend; but a transaction has failed by the refusal, and with a lost connection
/// is gone what earlier calls have left there, which the host says once.
pub(super) fn graver(host: &impl Host, refusal: Error, misfit: Error) -> Error {
    let fails_all = host.trouble().is_some() && refusal.as_db_error().is_some();
    match fails_all || refusal.is_closed() {
        true => refusal,
        false => misfit,
    }
}

/// What is known of a statement, after asking if it has to be known to encode arguments for it.
async fn known(
    host: &impl Host,
    source: Source<'_>,
    without_arguments: bool,
) -> Result<Option<Statement>, Error> {
    match remembered(host, source) {
        Some(statement) => Ok(Some(statement)),
        None if must_be_known(host, source, without_arguments) => {
            Ok(Some(describe_one(host, source).await?))
        }
        None => Ok(None),
    }
}

/// What is known of a statement without asking; nothing, if it is doubted.
pub(super) fn remembered(host: &impl Host, source: Source<'_>) -> Option<Statement> {
    newest(host, source).filter(|statement| !statement.is_doubted())
}

fn newest(host: &impl Host, source: Source<'_>) -> Option<Statement> {
    let (sql, named) = parts(source);
    let cached = lock(host).get(sql, named);
    match source {
        Source::Prepared(statement) => cached.or_else(|| Some(statement.clone())),
        Source::Text(_) | Source::Typed(..) => cached,
    }
}

fn is_doubted(host: &impl Host, source: Source<'_>) -> bool {
    newest(host, source).is_some_and(|statement| statement.is_doubted())
}

/// Whether the server has to be asked of a statement before it can be executed: to encode its arguments, or since
/// a value did not fit.
pub(super) fn must_be_known(host: &impl Host, source: Source<'_>, without_arguments: bool) -> bool {
    is_doubted(host, source)
        || match source {
            Source::Typed(_, _, types) => !types.iter().all(has_binary_form),
            Source::Text(_) | Source::Prepared(_) => !without_arguments,
        }
}

/// A call with its arguments.
pub(super) fn encoded<P: BorrowToSql>(
    host: &impl Host,
    source: Source<'_>,
    known: Option<&Statement>,
    arguments: &[P],
) -> Result<wire::Call, Error> {
    let (sql, named) = parts(source);
    let sql = cells::sql(sql)?;
    let arguments = cells::encode(arguments, types(source, known)).inspect_err(|error| {
        if let (Some(statement), true) = (known, error.may_be_of_an_older_type()) {
            statement.doubt();
        }
    })?;
    cells::within_a_call(bytes(&sql, named) + arguments.len())?;
    Ok(wire::Call {
        sql,
        types: named.to_vec(),
        version: known.map_or(0, Statement::version),
        arguments,
        timeout_ms: millis(host.timeout()),
    })
}

/// The types of the parameters, as far as they are known.
pub(super) fn types<'a>(source: Source<'a>, known: Option<&'a Statement>) -> &'a [Type] {
    match (known, source) {
        (Some(statement), _) => statement.params(),
        (None, Source::Typed(_, _, types)) => types,
        (None, _) => &[],
    }
}

/// A timeout as the host takes it.
pub(super) fn millis(timeout: Option<Duration>) -> Option<u32> {
    timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))
}

async fn describe_one(host: &impl Host, source: Source<'_>) -> Result<Statement, Error> {
    only(describe(host, std::iter::once(source)).await?)
}

fn only(mut described: Vec<Statement>) -> Result<Statement, Error> {
    let statement = described.pop();
    statement.ok_or_else(|| Error::malformed("it does not describe the statement"))
}

/// Asks the server about statements, in one round trip.
pub(super) async fn describe<'s>(
    host: &impl Host,
    sources: impl Iterator<Item = Source<'s>> + Clone,
) -> Result<Vec<Statement>, Error> {
    describe_all(host, sources, |source| is_doubted(host, source)).await
}

/// The same. What the host remembers will do, unless they are doubted.
async fn describe_all<'s>(
    host: &impl Host,
    sources: impl Iterator<Item = Source<'s>> + Clone,
    doubted: impl Fn(Source<'s>) -> bool,
) -> Result<Vec<Statement>, Error> {
    let mut total = 0;
    let drafts = sources.clone().map(|source| {
        let (sql, named) = parts(source);
        total += bytes(sql, named);
        let (sql, types) = (cells::sql(sql)?, named.to_vec());
        cells::within_a_call(total)?;
        Ok(wire::Draft {
            sql,
            types,
            doubted: doubted(source),
        })
    });
    let described = host
        .send_prepare(drafts.collect::<Result<_, Error>>()?)
        .await?;
    let each = sources.zip(described).map(|(source, described)| {
        let (sql, named) = parts(source);
        remember(host, sql, named, described)
    });
    each.collect()
}

pub(super) fn remember(
    host: &impl Host,
    sql: &str,
    named: &[Oid],
    statement: wire::Statement,
) -> Result<Statement, Error> {
    let statement = Statement::described(sql, named, statement)?;
    lock(host).put(&statement);
    Ok(statement)
}

/// Arguments and their types, each for itself.
pub(super) fn parted<P>(
    arguments: impl IntoIterator<Item = (P, Type)>,
) -> (Vec<P>, Vec<Oid>, Vec<Type>) {
    let (arguments, types): (Vec<P>, Vec<Type>) = arguments.into_iter().unzip();
    let oids = types.iter().map(number).collect();
    (arguments, oids, types)
}

/// The number of a type that is named for a parameter; 0 for one that the server is to choose.
fn number(type_: &Type) -> Oid {
    match *type_ {
        Type::UNKNOWN => 0,
        _ => type_.oid(),
    }
}

/// Whether values of this type are known to travel in binary: those that PostgreSQL builds in do, but
/// for a few. What is unknown becomes any type.
fn has_binary_form(type_: &Type) -> bool {
    let text_only = [
        Type::UNKNOWN,
        Type::ACLITEM,
        Type::ACLITEM_ARRAY,
        Type::GTS_VECTOR,
        Type::GTS_VECTOR_ARRAY,
    ];
    Type::from_oid(type_.oid()).is_some() && !text_only.contains(type_)
}

pub(super) fn parts(source: Source<'_>) -> (&str, &[Oid]) {
    match source {
        Source::Text(sql) => (sql, &[]),
        Source::Typed(sql, named, _) => (sql, named),
        Source::Prepared(statement) => statement.source(),
    }
}

/// What a statement has in a call without its arguments, in bytes.
pub(super) fn bytes(sql: &str, named: &[Oid]) -> usize {
    sql.len() + size_of_val(named)
}

fn lock(host: &impl Host) -> MutexGuard<'_, StatementCache> {
    host.statements()
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "call_tests.rs"]
pub(super) mod tests;
