//! The sudden ends of a guest.

use std::hint::black_box;

use super::Step;

/// Comes to the end that a step names.
pub(super) fn end(step: &Step) -> ! {
    match step {
        Step::Trap => trap(),
        Step::Spin => spin(),
        Step::Recurse => unreachable!("the stack had room for {}", recurse(0)),
        Step::Grow => grow(),
        Step::Exit => std::process::exit(3),
        _ => panic!("as it was told"),
    }
}

/// Computes for ever.
pub fn spin() -> ! {
    loop {
        black_box(0);
    }
}

/// Uses up the memory.
pub fn grow() -> ! {
    let mut kept = Vec::new();
    loop {
        kept.push(black_box(vec![1_u8; 1 << 20]));
    }
}

/// Traps.
#[cfg(target_arch = "wasm32")]
pub fn trap() -> ! {
    core::arch::wasm32::unreachable()
}

/// Traps.
#[cfg(not(target_arch = "wasm32"))]
pub fn trap() -> ! {
    unreachable!("guests run on wasm32 only")
}

/// Uses up WebAssembly's own stack, which holds numbers.
pub fn recurse(depth: u64) -> u64 {
    if depth == u64::MAX {
        0
    } else {
        black_box(recurse(black_box(depth + 1))) + depth
    }
}

/// Uses up the stack in the guest's memory, where a compiler puts what is larger than a number.
pub fn recurse_with_arrays(depth: u64) -> u64 {
    let array = black_box([depth; 32]);
    if depth == u64::MAX {
        0
    } else {
        recurse_with_arrays(depth + 1) + array[31]
    }
}
