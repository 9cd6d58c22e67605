//! Hearth as a custom runtime for AWS Lambda.

fn main() -> std::process::ExitCode {
    hearth_host::bootstrap()
}
