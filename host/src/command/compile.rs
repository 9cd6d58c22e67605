//! `hearth compile`: from a component to machine code, so that a deployed host needs no compiler.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
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
        // By the ending a host knows what it is, and a component is not written over by mistake.
        if output.extension().is_none_or(|ending| ending != "cwasm") {
            bail!(
                "{} does not end in .cwasm, by which a host knows machine code; choose another name with -o",
                output.display()
            );
        }
        engine::compile(&self.component, &output)?;
        println!("{}", output.display());
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_code_is_written_under_no_other_ending() {
        for output in ["a.wasm", "a.cwasm.bin", "a", ".cwasm"] {
            let compile = Compile {
                component: "a.wasm".into(),
                output: Some(output.into()),
            };
            let error = compile.execute().unwrap_err().to_string();
            let expected = format!("{output} does not end in .cwasm");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
