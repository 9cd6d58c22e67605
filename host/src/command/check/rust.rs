//! Which PostgreSQL types a Rust type of the guest's can hold, by its name.
//!
//! The names are those of the types that `postgres-types` converts, with all of its features, and of the
//! SDK's own. A name that is not known says nothing: it may be the guest's own type.

/// A Rust type, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Whether it is an array of the types below.
    pub array: bool,
    /// The names of the PostgreSQL types; none if the Rust type is not known.
    pub types: Option<&'static [&'static str]>,
}

/// What a type, as it is written in Rust, can hold.
pub fn held(written: &str) -> Held {
    let text: String = written.split_whitespace().collect::<Vec<_>>().join(" ");
    held_by(text.trim())
}

fn held_by(text: &str) -> Held {
    let text = text.trim();
    if let Some(referred) = text.strip_prefix('&') {
        let referred = referred.trim_start();
        // A lifetime goes before the type.
        return match referred.strip_prefix('\'') {
            Some(named) => held_by(named.split_once(' ').map_or("", |(_, rest)| rest)),
            None => held_by(referred),
        };
    }
    if matches!(text, "[u8]" | "[u8;]") {
        return scalar("[u8]");
    }
    if let Some(element) = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
    {
        let element = element.split(';').next().unwrap_or_default();
        return array(element);
    }
    let (path, inner) = match text.split_once('<') {
        Some((path, rest)) => (path, rest.strip_suffix('>').unwrap_or(rest)),
        None => (text, ""),
    };
    let name = path.rsplit("::").next().unwrap_or(path).trim();
    match name {
        "Option" | "Box" | "Arc" | "Rc" | "Cow" => {
            // `Cow` has a lifetime before the type.
            held_by(inner.rsplit_once(", ").map_or(inner, |(_, last)| last))
        }
        "Vec" if inner.trim() == "u8" => scalar("[u8]"),
        "Vec" => array(inner),
        // `chrono`'s has a time zone as its argument; `jiff`'s has neither.
        "DateTime" if !inner.is_empty() => scalar("DateTime<>"),
        name => scalar(name),
    }
}

fn array(element: &str) -> Held {
    let element = held_by(element);
    Held {
        array: true,
        // PostgreSQL's arrays of arrays are of the same type as those of one dimension.
        types: element.types,
    }
}

fn scalar(name: &str) -> Held {
    let found = HELD.iter().find(|(rust, _)| *rust == name);
    Held {
        array: false,
        types: found.map(|(_, types)| *types),
    }
}

/// PostgreSQL's types that a Rust type can hold.
const HELD: &[(&str, &[&str])] = &[
    ("bool", &["bool"]),
    ("i8", &["char"]),
    ("i16", &["int2"]),
    ("i32", &["int4"]),
    ("i64", &["int8"]),
    ("u32", &["oid"]),
    ("f32", &["float4"]),
    ("f64", &["float8"]),
    ("str", TEXTS),
    ("String", TEXTS),
    ("SmolStr", TEXTS),
    ("[u8]", &["bytea"]),
    ("HashMap", &["hstore"]),
    ("IpAddr", &["inet"]),
    ("IpInet", &["inet"]),
    ("IpCidr", &["cidr"]),
    ("SystemTime", &["timestamp", "timestamptz"]),
    ("NaiveDateTime", &["timestamp"]),
    ("PrimitiveDateTime", &["timestamp"]),
    ("DateTime", &["timestamp"]),
    ("DateTime<>", &["timestamptz"]),
    ("OffsetDateTime", &["timestamptz"]),
    ("Timestamp", &["timestamptz"]),
    ("NaiveDate", &["date"]),
    ("Date", &["date"]),
    ("NaiveTime", &["time"]),
    ("Time", &["time"]),
    ("Value", &["json", "jsonb"]),
    ("Json", &["json", "jsonb"]),
    ("Uuid", &["uuid"]),
    ("Decimal", &["numeric"]),
    ("Numeric", &["numeric"]),
    ("BitVec", &["bit", "varbit"]),
    ("MacAddress", &["macaddr"]),
    ("PgLsn", &["pg_lsn"]),
];

const TEXTS: &[&str] = &[
    "text",
    "varchar",
    "bpchar",
    "name",
    "unknown",
    "citext",
    "ltree",
    "lquery",
    "ltxtquery",
];

/// The name by which PostgreSQL's catalog knows a type that has several in SQL.
pub fn catalog_name(sql: &str) -> String {
    let name = sql.trim().to_ascii_lowercase();
    let (element, array) = match name.strip_suffix("[]") {
        Some(element) => (element.trim(), true),
        None => (name.as_str(), false),
    };
    let element = match element {
        "smallint" => "int2",
        "integer" | "int" => "int4",
        "bigint" => "int8",
        "real" => "float4",
        "double precision" => "float8",
        "boolean" => "bool",
        "decimal" => "numeric",
        "character varying" => "varchar",
        "character" => "bpchar",
        element => element,
    };
    match (array, element.rsplit_once('.')) {
        (false, _) => element.to_owned(),
        (true, Some((schema, name))) => format!("{schema}._{name}"),
        (true, None) => format!("_{element}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rust_type_is_known_by_its_name() {
        let cases: &[(&str, bool, Option<&str>)] = &[
            ("i64", false, Some("int8")),
            ("&str", false, Some("text")),
            ("& 'a str", false, Some("text")),
            ("&'static str", false, Some("text")),
            ("Option < String >", false, Some("text")),
            (
                "std::option::Option<std::string::String>",
                false,
                Some("text"),
            ),
            ("Option<&[u8]>", false, Some("bytea")),
            ("Vec<u8>", false, Some("bytea")),
            ("Vec<Option<i32>>", true, Some("int4")),
            ("&[i64]", true, Some("int8")),
            ("[bool; 3]", true, Some("bool")),
            ("Vec<Vec<u8>>", true, Some("bytea")),
            ("Cow<'a, str>", false, Some("text")),
            ("chrono::DateTime<chrono::Utc>", false, Some("timestamptz")),
            ("jiff::civil::DateTime", false, Some("timestamp")),
            ("Timestamp", false, Some("timestamptz")),
            ("&hearth::postgres::Numeric", false, Some("numeric")),
            ("serde_json::Value", false, Some("json")),
            ("Json<Vec<Line>>", false, Some("json")),
            ("Mood", false, None),
            ("Vec<Mood>", true, None),
        ];
        for (written, array, first) in cases {
            let held = held(written);
            assert_eq!(held.array, *array, "{written}");
            assert_eq!(held.types.map(|types| types[0]), *first, "{written}");
        }
    }

    #[test]
    fn a_type_has_one_name_in_the_catalog() {
        for (sql, name) in [
            ("BIGINT", "int8"),
            ("bigint[]", "_int8"),
            ("double precision", "float8"),
            ("mood", "mood"),
            ("shop.mood[]", "shop._mood"),
        ] {
            assert_eq!(catalog_name(sql), name, "{sql}");
        }
    }
}
