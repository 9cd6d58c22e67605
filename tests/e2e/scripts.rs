//! What the scripts say on a machine that lacks something, and where they look for what they build.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::run;

/// Programs that every machine has.
const ALWAYS: [&str; 11] = [
    "bash", "cat", "cut", "dirname", "env", "grep", "head", "ls", "readlink", "sed", "sort",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("it is in a workspace")
}

/// A machine with nothing else in its `PATH`.
struct Machine {
    home: PathBuf,
    programs: PathBuf,
}

impl Machine {
    fn new() -> Self {
        let home = run::fresh_directory();
        let programs = home.join("programs");
        fs::create_dir(&programs).unwrap();
        let machine = Self { home, programs };
        for program in ALWAYS {
            let path = std::env::split_paths(&std::env::var_os("PATH").unwrap())
                .map(|folder| folder.join(program))
                .find(|path| path.is_file())
                .unwrap_or_else(|| panic!("{program} is not here"));
            symlink(path, machine.programs.join(program)).unwrap();
        }
        machine.with("id", "echo 0")
    }

    /// The same with a program that does this.
    fn with(self, program: &str, does: &str) -> Self {
        let path = self.programs.join(program);
        fs::write(&path, format!("#!/bin/sh\n{does}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    /// The same with a Rust of this version, and what is needed besides.
    fn with_rust(self, version: &str) -> Self {
        let does = format!("[ \"$1\" = --version ] && echo 'rustc {version} (of this test)'");
        let programs = self.programs.display().to_string();
        self.with("cargo", "")
            .with("rustc", &does)
            .with("cc", "")
            .with("initdb", "")
            .with("postgres", "")
            .with("pg_config", &format!("echo '{programs}'"))
    }

    /// What `scripts/setup` says at last.
    fn refusal(&self, variables: &[(&str, &str)]) -> String {
        let output = Command::new(self.programs.join("bash"))
            .arg(root().join("scripts/setup"))
            .env_clear()
            .env("PATH", &self.programs)
            .env("HOME", &self.home)
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        told.lines().last().unwrap_or_default().to_owned()
    }
}

#[test]
fn setup_says_how_to_get_a_rust() {
    let rustup = "curl https://sh.rustup.rs -sSf | sh && . ";
    let bare = Machine::new();
    let told = bare.refusal(&[]);
    assert!(
        told.contains("apt-get install -y curl") && told.contains(rustup),
        "{told}"
    );
    let told = bare.refusal(&[("SUDO_USER", "ada")]);
    assert!(told.contains("without sudo"), "{told}");

    let with_curl = Machine::new().with("curl", "");
    let told = with_curl.refusal(&[]);
    assert!(told.contains(rustup) && !told.contains("apt-get"), "{told}");

    // It was installed, but this shell was there before.
    fs::create_dir(with_curl.home.join(".cargo")).unwrap();
    let env = with_curl.home.join(".cargo/env");
    fs::write(&env, "").unwrap();
    let told = with_curl.refusal(&[]);
    let expected = format!(". \"{}\"", env.display());
    assert!(told.ends_with(&expected), "{told}");
}

#[test]
fn setup_says_how_to_get_a_newer_rust() {
    let machine = Machine::new().with_rust("1.85.0");
    let told = machine.refusal(&[]);
    assert!(
        told.contains("sh.rustup.rs") && !told.contains("rustup update"),
        "{told}"
    );
    let told = machine.with("rustup", "").refusal(&[]);
    assert!(told.ends_with("rustup update stable"), "{told}");
}

#[test]
fn setup_says_how_to_get_a_compiler_for_functions() {
    let machine = Machine::new().with_rust("1000.0.0");
    let told = machine.refusal(&[]);
    assert!(told.contains("sh.rustup.rs"), "{told}");
    let machine = machine.with("rustup", "echo 'error: no network' >&2; exit 1");
    let told = machine.refusal(&[]);
    assert!(told.ends_with("rustup target add wasm32-wasip2"), "{told}");
}

#[test]
fn whatever_a_script_builds_is_where_the_script_says() {
    for script in ["demo", "bench", "release", "guests", "test"] {
        let text = fs::read_to_string(root().join("scripts").join(script)).unwrap();
        for line in text.replace("\\\n", "").lines() {
            let builds = line.contains("cargo ") && line.contains(" build ");
            let builds = builds && !line.starts_with('#');
            assert!(
                !builds || line.contains("--target-dir"),
                "{script}: cargo's configuration may name another folder: {line}"
            );
        }
    }
}
