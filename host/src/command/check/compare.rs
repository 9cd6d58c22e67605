//! What a query declares, beside what the database says of it.

use postgres_types::{Kind, Type};

use super::report::{Finding, named, parameter};
use super::rust::{catalog_name, held};
use crate::database::statement::Description;
use crate::instance::declared::{self, Query};

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// What of a query's declaration does not fit.
pub(super) fn compare(query: &Query, description: &Description) -> Vec<Finding> {
    let mut findings = Vec::new();
    let (declared, found) = (query.parameters.len(), description.parameters.len());
    if declared != found {
        findings.push(Finding::error(format!(
            "`{}` takes {}, but its statement has {found}",
            query.name,
            counted(declared, "parameter")
        )));
    }
    let (declared, found) = (query.columns.len(), description.columns.len());
    if declared != found {
        findings.push(Finding::error(format!(
            "`{}` returns {}, but its statement has {found}",
            query.name,
            counted(declared, "column")
        )));
    }
    for (index, (own, parameter_)) in query
        .parameters
        .iter()
        .zip(&description.parameters)
        .enumerate()
    {
        let number = index + 1;
        let Some(problem) = mismatch(own, &parameter_.type_) else {
            continue;
        };
        let what = format!("parameter ${number} of `{}`", query.name);
        findings.push(problem.finding(
            &what,
            own,
            &parameter_.type_,
            parameter(&query.sql, number),
        ));
    }
    for (index, (own, column)) in query.columns.iter().zip(&description.columns).enumerate() {
        let Some(problem) = mismatch(own, &column.type_) else {
            continue;
        };
        let what = format!(
            "column {} of `{}`, `{}`",
            index + 1,
            query.name,
            column.name
        );
        findings.push(problem.finding(&what, own, &column.type_, named(&query.sql, &column.name)));
    }
    findings
}

/// How a declared type and one of the database do not fit.
#[derive(Debug, PartialEq, Eq)]
enum Mismatch {
    /// They are different.
    Different,
    /// Who knows: the guest's type is not known, and it names none of PostgreSQL's.
    Unknown,
}

impl Mismatch {
    fn finding(
        &self,
        what: &str,
        own: &declared::Type,
        found: &Type,
        at: Option<usize>,
    ) -> Finding {
        let found = shown(found);
        match self {
            Self::Different => Finding {
                at,
                label: format!("expected {}, found {found}", expected(own)),
                ..Finding::error(format!(
                    "mismatched types: {what} is declared as {}",
                    own.guest
                ))
            },
            Self::Unknown => Finding {
                is_error: false,
                at,
                label: format!("found {found}"),
                help: Some(format!(
                    "say which it stands for: `{} as {found}`",
                    own.guest
                )),
                ..Finding::error(format!(
                    "{what} is declared as {}, which is no known type",
                    own.guest
                ))
            },
        }
    }
}

fn mismatch(own: &declared::Type, found: &Type) -> Option<Mismatch> {
    if let Some(sql) = &own.sql {
        let name = catalog_name(sql);
        let full = format!("{}.{}", found.schema(), found.name());
        return (name != found.name() && name != full).then_some(Mismatch::Different);
    }
    let own = held(&own.guest);
    let (array, element) = match found.kind() {
        Kind::Array(element) => (true, element),
        _ => (false, found),
    };
    let Some(types) = own.types else {
        return match own.array == array {
            true => Some(Mismatch::Unknown),
            false if own.array => Some(Mismatch::Different),
            // The guest's own type may well be an array.
            false => Some(Mismatch::Unknown),
        };
    };
    (own.array != array || !types.contains(&element.name())).then_some(Mismatch::Different)
}

fn expected(own: &declared::Type) -> String {
    if let Some(sql) = &own.sql {
        return sql.clone();
    }
    let own = held(&own.guest);
    let types = own.types.unwrap_or_default();
    let names: Vec<String> = types
        .iter()
        .take(3)
        .map(|name| format!("{name}{}", if own.array { "[]" } else { "" }))
        .collect();
    match names.is_empty() {
        true => "an array".to_owned(),
        false => names.join(" or "),
    }
}

/// A type as one writes it in SQL.
fn shown(type_: &Type) -> String {
    if let Kind::Array(element) = type_.kind() {
        return format!("{}[]", shown(element));
    }
    match type_.schema() {
        "pg_catalog" | "public" => type_.name().to_owned(),
        schema => format!("{schema}.{}", type_.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(guest: &str, sql: Option<&str>) -> declared::Type {
        declared::Type {
            guest: guest.to_owned(),
            sql: sql.map(str::to_owned),
        }
    }

    #[test]
    fn types_fit_or_do_not() {
        let mood = Type::new(
            "mood".to_owned(),
            70_000,
            Kind::Enum(Vec::new()),
            "shop".to_owned(),
        );
        let moods = Type::new(
            "_mood".to_owned(),
            70_001,
            Kind::Array(mood.clone()),
            "shop".to_owned(),
        );
        let different = Some(Mismatch::Different);
        let unknown = Some(Mismatch::Unknown);
        let cases = [
            (own("i64", None), Type::INT8, None),
            (own("i64", None), Type::INT4, Some(Mismatch::Different)),
            (own("&str", None), Type::VARCHAR, None),
            (own("String", None), mood.clone(), Some(Mismatch::Different)),
            (own("Vec<i32>", None), Type::INT4_ARRAY, None),
            (
                own("i32", None),
                Type::INT4_ARRAY,
                Some(Mismatch::Different),
            ),
            (own("Vec<i32>", None), Type::INT4, different),
            (own("Mood", None), mood.clone(), unknown),
            (own("Mood", Some("mood")), mood.clone(), None),
            (own("Mood", Some("shop.mood")), mood.clone(), None),
            (
                own("Mood", Some("other.mood")),
                mood,
                Some(Mismatch::Different),
            ),
            (own("Moods", Some("shop.mood[]")), moods, None),
            (own("Money", Some("bigint")), Type::INT8, None),
            (
                own("Money", Some("bigint")),
                Type::NUMERIC,
                Some(Mismatch::Different),
            ),
        ];
        for (own, found, expected) in cases {
            assert_eq!(mismatch(&own, &found), expected, "{own:?} {found}");
        }
    }
}
