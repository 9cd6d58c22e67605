//! Reading one order, with its lines.

use hearth::Failure;
use hearth::postgres::{Client, Error};

use crate::order::{Line, Order};

/// The order with this number.
pub async fn read(db: &Client, id: i64) -> Result<Order, hearth::Error> {
    let order = db
        .query_opt(
            "SELECT customer, placed_at FROM customer_order WHERE id = $1",
            &[&id],
        )
        .await?;
    let Some(order) = order else {
        return Err(Failure::caller("UnknownOrder", format!("there is no order {id}")).into());
    };
    let lines = db
        .query(
            "SELECT sku, quantity, price_cents FROM order_line WHERE order_id = $1 ORDER BY sku",
            &[&id],
        )
        .await?;
    let lines = lines
        .iter()
        .map(Line::from_row)
        .collect::<Result<_, Error>>()?;
    Ok(Order::new(
        id,
        order.try_get("customer")?,
        order.try_get("placed_at")?,
        lines,
    ))
}

/// The order that this request created, which must be there.
pub async fn read_by_request(db: &Client, request_id: &str) -> Result<Order, hearth::Error> {
    let row = db
        .query_one(
            "SELECT id FROM customer_order WHERE request_id = $1",
            &[&request_id],
        )
        .await?;
    read(db, row.try_get("id")?).await
}
