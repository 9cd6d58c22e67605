//! Counts the invocations of its own instance: those it served, and the most it served at a time.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

use hearth::Context;
use serde::{Deserialize, Serialize};

static SERVED: AtomicU32 = AtomicU32::new(0);
static RUNNING: AtomicU32 = AtomicU32::new(0);
static TOGETHER: AtomicU32 = AtomicU32::new(0);

#[derive(Deserialize)]
struct Event {
    /// A query that returns one text.
    sql: Option<String>,
}

#[derive(Serialize)]
struct Answer {
    served: u32,
    first: bool,
    together: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
}

#[hearth::function]
async fn handle(event: Event, cx: Context) -> Result<Answer, hearth::Error> {
    let served = SERVED.fetch_add(1, SeqCst) + 1;
    TOGETHER.fetch_max(RUNNING.fetch_add(1, SeqCst) + 1, SeqCst);
    let value = match event.sql {
        Some(sql) => Some(
            hearth::postgres::default()?
                .query_one(&sql, &[])
                .await?
                .try_get(0)?,
        ),
        None => None,
    };
    RUNNING.fetch_sub(1, SeqCst);
    Ok(Answer {
        served,
        first: cx.is_first(),
        together: TOGETHER.load(SeqCst),
        value,
    })
}
