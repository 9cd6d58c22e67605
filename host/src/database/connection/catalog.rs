//! The types of a statement that PostgreSQL does not build in: what they are made of, and how
//! their values can travel.
//!
//! Promises: all that is missing is asked for in one round trip, however deep the types are nested;
//! nothing is remembered here, so that a type that was altered is seen as it is. What is remembered of
//! statements is, after [`limits::TYPES_TRUSTED`](crate::limits::TYPES_TRUSTED).

use std::collections::{BTreeMap, HashMap};

use postgres_types::{Field, FromSql, Kind, Type};

use crate::database::error::{Error, Result};
use crate::database::statement::{Column, Description, Parameter};
use crate::database::wire::reply::Shape;
use crate::database::wire::request::{Format, Formats};

/// Asks for types by number, and for every type they are made of. Also for built-in ones, since
/// even those may have no binary form.
pub const QUERY: &str = "\
    WITH RECURSIVE wanted(oid) AS (
        SELECT pg_catalog.unnest($1::pg_catalog.oid[])
        UNION
        SELECT next.oid FROM wanted
        JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) wanted.oid
        CROSS JOIN LATERAL (
            SELECT t.typelem WHERE t.typelem <> 0 AND t.typlen = -1
            UNION ALL SELECT t.typbasetype WHERE t.typbasetype <> 0
            UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r
                WHERE r.rngtypid = t.oid OR (pg_catalog.to_jsonb(r)->>'rngmultitypid')::pg_catalog.oid = t.oid
            UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
                WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
        ) next(oid)
    )
    SELECT t.oid, t.typname::pg_catalog.text, n.nspname::pg_catalog.text, t.typtype,
        CASE WHEN t.typlen = -1 THEN t.typelem ELSE 0 END, t.typbasetype,
        COALESCE((SELECT r.rngsubtype FROM pg_catalog.pg_range r
            WHERE r.rngtypid = t.oid OR (pg_catalog.to_jsonb(r)->>'rngmultitypid')::pg_catalog.oid = t.oid), 0),
        t.typsend <> 0, t.typreceive <> 0,
        ARRAY(SELECT e.enumlabel::pg_catalog.text FROM pg_catalog.pg_enum e
            WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder),
        ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a
            WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum),
        ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a
            WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum)
    FROM wanted
    JOIN pg_catalog.pg_type t ON t.oid = wanted.oid
    JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace";

/// Built-in types that have no binary form: `aclitem`, `gtsvector` and arrays of them.
const TEXT_ONLY: [u32; 4] = [1033, 1034, 3642, 3644];

/// How deep types may be nested in one another; PostgreSQL allows no circle.
const DEPTH_MAX: usize = 64;

/// What the server says of one type.
struct Entry {
    name: String,
    schema: String,
    kind: i8,
    element: u32,
    base: u32,
    bound: u32,
    sends: bool,
    receives: bool,
    labels: Vec<String>,
    fields: Vec<(String, u32)>,
}

/// The types that the server was asked for.
#[derive(Default)]
pub struct Catalog(BTreeMap<u32, Entry>);

/// The numbers of a statement's types that have to be asked for, as the argument's cells; none if
/// all are built in.
pub fn unknown(shape: &Shape) -> Option<Vec<u8>> {
    let columns = shape.columns.iter().map(|column| column.type_oid);
    let mut oids: Vec<u32> = shape.parameters.iter().copied().chain(columns).collect();
    oids.retain(|oid| Type::from_oid(*oid).is_none());
    oids.sort_unstable();
    oids.dedup();
    if oids.is_empty() {
        return None;
    }
    // An array in binary: dimensions, no nulls, the elements' type, length, lower bound; elements.
    let mut array = Vec::new();
    for word in [1, 0, Type::OID.oid(), oids.len() as u32, 1] {
        array.extend_from_slice(&word.to_be_bytes());
    }
    for oid in oids {
        array.extend_from_slice(&4_u32.to_be_bytes());
        array.extend_from_slice(&oid.to_be_bytes());
    }
    let mut cells = (array.len() as u32).to_be_bytes().to_vec();
    cells.append(&mut array);
    Some(cells)
}

impl Catalog {
    /// Reads the rows of [`QUERY`].
    pub fn read(cells: &[u8]) -> Result<Self> {
        let mut cells = Cells(cells);
        let mut types = BTreeMap::new();
        while !cells.0.is_empty() {
            let oid: u32 = cells.next(&Type::OID)?;
            let entry = Entry {
                name: cells.next(&Type::TEXT)?,
                schema: cells.next(&Type::TEXT)?,
                kind: cells.next(&Type::CHAR)?,
                element: cells.next(&Type::OID)?,
                base: cells.next(&Type::OID)?,
                bound: cells.next(&Type::OID)?,
                sends: cells.next(&Type::BOOL)?,
                receives: cells.next(&Type::BOOL)?,
                labels: cells.next(&Type::TEXT_ARRAY)?,
                fields: {
                    let names: Vec<String> = cells.next(&Type::TEXT_ARRAY)?;
                    let oids: Vec<u32> = cells.next(&Type::OID_ARRAY)?;
                    names.into_iter().zip(oids).collect()
                },
            };
            types.insert(oid, entry);
        }
        Ok(Self(types))
    }

    /// A statement with all that its types are made of. `sent` is how its columns travel already,
    /// whatever they could.
    pub fn describe(&self, shape: &Shape, sent: Option<&Formats>) -> Result<Description> {
        let mut types = Types::of(self);
        let parameters = shape
            .parameters
            .iter()
            .map(|&oid| {
                Ok(Parameter {
                    type_: types.type_(oid, 0)?,
                    text: !types.is_received(oid),
                })
            })
            .collect::<Result<_>>()?;
        let columns = shape
            .columns
            .iter()
            .enumerate()
            .map(|(index, column)| {
                Ok(Column {
                    name: column.name.clone(),
                    type_: types.type_(column.type_oid, 0)?,
                    text: match sent {
                        Some(formats) => formats.get(index) == Format::Text,
                        None => !types.is_sent(column.type_oid),
                    },
                    table_oid: column.table_oid,
                    number: column.number,
                    modifier: column.modifier,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Description::new(parameters, columns))
    }
}

/// The types as they are made of what the server says of them, each once: one that is nested in many
/// places would else be made once for each way that leads to it.
struct Types<'a> {
    catalog: &'a Catalog,
    made: HashMap<u32, Type>,
    sent: HashMap<u32, bool>,
    received: HashMap<u32, bool>,
}

impl<'a> Types<'a> {
    fn of(catalog: &'a Catalog) -> Self {
        Self {
            catalog,
            made: HashMap::new(),
            sent: HashMap::new(),
            received: HashMap::new(),
        }
    }

    fn type_(&mut self, oid: u32, depth: usize) -> Result<Type> {
        if let Some(type_) = Type::from_oid(oid).or_else(|| self.made.get(&oid).cloned()) {
            return Ok(type_);
        }
        let catalog = self.catalog;
        let Some(entry) = catalog.0.get(&oid).filter(|_| depth < DEPTH_MAX) else {
            return Err(Error::Protocol(format!(
                "the type {oid} was dropped while the statement was prepared; call again"
            )));
        };
        let mut inner = |oid| self.type_(oid, depth + 1);
        let kind = match entry.kind as u8 {
            b'e' => Kind::Enum(entry.labels.clone()),
            b'p' => Kind::Pseudo,
            b'r' => Kind::Range(inner(entry.bound)?),
            b'm' => Kind::Multirange(inner(entry.bound)?),
            b'd' => Kind::Domain(inner(entry.base)?),
            b'c' => Kind::Composite(
                entry
                    .fields
                    .iter()
                    .map(|(name, oid)| Ok(Field::new(name.clone(), inner(*oid)?)))
                    .collect::<Result<_>>()?,
            ),
            _ if entry.element != 0 => Kind::Array(inner(entry.element)?),
            _ => Kind::Simple,
        };
        let (name, schema) = (entry.name.clone(), entry.schema.clone());
        let type_ = Type::new(name, oid, kind, schema);
        self.made.insert(oid, type_.clone());
        Ok(type_)
    }

    fn is_sent(&mut self, oid: u32) -> bool {
        is_binary(self.catalog, oid, |entry| entry.sends, &mut self.sent, 0)
    }

    fn is_received(&mut self, oid: u32) -> bool {
        is_binary(
            self.catalog,
            oid,
            |entry| entry.receives,
            &mut self.received,
            0,
        )
    }
}

/// Whether a type has a binary form in this direction, and all that it is made of has.
fn is_binary(
    catalog: &Catalog,
    oid: u32,
    has: fn(&Entry) -> bool,
    found: &mut HashMap<u32, bool>,
    depth: usize,
) -> bool {
    if TEXT_ONLY.contains(&oid) {
        return false;
    }
    if let Some(found) = found.get(&oid) {
        return *found;
    }
    let Some(entry) = catalog.0.get(&oid).filter(|_| depth < DEPTH_MAX) else {
        return true;
    };
    let inner = [entry.element, entry.base, entry.bound];
    let fields = entry.fields.iter().map(|(_, oid)| *oid);
    let mut parts = inner.into_iter().chain(fields).filter(|oid| *oid != 0);
    let is_binary =
        has(entry) && parts.all(|oid| self::is_binary(catalog, oid, has, found, depth + 1));
    found.insert(oid, is_binary);
    is_binary
}

/// The cells of rows that the host itself has asked for.
struct Cells<'a>(&'a [u8]);

impl<'a> Cells<'a> {
    fn next<T: FromSql<'a>>(&mut self, type_: &Type) -> Result<T> {
        let cut = || Error::Protocol("the description of a type was cut short".to_owned());
        let (head, rest) = self.0.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = usize::try_from(i32::from_be_bytes(*head)).map_err(|_| cut())?;
        let (value, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        self.0 = rest;
        T::from_sql(type_, value)
            .map_err(|error| Error::Protocol(format!("the description of a type: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::wire::reply::ShapeColumn;

    /// Each is made of the one before, twice; the first one of nothing that is built in.
    fn nested(depth: u32, sends: bool) -> Catalog {
        let entry = |number: u32| Entry {
            name: format!("t{number}"),
            schema: "public".to_owned(),
            kind: if number == 0 { b'e' } else { b'c' } as i8,
            element: 0,
            base: 0,
            bound: 0,
            sends: sends || number > 0,
            receives: true,
            labels: Vec::new(),
            fields: match number {
                0 => Vec::new(),
                _ => ["a", "b"]
                    .map(|name| (name.to_owned(), 70_000 + number - 1))
                    .to_vec(),
            },
        };
        Catalog(
            (0..=depth)
                .map(|number| (70_000 + number, entry(number)))
                .collect(),
        )
    }

    #[test]
    fn types_that_are_nested_in_many_ways_are_described_once_each() {
        let column = ShapeColumn {
            name: "t".to_owned(),
            type_oid: 70_060,
            table_oid: 0,
            number: 0,
            modifier: -1,
        };
        let shape = Shape {
            parameters: vec![70_060],
            columns: vec![column],
        };
        let [plain, silent] = [true, false].map(|sends| {
            let described = nested(60, sends).describe(&shape, None);
            described.expect("they are all there")
        });
        assert_eq!(plain.types.len(), 61);
        assert!(!plain.columns[0].text && silent.columns[0].text);
        assert!(!silent.parameters[0].text);
        let again = nested(60, true).describe(&shape, None);
        assert_eq!(again.expect("they are all there").version, plain.version);
        assert_ne!(silent.version, plain.version);
        let other = nested(59, true).describe(&shape, None);
        assert!(other.is_err(), "one is missing");
    }
}
