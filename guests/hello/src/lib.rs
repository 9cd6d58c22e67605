//! Says hello, and counts how often this instance did: the number goes up as long as it is warm.

use std::sync::atomic::{AtomicU64, Ordering};

use hearth::Context;
use serde::{Deserialize, Serialize};

static INVOCATIONS: AtomicU64 = AtomicU64::new(0);

#[derive(Deserialize)]
struct Event {
    #[serde(default = "world")]
    name: String,
}

fn world() -> String {
    "world".to_owned()
}

#[derive(Serialize)]
struct Answer {
    message: String,
    invocations: u64,
    first: bool,
}

#[hearth::function]
async fn handle(event: Event, cx: Context) -> Result<Answer, hearth::Error> {
    Ok(Answer {
        message: format!("Hello, {}!", event.name),
        invocations: INVOCATIONS.fetch_add(1, Ordering::Relaxed) + 1,
        first: cx.is_first(),
    })
}
