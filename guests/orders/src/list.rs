//! Listing orders, newest first, page by page.
//!
//! A page begins behind the last order of the one before (`before`), not after so many rows: it
//! costs the same however far back it is, and new orders do not shift it.

use hearth::postgres::{Client, Error};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

const LIMIT: u32 = 20;
const LIMIT_MAX: u32 = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// List orders older than this one; the newest if it is missing.
    before: Option<i64>,
    /// How many at most: 20 if it is missing, never more than 100.
    limit: Option<u32>,
}

#[derive(Serialize)]
pub struct Page {
    orders: Vec<Summary>,
    /// The `before` of the next page, if there is one.
    next: Option<i64>,
}

#[derive(Serialize)]
struct Summary {
    id: i64,
    customer: String,
    placed_at: Timestamp,
    total_cents: i64,
}

hearth::declare! {
    fn page(before: i64, limit: i64) -> (i64, String, Timestamp, i64) =
        "SELECT id, customer, placed_at,
                (SELECT coalesce(sum(price_cents * quantity), 0)::bigint
                 FROM order_line WHERE order_id = id) AS total_cents
         FROM customer_order WHERE id < $1 ORDER BY id DESC LIMIT $2";
}

/// One page of orders.
pub async fn list(db: &Client, request: Request) -> Result<Page, Error> {
    let limit = request.limit.unwrap_or(LIMIT).clamp(1, LIMIT_MAX);
    let before = request.before.unwrap_or(i64::MAX);
    // One more than is wanted tells whether there is a next page.
    let rows = page(before, i64::from(limit) + 1).query(db).await?;
    let limit = limit as usize;
    let more = rows.len() > limit;
    let orders: Vec<Summary> = rows.into_iter().take(limit).map(Summary::from).collect();
    let next = orders.last().filter(|_| more).map(|last| last.id);
    Ok(Page { orders, next })
}

impl From<(i64, String, Timestamp, i64)> for Summary {
    fn from((id, customer, placed_at, total_cents): (i64, String, Timestamp, i64)) -> Self {
        Self {
            id,
            customer,
            placed_at,
            total_cents,
        }
    }
}
