//! What a guest is told of an invocation: a little with each, and the rest when it asks.
//!
//! Promises: a guest can ask only about invocations that it is handling at the time.

use super::state::State;
use crate::interface::bindings::Context;
use crate::interface::bindings::hearth::function::invocation::{Details, Host};
use crate::invocation::Invocation;

/// What is told with each event. `number` counts the invocations of the instance, from 0.
pub(super) fn context(invocation: &Invocation, number: u64) -> Context {
    Context {
        number,
        deadline_ms: invocation.deadline.unix_ms,
        first: number == 0,
    }
}

impl Host for State {
    fn get_details(&mut self, number: u64) -> wasmtime::Result<Option<Details>> {
        Ok(self.invocation(number).map(details))
    }
}

fn details(invocation: &Invocation) -> Details {
    Details {
        request_id: invocation.request_id.clone(),
        function_name: invocation.function_name.clone(),
        function_version: invocation.function_version.clone(),
        function_arn: invocation.function_arn.clone(),
        trace_id: invocation.trace_id.clone(),
        client_context: invocation.client_context.clone(),
        identity: invocation.identity.clone(),
        tenant_id: invocation.tenant_id.clone(),
        headers: invocation.headers.clone(),
    }
}
