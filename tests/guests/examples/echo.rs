//! The event comes back as it is; the event `"context"` is answered with all that is known about it.

use hearth::{Context, Raw};
use serde_json::json;

#[hearth::function]
async fn handle(event: Raw, cx: Context) -> Result<Raw, hearth::Error> {
    if event.0 != b"\"context\"" {
        return Ok(event);
    }
    let context = json!({
        "request_id": cx.request_id(),
        "remaining_ms": cx.remaining().as_millis() as u64,
        "function_name": cx.function_name(),
        "function_version": cx.function_version(),
        "function_arn": cx.function_arn(),
        "trace_id": cx.trace_id(),
        "client_context": cx.client_context(),
        "identity": cx.identity(),
        "tenant_id": cx.tenant_id(),
        "header": cx.header("Lambda-Runtime-Weather"),
        "environment": std::env::vars().collect::<std::collections::BTreeMap<_, _>>(),
    });
    Ok(Raw(context.to_string().into_bytes()))
}
