//! Components with more in them than their guests need.

use std::path::PathBuf;

use crate::{Guest, run};

/// What a module brings with it that is added to a component.
#[derive(Debug, Clone, Copy)]
pub enum Extra {
    /// A memory of so many MiB.
    MemoryMib(u32),
    /// A table of so many elements.
    Table(u32),
    /// So many functions, each long enough that a compiler takes some milliseconds for it.
    Functions(u32),
}

/// The guest, compiled, beside modules that nobody uses.
pub fn beside(guest: &Guest, extras: &[Extra]) -> PathBuf {
    let wasm = uncompiled_beside(guest, extras);
    let compiled = wasm.with_extension("cwasm");
    hearth_host::compile(&wasm, &compiled).unwrap_or_else(|fault| panic!("{extras:?}: {fault}"));
    compiled
}

/// The same before it is compiled.
pub fn uncompiled_beside(guest: &Guest, extras: &[Extra]) -> PathBuf {
    let mut component = std::fs::read(guest.wasm()).expect("the build script put it there");
    let modules = modules_in(&component);
    for (number, extra) in (modules..).zip(extras) {
        append(&mut component, MODULE, &module(*extra));
        // One instance, of that module, without arguments.
        let instance = [&[1_u8, 0][..], &leb128(number), &[0]].concat();
        append(&mut component, CORE_INSTANCE, &instance);
    }
    let wasm = run::fresh_directory().join("beside.wasm");
    std::fs::write(&wasm, component).expect("the directory is new");
    wasm
}

/// Numbers of sections of a component, and of a module.
const MODULE: u8 = 1;
const CORE_INSTANCE: u8 = 2;
const TYPE: u8 = 1;
const FUNCTION: u8 = 3;
const TABLE: u8 = 4;
const MEMORY: u8 = 5;
const CODE: u8 = 10;
/// What stands before the first section of either.
const HEADER_BYTES: usize = 8;

fn module(extra: Extra) -> Vec<u8> {
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    // One of them, with a least size and no largest.
    match extra {
        Extra::MemoryMib(mib) => {
            let memory = [&[1_u8, 0][..], &leb128(mib * 16)].concat();
            append(&mut module, MEMORY, &memory);
        }
        Extra::Table(elements) => {
            const FUNCREF: u8 = 0x70;
            let table = [&[1, FUNCREF, 0][..], &leb128(elements)].concat();
            append(&mut module, TABLE, &table);
        }
        Extra::Functions(count) => {
            append(&mut module, TYPE, &[1, 0x60, 0, 0]);
            let types = std::iter::repeat_n(0, count as usize);
            let types = leb128(count).into_iter().chain(types);
            append(&mut module, FUNCTION, &types.collect::<Vec<u8>>());
            // A number whose square becomes the number, again and again.
            const LOCALS: [u8; 3] = [1, 1, 0x7f];
            const SQUARED: [u8; 7] = [0x20, 0, 0x20, 0, 0x6c, 0x21, 0];
            let body = [&LOCALS[..], &SQUARED.repeat(1_000), &[0x0b]].concat();
            let length = u32::try_from(body.len()).expect("it is short");
            let body = [leb128(length), body].concat();
            let bodies = [leb128(count), body.repeat(count as usize)].concat();
            append(&mut module, CODE, &bodies);
        }
    }
    module
}

/// How many modules a component has itself.
fn modules_in(component: &[u8]) -> u32 {
    let (mut rest, mut modules) = (&component[HEADER_BYTES..], 0);
    while let Some((id, after)) = rest.split_first() {
        let (size, digits) = read_leb128(after);
        modules += u32::from(*id == MODULE);
        rest = &after[digits + size..];
    }
    modules
}

fn append(to: &mut Vec<u8>, section: u8, content: &[u8]) {
    to.push(section);
    let size = u32::try_from(content.len()).expect("a test's sections are small");
    to.extend(leb128(size));
    to.extend(content);
}

fn leb128(mut number: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

/// A number, and in how many bytes it is written.
fn read_leb128(bytes: &[u8]) -> (usize, usize) {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0);
    let end = end.expect("a component's sections have sizes");
    let number = bytes[..=end].iter().rev();
    let number = number.fold(0, |sum, byte| sum << 7 | usize::from(byte & 0x7f));
    (number, end + 1)
}
