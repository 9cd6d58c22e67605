//! AWS's own client for Python works on the local host as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::guests::{MISBEHAVE, ONWARD};
use e2e::trial::FUNCTION;
use e2e::{Door, Setup, Trial};

/// A Python with boto3 from PyPI, in a virtual environment that is made once.
fn python() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let directory = tests
        .parent()
        .expect("it is in a workspace")
        .join("target/boto3");
    let python = directory.join("bin/python");
    if !Command::new(&python)
        .args(["-c", "import boto3"])
        .output()
        .is_ok_and(|output| output.status.success())
    {
        let run = |command: &mut Command, advice: &str| {
            let output = command
                .output()
                .unwrap_or_else(|error| panic!("python3: {error}; {advice}"));
            let told = String::from_utf8_lossy(&output.stderr);
            assert!(
                output.status.success(),
                "{advice}\n{}{told}",
                String::from_utf8_lossy(&output.stdout)
            );
        };
        let venv =
            "a virtual environment cannot be made: run scripts/setup, which installs python3-venv";
        run(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&directory),
            venv,
        );
        let pip = "boto3 cannot be installed from PyPI";
        run(
            Command::new(&python).args(["-m", "pip", "install", "--quiet", "boto3"]),
            pip,
        );
    }
    python
}

/// Runs a script against a local host.
fn run(script: &str, trial: &Trial) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("e2e")
        .join(script);
    let output = Command::new(python())
        .arg(script)
        .arg(format!("http://{}", trial.address()))
        .arg(FUNCTION)
        .output();
    let output = output.expect("it ran before");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}{told}",
        String::from_utf8_lossy(&output.stdout)
    );
}

/// In one test, since both need the same virtual environment.
#[tokio::test]
async fn boto3_invokes_in_all_three_ways_and_reads_streams() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Local).await;
    run("invoke_with_boto3.py", &trial);
    let trial = Setup::of(&ONWARD)
        .function("response", "\"stream\"")
        .start(Door::Local)
        .await;
    run("stream_with_boto3.py", &trial);
}
