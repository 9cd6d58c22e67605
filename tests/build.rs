//! Builds the guests that the tests run, and tells the harness where they are.
//!
//! `scripts/guests` does the building, in `target/guests`. Nothing there can be stale: cargo
//! compares every source whenever this script runs, and this script runs when anything under the
//! paths below has changed. What was built is copied to `OUT_DIR`, so that a later build for
//! another purpose cannot pull it away from under these tests.
//!
//! It also compiles the clock that a host under test can be given (`src/clock.c`), with the C compiler
//! that links Rust's programs.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What the guests are made from.
const SOURCES: &[&str] = &[
    "Cargo.lock",
    "Cargo.toml",
    "guest-sdk",
    "guests",
    "scripts/guests",
    "scripts/wasm-toolchain",
    "tests/guests",
    "wit",
];

fn main() {
    // As it is now: this script may have been compiled where the repository stood before.
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let root = manifest.parent().expect("it is in a workspace");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    for outcome in [build(root), clock(&manifest)] {
        if let Err(message) = outcome {
            message
                .lines()
                .for_each(|line| println!("cargo::error={line}"));
        }
    }
}

fn clock(manifest: &Path) -> Result<(), String> {
    let source = manifest.join("src/clock.c");
    println!("cargo::rerun-if-changed={}", source.display());
    run(Command::new("cc")
        .args(["-shared", "-fPIC", "-O2", "-Wall", "-Werror", "-o"])
        .arg(out().join("libclock.so"))
        .arg(source)
        .arg("-ldl"))
}

/// Runs a command that says what is wrong, if anything is.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().display().to_string();
    let output = command
        .output()
        .map_err(|error| format!("{name}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

fn build(root: &Path) -> Result<(), String> {
    run(Command::new(root.join("scripts/guests")).arg("--tests"))?;

    let built = root.join("target/guests/wasm32-wasip2/guest");
    let mut constants = String::new();
    for name in ["hello", "orders"] {
        constants += &constant(name, &built.join(format!("{name}.wasm")))?;
    }
    let mut examples: Vec<_> = fs::read_dir(root.join("tests/guests/examples"))
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .collect();
    examples.sort();
    for name in &examples {
        constants += &constant(name, &built.join(format!("examples/{name}.wasm")))?;
    }
    fs::write(out().join("guests.rs"), constants).map_err(|error| error.to_string())
}

/// Where cargo wants what a build script makes.
fn out() -> PathBuf {
    PathBuf::from(env::var("OUT_DIR").expect("cargo sets it"))
}

/// The constant that names a guest, once the guest is in `OUT_DIR`.
fn constant(name: &str, wasm: &Path) -> Result<String, String> {
    let copy = out().join(format!("{name}.wasm"));
    fs::copy(wasm, &copy).map_err(|error| format!("{}: {error}", wasm.display()))?;
    Ok(format!(
        "/// The guest `{name}`.\npub static {}: Guest = Guest::new({name:?}, {:?});\n",
        name.to_uppercase(),
        copy.display().to_string()
    ))
}
