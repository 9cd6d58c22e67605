//! The SQL files that the local host runs in a database before its first function does.
//!
//! Promises: each file runs as one transaction, in the order of the configuration, over a
//! connection of its own; an error names the file, the line and PostgreSQL's own message; nobody's
//! database is changed without a warning.
//!
//! Left to others: that a file can be run again at the next start (`CREATE TABLE IF NOT EXISTS`).

use std::path::Path;

use anyhow::Context as _;

use crate::config::DatabaseConfig;
use crate::database::Error;
use crate::database::connect::Address;
use crate::database::script::Script;

/// Runs the setup files of one database, if it has any. One that is not the host's own may be somebody
/// else's as well, so the log says what is done to it.
pub(super) async fn apply(database: &DatabaseConfig, is_own: bool) -> anyhow::Result<()> {
    if database.setup.is_empty() {
        return Ok(());
    }
    let name = &database.name;
    if database.url.is_none() {
        tracing::warn!("the setup files of the database {name:?} are not run: no function uses it");
        return Ok(());
    }
    if !is_own {
        tracing::warn!(
            "the database {name:?} is not this host's own, and is changed by the setup files that hearth.toml names for it"
        );
    }
    let connect = Script::open(Address::read(database)?);
    let mut script = connect
        .await
        .with_context(|| format!("cannot connect to the database {name:?} for its setup"))?;
    for file in &database.setup {
        run(&mut script, file).await?;
        tracing::info!("ran {} in the database {name:?}", file.display());
    }
    script.close().await;
    Ok(())
}

async fn run(script: &mut Script, file: &Path) -> anyhow::Result<()> {
    let read = || format!("cannot read the setup file {}", file.display());
    let sql = tokio::fs::read_to_string(file).await.with_context(read)?;
    let error = match script.run(&sql).await {
        Ok(()) => return Ok(()),
        Err(Error::Server(error)) => error,
        Err(error) => {
            return Err(error).with_context(|| format!("cannot run {}", file.display()));
        }
    };
    let place = match error.position {
        Some(position) => format!("{}:{}", file.display(), line_of(&sql, position)),
        None => file.display().to_string(),
    };
    let mut message = format!("{place}: {} (SQLSTATE {})", error.message, error.code);
    for more in [&error.detail, &error.hint].into_iter().flatten() {
        message.push_str("; ");
        message.push_str(more);
    }
    Err(anyhow::Error::msg(message))
}

/// The line of a position that PostgreSQL gives: in characters, from 1.
fn line_of(sql: &str, position: u32) -> usize {
    let before = sql.chars().take((position as usize).saturating_sub(1));
    1 + before.filter(|&c| c == '\n').count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_counted_in_characters() {
        let sql = "-- ä\nSELECT 1;\n\nSELEKT 2;";
        for (position, line) in [(0, 1), (1, 1), (5, 1), (6, 2), (17, 4), (1000, 4)] {
            assert_eq!(line_of(sql, position), line, "{position}");
        }
    }
}
