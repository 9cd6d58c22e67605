//! AWS's own clients work on the local host as they are: the one for Python, and the one for the shell.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::LazyLock;

use e2e::guests::{MISBEHAVE, ONWARD};
use e2e::trial::FUNCTION;
use e2e::{Door, Setup, Trial, run};
use serde_json::{Value, json};

/// A virtual environment with both from PyPI, which is made once.
static CLIENTS: LazyLock<PathBuf> = LazyLock::new(|| {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().expect("it is in a workspace");
    let directory = root.join("target/aws-clients");
    let python = directory.join("bin/python");
    let there = Command::new(&python)
        .args(["-c", "import boto3, awscli"])
        .output();
    if !there.is_ok_and(|output| output.status.success()) {
        let venv = "a virtual environment cannot be made: run scripts/setup --tests, which installs python3-venv";
        must(
            Command::new("python3")
                .args(["-m", "venv", "--clear"])
                .arg(&directory),
            venv,
        );
        must(
            Command::new(&python).args(["-m", "pip", "install", "--quiet", "boto3", "awscli"]),
            "boto3 and awscli cannot be installed from PyPI",
        );
    }
    directory.join("bin")
});

/// Runs a command that must succeed, and returns what it printed.
fn must(command: &mut Command, advice: &str) -> String {
    let output = command.output();
    let output = output.unwrap_or_else(|error| panic!("{command:?}: {error}; {advice}"));
    let [told, printed] =
        [&output.stderr, &output.stdout].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success(), "{advice}\n{printed}{told}");
    printed.into_owned()
}

/// Runs a script against a local host.
fn script(name: &str, trial: &Trial) {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    must(
        Command::new(CLIENTS.join("python"))
            .arg(tests.join("e2e/local").join(name))
            .arg(format!("http://{}", trial.address()))
            .arg(FUNCTION),
        name,
    );
}

#[tokio::test]
async fn boto3_invokes_in_all_three_ways_and_reads_streams() {
    let trial = Setup::of(&MISBEHAVE).start(Door::Local).await;
    script("invoke_with_boto3.py", &trial);
    let trial = Setup::of(&ONWARD)
        .function("response", "\"stream\"")
        .start(Door::Local)
        .await;
    script("stream_with_boto3.py", &trial);
}

/// The AWS CLI, with only an endpoint given. Its credentials are checked by nobody.
struct Cli<'a> {
    trial: &'a Trial,
    program: PathBuf,
    /// What this version of it needs besides.
    options: &'static [&'static str],
    directory: PathBuf,
}

impl Cli<'_> {
    fn invoke(&self, function: &str, payload: &Value, options: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command
            .env("AWS_ACCESS_KEY_ID", "none")
            .env("AWS_SECRET_ACCESS_KEY", "none")
            .env("AWS_DEFAULT_REGION", "eu-central-1")
            .env("HOME", &self.directory)
            .env("AWS_PAGER", "")
            .args(["lambda", "invoke", "--function-name", function])
            .args([
                "--endpoint-url",
                &format!("http://{}", self.trial.address()),
            ])
            .args(["--payload", &payload.to_string()])
            .args(self.options)
            .args(options)
            .arg(self.directory.join("answer.json"));
        command.output().expect("it was installed")
    }

    /// What it prints, and the answer that it has stored.
    fn invoked(&self, payload: &Value, options: &[&str]) -> (Value, Value) {
        let output = self.invoke(FUNCTION, payload, options);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{told}");
        let answer = std::fs::read(self.directory.join("answer.json")).expect("it was stored");
        let read = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap_or_default();
        (read(&output.stdout), read(&answer))
    }
}

#[tokio::test]
async fn the_aws_cli_invokes_in_all_three_ways() {
    invokes_in_all_three_ways(CLIENTS.join("aws"), &[]).await;
}

/// It is not on PyPI, but on some machines, and a package of some systems.
#[tokio::test]
async fn the_aws_cli_of_version_2_does_too_where_there_is_one() {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut programs = std::env::split_paths(&path).map(|folder| folder.join("aws"));
    match programs.find(|program| is_version_2(program)) {
        Some(program) => {
            let options = &["--cli-binary-format", "raw-in-base64-out"];
            invokes_in_all_three_ways(program, options).await;
        }
        // Past the capture of tests that pass, or nobody would read it.
        None => {
            let why = "no `aws` of PATH is the AWS CLI of version 2; Debian's package is `awscli`";
            let _ = writeln!(std::io::stderr(), "NOT RUN: {why}");
        }
    }
}

fn is_version_2(program: &Path) -> bool {
    let version = Command::new(program).arg("--version").output();
    version.is_ok_and(|output| output.stdout.starts_with(b"aws-cli/2."))
}

async fn invokes_in_all_three_ways(program: PathBuf, options: &'static [&'static str]) {
    let trial = Setup::of(&MISBEHAVE).start(Door::Local).await;
    let cli = Cli {
        trial: &trial,
        program,
        options,
        directory: run::fresh_directory(),
    };
    let (said, answer) = cli.invoked(&json!({ "act": "count" }), &["--log-type", "Tail"]);
    assert_eq!(answer["act"], 1);
    assert_eq!(said["StatusCode"], 200);
    assert_eq!(said["ExecutedVersion"], "$LATEST");
    assert!(said["LogResult"].is_string(), "{said}");
    let (said, answer) = cli.invoked(&json!({ "act": "fail" }), &[]);
    assert_eq!(said["FunctionError"], "Unhandled");
    assert_eq!(answer["errorType"], "Misbehaved");
    for (kind, status) in [("DryRun", 204), ("Event", 202)] {
        let (said, _) = cli.invoked(&json!({}), &["--invocation-type", kind]);
        assert_eq!(said["StatusCode"], status, "{kind}");
    }
    let output = cli.invoke("missing", &json!({}), &[]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("ResourceNotFoundException"), "{told}");
}
