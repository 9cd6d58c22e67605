//! `bootstrap`: from the start of the process to its first event.
//!
//! Promises: a start that fails is reported to Lambda with what was wrong and what to do, then the
//! process ends with status 1.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::config::{Config, FunctionConfig, Isolation};
use crate::event::lambda::{FunctionIdentity, RuntimeApi};
use crate::fault::{Fault, Kind};
use crate::limits;
use crate::serve::{self, Environment};
use crate::shutdown::Shutdown;
use crate::telemetry;

/// Runs as Lambda's custom runtime until the environment is to end.
pub fn bootstrap() -> ExitCode {
    let Some(api_address) = variable("AWS_LAMBDA_RUNTIME_API") else {
        eprintln!(
            "bootstrap: AWS_LAMBDA_RUNTIME_API is not set; this program runs on AWS Lambda. \
             To run functions on this machine, use `hearth serve`"
        );
        return ExitCode::FAILURE;
    };
    let slots = slots();
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
    let outcome = runtime.block_on(run(&|| RuntimeApi::new(&api_address, identity()), slots));
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

async fn run(api: &(dyn Fn() -> RuntimeApi + Sync), slots: u32) -> Result<(), Fault> {
    let started = start(slots).await;
    let (environment, function, shutdown) = match started {
        Ok(started) => started,
        Err(fault) => {
            if let Err(error) = api().init_error(&fault).await {
                tracing::error!(%error, "the failed start could not be reported");
            }
            return Err(fault);
        }
    };
    serve::lambda::serve(&environment, &function, api, slots, &shutdown).await
}

/// Everything that is done before the first event is asked for.
async fn start(slots: u32) -> Result<(Arc<Environment>, Arc<serve::Function>, Shutdown), Fault> {
    let mut config = load()?;
    telemetry::start(&config.log);
    let handler = choose(&mut config, slots)?;
    let shutdown = Shutdown::on_signals().map_err(|error| {
        Fault::new(
            Kind::Internal,
            format!("signals cannot be listened to: {error}"),
        )
    })?;
    let environment = Arc::new(Environment::start(&config)?.freezing(slots == 1));
    let function = environment.function(&handler).cloned().ok_or_else(|| {
        Fault::new(
            Kind::Internal,
            format!("the function {handler:?} was not loaded"),
        )
    })?;
    function.warm().await?;
    Ok((environment, function, shutdown))
}

fn load() -> Result<Config, Fault> {
    let folder = variable("LAMBDA_TASK_ROOT").map_or_else(|| PathBuf::from("."), PathBuf::from);
    Config::load(&folder.join("hearth.toml"), &variable).map_err(|error| {
        telemetry::start(&Default::default());
        Fault::new(Kind::InvalidConfiguration, error.to_string())
    })
}

/// Leaves in the configuration the one function that this environment runs, and what it needs.
fn choose(config: &mut Config, slots: u32) -> Result<String, Fault> {
    let names: Vec<&str> = config.functions.keys().map(String::as_str).collect();
    let handler = match (variable("_HANDLER"), names.as_slice()) {
        (Some(handler), _) => handler,
        (None, [only]) => (*only).to_owned(),
        (None, _) => {
            let message = format!(
                "_HANDLER names no function; set the function's handler to one of: {}",
                names.join(", ")
            );
            return Err(Fault::new(Kind::InvalidConfiguration, message));
        }
    };
    let Some(mut function) = config.functions.get(&handler).cloned() else {
        let message = format!(
            "_HANDLER names the function {handler:?}, but hearth.toml has only: {}; correct the function's handler, \
             or add [function.{handler}]",
            names.join(", ")
        );
        return Err(Fault::new(Kind::InvalidConfiguration, message));
    };
    function.instances_max = instances(&function, slots);
    config
        .databases
        .retain(|name, _| function.databases.contains(name));
    config.functions = [(handler.clone(), function)].into();
    Ok(handler)
}

/// As many instances as all slots together can use.
fn instances(function: &FunctionConfig, slots: u32) -> u32 {
    match function.isolation {
        Isolation::Fresh | Isolation::Serial => slots,
        Isolation::Concurrent(share) => slots.div_ceil(share),
    }
}

/// What Lambda calls the function, which need not be what `hearth.toml` calls it.
fn identity() -> FunctionIdentity {
    let named = |name| variable(name).unwrap_or_default();
    FunctionIdentity {
        name: named("AWS_LAMBDA_FUNCTION_NAME"),
        version: named("AWS_LAMBDA_FUNCTION_VERSION"),
    }
}

/// How many invocations Lambda sends at a time: one, except on Lambda Managed Instances.
fn slots() -> u32 {
    let asked = variable("AWS_LAMBDA_MAX_CONCURRENCY").and_then(|number| number.parse().ok());
    asked.unwrap_or(1).clamp(1, limits::SLOTS_MAX)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
