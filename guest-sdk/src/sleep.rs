//! Waiting, without keeping others from running.

use std::pin::pin;
use std::task::Poll;
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

/// Waits for a future no longer than so; `None` if it was not ready by then. It is dropped: a call of
/// the database is cancelled by that, unless the server has done it already.
///
/// ```
/// use std::time::Duration;
/// # async fn example(session: &hearth::postgres::Session) -> Result<(), hearth::postgres::Error> {
/// match hearth::timeout(Duration::from_secs(2), session.notification()).await {
///     Some(told) => println!("{}", told?.payload),
///     None => println!("nothing was told"),
/// }
/// # Ok(())
/// # }
/// ```
pub async fn timeout<F: Future>(duration: Duration, future: F) -> Option<F::Output> {
    let (mut future, mut late) = (pin!(future), pin!(sleep(duration)));
    std::future::poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => late.as_mut().poll(cx).map(|()| None),
    })
    .await
}
