//! Reading one order, with its lines.

use hearth::Failure;
use hearth::postgres::Client;
use jiff::Timestamp;

use crate::order::{Line, Order};

hearth::declare! {
    fn head(id: i64) -> (String, Timestamp) =
        "SELECT customer, placed_at FROM customer_order WHERE id = $1";

    fn lines(order: i64) -> (String, i32, i64) =
        "SELECT sku, quantity, price_cents FROM order_line WHERE order_id = $1 ORDER BY sku";

    fn made_by(request: &str) -> (i64) =
        "SELECT id FROM customer_order WHERE request_id = $1";
}

/// The order with this number.
pub async fn read(db: &Client, id: i64) -> Result<Order, hearth::Error> {
    let Some((customer, placed_at)) = head(id).query_opt(db).await? else {
        return Err(Failure::caller("UnknownOrder", format!("there is no order {id}")).into());
    };
    let lines = lines(id).query(db).await?;
    let lines = lines.into_iter().map(Line::from).collect();
    Ok(Order::new(id, customer, placed_at, lines))
}

/// The order that this request created, which must be there.
pub async fn read_by_request(db: &Client, request_id: &str) -> Result<Order, hearth::Error> {
    let (id,) = made_by(request_id).query_one(db).await?;
    read(db, id).await
}
