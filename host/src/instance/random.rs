//! A guest's random numbers: the system's own.
//!
//! Promises:
//! - no number comes from a generator that this process has seeded: the environment may be one of many copies
//!   of a snapshot;
//! - one call, which cannot be interrupted, takes no longer than some ten milliseconds.

use std::convert::Infallible;

use rand::Rng;
use rand::rand_core::{TryRng, UnwrapErr};
use rand::rngs::SysRng;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder};

use crate::limits;

/// WASI that draws them there.
pub(super) fn builder() -> WasiCtxBuilder {
    let mut wasi = WasiCtxBuilder::new();
    wasi.secure_random(Drawn::default())
        .insecure_random(Drawn::default())
        .insecure_random_seed(seed())
        .max_random_size(limits::RANDOM_BYTES_MAX);
    wasi
}

/// Forgets all that was drawn so far: in a snapshot, its copies have it too.
pub(super) fn renew(wasi: &mut WasiCtx) {
    std::mem::swap(wasi.random(), builder().build().random());
}

/// The seed that a guest is told as often as it asks: from the system too.
fn seed() -> u128 {
    let mut bytes = [0; 16];
    UnwrapErr(SysRng).fill_bytes(&mut bytes);
    u128::from_ne_bytes(bytes)
}

/// What was drawn at a time and is not used yet. The library takes it by single numbers, each of which would be
/// a call of the system.
struct Drawn {
    bytes: [u8; 1024],
    used: usize,
}

impl Default for Drawn {
    fn default() -> Self {
        let bytes = [0; 1024];
        let used = bytes.len();
        Self { bytes, used }
    }
}

impl Drawn {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.bytes.len() - self.used < N {
            UnwrapErr(SysRng).fill_bytes(&mut self.bytes);
            self.used = 0;
        }
        let mut taken = [0; N];
        let drawn = &mut self.bytes[self.used..self.used + N];
        taken.copy_from_slice(drawn);
        // So that a number that was handed out is not left in memory.
        drawn.fill(0);
        self.used += N;
        taken
    }
}

impl TryRng for Drawn {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(u32::from_ne_bytes(self.take()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(u64::from_ne_bytes(self.take()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        UnwrapErr(SysRng).fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use wasmtime_wasi::p2::bindings::random::insecure::Host as _;
    use wasmtime_wasi::p2::bindings::random::insecure_seed::Host as _;
    use wasmtime_wasi::p2::bindings::random::random::Host as _;

    use super::*;

    #[test]
    fn no_number_comes_twice() {
        let mut drawn = Drawn::default();
        let numbers: HashSet<u64> = (0..10_000).map(|_| drawn.next_u64()).collect();
        assert_eq!(numbers.len(), 10_000);
        let odd: HashSet<u64> = (0..1_000)
            .map(|_| {
                drawn.next_u32();
                drawn.next_u64()
            })
            .collect();
        assert_eq!(odd.len(), 1_000);
    }

    #[test]
    fn what_was_used_is_gone() {
        let mut drawn = Drawn::default();
        drawn.next_u32();
        assert_eq!(drawn.bytes[..4], [0; 4]);
        assert_ne!(drawn.bytes[4..], [0; 1020]);
    }

    /// It takes as many calls of the system as there are kilobytes.
    #[test]
    fn a_guest_may_ask_for_much_and_not_for_more() {
        let mut wasi = builder().build();
        let most = limits::RANDOM_BYTES_MAX;
        for _ in 0..64 {
            let bytes = wasi.random().get_random_bytes(most).expect("it may");
            assert_eq!(bytes.len() as u64, most);
        }
        let insecure = wasi.random().get_insecure_random_bytes(most);
        assert_eq!(insecure.expect("it may").len() as u64, most);
        assert!(wasi.random().get_random_bytes(most + 1).is_err());
    }

    #[test]
    fn a_copy_is_told_another_seed() {
        let mut wasi = builder().build();
        let seed = |wasi: &mut WasiCtx| wasi.random().insecure_seed().expect("it never fails");
        let first = seed(&mut wasi);
        assert_eq!(first, seed(&mut wasi));
        renew(&mut wasi);
        assert_ne!(first, seed(&mut wasi));
    }
}
