//! Values of any type, as PostgreSQL writes them.
//!
//! Promises: the bytes that came are the bytes that go, and only to a parameter of the type that
//! they came from. Left to others: what they mean.

use std::error::Error as StdError;
use std::fmt;

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// A value in PostgreSQL's own binary format, with its type.
///
/// It reads a column of any type, and serves as a parameter of the same type: for programs that pass
/// values on, and for types that nothing else in Rust reads. NULL is `None` of an `Option<RawValue>`.
///
/// ```
/// use hearth::postgres::{Client, Error, RawValue};
///
/// async fn copy_newest(db: &Client) -> Result<u64, Error> {
///     let row = db.query_one("SELECT shape FROM drawing ORDER BY id DESC LIMIT 1", &[]).await?;
///     let shape: RawValue = row.try_get("shape")?;
///     let type_ = shape.type_().clone();
///     db.execute_typed("INSERT INTO drawing (shape) VALUES ($1)", &[(&shape, type_)]).await
/// }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct RawValue {
    type_: Type,
    bytes: Vec<u8>,
}

impl RawValue {
    /// A value of this type. The server refuses bytes that are none.
    pub fn new(type_: Type, bytes: Vec<u8>) -> Self {
        Self { type_, bytes }
    }

    /// Its type.
    pub fn type_(&self) -> &Type {
        &self.type_
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// Without the bytes: they may be nobody else's business.
impl fmt::Debug for RawValue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RawValue")
            .field("type_", &self.type_)
            .field("bytes", &format_args!("{} bytes", self.bytes.len()))
            .finish()
    }
}

impl<'a> FromSql<'a> for RawValue {
    fn from_sql(type_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn StdError + Sync + Send>> {
        Ok(Self::new(type_.clone(), raw.to_vec()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

impl ToSql for RawValue {
    fn to_sql(
        &self,
        type_: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn StdError + Sync + Send>> {
        // By its number: what is known of the type may have changed meanwhile.
        if type_.oid() != self.type_.oid() {
            return Err(format!("the raw value is of type `{}`", self.type_).into());
        }
        out.put_slice(&self.bytes);
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_raw_value_fits_its_own_type_alone() {
        let value = RawValue::from_sql(&Type::POINT, b"0123456789abcdef").expect("it takes any");
        let mut out = BytesMut::new();
        value.to_sql(&Type::POINT, &mut out).expect("it fits");
        assert_eq!(&out[..], value.as_bytes());

        let refused = value.to_sql(&Type::BOX, &mut out);
        let error = refused.err().expect("it is no box");
        assert_eq!(error.to_string(), "the raw value is of type `point`");
        assert!(!format!("{value:?}").contains("0123"), "{value:?}");
    }
}
