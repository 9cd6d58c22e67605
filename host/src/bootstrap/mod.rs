//! `bootstrap`: from the start of the process to its first event.
//!
//! Promises:
//! - a start that fails is reported to Lambda with what was wrong and what to do, then the
//!   process ends with status 1;
//! - what a start waits for, it waits for side by side: the component, the connections, and the
//!   registration that makes SIGTERM come;
//! - a database that cannot be reached does not keep a function from starting.

use std::process::ExitCode;
use std::sync::Arc;

use crate::config::Config;
use crate::database;
use crate::event::lambda::{Extension, RuntimeApi};
use crate::fault::{Fault, Kind};
use crate::serve::lambda::Ending;
use crate::serve::{self, Environment, Function};
use crate::shutdown::Shutdown;
use crate::telemetry;

mod choice;

/// Everything that is there before the first event is asked for.
struct Started {
    environment: Arc<Environment>,
    function: Arc<Function>,
    ending: Ending,
}

/// Runs as Lambda's custom runtime until the environment is to end.
pub fn bootstrap() -> ExitCode {
    let Some(address) = choice::variable("AWS_LAMBDA_RUNTIME_API") else {
        eprintln!(
            "bootstrap: AWS_LAMBDA_RUNTIME_API is not set; this program runs on AWS Lambda. \
             To run functions on this machine, use `hearth serve`"
        );
        return ExitCode::FAILURE;
    };
    let slots = choice::slots();
    // One invocation at a time needs one thread: two would only hand things to each other.
    let mut runtime = match slots {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    let runtime = match runtime.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("bootstrap: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run(&address, slots));
    // Whatever still runs is past the time that a drain leaves it.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tracing::error!(
                fault = fault.kind.error_type(),
                blame = fault.blame.as_str(),
                "{}",
                fault.log
            );
            ExitCode::FAILURE
        }
    }
}

async fn run(address: &str, slots: u32) -> Result<(), Fault> {
    let api = || RuntimeApi::new(address, choice::identity());
    let started = match start(address, slots).await {
        Ok(started) => started,
        Err(fault) => {
            if let Err(error) = api().init_error(&fault).await {
                tracing::error!(%error, "the failed start could not be reported");
            }
            return Err(fault);
        }
    };
    if choice::is_snapshot() {
        restore(&started, api()).await?;
    }
    let Started {
        environment,
        function,
        ending,
    } = started;
    let apis = (0..slots).map(|_| api()).collect();
    serve::lambda::serve(&environment, &function, apis, &ending).await
}

async fn start(address: &str, slots: u32) -> Result<Started, Fault> {
    let config = choice::load();
    telemetry::start(&config.as_ref().map(|config| config.log).unwrap_or_default());
    let mut config = config?;
    let handler = choice::choose(&mut config, slots)?;
    let shutdown = Shutdown::on_signals().map_err(|error| {
        Fault::new(
            Kind::Internal,
            format!("signals cannot be listened to: {error}"),
        )
    })?;
    let ending = Ending {
        shutdown,
        timeout: config.lambda.drain_timeout,
    };
    let registering = register(address.to_owned());
    let building = build(config, &handler, slots == 1);
    // Registered before the first event is asked for: later it is refused.
    let ((environment, function), ()) = tokio::try_join!(building, registering)?;
    Ok(Started {
        environment,
        function,
        ending,
    })
}

/// Registers this program as an extension, and lets it wait as one.
async fn register(address: String) -> Result<(), Fault> {
    if let Some(extension) = Extension::register(&address).await {
        tokio::spawn(extension.wait());
    }
    Ok(())
}

/// Connects to the databases while the component is loaded, by a thread of its own, and its first
/// instance is built.
async fn build(
    config: Config,
    handler: &str,
    freezes: bool,
) -> Result<(Arc<Environment>, Arc<Function>), Fault> {
    let databases = database::open(&config.databases)?;
    let loading = {
        let databases = databases.clone();
        tokio::task::spawn_blocking(move || Environment::start(&config, databases))
    };
    let warming = tokio::spawn(database::warm(databases));
    let environment = loading.await.unwrap_or_else(|error| {
        let message = format!("the start ended oddly: {error}");
        Err(Fault::new(Kind::Internal, message))
    })?;
    let environment = Arc::new(environment.freezing(freezes));
    let function = environment.function(handler).cloned().ok_or_else(|| {
        let message = format!("the function {handler:?} was not loaded");
        Fault::new(Kind::Internal, message)
    })?;
    function.warm().await?;
    // It has its own bound, and says itself what could not be opened.
    let _ = warming.await;
    Ok((environment, function))
}

/// Makes the environment ready for a snapshot, waits until it is restored from one, and renews
/// what is out of date then.
async fn restore(started: &Started, mut api: RuntimeApi) -> Result<(), Fault> {
    started.environment.cool().await;
    let restored = tokio::select! {
        restored = api.restored() => restored,
        () = started.ending.shutdown.requested() => return Ok(()),
    };
    restored.map_err(|error| Fault::new(Kind::Internal, error.to_string()))?;
    let renewed = started.environment.renew(&started.function).await;
    if let Err(fault) = &renewed
        && let Err(error) = api.restore_error(fault).await
    {
        tracing::error!(%error, "the failed restore could not be reported");
    }
    renewed
}
