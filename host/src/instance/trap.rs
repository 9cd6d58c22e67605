//! What a guest's sudden end means: wasmtime's error as a [`Fault`].

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::fault::{Fault, Kind};
use crate::telemetry::Output;

/// Frames of a stack trace that are kept, from the innermost.
const FRAMES_MAX: usize = 32;
/// A stack this deep when memory was touched that is not there: the guest's own stack, which lies
/// at the bottom of its memory, was exhausted before the host's was.
const RECURSION_FRAMES: usize = 512;

/// The fault of a guest that came to a sudden end. `refused` says whether it had been refused
/// memory; `output` is what it wrote.
pub fn fault(error: &wasmtime::Error, refused: bool, output: &Output) -> Fault {
    let trace = error.downcast_ref::<WasmBacktrace>();
    let depth = trace.map_or(0, |trace| trace.frames().len());
    let (kind, message) = if let Some(exit) = error.downcast_ref::<I32Exit>() {
        (
            Kind::Trap,
            format!(
                "the function ended its process with status {} instead of answering",
                exit.0
            ),
        )
    } else {
        match error.downcast_ref::<Trap>() {
            Some(Trap::Interrupt) => (
                Kind::DeadlineExceeded,
                "the function was still computing at its deadline".to_owned(),
            ),
            Some(Trap::StackOverflow) => (
                Kind::StackOverflow,
                "the function's stack is exhausted".to_owned(),
            ),
            Some(Trap::MemoryOutOfBounds) if depth >= RECURSION_FRAMES => (
                Kind::StackOverflow,
                "the function's stack is exhausted".to_owned(),
            ),
            Some(trap) => of_trap(trap, refused, output),
            None => (
                Kind::Internal,
                format!("the function could not go on: {error:#}"),
            ),
        }
    };
    Fault::new(kind, message).traced(trace.map(frames).unwrap_or_default())
}

fn of_trap(trap: &Trap, refused: bool, output: &Output) -> (Kind, String) {
    if let Some(message) = output.panic_message() {
        return (Kind::Panic, format!("the function panicked: {message}"));
    }
    if refused {
        return (
            Kind::OutOfMemory,
            "the function needed more memory than its `memory_mib` allows".to_owned(),
        );
    }
    (Kind::Trap, format!("the function trapped: {trap}"))
}

/// The names of the functions on the stack, innermost first.
fn frames(trace: &WasmBacktrace) -> Vec<String> {
    trace
        .frames()
        .iter()
        .take(FRAMES_MAX)
        .map(|frame| match frame.func_name() {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        })
        .collect()
}
