//! What a guest's sudden end means: wasmtime's error as a [`Fault`].

use wasmtime::{Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::fault::{Fault, Kind};
use crate::limits;
use crate::telemetry::Output;

/// Where Rust's functions are that make a panic.
const PANIC: [&str; 2] = ["core::panicking::", "std::panicking::"];
/// Where an address just below zero ends up: around the end of a guest's address space, since an
/// instruction adds its own offset. The guest's own stack lies at the bottom of its memory, so this
/// is what exhausting it looks like.
const BELOW_ZERO: std::ops::RangeInclusive<u64> = 0xfff0_0000..=0x1_0010_0000;

/// The fault of a guest that came to a sudden end. `refused` says whether it had been refused
/// memory; `output` is what it wrote.
pub fn fault(error: &wasmtime::Error, refused: bool, output: &Output) -> Fault {
    let trace = error.downcast_ref::<WasmBacktrace>();
    let (kind, message) = if let Some(exit) = error.downcast_ref::<I32Exit>() {
        (
            Kind::Trap,
            format!(
                "the function ended its process with status {} instead of answering; return an error instead",
                exit.0
            ),
        )
    } else {
        match error.downcast_ref::<Trap>() {
            Some(trap) => of_trap(*trap, error, refused, output),
            // The host refused it something that no function should need, such as one more handle.
            None => (
                Kind::Trap,
                format!("the function could not go on: {}", error.root_cause()),
            ),
        }
    };
    let mut frames = trace.map(frames).unwrap_or_default();
    if kind == Kind::Panic {
        frames.drain(..panicking(&frames));
    }
    frames.truncate(limits::TRAP_FRAMES_MAX);
    Fault::new(kind, message).traced(frames)
}

/// Whether a guest came to its end because it went on past a deadline.
pub fn is_overrun(error: &wasmtime::Error) -> bool {
    matches!(error.downcast_ref::<Trap>(), Some(Trap::Interrupt))
}

/// The fault of an invocation whose own deadline is still to come, where another one went on past
/// its own.
pub fn beside_overrun() -> Fault {
    Fault::new(
        Kind::Trap,
        "another invocation in the same instance went on past its deadline, and the instance was ended under both",
    )
}

/// How many of the innermost frames are those of Rust's panic itself, which say nothing.
fn panicking(frames: &[String]) -> usize {
    let is_panic = |frame: &String| PANIC.iter().any(|path| frame.starts_with(path));
    frames.iter().rposition(is_panic).map_or(0, |last| last + 1)
}

fn of_trap(trap: Trap, error: &wasmtime::Error, refused: bool, output: &Output) -> (Kind, String) {
    let exhausted = || {
        (
            Kind::StackOverflow,
            "the function's stack is exhausted; look for a recursion without end, and keep large values in a Vec or a Box"
                .to_owned(),
        )
    };
    match trap {
        Trap::Interrupt => (
            Kind::DeadlineExceeded,
            "the function was still computing at its deadline; give it more time (the function's timeout, on the \
             local host `timeout_ms`) or less to do"
                .to_owned(),
        ),
        Trap::StackOverflow => exhausted(),
        Trap::MemoryOutOfBounds
            if fault_address(error).is_some_and(|address| BELOW_ZERO.contains(&address)) =>
        {
            exhausted()
        }
        trap => match output.panic_message() {
            Some(message) => (Kind::Panic, format!("the function panicked: {message}")),
            None if refused => (
                Kind::OutOfMemory,
                "the function needed more memory than its `memory_mib` allows; raise that, or let it hold less at \
                 a time"
                    .to_owned(),
            ),
            None => (Kind::Trap, format!("the function trapped: {trap}")),
        },
    }
}

/// The address that the guest touched. Wasmtime tells it only as text, among an error's causes:
/// "memory fault at wasm address 0x… in linear memory of size 0x…".
fn fault_address(error: &wasmtime::Error) -> Option<u64> {
    error.chain().find_map(|cause| {
        let text = cause.to_string();
        let (_, digits) = text.split_once("wasm address 0x")?;
        let end = digits
            .find(|c: char| !c.is_ascii_hexdigit())
            .unwrap_or(digits.len());
        u64::from_str_radix(&digits[..end], 16).ok()
    })
}

/// The names of the functions on the stack, innermost first.
fn frames(trace: &WasmBacktrace) -> Vec<String> {
    trace
        .frames()
        .iter()
        .map(|frame| match frame.func_name() {
            Some(name) => format!("{:#}", rustc_demangle::demangle(name)),
            None => format!("function {}", frame.func_index()),
        })
        .collect()
}
