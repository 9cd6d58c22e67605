//! What fits a PostgreSQL type, for the errors of those who took another.
//!
//! Promises: the next step for every type, those that nothing in Rust holds included; of one that is made of others
//! also what those take, since a value does not fit if one of them does not, and nobody is told which.

use postgres_types::{Field, Kind, Type};

/// How many labels or fields of a type are told.
const PARTS_MAX: usize = 12;

/// What to read a column of this type as, which has this name if it is a table's.
pub(super) fn of_column(name: Option<&str>, type_: &Type) -> String {
    match (held_by(type_, "FromSql"), name) {
        (Some(rust), _) => format!("read it as {rust}"),
        (None, Some(name)) => {
            format!("read it as text (`{name}::text` in the SQL) or as a `RawValue`")
        }
        (None, None) => {
            "cast the expression to text in the SQL, or read it as a `RawValue`".to_owned()
        }
    }
}

/// What a parameter of this number, from 0, and type takes.
pub(super) fn of_parameter(index: usize, type_: &Type) -> String {
    let number = index + 1;
    match held_by(type_, "ToSql") {
        Some(rust) => format!("it takes {rust}, or a cast in the SQL (`${number}::…`)"),
        None => format!(
            "give it as text (`${number}::text::{}` in the SQL) or as a `RawValue`",
            in_sql(type_)
        ),
    }
}

/// What a column of a `COPY` takes, where nothing is converted.
pub(super) fn of_copied(type_: &Type) -> String {
    match held_by(type_, "ToSql") {
        Some(rust) => format!("it takes {rust}"),
        None => "it takes a `RawValue`".to_owned(),
    }
}

/// The Rust type for values of a PostgreSQL type, and those for the types that it is made of; `None` if there is none.
fn held_by(type_: &Type, derived: &str) -> Option<String> {
    let mut told = alone(type_, derived)?;
    for part in parts_of_ones_own(type_) {
        if let Some(rust) = alone(&part, derived) {
            told += &format!("; `{part}` takes {rust}");
        }
    }
    Some(told)
}

/// The types in the fields of a composite type for which the caller has types of their own, each once.
fn parts_of_ones_own(type_: &Type) -> Vec<Type> {
    let mut found: Vec<Type> = Vec::new();
    let mut looked_at = 0;
    let mut next = Some(type_.clone());
    while let Some(made) = next {
        for field in fields(&made) {
            let part = element(field.type_());
            let is_own = matches!(
                part.kind(),
                Kind::Enum(_) | Kind::Composite(_) | Kind::Domain(_)
            );
            if is_own && found.len() < PARTS_MAX && !found.contains(part) {
                found.push(part.clone());
            }
        }
        next = found.get(looked_at).cloned();
        looked_at += 1;
    }
    found
}

/// The fields of a composite type, or of the one that an array or a domain is of.
fn fields(type_: &Type) -> &[Field] {
    match type_.kind() {
        Kind::Composite(fields) => fields,
        Kind::Array(inner) | Kind::Domain(inner) => fields(inner),
        _ => &[],
    }
}

fn element(type_: &Type) -> &Type {
    match type_.kind() {
        Kind::Array(inner) => element(inner),
        _ => type_,
    }
}

/// As [`held_by`], without what it is made of.
fn alone(type_: &Type, derived: &str) -> Option<String> {
    let built_in = match *type_ {
        Type::BOOL => "`bool`",
        Type::CHAR => "`i8`",
        Type::INT2 => "`i16`",
        Type::INT4 => "`i32`",
        Type::INT8 => "`i64`",
        Type::OID => "`u32`",
        Type::FLOAT4 => "`f32`",
        Type::FLOAT8 => "`f64`",
        Type::TEXT | Type::VARCHAR | Type::BPCHAR | Type::NAME | Type::UNKNOWN => "`String`",
        Type::NUMERIC => "`hearth::postgres::Numeric`",
        Type::BYTEA => "`Vec<u8>`",
        Type::INET => "`IpAddr`",
        Type::CIDR => "a `cidr` type (by a feature)",
        Type::TIMESTAMP => "a `jiff`, `chrono` or `time` type without a zone (by a feature)",
        Type::TIMESTAMPTZ => "`SystemTime`, or a `jiff`, `chrono` or `time` type (by a feature)",
        Type::DATE | Type::TIME => "a `jiff`, `chrono` or `time` type (by a feature)",
        Type::JSON | Type::JSONB => "`serde_json::Value` or `Json<T>` (by a feature)",
        Type::UUID => "`Uuid` (by a feature)",
        _ => return made(type_, derived),
    };
    Some(built_in.to_owned())
}

/// As [`alone`], for types that are made of others or come from extensions.
fn made(type_: &Type, derived: &str) -> Option<String> {
    let yours = |what: &str, parts: String| {
        Some(format!(
            "{what} of yours, with `#[derive({derived})]` and {parts}"
        ))
    };
    match type_.kind() {
        Kind::Array(element) => Some(format!("a `Vec` of {}", alone(element, derived)?)),
        Kind::Domain(narrowed) => yours(
            "a struct",
            format!("one field: {}", alone(narrowed, derived)?),
        ),
        Kind::Enum(labels) => yours(
            "an enum",
            listed(
                "the labels",
                labels.iter().map(|label| format!("`{label}`")),
            ),
        ),
        Kind::Composite(fields) => yours(
            "a struct",
            listed(
                "the fields",
                fields
                    .iter()
                    .map(|field| format!("`{} {}`", field.name(), in_sql(field.type_()))),
            ),
        ),
        _ => match type_.name() {
            "citext" | "ltree" | "lquery" | "ltxtquery" => Some("`String`".to_owned()),
            "hstore" => Some("`HashMap<String, Option<String>>`".to_owned()),
            _ => None,
        },
    }
}

fn listed(what: &str, parts: impl ExactSizeIterator<Item = String>) -> String {
    let more = if parts.len() > PARTS_MAX { " …" } else { "" };
    let parts: Vec<String> = parts.take(PARTS_MAX).collect();
    format!("{what} {}{more}", parts.join(", "))
}

/// The name of a type as SQL takes it.
fn in_sql(type_: &Type) -> String {
    match type_.kind() {
        Kind::Array(element) => format!("{element}[]"),
        _ => type_.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str, kind: Kind) -> Type {
        Type::new(name.to_owned(), 70_000, kind, "public".to_owned())
    }

    #[test]
    fn what_a_type_is_made_of_is_told_once_however_deep_it_is() {
        let mood = made("mood", Kind::Enum(vec!["fine".to_owned()]));
        let field = |name: &str, type_: &Type| Field::new(name.to_owned(), type_.clone());
        let array = |of: &Type| made(&format!("_{of}"), Kind::Array(of.clone()));
        let felt = made("felt", Kind::Domain(mood.clone()));
        let inner = vec![field("before", &felt), field("after", &array(&mood))];
        let inner = made("inner", Kind::Composite(inner));
        let outer = vec![field("first", &array(&inner)), field("second", &inner)];
        let outer = array(&made("outer", Kind::Composite(outer)));
        let yours = "of yours, with `#[derive(ToSql)]` and";
        assert_eq!(
            of_copied(&outer),
            format!(
                "it takes a `Vec` of a struct {yours} the fields `first inner[]`, `second inner`; \
                 `inner` takes a struct {yours} the fields `before felt`, `after mood[]`; \
                 `felt` takes a struct {yours} one field: an enum {yours} the labels `fine`; \
                 `mood` takes an enum {yours} the labels `fine`"
            )
        );
    }

    #[test]
    fn every_type_has_a_next_step() {
        let mood = made(
            "mood",
            Kind::Enum(vec!["fine".to_owned(), "so_so".to_owned()]),
        );
        let visit = made(
            "visit",
            Kind::Composite(vec![
                Field::new("who".to_owned(), Type::TEXT),
                Field::new("felt".to_owned(), mood.clone()),
                Field::new("days".to_owned(), Type::DATE_ARRAY),
            ]),
        );
        let cases = [
            (Type::INT4, "read it as `i32`"),
            (Type::INT8_ARRAY, "read it as a `Vec` of `i64`"),
            (
                Type::INTERVAL,
                "read it as text (`x::text` in the SQL) or as a `RawValue`",
            ),
            (
                made("hstore", Kind::Simple),
                "read it as `HashMap<String, Option<String>>`",
            ),
            (
                made("positive", Kind::Domain(Type::INT4)),
                "read it as a struct of yours, with `#[derive(FromSql)]` and one field: `i32`",
            ),
            (
                mood,
                "read it as an enum of yours, with `#[derive(FromSql)]` and the labels `fine`, `so_so`",
            ),
            (
                visit,
                "read it as a struct of yours, with `#[derive(FromSql)]` and the fields `who text`, \
                 `felt mood`, `days date[]`; `mood` takes an enum of yours, with `#[derive(FromSql)]` and the labels \
                 `fine`, `so_so`",
            ),
        ];
        for (type_, expected) in cases {
            assert_eq!(of_column(Some("x"), &type_), expected);
        }
        assert_eq!(
            of_column(None, &Type::VOID),
            "cast the expression to text in the SQL, or read it as a `RawValue`"
        );
        assert_eq!(
            of_parameter(0, &Type::INT2),
            "it takes `i16`, or a cast in the SQL (`$1::…`)"
        );
        assert_eq!(of_copied(&Type::INT2), "it takes `i16`");
        assert_eq!(of_copied(&Type::INTERVAL), "it takes a `RawValue`");
        assert_eq!(
            of_parameter(1, &Type::INT4_RANGE_ARRAY),
            "give it as text (`$2::text::int4range[]` in the SQL) or as a `RawValue`"
        );
    }
}
