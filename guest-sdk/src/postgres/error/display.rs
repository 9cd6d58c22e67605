//! What an error displays: who refused what, and the next step.

use std::error::Error as StdError;
use std::fmt;

use postgres_types::{Type, WasNull, WrongType};

use super::{Error, Kind};
use crate::postgres::fitting;

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(index) = self.0.call {
            write!(formatter, "statement {} of the pipeline: ", index + 1)?;
        }
        self.tell(formatter)?;
        match &self.0.cause {
            Some(cause) if !cause.is::<WasNull>() => write!(formatter, ": {cause}")?,
            _ => {}
        }
        match &self.0.kind {
            _ if !self.is_caused_by::<WrongType>() => Ok(()),
            Kind::ToSql { index, type_ } => {
                write!(formatter, "; {}", fitting::of_parameter(*index, type_))
            }
            Kind::FromSql {
                name,
                is_computed,
                type_,
                ..
            } => {
                let name = Some(&**name).filter(|_| !is_computed);
                write!(formatter, "; {}", fitting::of_column(name, type_))
            }
            Kind::CopiedRow { misfit, .. } => match &**misfit {
                Kind::ToSql { type_, .. } => {
                    write!(formatter, "; {}", fitting::of_copied(type_))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl Error {
    /// What happened, without its cause.
    fn tell(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.kind {
            Kind::Database(error) => write!(formatter, "{error}")?,
            Kind::UnknownDatabase(text) => write!(
                formatter,
                "this function may use no database {text:?}: list it in its `databases` in \
                     hearth.toml, which needs a section [database.{text}]"
            )?,
            // It says what did not come free, or why none can; or what could not be reached or logged in to.
            Kind::Busy(text) | Kind::Connect(text) => formatter.write_str(text)?,
            Kind::ConnectionLost { may_have_executed } => write!(
                formatter,
                "the connection to the database was lost; the statement {}",
                if *may_have_executed {
                    "may have been executed"
                } else {
                    "was not executed"
                }
            )?,
            Kind::StatementChanged => formatter.write_str(
                "the types of the statement changed twice while it was called; it was not executed",
            )?,
            Kind::Denied(text) => write!(formatter, "not allowed: {text}")?,
            Kind::Capped(text) => write!(formatter, "the result is too large: {text}")?,
            Kind::Invalid(text) => write!(formatter, "the call makes no sense: {text}")?,
            Kind::InUse => formatter.write_str(
                "the connection is busy with the rows of another call: read or drop its \
                 `RowStream`, `CopyIn` or `CopyOut` first",
            )?,
            Kind::Aborted => formatter
                .write_str("a statement of the transaction had failed, so it was rolled back")?,
            Kind::Ended => formatter
                .write_str("the transaction, rows or invocation used here have ended already")?,
            Kind::Deadline => formatter
                .write_str("the invocation's deadline was reached before the database answered")?,
            Kind::TooLarge { bytes_max } => write!(
                formatter,
                "a row, or all of a pipeline's, have more than the {bytes_max} bytes that can be passed \
                 on at once: read a large value in pieces with `substring`, many rows without a pipeline"
            )?,
            Kind::Unsupported(text) | Kind::Other(text) => {
                write!(formatter, "the database call failed: {text}")?
            }
            Kind::Malformed(text) => write!(formatter, "the host's answer cannot be read: {text}")?,
            of_values => self.tell_of_values(of_values, formatter)?,
        }
        Ok(())
    }

    /// The same, of parameters, rows and their values.
    fn tell_of_values(&self, kind: &Kind, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match kind {
            Kind::Parameters { expected, given } => write!(
                formatter,
                "the statement takes {expected} parameter{}, and {given} {} given",
                if *expected == 1 { "" } else { "s" },
                if *given == 1 { "is" } else { "are" },
            )?,
            Kind::ToSql { index, type_ } => {
                write!(formatter, "parameter ${}", index + 1)?;
                self.tell_type(type_, formatter)?;
            }
            Kind::FromSql {
                index,
                name,
                is_null,
                ..
            } => {
                write!(formatter, "column `{name}` ({index})")?;
                if self.is_caused_by::<WasNull>() {
                    formatter.write_str(match is_null {
                        true => " is NULL: read it as an `Option`",
                        false => {
                            " has a NULL within: read what may be one as an `Option`, an array as a \
                             `Vec<Option<…>>`"
                        }
                    })?;
                }
            }
            Kind::Column { wanted, known } => write!(
                formatter,
                "the row has no column `{wanted}`; it has {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            )?,
            Kind::RowCount { is_none } => {
                let rows = if *is_none { "no row" } else { "several rows" };
                write!(formatter, "the query returned {rows} where one is expected")?
            }
            Kind::ColumnCount { given } => write!(
                formatter,
                "the rows have {given} columns where one is expected: select one value, or read them with `query`"
            )?,
            Kind::CopiedRow { row, misfit } => {
                write!(formatter, "row {row} of the copy: ")?;
                self.tell_of_copied(misfit, formatter)?;
            }
            Kind::CopiedOut(text) => write!(formatter, "the copy cannot be read: {text}")?,
            _ => {}
        }
        Ok(())
    }

    /// The same, of the values of a row that was to be copied.
    fn tell_of_copied(&self, misfit: &Kind, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match misfit {
            Kind::Parameters { expected, given } => write!(
                formatter,
                "it takes {expected} value{}, and {given} {} given",
                if *expected == 1 { "" } else { "s" },
                if *given == 1 { "is" } else { "are" },
            ),
            Kind::ToSql { index, type_ } => {
                write!(formatter, "column {}", index + 1)?;
                self.tell_type(type_, formatter)
            }
            Kind::Invalid(text) => formatter.write_str(text),
            _ => Ok(()),
        }
    }

    /// The type for which there is no value, unless the cause names it itself.
    fn tell_type(&self, type_: &Type, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_caused_by::<WrongType>() {
            true => Ok(()),
            false => write!(formatter, " (`{type_}`)"),
        }
    }

    fn is_caused_by<T: StdError + 'static>(&self) -> bool {
        self.0.cause.as_ref().is_some_and(|cause| cause.is::<T>())
    }
}
