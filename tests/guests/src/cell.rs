//! JSON values as PostgreSQL's, both ways, for the types that the tests use.

use std::error::Error;

use bytes::{BufMut, BytesMut};
use hearth::postgres::types::{FromSql, IsNull, Kind, ToSql, Type, to_sql_checked};
use serde::Deserialize;
use serde_json::{Value, json};

type Any = Box<dyn Error + Sync + Send>;

/// A value of a row.
pub struct Cell(pub Value);

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Any> {
        let value = match *ty {
            Type::BOOL => json!(bool::from_sql(ty, raw)?),
            Type::INT2 => json!(i16::from_sql(ty, raw)?),
            Type::INT4 => json!(i32::from_sql(ty, raw)?),
            Type::INT8 => json!(i64::from_sql(ty, raw)?),
            Type::FLOAT4 => json!(f32::from_sql(ty, raw)?),
            Type::FLOAT8 => json!(f64::from_sql(ty, raw)?),
            Type::JSON => serde_json::from_slice(raw)?,
            Type::JSONB => serde_json::from_slice(&raw[1..])?,
            Type::BYTEA => json!(raw),
            Type::INT4_ARRAY => json!(Vec::<Option<i32>>::from_sql(ty, raw)?),
            Type::TEXT_ARRAY => json!(Vec::<Option<String>>::from_sql(ty, raw)?),
            _ => match ty.kind() {
                Kind::Domain(inner) => return Self::from_sql(inner, raw),
                _ => json!(str::from_utf8(raw)?),
            },
        };
        Ok(Self(value))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// A value for a statement.
#[derive(Clone, Debug, Deserialize)]
pub struct Argument(Value);

impl ToSql for Argument {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Any> {
        let misfit = || format!("{} is no {ty}", self.0);
        let integer = || self.0.as_i64().ok_or_else(misfit);
        match (ty, &self.0) {
            (_, Value::Null) => return Ok(IsNull::Yes),
            (&Type::JSON, value) => out.put_slice(value.to_string().as_bytes()),
            (&Type::JSONB, value) => {
                out.put_u8(1);
                out.put_slice(value.to_string().as_bytes());
            }
            (_, Value::Bool(truth)) if *ty == Type::BOOL => out.put_u8(u8::from(*truth)),
            (&Type::INT2, _) => out.put_i16(i16::try_from(integer()?)?),
            (&Type::INT4, _) => out.put_i32(i32::try_from(integer()?)?),
            (&Type::INT8, _) => out.put_i64(integer()?),
            (&Type::FLOAT4, value) => out.put_f32(value.as_f64().ok_or_else(misfit)? as f32),
            (&Type::FLOAT8, value) => out.put_f64(value.as_f64().ok_or_else(misfit)?),
            (&Type::BYTEA, value) => out.put_slice(&Vec::<u8>::deserialize(value)?),
            (&Type::INT4_ARRAY, value) => {
                return Vec::<Option<i32>>::deserialize(value)?.to_sql(ty, out);
            }
            (&Type::TEXT_ARRAY, value) => {
                return Vec::<Option<String>>::deserialize(value)?.to_sql(ty, out);
            }
            (_, Value::String(text)) => out.put_slice(text.as_bytes()),
            _ => return Err(misfit().into()),
        }
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

/// One of the types that are built in, for those that the tests name.
pub fn type_named(name: &str) -> Type {
    match name {
        "int4" => Type::INT4,
        "int8" => Type::INT8,
        "text" => Type::TEXT,
        _ => Type::UNKNOWN,
    }
}
