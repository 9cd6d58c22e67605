//! Hearth on a developer's machine: `hearth serve`, `hearth invoke`.

fn main() -> std::process::ExitCode {
    hearth_host::hearth()
}
