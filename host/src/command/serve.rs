//! `hearth serve`: the functions on a port, until someone stops it.

use std::io;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use tokio::net::TcpListener;

use super::environment::{Setups, with_environment};
use super::{ConfigFile, run, shutdown};
use crate::config::Config;
use crate::serve::local;
use crate::shutdown::Shutdown;
use crate::telemetry;

#[derive(Debug, Args)]
pub(super) struct Serve {
    #[command(flatten)]
    file: ConfigFile,
    /// The port to listen on; 0 takes a free one.
    #[arg(long, default_value_t = 9000)]
    port: u16,
    /// The address to listen on. Whoever reaches it can invoke the functions.
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
}

impl Serve {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let config = self.file.load(&[])?;
        telemetry::start(&config.log);
        run(self.serve(config))
    }

    async fn serve(self, config: Config) -> anyhow::Result<ExitCode> {
        let shutdown = shutdown()?;
        // Before all that takes time: a port in use should be said at once. Nobody is answered
        // before there is an environment; the system lets them wait.
        let listener = self.listen().await?;
        let work = async |config: Config, environment, shutdown: Shutdown| {
            let address = listener
                .local_addr()
                .context("cannot tell the address it listens on")?;
            if !address.ip().is_loopback() {
                tracing::warn!(
                    "{address} can be reached from other machines, and asks nobody who they are"
                );
            }
            tracing::info!("listening on http://{address}");
            local::serve(environment, &config, listener, &shutdown)
                .await
                .context("cannot go on serving")
        };
        with_environment(config, Setups::All, shutdown, work).await?;
        Ok(ExitCode::SUCCESS)
    }

    async fn listen(&self) -> anyhow::Result<TcpListener> {
        let (host, port) = (self.host.as_str(), self.port);
        TcpListener::bind((host, port))
            .await
            .with_context(|| format!("cannot listen on {host} port {port}"))
            .map_err(
                |error| match error.downcast_ref::<io::Error>().map(io::Error::kind) {
                    Some(io::ErrorKind::AddrInUse) => error.context(
                        "the port is in use; choose another with --port, or 0 for a free one",
                    ),
                    _ => error,
                },
            )
    }
}
