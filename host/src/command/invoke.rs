//! `hearth invoke`: one invocation by the same engine, without a port.
//!
//! The function's answer, or its error document, is all that standard output holds, as in the
//! file that `aws lambda invoke` writes; what AWS's command prints around it, the exit status says:
//! 0 for an answer, 1 for a fault. When there was no invocation at all (an unknown function, a
//! payload that is not JSON) standard output stays empty.

use std::future::pending;
use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use uuid::Uuid;

use super::environment::{Setups, with_environment};
use super::{ConfigFile, run, shutdown};
use crate::config::Config;
use crate::event::local::{self, FunctionName, InvocationType};
use crate::fault::Fault;
use crate::invocation::Deadline;
use crate::limits;
use crate::serve::Environment;
use crate::shutdown::Shutdown;
use crate::telemetry;

#[derive(Debug, Args)]
pub(super) struct Invoke {
    /// The function's name.
    name: String,
    /// The event: JSON, @FILE to read it from a file, or @- for standard input.
    #[arg(
        short,
        long,
        value_name = "JSON|@FILE|@-",
        default_value = "{}",
        allow_hyphen_values = true
    )]
    data: String,
    /// The tenant for which it is invoked.
    #[arg(long, value_name = "TENANT")]
    tenant_id: Option<String>,
    #[command(flatten)]
    file: ConfigFile,
}

impl Invoke {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = self.file.load(&[&self.name])?;
        telemetry::start_on_stderr(&config.log);
        let (event, tenant_id) = (event(&self.data)?, self.tenant_id()?);
        let answer = run(self.invoke(config, event, tenant_id))?;
        let (bytes, status) = match answer {
            Ok(bytes) => (bytes, ExitCode::SUCCESS),
            Err(fault) => (Bytes::from(fault.body()), ExitCode::FAILURE),
        };
        print(&bytes).context("cannot write the answer to standard output")?;
        Ok(status)
    }

    /// The tenant, read as the header that says it elsewhere.
    fn tenant_id(&self) -> anyhow::Result<Option<String>> {
        let given = self.tenant_id.as_deref().unwrap_or_default();
        let tenant_id = local::plain(given.as_bytes())
            .with_context(|| format!("--tenant-id must be printable ASCII text, not {given:?}"))?;
        Ok(tenant_id.map(str::to_owned))
    }

    async fn invoke(
        &self,
        config: Config,
        event: Bytes,
        tenant_id: Option<String>,
    ) -> anyhow::Result<Result<Bytes, Fault>> {
        let work = async |_, environment: Environment, shutdown: Shutdown| {
            let answer = tokio::select! {
                answer = self.handle(&environment, event, tenant_id) => answer,
                () = shutdown.requested() => Err(anyhow!("interrupted before the function answered")),
            };
            environment.drain(limits::SETTLE_ALL_TIMEOUT).await;
            answer
        };
        with_environment(config, Setups::All, shutdown()?, work)
            .await?
            .context("interrupted before the function was invoked")
    }

    async fn handle(
        &self,
        environment: &Environment,
        event: Bytes,
        tenant_id: Option<String>,
    ) -> anyhow::Result<Result<Bytes, Fault>> {
        let function = environment
            .function(&self.name)
            .context("the function was not loaded")?;
        let invoke = local::Invoke {
            function: FunctionName {
                name: self.name.clone(),
                qualifier: None,
            },
            invocation_type: InvocationType::RequestResponse,
            log_tail: false,
            client_context: None,
            tenant_id,
            trace_id: local::new_trace_id(),
            chunked: false,
        };
        let lease = match function.ready(pending()).await {
            Ok(lease) => lease,
            Err(fault) => return Ok(Err(fault)),
        };
        let deadline = Deadline::after(function.timeout());
        let invocation = invoke.invocation(&Uuid::new_v4().to_string(), event, deadline);
        let mut handled = environment.handle(lease, function, invocation).await;
        let answer = handled.collect().await;
        handled.settle().await;
        Ok(answer)
    }
}

fn event(data: &str) -> anyhow::Result<Bytes> {
    let bytes = match data.strip_prefix('@') {
        None => data.as_bytes().to_vec(),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .context("cannot read the event from standard input")?;
            bytes
        }
        Some(file) => {
            std::fs::read(file).with_context(|| format!("cannot read the event from {file}"))?
        }
    };
    if bytes.len() > limits::EVENT_BYTES_MAX {
        bail!(
            "the event has {} bytes, and Lambda allows {}",
            bytes.len(),
            limits::EVENT_BYTES_MAX
        );
    }
    local::event(Bytes::from(bytes)).map_err(|problem| anyhow!("the event is not JSON: {problem}"))
}

// With a line break for the terminal's sake; JSON does not mind.
fn print(bytes: &[u8]) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(bytes)?;
    if !bytes.ends_with(b"\n") {
        stdout.write_all(b"\n")?;
    }
    stdout.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_text_or_a_file() {
        assert_eq!(event("{\"a\":1}").unwrap(), "{\"a\":1}");
        let error = event("hello").unwrap_err().to_string();
        let expected = "the event is not JSON: expected value at line 1 column 1";
        assert_eq!(error, expected);
        let error = event("@/no/such/file").unwrap_err().to_string();
        assert_eq!(error, "cannot read the event from /no/such/file");
    }
}
