//! `wit/deps/clocks.wit` for the host: a clock on which a guest can wait while others run.
//!
//! Promises: whoever waits holds nothing and costs nothing. Left to others: what ends a wait that
//! is longer than its invocation (the deadline does).

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use wasmtime::component::{Accessor, HasData};

use super::bindings::wasi::clocks::monotonic_clock;

/// When the clock showed nothing yet.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The clock, which is the same for all.
pub struct Clock;

impl HasData for Clock {
    type Data<'a> = Self;
}

impl monotonic_clock::Host for Clock {
    fn now(&mut self) -> wasmtime::Result<monotonic_clock::Mark> {
        // Enough for centuries.
        Ok(BEGINNING.elapsed().as_nanos() as u64)
    }

    fn get_resolution(&mut self) -> wasmtime::Result<monotonic_clock::Duration> {
        Ok(1)
    }
}

impl<T: Send> monotonic_clock::HostWithStore<T> for Clock {
    async fn wait_until(
        _: &Accessor<T, Self>,
        when: monotonic_clock::Mark,
    ) -> wasmtime::Result<()> {
        let shown = BEGINNING.elapsed();
        tokio::time::sleep(Duration::from_nanos(when).saturating_sub(shown)).await;
        Ok(())
    }

    async fn wait_for(
        _: &Accessor<T, Self>,
        how_long: monotonic_clock::Duration,
    ) -> wasmtime::Result<()> {
        tokio::time::sleep(Duration::from_nanos(how_long)).await;
        Ok(())
    }
}
