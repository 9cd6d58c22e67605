//! An order, as callers see it.

use jiff::Timestamp;
use serde::Serialize;

/// An order with its lines.
#[derive(Serialize)]
pub struct Order {
    pub id: i64,
    pub customer: String,
    pub placed_at: Timestamp,
    pub total_cents: i64,
    pub lines: Vec<Line>,
}

/// So many of one product, at the price of that time.
#[derive(Serialize)]
pub struct Line {
    pub sku: String,
    pub quantity: i32,
    pub price_cents: i64,
}

impl Order {
    pub fn new(id: i64, customer: String, placed_at: Timestamp, lines: Vec<Line>) -> Self {
        Self {
            id,
            customer,
            placed_at,
            total_cents: lines.iter().map(Line::cents).sum(),
            lines,
        }
    }
}

impl Line {
    fn cents(&self) -> i64 {
        // Within 64 bits by the limits on price, quantity and number of lines.
        self.price_cents * i64::from(self.quantity)
    }
}

impl From<(String, i32, i64)> for Line {
    fn from((sku, quantity, price_cents): (String, i32, i64)) -> Self {
        Self {
            sku,
            quantity,
            price_cents,
        }
    }
}
