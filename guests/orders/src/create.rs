//! Creating an order: all of it, or nothing.

use std::collections::BTreeMap;

use hearth::Failure;
use hearth::postgres::{Client, Error, Transaction};
use jiff::Timestamp;
use serde::Deserialize;

use crate::order::{Line, Order};
use crate::read;

/// How many products one order may have.
const LINES_MAX: usize = 100;
/// How many of one product may be ordered at a time.
const QUANTITY_MAX: i32 = 10_000;
/// How many bytes a customer's name may have.
const CUSTOMER_BYTES_MAX: usize = 200;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewOrder {
    customer: String,
    lines: Vec<NewLine>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewLine {
    sku: String,
    quantity: i32,
}

hearth::declare! {
    fn insert(request: &str, customer: &str) -> (i64, Timestamp) =
        "INSERT INTO customer_order (request_id, customer) VALUES ($1, $2)
         ON CONFLICT (request_id) DO NOTHING
         RETURNING id, placed_at";

    fn insert_line(order: i64, sku: &str, quantity: i32, price_cents: i64) =
        "INSERT INTO order_line (order_id, sku, quantity, price_cents)
         VALUES ($1, $2, $3, $4)";

    fn take_from_stock(sku: &str, quantity: i32) -> (i64) =
        "UPDATE product SET stock = stock - $2 WHERE sku = $1 AND stock >= $2
         RETURNING price_cents";

    fn stock(sku: &str) -> (i32) = "SELECT stock FROM product WHERE sku = $1";
}

/// Takes the products from stock and writes the order, in one transaction. The same request
/// creates only one order, however often it is repeated.
pub async fn create(db: &Client, request_id: &str, new: NewOrder) -> Result<Order, hearth::Error> {
    let (customer, wanted) = check(new)?;

    let transaction = db.transaction().await?;
    let inserted = insert(request_id, &customer)
        .query_opt(&transaction)
        .await?;
    let Some((id, placed_at)) = inserted else {
        transaction.rollback().await?;
        return read::read_by_request(db, request_id).await;
    };

    let mut lines = Vec::with_capacity(wanted.len());
    for (sku, quantity) in wanted {
        let price_cents = take(&transaction, &sku, quantity).await?;
        insert_line(id, &sku, quantity, price_cents)
            .execute(&transaction)
            .await?;
        lines.push(Line {
            sku,
            quantity,
            price_cents,
        });
    }
    transaction.commit().await?;
    Ok(Order::new(id, customer, placed_at, lines))
}

/// Takes so many of a product from stock, and returns its price.
///
/// On failure the caller drops the transaction, which gives back what was taken.
async fn take(
    transaction: &Transaction<'_>,
    sku: &str,
    quantity: i32,
) -> Result<i64, hearth::Error> {
    let taken = take_from_stock(sku, quantity)
        .query_opt(transaction)
        .await?;
    match taken {
        Some((price_cents,)) => Ok(price_cents),
        None => Err(why_not_taken(transaction, sku, quantity).await?.into()),
    }
}

async fn why_not_taken(
    transaction: &Transaction<'_>,
    sku: &str,
    quantity: i32,
) -> Result<Failure, Error> {
    Ok(match stock(sku).query_opt(transaction).await? {
        Some((stock,)) => Failure::caller(
            "OutOfStock",
            format!("product `{sku}` is out of stock: {quantity} wanted, {stock} left"),
        ),
        None => Failure::caller("UnknownProduct", format!("there is no product `{sku}`")),
    })
}

/// The customer, and how many are wanted of each product.
///
/// Sorted by product: orders that take several lock them in the same order, and cannot deadlock.
fn check(new: NewOrder) -> Result<(String, BTreeMap<String, i32>), Failure> {
    let invalid = |message: String| Err(Failure::caller("InvalidOrder", message));
    // PostgreSQL has no text with it.
    let is_none = |text: &str| text.contains('\0');
    if is_none(&new.customer) || new.lines.iter().any(|line| is_none(&line.sku)) {
        return invalid("a name must not contain the character U+0000".to_owned());
    }
    if new.customer.is_empty() || new.customer.len() > CUSTOMER_BYTES_MAX {
        return invalid(format!(
            "the customer's name must have 1 to {CUSTOMER_BYTES_MAX} bytes"
        ));
    }
    if new.lines.is_empty() || new.lines.len() > LINES_MAX {
        return invalid(format!("an order has 1 to {LINES_MAX} lines"));
    }
    let mut wanted = BTreeMap::new();
    for NewLine { sku, quantity } in new.lines {
        if !(1..=QUANTITY_MAX).contains(&quantity) {
            return invalid(format!(
                "the quantity of `{sku}` must be 1 to {QUANTITY_MAX}, not {quantity}"
            ));
        }
        if wanted.contains_key(&sku) {
            return invalid(format!("`{sku}` is in more than one line"));
        }
        wanted.insert(sku, quantity);
    }
    Ok((new.customer, wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(customer: &str, lines: &[(&str, i32)]) -> NewOrder {
        NewOrder {
            customer: customer.to_owned(),
            lines: lines
                .iter()
                .map(|(sku, quantity)| NewLine {
                    sku: (*sku).to_owned(),
                    quantity: *quantity,
                })
                .collect(),
        }
    }

    #[test]
    fn an_order_that_makes_no_sense_is_refused() {
        let cases = [
            (
                order("", &[("lamp", 1)]),
                "the customer's name must have 1 to 200 bytes",
            ),
            (order("Ada", &[]), "an order has 1 to 100 lines"),
            (
                order("Ada", &[("lamp", 1); 101]),
                "an order has 1 to 100 lines",
            ),
            (
                order("Ada", &[("lamp", 0)]),
                "the quantity of `lamp` must be 1 to 10000, not 0",
            ),
            (
                order("A\0da", &[("lamp", 1)]),
                "a name must not contain the character U+0000",
            ),
            (
                order("Ada", &[("lamp", 1), ("la\0mp", 1)]),
                "a name must not contain the character U+0000",
            ),
            (
                order("Ada", &[("lamp", 1), ("lamp", 2)]),
                "`lamp` is in more than one line",
            ),
        ];
        for (order, expected) in cases {
            let failure = check(order).expect_err(expected);
            assert_eq!(failure.message(), expected);
            assert_eq!(failure.error_type(), "InvalidOrder");
        }
    }

    #[test]
    fn products_are_locked_in_one_order() {
        let (_, wanted) = check(order("Ada", &[("lamp", 1), ("chair", 2)])).expect("it is fine");
        assert_eq!(wanted.into_keys().collect::<Vec<_>>(), ["chair", "lamp"]);
    }
}
