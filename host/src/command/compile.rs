//! `hearth compile`: from a component to machine code, so that a deployed host needs no compiler.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::instance::engine;

/// What `hearth compile` is told.
#[derive(Debug, Args)]
pub(super) struct Compile {
    /// The component.
    #[arg(value_name = "WASM")]
    component: PathBuf,
    /// Where the machine code goes [default: beside the component, with the ending .cwasm].
    #[arg(short, long, value_name = "CWASM")]
    output: Option<PathBuf>,
}

impl Compile {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let output = self
            .output
            .unwrap_or_else(|| self.component.with_extension("cwasm"));
        engine::compile(&self.component, &output)?;
        println!("{}", output.display());
        Ok(ExitCode::SUCCESS)
    }
}
