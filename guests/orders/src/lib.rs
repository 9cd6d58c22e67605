//! A small shop on PostgreSQL: creates orders, reads one, lists them.
//!
//! ```json
//! {"action": "create", "customer": "Ada", "lines": [{"sku": "lamp", "quantity": 2}]}
//! {"action": "read", "id": 1}
//! {"action": "list", "limit": 20, "before": 41}
//! ```
//!
//! The tables are in `schema.sql`. What is wrong with an event is told by the error type:
//! `InvalidOrder`, `UnknownProduct`, `OutOfStock`, `UnknownOrder`.

use hearth::{Context, postgres};
use serde::{Deserialize, Serialize};

mod create;
mod list;
mod order;
mod read;

#[derive(Deserialize)]
#[serde(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
enum Event {
    Create(create::NewOrder),
    Read { id: i64 },
    List(list::Request),
}

#[derive(Serialize)]
#[serde(untagged)]
enum Answer {
    Order(order::Order),
    Page(list::Page),
}

#[hearth::function]
async fn handle(event: Event, cx: Context) -> Result<Answer, hearth::Error> {
    let db = postgres::default()?;
    Ok(match event {
        Event::Create(new) => Answer::Order(create::create(&db, cx.request_id(), new).await?),
        Event::Read { id } => Answer::Order(read::read(&db, id).await?),
        Event::List(request) => Answer::Page(list::list(&db, request).await?),
    })
}
