//! Says which of its hooks have run, and looks after itself when it is a copy.

use hearth::Context;
use serde_json::Value;
use test_guests::hooks::{account, forget, renew, warm_up};

#[hearth::function(init = warm_up, snapshot = forget, restored = renew)]
async fn handle(_: Value, cx: Context) -> Result<Value, hearth::Error> {
    Ok(account(cx.is_first()))
}
