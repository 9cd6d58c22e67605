//! Says which of its hooks have run, and does not look after itself when it is a copy.

use hearth::Context;
use serde_json::Value;
use test_guests::hooks::{account, forget, warm_up};

#[hearth::function(init = warm_up, snapshot = forget)]
async fn handle(_: Value, cx: Context) -> Result<Value, hearth::Error> {
    Ok(account(cx.is_first()))
}
