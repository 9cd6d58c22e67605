//! Values of Rust's types, sent and read back, and values that do not fit.

// For the derives below: what they expand to names that crate.
extern crate hearth as postgres_types;

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use hearth::Context;
use hearth::postgres::types::{Date, Json, Timestamp};
use hearth::postgres::{Client, Error, FromSql, FromSqlOwned, Numeric, ToSql};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use test_guests::describe;

#[derive(Debug, PartialEq, ToSql, FromSql)]
#[postgres(name = "mood", rename_all = "snake_case")]
enum Mood {
    VeryFine,
    #[postgres(name = "so \"so\"")]
    SoSo,
}

#[derive(Debug, PartialEq, ToSql, FromSql)]
#[postgres(name = "short")]
struct Short(String);

#[derive(Debug, PartialEq, ToSql, FromSql)]
#[postgres(name = "person")]
struct Person {
    name: Short,
    #[postgres(name = "Feels")]
    feels: Vec<Option<Mood>>,
    born: Option<i32>,
}

#[derive(Debug, PartialEq, ToSql, FromSql)]
#[postgres(name = "household")]
struct Household {
    owner: Person,
    others: Vec<Person>,
}

#[derive(Debug, PartialEq, ToSql, FromSql)]
#[postgres(transparent)]
struct Cents(i64);

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Document {
    pages: u8,
}

/// What is wrong; nothing, if all is well.
#[hearth::function]
async fn handle(_: Value, _: Context) -> Result<Vec<Value>, hearth::Error> {
    let db = hearth::postgres::default()?;
    let mut wrong = Vec::new();
    let long = format!("-{0}.{0}", "1234567890".repeat(50));
    macro_rules! both_ways {
        ($($type_:literal $value:expr, $text:expr;)*) => {
            $(
                match there_and_back(&db, $type_, &$value, $text).await {
                    Ok(None) => {}
                    Ok(Some(problem)) => wrong.push(json!(problem)),
                    Err(error) => wrong.push(json!([$type_, describe(error)])),
                }
            )*
        };
    }
    both_ways! {
        "bool" true, "true";
        "int2" -32768_i16, "-32768";
        "int4" Some(7), "7";
        "int8" None::<i64>, "null";
        "int8" Cents(12), "12";
        "oid" u32::MAX, "4294967295";
        "\"char\"" 97_i8, "a";
        "float4" -0.5_f32, "-0.5";
        "float8" f64::INFINITY, "Infinity";
        "text" "Grüße".to_owned(), "Grüße";
        "text" smol_str::SmolStr::new("small"), "small";
        "bytea" vec![0_u8, 255], "\\x00ff";
        "int4[]" vec![Some(1), None], "{1,NULL}";
        "int4[]" [1, 2, 3], "{1,2,3}";
        "inet" IpAddr::from([10, 1, 2, 3]), "10.1.2.3/32";
        "inet" "10.1.2.3/8".parse::<cidr::IpInet>()?, "10.1.2.3/8";
        "cidr" "2001:db8::/32".parse::<cidr::IpCidr>()?, "2001:db8::/32";
        "macaddr" eui48::MacAddress::new([8, 0, 43, 1, 2, 3]), "08:00:2b:01:02:03";
        "timestamptz" SystemTime::UNIX_EPOCH + Duration::from_micros(1), "1970-01-01 00:00:00.000001+00";
        "timestamp" Timestamp::<SystemTime>::PosInfinity, "infinity";
        "date" chrono::NaiveDate::from_ymd_opt(2024, 2, 29), "2024-02-29";
        "date" Date::<chrono::NaiveDate>::NegInfinity, "-infinity";
        "timestamptz" chrono::DateTime::from_timestamp_micros(-1), "1969-12-31 23:59:59.999999+00";
        "time" chrono::NaiveTime::from_hms_opt(23, 59, 59), "23:59:59";
        "timestamp" chrono::DateTime::UNIX_EPOCH.naive_utc(), "1970-01-01 00:00:00";
        "date" time::Date::from_ordinal_date(2024, 60)?, "2024-02-29";
        "timestamptz" time::OffsetDateTime::UNIX_EPOCH, "1970-01-01 00:00:00+00";
        "date" jiff::civil::date(2024, 2, 29), "2024-02-29";
        "time" jiff::civil::time(1, 2, 3, 0), "01:02:03";
        "timestamptz" jiff::Timestamp::UNIX_EPOCH, "1970-01-01 00:00:00+00";
        "uuid" uuid::Uuid::from_u128(1), "00000000-0000-0000-0000-000000000001";
        "json" json!({ "a": [1, null] }), "{\"a\":[1,null]}";
        "jsonb" Json(Document { pages: 3 }), "{\"pages\": 3}";
        "varbit" bit_vec::BitVec::from_fn(3, |bit| bit != 1), "101";
        "point" geo_types::Point::new(1.0, -2.5), "(1,-2.5)";
        "box" geo_types::Rect::new((1.0, 2.0), (3.0, 4.0)), "(3,4),(1,2)";
        "path" geo_types::LineString::from(vec![(0.0, 0.0), (1.0, 1.0)]), "[(0,0),(1,1)]";
        "numeric" "-123.4500".parse::<Numeric>()?, "-123.4500";
        "numeric" long.parse::<Numeric>()?, &long;
        "numeric[]" vec![None, Some(Numeric::from(1)), Some("NaN".parse()?)], "{NULL,1,NaN}";
        "mood" Mood::SoSo, "so \"so\"";
        "mood[]" vec![Mood::VeryFine], "{very_fine}";
        "short" Short("ab".to_owned()), "ab";
        "person" Person { name: Short("Ada".to_owned()), feels: vec![Some(Mood::SoSo), None], born: None },
            "(Ada,\"{\"\"so \\\\\"\"so\\\\\"\"\"\",NULL}\",)";
        "household" Household { owner: ada(), others: vec![ada(), ada()] },
            "(\"(Ada,{very_fine},7)\",\"{\"\"(Ada,{very_fine},7)\"\",\"\"(Ada,{very_fine},7)\"\"}\")";
        "hstore" HashMap::from([("a".to_owned(), None::<String>)]), "\"a\"=>NULL";
        "citext" "Grüße".to_owned(), "Grüße";
        "ltree" "Top.Science".to_owned(), "Top.Science";
    }
    Ok(wrong)
}

fn ada() -> Person {
    Person {
        name: Short("Ada".to_owned()),
        feels: vec![Some(Mood::VeryFine)],
        born: Some(7),
    }
}

/// Sends a value and reads it back; what is wrong with it, or with what PostgreSQL takes it for.
async fn there_and_back<T>(
    db: &Client,
    type_: &str,
    value: &T,
    text: &str,
) -> Result<Option<String>, Error>
where
    T: ToSql + FromSqlOwned + Sync + Debug + PartialEq,
{
    let sql = format!("select $1::{type_}, coalesce(($1::{type_})::text, 'null')");
    let row = db.query_one(&sql, &[value]).await?;
    let (back, seen): (T, &str) = (row.try_get(0)?, row.try_get(1)?);
    let fits = back == *value && seen == text;
    Ok((!fits).then(|| format!("{type_}: {back:?} {seen:?} instead of {value:?} {text:?}")))
}
