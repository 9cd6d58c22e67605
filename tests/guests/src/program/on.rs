//! What a program's calls are made on, and how its rows are written there.

use std::time::Duration;

use hearth::postgres::types::Type;
use hearth::postgres::{BinaryCopyInWriter, Client, Error, Session, Transaction};
use serde::Deserialize;

/// Writes one row.
const WRITE: &str = "insert into written values ($1)";

/// What calls are made on.
pub enum On<'a, 'b> {
    Client(Client),
    Transaction(&'a mut Transaction<'b>),
    Session(&'a mut Session),
}

/// By the methods of each: the trait that the three have in common has fewer.
macro_rules! on {
    ($on:expr, $it:ident => $call:expr) => {
        match $on {
            On::Client($it) => $call,
            On::Transaction($it) => $call,
            On::Session($it) => $call,
        }
    };
}
pub(super) use on;

/// By which call a row is written.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    #[default]
    Execute,
    Typed,
    Prepared,
    Returning,
    Copy,
    Binary,
}

/// What stands behind the rows of a pipeline.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Behind {
    /// Nothing.
    #[default]
    Nothing,
    /// Nothing; its types are named.
    Typed,
    /// A statement that fails.
    Failing,
    /// A statement that the server does not even prepare.
    Unknown,
}

impl On<'_, '_> {
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        on!(self, it => it.set_timeout(timeout));
    }

    pub async fn batch(&self, sql: &str) -> Result<(), Error> {
        on!(self, it => it.batch_execute(sql).await)
    }

    pub async fn write(&self, key: i64, way: Way) -> Result<(), Error> {
        on!(self, it => match way {
            Way::Execute => it.execute(WRITE, &[&key]).await.map(|_| ()),
            Way::Typed => it.execute_typed(WRITE, &[(&key, Type::INT8)]).await.map(|_| ()),
            Way::Prepared => {
                let statement = it.prepare(WRITE).await?;
                it.execute(&statement, &[&key]).await.map(|_| ())
            }
            Way::Returning => {
                let sql = "insert into written values ($1) returning key";
                let row = it.query_one(sql, &[&key]).await?;
                assert_eq!(row.get::<_, i64>(0), key, "another call's row");
                Ok(())
            }
            Way::Copy => {
                let mut copy = it.copy_in("copy written (key) from stdin").await?;
                // Pieces end anywhere.
                for piece in [key.to_string(), String::new(), "\n".to_owned()] {
                    copy.write(piece).await?;
                }
                copy.finish().await.map(|_| ())
            }
            Way::Binary => {
                let copy = it.copy_in("copy written (key) from stdin (format binary)").await?;
                let mut writer = BinaryCopyInWriter::new(copy, &[Type::INT8]);
                writer.write(&[&key]).await?;
                writer.finish().await.map(|_| ())
            }
        })
    }

    pub async fn write_all(&self, keys: &[i64], behind: Behind) -> Result<(), Error> {
        on!(self, it => {
            let mut calls = it.pipeline();
            for key in keys {
                match behind {
                    Behind::Typed => calls.add_typed(WRITE, &[(key, Type::INT8)]),
                    _ => calls.add(WRITE, &[key]),
                };
            }
            match behind {
                Behind::Failing => calls.add("select 1 / 0", &[]),
                Behind::Unknown => calls.add("select from nowhere", &[]),
                Behind::Nothing | Behind::Typed => &mut calls,
            };
            calls.run().await.map(|_| ())
        })
    }

    /// Sends a row of a copy that is never finished, so that it is not written.
    pub async fn begin_to_write(&self, key: i64, forget: bool) -> Result<(), Error> {
        let mut copy = on!(self, it => it.copy_in("copy written (key) from stdin").await)?;
        copy.write(format!("{key}\n")).await?;
        if forget {
            std::mem::forget(copy);
        }
        Ok(())
    }
}
