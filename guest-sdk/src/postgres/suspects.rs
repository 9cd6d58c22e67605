//! Which parameters a value may be that the server found too long or out of range, for the errors that do not say.
//!
//! PostgreSQL tells nobody: what fails is a conversion, far from the statement. So all parameters are named that it
//! may be. Where an `INSERT` plainly puts them into columns, these are named as well, and parameters are left
//! out whose type cannot fail so.
//!
//! Promises: numbers, types and names of columns, and never a value.

use postgres_types::{Kind, Type};

use super::sql_state::SqlState;

/// How many are told.
const TOLD_MAX: usize = 8;

/// The parameters that it may be that this code is about; `None` if it says something else, or there are none.
pub(super) fn of(code: &SqlState, sql: &str, types: &[Type]) -> Option<String> {
    let may_be: fn(&Type) -> bool = match *code {
        SqlState::STRING_DATA_RIGHT_TRUNCATION => is_text,
        SqlState::NUMERIC_VALUE_OUT_OF_RANGE => is_number,
        _ => return None,
    };
    let inserted = inserted(sql).unwrap_or_default();
    let narrowed = inserted.iter().filter_map(|(index, column)| {
        let type_ = types.get(*index).filter(|type_| may_be(type_))?;
        Some(format!("${} (`{type_}`, for `{column}`)", index + 1))
    });
    let mut told: Vec<String> = narrowed.collect();
    if told.is_empty() {
        let each = types.iter().enumerate();
        told = each
            .map(|(index, type_)| format!("${} (`{type_}`)", index + 1))
            .collect();
    }
    let more = told.len().saturating_sub(TOLD_MAX);
    told.truncate(TOLD_MAX);
    if more > 0 {
        told.push(format!("one of {more} more"));
    }
    let last = told.pop()?;
    Some(match told.is_empty() {
        true => format!("the value may be that of parameter {last}"),
        false => format!(
            "the value may be that of parameter {} or {last}",
            told.join(", ")
        ),
    })
}

fn is_text(type_: &Type) -> bool {
    is_made_of(type_, |type_| {
        let text = [
            Type::BIT,
            Type::BPCHAR,
            Type::NAME,
            Type::TEXT,
            Type::VARBIT,
            Type::VARCHAR,
        ];
        text.contains(type_)
    })
}

fn is_number(type_: &Type) -> bool {
    is_made_of(type_, |type_| {
        let numbers = [
            Type::FLOAT4,
            Type::FLOAT8,
            Type::INT2,
            Type::INT4,
            Type::INT8,
            Type::INTERVAL,
            Type::MONEY,
            Type::NUMERIC,
            Type::OID,
        ];
        numbers.contains(type_)
    })
}

/// Whether a type is, or may have in it, what this holds of.
fn is_made_of(type_: &Type, is: fn(&Type) -> bool) -> bool {
    match type_.kind() {
        Kind::Array(inner) | Kind::Range(inner) | Kind::Multirange(inner) | Kind::Domain(inner) => {
            is_made_of(inner, is)
        }
        Kind::Composite(fields) => fields.iter().any(|field| is_made_of(field.type_(), is)),
        // What an extension brings may be anything.
        Kind::Simple => is(type_) || Type::from_oid(type_.oid()).is_none(),
        _ => false,
    }
}

/// The parameters, counted from 0, that an `INSERT … (columns) VALUES (…), …` puts into columns as they are; `None`
/// if the text is anything that is not that plain.
fn inserted(sql: &str) -> Option<Vec<(usize, &str)>> {
    let rest = behind(behind(sql, "insert")?, "into")?;
    let (table, rest) = rest.split_once('(')?;
    let (columns, rest) = rest.split_once(')')?;
    is_plain(table).then_some(())?;
    let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
    let mut rest = behind(rest, "values")?;
    let mut inserted = Vec::new();
    loop {
        let (values, behind) = rest.trim_start().strip_prefix('(')?.split_once(')')?;
        let values: Vec<&str> = values.split(',').map(str::trim).collect();
        if values.len() != columns.len() {
            return None;
        }
        for (column, value) in columns.iter().zip(values) {
            is_plain(column).then_some(())?;
            let number = value.strip_prefix('$').map(str::parse::<usize>);
            match number {
                Some(number) => {
                    inserted.push((number.ok()?.checked_sub(1)?, column.trim_matches('"')))
                }
                None => is_plain(value).then_some(())?,
            }
        }
        match behind.trim_start().strip_prefix(',') {
            Some(next) => rest = next,
            // What else it says may take parameters as well.
            None => return (!behind.contains('$')).then_some(inserted),
        }
    }
}

/// What stands behind this word, if a text begins with it.
fn behind<'a>(text: &'a str, word: &str) -> Option<&'a str> {
    let (first, rest) = text.trim_start().split_at_checked(word.len())?;
    let ends = !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    (first.eq_ignore_ascii_case(word) && ends).then_some(rest)
}

/// Whether a text is nothing but names, numbers and spaces.
fn is_plain(text: &str) -> bool {
    let belongs =
        |c: char| c.is_alphanumeric() || c.is_whitespace() || matches!(c, '_' | '.' | '"');
    text.chars().all(belongs) && text.matches('"').count().is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: SqlState = SqlState::STRING_DATA_RIGHT_TRUNCATION;
    const LARGE: SqlState = SqlState::NUMERIC_VALUE_OUT_OF_RANGE;

    #[test]
    fn what_an_insert_puts_into_columns_is_named_with_them() {
        let types = [
            Type::INT4,
            Type::VARCHAR,
            Type::VARCHAR_ARRAY,
            Type::NUMERIC,
        ];
        let sql = "Insert into shop.\"Order\" as o (id, name, \"Tags\", price)\n values ($1, $2, $3, $4) returning id";
        let long = of(&LONG, sql, &types).expect("two are text");
        assert_eq!(
            long,
            "the value may be that of parameter $2 (`varchar`, for `name`) or $3 (`_varchar`, for `Tags`)"
        );
        let large = of(&LARGE, sql, &types).expect("two are numbers");
        assert!(
            large.ends_with("$1 (`int4`, for `id`) or $4 (`numeric`, for `price`)"),
            "{large}"
        );
        let rows = "insert into t(a, b) values($1, 1), (default, $2)";
        let types = [Type::TEXT, Type::TEXT];
        let both = of(&LONG, rows, &types).expect("both are text");
        assert!(
            both.ends_with("$1 (`text`, for `a`) or $2 (`text`, for `b`)"),
            "{both}"
        );
    }

    #[test]
    fn of_what_is_not_plain_all_parameters_are_named() {
        let types = [Type::INT8, Type::TEXT];
        for sql in [
            "update t set a = $1 where b = $2",
            "insert into t values ($1, $2)",
            "insert into t (a, b) values ($1, lower($2))",
            "insert into t (a, b) values ($1, $2::text)",
            "insert into t (a, b) values ('), ($3', $1, $2)",
            "insert into t (a) select $1 from s where b = $2",
            "insert into t (a, b) values (1, $3)",
            "insert into t (a) values ($1) on conflict (a) do update set b = $2",
        ] {
            let all = "the value may be that of parameter $1 (`int8`) or $2 (`text`)";
            assert_eq!(of(&LARGE, sql, &types).as_deref(), Some(all), "{sql}");
        }
        assert_eq!(of(&LARGE, "select 1", &[]), None);
        assert_eq!(of(&SqlState::DIVISION_BY_ZERO, "select $1", &types), None);
        let many = vec![Type::INT4; 20];
        let told = of(&LARGE, "select $1", &many).expect("there are some");
        assert!(told.ends_with("$8 (`int4`) or one of 12 more"), "{told}");
    }
}
