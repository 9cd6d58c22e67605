//! The database's words in those of `wit/deps/postgres.wit`. Pure: nothing here waits or decides.

use std::time::Duration;

use postgres_types::{Kind, Type};

use super::wit;
use crate::database::Batch;
use crate::database::Error;
use crate::database::Outcome;
use crate::database::server_error::ServerError;
use crate::database::session::transaction::Options;
use crate::database::statement::{Call, Column, Description, Key, Parameter};
use crate::database::wire::notification::Notification;

impl From<wit::Call> for Call {
    fn from(call: wit::Call) -> Self {
        Self {
            key: Key {
                sql: call.sql,
                types: call.types,
            },
            version: call.version,
            arguments: call.arguments,
            timeout: timeout(call.timeout_ms),
        }
    }
}

impl From<wit::Draft> for Key {
    fn from(draft: wit::Draft) -> Self {
        Self {
            sql: draft.sql,
            types: draft.types,
        }
    }
}

impl From<wit::TransactionOptions> for Options {
    fn from(options: wit::TransactionOptions) -> Self {
        Self {
            isolation_level: options.isolation_level.map(|level| match level {
                wit::IsolationLevel::ReadUncommitted => "READ UNCOMMITTED",
                wit::IsolationLevel::ReadCommitted => "READ COMMITTED",
                wit::IsolationLevel::RepeatableRead => "REPEATABLE READ",
                wit::IsolationLevel::Serializable => "SERIALIZABLE",
            }),
            read_only: options.read_only,
            deferrable: options.deferrable,
        }
    }
}

impl From<&Description> for wit::Statement {
    fn from(description: &Description) -> Self {
        Self {
            version: description.version,
            parameters: description.parameters.iter().map(parameter).collect(),
            columns: description.columns.iter().map(column).collect(),
            types: description.types.iter().map(type_info).collect(),
        }
    }
}

impl From<Batch> for wit::Batch {
    fn from(batch: Batch) -> Self {
        Self {
            rows: batch.rows,
            cells: batch.cells,
            last: batch.last,
            affected: batch.affected,
        }
    }
}

impl From<Error> for wit::Error {
    fn from(error: Error) -> Self {
        let text = error.to_string();
        match error {
            Error::Server(error) => Self::Database(database_error(*error)),
            Error::UnknownDatabase(name) => Self::UnknownDatabase(name),
            Error::Busy(_) => Self::Busy(text),
            Error::Connect(error) => Self::Connect(error.told),
            Error::ConnectionLost { maybe_executed } => Self::ConnectionLost(maybe_executed),
            Error::StatementChanged(description) => Self::StatementChanged((&*description).into()),
            Error::Denied(_) => Self::Denied(text),
            Error::Capped(_) => Self::Capped(text),
            Error::Invalid(_) => Self::Invalid(text),
            Error::InUse => Self::InUse,
            Error::Aborted => Self::Aborted,
            Error::Ended => Self::Ended,
            Error::Deadline => Self::Deadline,
            Error::TooLarge(bytes) => Self::TooLarge(bytes as u64),
            // Where there are several statements, which of them it was is told beside it.
            Error::InPipeline { error, .. } => (*error).into(),
            Error::Unsupported(_) => Self::Unsupported(text),
            Error::Protocol(_) => Self::Other(text),
        }
    }
}

impl From<Error> for wit::PipelineError {
    fn from(error: Error) -> Self {
        let index = match &error {
            Error::InPipeline { index, .. } => Some(*index as u32),
            _ => None,
        };
        let error = error.into();
        Self { index, error }
    }
}

impl From<wit::Error> for wit::PipelineError {
    fn from(error: wit::Error) -> Self {
        Self { index: None, error }
    }
}

impl From<Notification> for wit::Notification {
    fn from(notification: Notification) -> Self {
        Self {
            process_id: notification.process_id,
            channel: notification.channel,
            payload: notification.payload,
        }
    }
}

/// How long the server may work on a call; it takes none as no limit at all.
pub(super) fn timeout(timeout_ms: Option<u32>) -> Option<Duration> {
    timeout_ms.map(|timeout_ms| Duration::from_millis(timeout_ms.max(1).into()))
}

/// The results of a pipeline's calls.
pub(super) fn outcomes(calls: &[Call], outcomes: Vec<Outcome>) -> Vec<wit::Outcome> {
    let each = calls.iter().zip(outcomes);
    each.map(|(call, outcome)| wit::Outcome {
        statement: (call.version != outcome.description.version)
            .then(|| (&*outcome.description).into()),
        rows: outcome.rows.into(),
    })
    .collect()
}

fn parameter(parameter: &Parameter) -> wit::Parameter {
    wit::Parameter {
        type_oid: parameter.type_.oid(),
        text: parameter.text,
    }
}

fn column(column: &Column) -> wit::Column {
    wit::Column {
        name: column.name.clone(),
        type_oid: column.type_.oid(),
        text: column.text,
        table_oid: column.table_oid,
        number: column.number,
        modifier: column.modifier,
    }
}

fn type_info(type_: &Type) -> wit::TypeInfo {
    wit::TypeInfo {
        oid: type_.oid(),
        name: type_.name().to_owned(),
        schema: type_.schema().to_owned(),
        kind: match type_.kind() {
            Kind::Pseudo => wit::TypeKind::Pseudo,
            Kind::Enum(labels) => wit::TypeKind::Enumeration(labels.clone()),
            Kind::Array(element) => wit::TypeKind::Array(element.oid()),
            Kind::Range(bound) => wit::TypeKind::Range(bound.oid()),
            Kind::Multirange(bound) => wit::TypeKind::Multirange(bound.oid()),
            Kind::Domain(base) => wit::TypeKind::Domain(base.oid()),
            Kind::Composite(fields) => wit::TypeKind::Composite(
                fields
                    .iter()
                    .map(|field| (field.name().to_owned(), field.type_().oid()))
                    .collect(),
            ),
            _ => wit::TypeKind::Simple,
        },
    }
}

fn database_error(error: ServerError) -> wit::DatabaseError {
    wit::DatabaseError {
        severity: error.severity,
        code: error.code,
        message: error.message,
        detail: error.detail,
        hint: error.hint,
        position: error.position,
        context: error.context,
        schema: error.schema,
        table: error.table,
        column: error.column,
        data_type: error.data_type,
        constraint: error.constraint,
        internal_query: error.internal_query,
        internal_position: error.internal_position,
        file: error.file,
        line: error.line,
        routine: error.routine,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_a_call_of_several_keeps_its_kind() {
        let of_one = |error| {
            let error = Box::new(error);
            wit::PipelineError::from(Error::InPipeline { index: 2, error })
        };
        let unsupported = of_one(Error::Unsupported("not here".to_owned()));
        assert_eq!(unsupported.index, Some(2));
        assert!(matches!(&unsupported.error, wit::Error::Unsupported(text) if text == "not here"));
        let lost = wit::PipelineError::from(Error::ConnectionLost {
            maybe_executed: true,
        });
        assert_eq!(lost.index, None);
        assert!(matches!(lost.error, wit::Error::ConnectionLost(true)));
        let deadline = of_one(Error::Deadline);
        assert!(matches!(deadline.error, wit::Error::Deadline));
    }
}
