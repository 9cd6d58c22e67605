//! What `hearth` can be told to do.
//!
//! Promises: a command's result is on standard output, its reasons for failing are in the error
//! it returns, innermost last; whatever it started on this machine has ended before it returns,
//! also after SIGINT, SIGTERM, SIGHUP and SIGQUIT.
//!
//! Left to others: printing that error, which is the binary's.

mod check;
#[cfg(feature = "compile")]
mod compile;
mod environment;
mod invoke;
mod serve;
mod setup;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand};
use tokio::runtime::Runtime;

use crate::config::{self, Config};
use crate::shutdown::Shutdown;

/// Runs WebAssembly functions as AWS Lambda does, on this machine.
#[derive(Debug, Parser)]
#[command(name = "hearth", version, arg_required_else_help = true)]
pub struct Hearth {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve the functions on a port, as Lambda's Invoke API does.
    Serve(serve::Serve),
    /// Invoke a function once and print its answer.
    ///
    /// The answer goes to standard output and the log to standard error. The exit status is 0 when
    /// the function answered and 1 when it failed; then standard output holds its error document.
    Invoke(invoke::Invoke),
    /// Compare the queries that functions declare with the database.
    ///
    /// None of them is executed, and no database is changed: `setup` is run only where there is a PostgreSQL
    /// of the host's own. The exit status is 0 when everything fits and 1 otherwise.
    Check(check::Check),
    /// Compile a component to machine code (.cwasm) for this machine's architecture.
    ///
    /// A host loads it in a millisecond and needs no compiler. It is code: a host that is given a
    /// .cwasm file trusts it as much as itself.
    #[cfg(feature = "compile")]
    Compile(compile::Compile),
}

/// Where the configuration is; the same for all commands.
#[derive(Debug, Args)]
struct ConfigFile {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "hearth.toml")]
    config: PathBuf,
}

impl ConfigFile {
    /// What it says of these functions and of what they need, or of all if none is named.
    fn load(&self, names: &[&str]) -> anyhow::Result<Config> {
        let mut config = Config::load_for(&self.config, &config::variable, names)?;
        let known = &config.functions;
        if let Some(name) = names.iter().find(|name| !known.contains_key(**name)) {
            let known: Vec<&str> = known.keys().map(String::as_str).collect();
            bail!(
                "there is no function {name:?}; there are: {}",
                known.join(", ")
            );
        }
        if !names.is_empty() {
            config.keep(names);
        }
        Ok(config)
    }
}

impl Hearth {
    /// Does what the command line says.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Serve(serve) => serve.execute(),
            Command::Invoke(invoke) => invoke.execute(),
            Command::Check(check) => check.execute(),
            #[cfg(feature = "compile")]
            Command::Compile(compile) => compile.execute(),
        }
    }
}

/// Runs the command line of this process.
pub fn hearth() -> ExitCode {
    Hearth::parse().execute().unwrap_or_else(|error| {
        eprintln!("hearth: {error:#}");
        ExitCode::FAILURE
    })
}

/// From now on the signals no longer end the process by themselves.
fn shutdown() -> anyhow::Result<Shutdown> {
    Shutdown::on_signals_of_terminal().context("cannot listen for signals")
}

/// Does a command's work to its end, on threads of its own.
fn run<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = Runtime::new().context("cannot start the threads that the host runs on")?;
    let result = runtime.block_on(work);
    // What still runs nobody waits for any more, such as the compiler after a signal.
    runtime.shutdown_background();
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        Hearth::command().debug_assert();
    }

    #[test]
    fn the_documented_command_lines_are_read() {
        let lines = [
            "hearth serve",
            "hearth serve --config a/hearth.toml --port 0 --host ::1",
            "hearth invoke hello",
            "hearth invoke hello -d {} --config hearth.toml",
            "hearth invoke hello -d @-",
            "hearth check",
            "hearth check hello orders --config hearth.toml",
        ];
        for line in lines {
            assert!(Hearth::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in ["hearth", "hearth serve --port 70000", "hearth invoke"] {
            assert!(Hearth::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }
}
