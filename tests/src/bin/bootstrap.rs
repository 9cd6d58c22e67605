//! The `bootstrap` under test; cargo tells a test where it is only if it stands in its package.

fn main() -> std::process::ExitCode {
    hearth_host::bootstrap()
}
