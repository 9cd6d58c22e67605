//! Hearth on a developer's machine: `hearth serve`, `invoke`, `check` and `compile`.

fn main() -> std::process::ExitCode {
    hearth_host::hearth()
}
