//! Types, from the numbers and descriptions that the host sends.
//!
//! Promises: what PostgreSQL builds in is known by its number; anything else is made from its
//! description, however deep; a description that is missing or goes in circles is an error.

use std::collections::BTreeMap;

use postgres_types::{Field, Kind, Oid, Type};

use super::error::Error;
use crate::bindings::hearth::postgres::client::{TypeInfo, TypeKind};

/// How deep types may be nested in one another. PostgreSQL has no such limit, but also no use for
/// more; a circle ends here.
const TYPE_DEPTH_MAX: usize = 64;

/// The types of one statement.
pub(super) struct Catalog<'a> {
    described: BTreeMap<Oid, &'a TypeInfo>,
    made: BTreeMap<Oid, Type>,
}

impl<'a> Catalog<'a> {
    /// A catalog of these, besides what is built in.
    pub(super) fn new(types: &'a [TypeInfo]) -> Self {
        Self {
            described: types.iter().map(|info| (info.oid, info)).collect(),
            made: BTreeMap::new(),
        }
    }

    /// The type with this number.
    pub(super) fn type_(&mut self, oid: Oid) -> Result<Type, Error> {
        self.make(oid, 0)
    }

    fn make(&mut self, oid: Oid, depth: usize) -> Result<Type, Error> {
        if let Some(type_) = Type::from_oid(oid).or_else(|| self.made.get(&oid).cloned()) {
            return Ok(type_);
        }
        let Some(info) = self.described.get(&oid).copied() else {
            return Err(Error::malformed(format!("type {oid} is not described")));
        };
        if depth == TYPE_DEPTH_MAX {
            return Err(Error::malformed(format!(
                "type `{}` ({oid}) is nested more than {TYPE_DEPTH_MAX} deep",
                info.name
            )));
        }
        let depth = depth + 1;
        let kind = match &info.kind {
            TypeKind::Simple => Kind::Simple,
            TypeKind::Pseudo => Kind::Pseudo,
            TypeKind::Enumeration(labels) => Kind::Enum(labels.clone()),
            TypeKind::Array(element) => Kind::Array(self.make(*element, depth)?),
            TypeKind::Range(bound) => Kind::Range(self.make(*bound, depth)?),
            TypeKind::Multirange(bound) => Kind::Multirange(self.make(*bound, depth)?),
            TypeKind::Domain(base) => Kind::Domain(self.make(*base, depth)?),
            TypeKind::Composite(fields) => Kind::Composite(
                fields
                    .iter()
                    .map(|(name, oid)| Ok(Field::new(name.clone(), self.make(*oid, depth)?)))
                    .collect::<Result<_, Error>>()?,
            ),
        };
        let type_ = Type::new(info.name.clone(), oid, kind, info.schema.clone());
        self.made.insert(oid, type_.clone());
        Ok(type_)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(oid: Oid, name: &str, kind: TypeKind) -> TypeInfo {
        TypeInfo {
            oid,
            name: name.to_owned(),
            schema: "shop".to_owned(),
            kind,
        }
    }

    #[test]
    fn types_are_made_from_their_descriptions() {
        let types = [
            info(
                90_000,
                "mood",
                TypeKind::Enumeration(vec!["sad".to_owned()]),
            ),
            info(90_001, "_mood", TypeKind::Array(90_000)),
            info(
                90_002,
                "person",
                TypeKind::Composite(vec![
                    ("name".to_owned(), Type::TEXT.oid()),
                    ("moods".to_owned(), 90_001),
                    ("home".to_owned(), 90_003),
                ]),
            ),
            info(90_003, "address", TypeKind::Domain(Type::TEXT.oid())),
            info(90_004, "_person", TypeKind::Array(90_002)),
            info(90_005, "span", TypeKind::Range(Type::FLOAT8.oid())),
            info(90_006, "spans", TypeKind::Multirange(Type::FLOAT8.oid())),
        ];
        let mut catalog = Catalog::new(&types);
        assert_eq!(catalog.type_(23).expect("int4 is built in"), Type::INT4);

        let people = catalog.type_(90_004).expect("it is described");
        assert_eq!((people.name(), people.schema()), ("_person", "shop"));
        let Kind::Array(person) = people.kind() else {
            panic!("{people:?}");
        };
        let Kind::Composite(fields) = person.kind() else {
            panic!("{person:?}");
        };
        assert_eq!(fields[0].type_(), &Type::TEXT);
        let Kind::Array(mood) = fields[1].type_().kind() else {
            panic!("{fields:?}");
        };
        assert_eq!(mood.kind(), &Kind::Enum(vec!["sad".to_owned()]));
        assert_eq!(fields[2].type_().kind(), &Kind::Domain(Type::TEXT));

        let span = catalog.type_(90_005).expect("it is described");
        assert_eq!(span.kind(), &Kind::Range(Type::FLOAT8));
        let spans = catalog.type_(90_006).expect("it is described");
        assert_eq!(spans.kind(), &Kind::Multirange(Type::FLOAT8));
    }

    #[test]
    fn what_is_missing_or_circular_is_an_error() {
        let types = [
            info(90_000, "lost", TypeKind::Array(90_009)),
            info(90_001, "circle", TypeKind::Domain(90_001)),
        ];
        let mut catalog = Catalog::new(&types);
        let cases = [
            (90_000, "type 90009 is not described"),
            (90_001, "type `circle` (90001) is nested more than 64 deep"),
        ];
        for (oid, expected) in cases {
            let error = catalog.type_(oid).expect_err(expected).to_string();
            assert!(error.ends_with(expected), "{error}");
        }
    }
}
