//! Waiting, without keeping others from running.

use std::time::Duration;

use crate::bindings::wasi::clocks::monotonic_clock;

/// Waits. Meanwhile the rest of the invocation, under `join!`, and others in the same instance go
/// on, which `std::thread::sleep` would hold up.
///
/// It is no way to outlast the invocation: the host ends that at its deadline.
pub async fn sleep(duration: Duration) {
    let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    monotonic_clock::wait_for(nanos).await;
}
