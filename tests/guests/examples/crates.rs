//! Crates that others have written: a logger, and types of theirs as values of the database.

use postgres_array::Array;
use postgres_range::Range;

async fn start() -> Result<(), hearth::Error> {
    tracing_subscriber::fmt().json().flatten_event(true).init();
    Ok(())
}

#[hearth::function(init = start)]
async fn handle(end: i32) -> Result<bool, hearth::Error> {
    let db = hearth::postgres::default()?;
    let sql = "SELECT ARRAY[[1, 2], [3, 4]], int4range(0, $1)";
    let row = db.query_one(sql, &[&end]).await?;
    let (matrix, range): (Array<i32>, Range<i32>) = (row.try_get(0)?, row.try_get(1)?);
    let sql = "SELECT ($1::int4[])[2][1] <@ $2::int4range";
    let is_within: bool = db.query_one_scalar(sql, &[&matrix, &range]).await?;
    tracing::warn!(end, is_within, "looked for {}", matrix[(2, 1)]);
    Ok(is_within)
}
