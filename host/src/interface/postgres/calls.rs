//! The calls that a database, a transaction and a session have in common.
//!
//! Promises: what a call brings along counts as its invocation's until the call is over.

use std::sync::Arc;

use wasmtime::component::{Accessor, Resource};

use super::{CopyIn, CopyOut, Cursor, HasPostgres, HostResult, convert, hand, wit};
use crate::database;
use crate::database::session::place::{FirstRows, Place};
use crate::database::session::work;
use crate::database::statement::{Call, Key};

/// The methods that execute statements, for one kind of handle; `$place` finds out where. What they
/// do is boxed: wasmtime moves a call about before it begins, and the calls themselves are large.
macro_rules! calls {
    ($handle:ty, $place:path) => {
        async fn prepare(
            accessor: &Accessor<T, Self>,
            handle: Resource<$handle>,
            drafts: Vec<wit::Draft>,
            timeout_ms: Option<u32>,
        ) -> wasmtime::Result<Result<Vec<wit::Statement>, wit::PipelineError>> {
            let _carried = carry!(accessor, &*drafts);
            match $place(accessor, &handle)? {
                Ok(place) => Ok(Box::pin(calls::prepare(&place, drafts, timeout_ms)).await),
                Err(error) => Ok(Err(error.into())),
            }
        }

        async fn query(
            accessor: &Accessor<T, Self>,
            handle: Resource<$handle>,
            call: wit::Call,
        ) -> HostResult<wit::Answer> {
            let _carried = carry!(accessor, &call);
            match $place(accessor, &handle)? {
                Ok(place) => Box::pin(calls::query(accessor, &place, call)).await,
                Err(error) => Ok(Err(error)),
            }
        }

        async fn execute(
            accessor: &Accessor<T, Self>,
            handle: Resource<$handle>,
            call: wit::Call,
        ) -> HostResult<u64> {
            let _carried = carry!(accessor, &call);
            match $place(accessor, &handle)? {
                Ok(place) => Ok(Box::pin(calls::execute(&place, call)).await),
                Err(error) => Ok(Err(error)),
            }
        }

        async fn pipeline(
            accessor: &Accessor<T, Self>,
            handle: Resource<$handle>,
            calls: Vec<wit::Call>,
        ) -> wasmtime::Result<Result<Vec<wit::Outcome>, wit::PipelineError>> {
            let _carried = carry!(accessor, &*calls);
            match $place(accessor, &handle)? {
                Ok(place) => Ok(Box::pin(calls::pipeline(&place, calls)).await),
                Err(error) => Ok(Err(error.into())),
            }
        }

        async fn batch_execute(
            accessor: &Accessor<T, Self>,
            handle: Resource<$handle>,
            sql: String,
            timeout_ms: Option<u32>,
        ) -> HostResult<()> {
            let _carried = carry!(accessor, &*sql);
            match $place(accessor, &handle)? {
                Ok(place) => Ok(
                    Box::pin(place.batch_execute(&sql, convert::timeout(timeout_ms)))
                        .await
                        .map_err(Into::into),
                ),
                Err(error) => Ok(Err(error)),
            }
        }

        async fn copy_in(
            accessor: &Accessor<T, Self>,
            handle: Resource<$handle>,
            sql: String,
            timeout_ms: Option<u32>,
        ) -> HostResult<Resource<CopyIn>> {
            let _carried = carry!(accessor, &*sql);
            match $place(accessor, &handle)? {
                Ok(place) => Box::pin(calls::copy_in(accessor, &place, &sql, timeout_ms)).await,
                Err(error) => Ok(Err(error)),
            }
        }

        async fn copy_out(
            accessor: &Accessor<T, Self>,
            handle: Resource<$handle>,
            sql: String,
            timeout_ms: Option<u32>,
        ) -> HostResult<Resource<CopyOut>> {
            let _carried = carry!(accessor, &*sql);
            match $place(accessor, &handle)? {
                Ok(place) => Box::pin(calls::copy_out(accessor, &place, &sql, timeout_ms)).await,
                Err(error) => Ok(Err(error)),
            }
        }
    };
}

pub(super) use calls;

pub(super) async fn prepare(
    place: &Place,
    drafts: Vec<wit::Draft>,
    timeout_ms: Option<u32>,
) -> Result<Vec<wit::Statement>, wit::PipelineError> {
    let (mut keys, mut doubted) = (Vec::with_capacity(drafts.len()), Vec::new());
    for draft in drafts {
        let is_doubted = draft.doubted;
        let key = Key::from(draft);
        doubted.extend(is_doubted.then(|| key.clone()));
        keys.push(key);
    }
    let prepare = work::Prepare {
        keys: &keys,
        doubted: &doubted,
        timeout: convert::timeout(timeout_ms),
    };
    let described = place.prepare(prepare).await?;
    Ok(described
        .iter()
        .map(|description| wit::Statement::from(&**description))
        .collect())
}

pub(super) async fn query<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    place: &Place,
    call: wit::Call,
) -> HostResult<wit::Answer> {
    let answer = place.query(&call.into()).await;
    deliver(accessor, answer)
}

pub(super) async fn execute(place: &Place, call: wit::Call) -> Result<u64, wit::Error> {
    Ok(place.execute(&call.into()).await?)
}

pub(super) async fn pipeline(
    place: &Place,
    calls: Vec<wit::Call>,
) -> Result<Vec<wit::Outcome>, wit::PipelineError> {
    let calls: Vec<Call> = calls.into_iter().map(Call::from).collect();
    let outcomes = place.pipeline(&calls).await?;
    Ok(convert::outcomes(&calls, outcomes))
}

pub(super) async fn copy_in<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    place: &Place,
    sql: &str,
    timeout_ms: Option<u32>,
) -> HostResult<Resource<CopyIn>> {
    let copy = place.copy_in(sql, convert::timeout(timeout_ms)).await;
    hand(accessor, copy.map(|copy| CopyIn(Arc::new(copy))))
}

pub(super) async fn copy_out<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    place: &Place,
    sql: &str,
    timeout_ms: Option<u32>,
) -> HostResult<Resource<CopyOut>> {
    let copy = place.copy_out(sql, convert::timeout(timeout_ms)).await;
    hand(accessor, copy.map(|copy| CopyOut(Arc::new(copy))))
}

/// Hands an answer to the guest, with a handle for the rows that follow.
fn deliver<T: 'static>(
    accessor: &Accessor<T, HasPostgres>,
    answer: database::Result<FirstRows>,
) -> HostResult<wit::Answer> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => return Ok(Err(error.into())),
    };
    let rest = match answer.rest {
        Some(cursor) => {
            let cursor = Cursor(Arc::new(cursor));
            Some(accessor.with(|mut access| access.get().table.push(cursor))?)
        }
        None => None,
    };
    let statement = answer.statement.as_deref().map(wit::Statement::from);
    Ok(Ok(wit::Answer {
        statement,
        first: answer.first.into(),
        rest,
    }))
}
