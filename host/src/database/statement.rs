//! A statement: its SQL text with the parameter types that the guest names, and what the server
//! says of it.
//!
//! It belongs to no connection. Each connection prepares it for itself ([`Prepared`]); what all
//! of them have in common is its [`Description`].

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use tokio_postgres::Statement;
use tokio_postgres::types::{Kind, Type};

use super::error::{Error, Result};
use super::residue::Residue;
use crate::limits;

/// What identifies a statement.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    /// The SQL text.
    pub sql: String,
    /// The parameters' types by number, as far as the guest names them; 0 for "the server's choice".
    pub types: Vec<u32>,
}

/// One execution of a statement.
pub struct Call {
    /// What to execute.
    pub key: Key,
    /// The version of its description for which the arguments are encoded; 0 if none is known.
    pub version: u64,
    /// The arguments' cells.
    pub arguments: Vec<u8>,
}

/// What the server says of a statement.
#[derive(Debug)]
pub struct Description {
    /// Differs when anything else here does; never 0.
    pub version: u64,
    /// The parameters' types.
    pub parameters: Vec<Type>,
    /// The result's columns; empty if it returns no rows.
    pub columns: Vec<Column>,
    /// The types above that PostgreSQL does not build in, with all they are made of.
    pub types: Vec<Type>,
}

/// One column of a result.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_: Type,
    /// The table it comes from; 0 if it is computed.
    pub table_oid: u32,
    /// Its number in that table; 0 if it is computed.
    pub number: i16,
    /// The type's modifier; -1 if it has none.
    pub modifier: i32,
}

/// A statement as one connection has prepared it.
#[derive(Clone)]
pub struct Prepared {
    /// The driver's handle. Dropping the last one closes it on the server.
    pub statement: Statement,
    /// What the server said when it was prepared.
    pub description: Arc<Description>,
    /// What executing it may leave behind on the connection.
    pub residue: Residue,
    /// Whether it reads what an earlier borrower's insert may have left.
    pub reads_sequence_state: bool,
}

impl Key {
    /// The parameters' types for the driver. A type that is not built in is known to it by its
    /// number alone, which is all that `Parse` carries.
    pub fn parameter_types(&self) -> Vec<Type> {
        self.types
            .iter()
            .map(|&oid| match oid {
                0 => Type::UNKNOWN,
                oid => Type::from_oid(oid)
                    .unwrap_or_else(|| Type::new(String::new(), oid, Kind::Simple, String::new())),
            })
            .collect()
    }
}

impl Description {
    /// What a prepared statement says of itself.
    pub fn of(statement: &Statement) -> Self {
        let parameters = statement.params().to_vec();
        let columns: Vec<Column> = statement
            .columns()
            .iter()
            .map(|column| Column {
                name: column.name().to_owned(),
                type_: column.type_().clone(),
                table_oid: column.table_oid().unwrap_or(0),
                number: column.column_id().unwrap_or(0),
                modifier: column.type_modifier(),
            })
            .collect();
        let mut types = Vec::new();
        for type_ in parameters
            .iter()
            .chain(columns.iter().map(|column| &column.type_))
        {
            collect(type_, &mut types);
        }
        let version = fingerprint(&parameters, &columns, &types);
        Self {
            version,
            parameters,
            columns,
            types,
        }
    }
}

/// Adds a type and what it is made of, unless PostgreSQL builds it in.
fn collect(type_: &Type, types: &mut Vec<Type>) {
    if Type::from_oid(type_.oid()).is_some() || types.contains(type_) {
        return;
    }
    types.push(type_.clone());
    match type_.kind() {
        Kind::Array(inner) | Kind::Range(inner) | Kind::Multirange(inner) | Kind::Domain(inner) => {
            collect(inner, types);
        }
        Kind::Composite(fields) => fields
            .iter()
            .for_each(|field| collect(field.type_(), types)),
        _ => {}
    }
}

fn fingerprint(parameters: &[Type], columns: &[Column], types: &[Type]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for parameter in parameters {
        parameter.oid().hash(&mut hasher);
    }
    for column in columns {
        (
            &column.name,
            column.type_.oid(),
            column.table_oid,
            column.number,
            column.modifier,
        )
            .hash(&mut hasher);
    }
    for type_ in types {
        // The kind's debug text names labels, fields and element types.
        (type_.oid(), type_.name(), format!("{:?}", type_.kind())).hash(&mut hasher);
    }
    (parameters.len(), columns.len()).hash(&mut hasher);
    hasher.finish().max(1)
}

/// Refuses what PostgreSQL would take badly or the host cannot afford.
pub(super) fn check_sql(sql: &str, types: &[u32]) -> Result<()> {
    if sql.len() > limits::SQL_BYTES_MAX {
        return Err(Error::Invalid(format!(
            "the SQL text has {} bytes; {} are the most",
            sql.len(),
            limits::SQL_BYTES_MAX
        )));
    }
    if types.len() > limits::PARAMETERS_MAX {
        return Err(Error::Invalid(format!(
            "{} parameter types are given; {} parameters are the most",
            types.len(),
            limits::PARAMETERS_MAX
        )));
    }
    if sql.contains('\0') {
        return Err(Error::Invalid(
            "the SQL text contains a zero byte".to_owned(),
        ));
    }
    Ok(())
}
