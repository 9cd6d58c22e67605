//! A statement: its SQL text with the parameter types that the guest names, and what the server
//! says of it.
//!
//! It belongs to no connection. Each connection prepares it for itself ([`Prepared`]); what all
//! of them have in common is its [`Description`].

use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::mem::discriminant;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use postgres_types::{Field, Kind, Type};

use crate::database::sql::name_resolution::Naming;
use crate::database::sql::residue::{self, Residue, Sequences};
use crate::database::sql::words::Words;
use crate::database::sql::{ending, name_resolution, time_limits, transaction_mode};
use crate::database::wire::reply::{Shape, ShapeColumn};
use crate::database::wire::request::{self, Formats};
use crate::limits;

pub mod kept;

/// What each part of a [`Description`] takes in memory besides its name, in bytes.
const PART_BYTES: usize = 100;

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
    /// How long the server may take, if less than the invocation has.
    pub timeout: Option<Duration>,
}

/// What the server says of a statement.
#[derive(Debug)]
pub struct Description {
    /// Differs when anything else here does; never 0.
    pub version: u64,
    /// The parameters.
    pub parameters: Vec<Parameter>,
    /// The result's columns; empty if it returns no rows.
    pub columns: Vec<Column>,
    /// The types above that PostgreSQL does not build in, with all they are made of.
    pub types: Vec<Type>,
    /// How the arguments travel.
    pub argument_formats: Formats,
    /// How the rows travel.
    pub column_formats: Formats,
    /// When the server said so, by the wall clock.
    described: SystemTime,
}

/// One parameter of a statement.
#[derive(Debug)]
pub struct Parameter {
    /// Its type.
    pub type_: Type,
    /// Whether arguments travel as text, since the type has no binary form.
    pub text: bool,
}

/// One column of a result.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub type_: Type,
    /// Whether its values travel as text, since the type has no binary form.
    pub text: bool,
    /// The table it comes from; 0 if it is computed.
    pub table_oid: u32,
    /// Its number in that table; 0 if it is computed.
    pub number: i16,
    /// The type's modifier; -1 if it has none.
    pub modifier: i32,
}

/// A statement as one connection has prepared it.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// What the connection calls it; empty if it is parsed anew for each execution.
    pub name: Arc<str>,
    /// What the server said when it was prepared.
    pub description: Arc<Description>,
    /// What executing it may leave behind on the connection.
    pub effects: Effects,
    /// Whether names may have meant something else then than they will for the next borrower.
    pub renamed: bool,
    /// Where they were looked up then.
    pub naming: u64,
    /// Whether what it is about may have changed since.
    pub doubted: bool,
}

/// What a statement's text tells of what executing it does to its connection.
#[derive(Debug, Clone, Copy)]
pub struct Effects {
    /// What it may leave behind.
    pub residue: Residue,
    /// What it has to do with the state of sequences.
    pub sequences: Sequences,
    /// Whether all it does is to say how its transaction runs, for which it must come first.
    pub only_modes: bool,
    /// Whether it may have the session forget statements that are prepared there.
    pub forgets: bool,
    /// Whether names may mean something else behind it: what is said of statements then is for this session.
    pub renames: bool,
    /// Whether it makes something that has a name.
    pub names_something: bool,
    /// Whether other statements may have another result behind it, or parameters of other types.
    pub reshapes: bool,
    /// Whether the server may not notice that by itself, and execute what it has parsed before.
    pub alters_in_place: bool,
    /// Where names are looked up behind it.
    pub naming: Naming,
    /// Whether it may set how long the server waits for its session.
    pub limits: bool,
    /// Whether it may undo all settings of its session.
    pub resets: bool,
    /// Whether it begins a transaction.
    pub begins: bool,
    /// Whether it goes back to a savepoint of the guest's own, or goes on in another transaction.
    pub goes_back: bool,
    /// Whether it asks for transactions that only read.
    pub only_reads: bool,
}

impl Effects {
    /// Those of what the host does itself.
    pub const NONE: Self = Self {
        residue: Residue::Nothing,
        sequences: Sequences::NONE,
        only_modes: false,
        forgets: false,
        renames: false,
        names_something: false,
        reshapes: false,
        alters_in_place: false,
        naming: Naming::Same,
        limits: false,
        resets: false,
        begins: false,
        goes_back: false,
        only_reads: false,
    };

    /// Those of several statements that are executed one after another, in one request.
    pub fn of_all(mut each: impl Iterator<Item = Self>) -> Self {
        let Some(first) = each.next() else {
            return Self::NONE;
        };
        // Each by its name: one that is added is not to be forgotten here.
        let join = |all: Self, next: Self| Self {
            residue: all.residue.max(next.residue),
            sequences: all.sequences.or(next.sequences),
            only_modes: all.only_modes,
            forgets: all.forgets || next.forgets,
            renames: all.renames || next.renames,
            names_something: all.names_something || next.names_something,
            reshapes: all.reshapes || next.reshapes,
            alters_in_place: all.alters_in_place || next.alters_in_place,
            naming: all.naming.and(next.naming),
            limits: all.limits || next.limits,
            resets: all.resets || next.resets,
            // What the host puts first stands before the first one alone.
            begins: all.begins,
            goes_back: all.goes_back || next.goes_back,
            only_reads: all.only_reads || next.only_reads,
        };
        // Only what is alone in its request goes without what the host puts first.
        let first = Self {
            only_modes: false,
            ..first
        };
        each.fold(first, join)
    }

    /// Judges a text.
    pub fn of(sql: &str) -> Self {
        let words = Words::of(sql);
        let residue = residue::residue(&words);
        let names_something = name_resolution::names_something(&words);
        Self {
            residue,
            sequences: residue::sequences(&words, residue),
            only_modes: residue::only_modes(&words),
            forgets: residue::forgets(&words, residue),
            renames: name_resolution::renames(&words),
            names_something,
            reshapes: names_something || name_resolution::alters(sql, &words),
            alters_in_place: name_resolution::alters_in_place(&words),
            naming: Naming::of(sql, &words),
            limits: time_limits::limits(sql, &words),
            resets: time_limits::resets(&words),
            begins: residue::begins(&words),
            goes_back: ending::goes_back(&words),
            only_reads: transaction_mode::asks_to_read_only(&words),
        }
    }

    /// Whether statements that were parsed before it may not be what they are behind it.
    pub fn redefines(&self) -> bool {
        self.reshapes || self.naming != Naming::Same
    }
}

impl Call {
    /// Whether the guest itself knows the type of every argument.
    pub fn names_all(&self) -> bool {
        !self.key.types.contains(&0)
            && request::count(&self.arguments) == Some(self.key.types.len())
    }
}

impl Prepared {
    /// What it is about may have changed: it is parsed anew before it is executed again. What it was called until now.
    pub fn doubt(&mut self) -> Arc<str> {
        self.doubted = true;
        std::mem::take(&mut self.name)
    }

    /// Whether what was said of it can be told to whoever asks.
    pub fn is_believed(&self) -> bool {
        !self.doubted && self.description.is_current()
    }

    /// Whether it serves a call; `known` is what the host was last told of the statement. What this session alone was
    /// told does, whatever that is.
    pub fn still_serves(&self, call: &Call, known: Option<&Arc<Description>>) -> bool {
        let superseded = || {
            known.is_some_and(|known| {
                known.version == call.version && known.supersedes(&self.description)
            })
        };
        self.description.is_current() && (self.renamed || !superseded())
    }
}

impl Description {
    /// A statement with these parameters and columns.
    pub fn new(parameters: Vec<Parameter>, columns: Vec<Column>) -> Self {
        let (mut types, mut seen) = (Vec::new(), HashSet::new());
        let parameter_types = parameters.iter().map(|parameter| &parameter.type_);
        for type_ in parameter_types.chain(columns.iter().map(|column| &column.type_)) {
            collect(type_, &mut types, &mut seen);
        }
        Self {
            version: fingerprint(&parameters, &columns, &types),
            argument_formats: Formats::of(parameters.iter().map(|parameter| parameter.text)),
            column_formats: Formats::of(columns.iter().map(|column| column.text)),
            parameters,
            columns,
            types,
            described: SystemTime::now(),
        }
    }

    /// Whether it can still be told, and be relied on: types of the database's own may have been altered since, which
    /// no server says unasked.
    pub fn is_current(&self) -> bool {
        let age = || self.described.elapsed();
        self.types.is_empty() || age().is_ok_and(|age| age < limits::TYPES_TRUSTED)
    }

    /// Whether this was said after the other, and is something else.
    pub fn supersedes(&self, older: &Self) -> bool {
        self.version != older.version && self.described > older.described
    }

    /// The parameters' types by number.
    pub fn parameter_oids(&self) -> Vec<u32> {
        self.parameters
            .iter()
            .map(|parameter| parameter.type_.oid())
            .collect()
    }

    /// What it takes in memory, in bytes, more or less.
    pub fn bytes(&self) -> usize {
        let parts = self.parameters.len() + self.columns.len() + self.types.len();
        let columns = self.columns.iter().map(|column| column.name.len());
        let types = self.types.iter().map(|type_| match type_.kind() {
            Kind::Enum(labels) => labels.iter().map(|label| PART_BYTES + label.len()).sum(),
            Kind::Composite(fields) => fields
                .iter()
                .map(|field| PART_BYTES + field.name().len())
                .sum(),
            _ => 0,
        });
        PART_BYTES * parts + columns.sum::<usize>() + types.sum::<usize>()
    }

    /// Whether this is what the server has just said, as far as that goes.
    pub fn fits(&self, shape: &Shape) -> bool {
        let alike = |(column, other): (&Column, &ShapeColumn)| {
            column.name == other.name
                && column.type_.oid() == other.type_oid
                && column.table_oid == other.table_oid
                && column.number == other.number
                && column.modifier == other.modifier
        };
        self.parameter_oids() == shape.parameters
            && self.columns.len() == shape.columns.len()
            && self.columns.iter().zip(&shape.columns).all(alike)
    }
}

/// Adds a type and what it is made of, unless PostgreSQL builds it in. Types are told apart by their
/// numbers: to compare them is to compare all that they are made of.
fn collect(type_: &Type, types: &mut Vec<Type>, seen: &mut HashSet<u32>) {
    if Type::from_oid(type_.oid()).is_some() || !seen.insert(type_.oid()) {
        return;
    }
    types.push(type_.clone());
    parts(type_).for_each(|part| collect(part, types, seen));
}

/// What a type is made of.
fn parts(type_: &Type) -> impl Iterator<Item = &Type> {
    let (inner, fields) = match type_.kind() {
        Kind::Array(inner) | Kind::Range(inner) | Kind::Multirange(inner) | Kind::Domain(inner) => {
            (Some(inner), [].as_slice())
        }
        Kind::Composite(fields) => (None, fields.as_slice()),
        _ => (None, [].as_slice()),
    };
    inner.into_iter().chain(fields.iter().map(Field::type_))
}

fn fingerprint(parameters: &[Parameter], columns: &[Column], types: &[Type]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for parameter in parameters {
        (parameter.type_.oid(), parameter.text).hash(&mut hasher);
    }
    for column in columns {
        (
            &column.name,
            (column.type_.oid(), column.text),
            column.table_oid,
            column.number,
            column.modifier,
        )
            .hash(&mut hasher);
    }
    for type_ in types {
        // What it is made of is another one of these types, or built in.
        (type_.oid(), type_.name(), discriminant(type_.kind())).hash(&mut hasher);
        parts(type_).for_each(|part| part.oid().hash(&mut hasher));
        match type_.kind() {
            Kind::Enum(labels) => labels.hash(&mut hasher),
            Kind::Composite(fields) => {
                let names: Vec<&str> = fields.iter().map(Field::name).collect();
                names.hash(&mut hasher);
            }
            _ => {}
        }
    }
    (parameters.len(), columns.len()).hash(&mut hasher);
    hasher.finish().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_statements_do_what_any_of_them_does() {
        let of = |texts: &[&str]| Effects::of_all(texts.iter().map(|sql| Effects::of(sql)));
        let all = of(&[
            "insert into t values (1)",
            "set statement_timeout = 1",
            "create temp table u (a int)",
            "select lastval()",
            "rollback to savepoint s",
        ]);
        assert_eq!(all.residue, Residue::Session);
        assert!(all.sequences.reads && all.sequences.moves);
        assert!(all.renames && all.names_something && all.limits && all.goes_back);
        assert!(!all.forgets && !all.begins);
        assert!(all.reshapes && all.naming != Naming::Same);
        let path = of(&["select 1", "set local search_path to a"]);
        assert!(path.redefines() && !path.reshapes);
        assert!(of(&["begin", "select 1"]).begins && !of(&["select 1", "begin"]).begins);
        assert!(!of(&["set transaction read only"]).only_modes);
        assert_eq!(of(&[]).residue, Residue::Nothing);
    }

    #[test]
    fn a_description_takes_what_it_is_made_of() {
        let column = |type_: &Type| Column {
            name: "n".to_owned(),
            type_: type_.clone(),
            text: false,
            table_oid: 0,
            number: 0,
            modifier: -1,
        };
        let of = |type_: &Type, columns: usize| {
            let columns = (0..columns).map(|_| column(type_)).collect();
            Description::new(Vec::new(), columns).bytes()
        };
        assert_eq!(of(&Type::INT4, 1_664), 1_664 * (PART_BYTES + 1));
        let labels = Kind::Enum(vec!["fine".to_owned(); 10]);
        let mood = Type::new("mood".to_owned(), 99_999, labels, "public".to_owned());
        assert_eq!(
            of(&mood, 2),
            2 * (PART_BYTES + 1) + PART_BYTES + 10 * (PART_BYTES + 4)
        );
    }
}
