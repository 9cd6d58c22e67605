//! Says which of its hooks have run, and looks after itself when it is a copy; or traps, on command.

use hearth::Context;
use serde_json::Value;
use test_guests::hooks::{account, forget, renew, warm_up};
use test_guests::program::crash::trap;

#[hearth::function(init = warm_up, snapshot = forget, restored = renew)]
async fn handle(event: Value, cx: Context) -> Result<Value, hearth::Error> {
    if event == "trap" {
        trap();
    }
    Ok(account(cx.is_first()))
}
