//! What Lambda's environment variables say: which function runs here, as what, and how often at a
//! time.

use std::path::PathBuf;
use std::time::Duration;

use super::files;
use crate::config::{
    self, Config, FunctionConfig, INITIALIZATION_TYPE, Isolation, LogConfig, MAX_CONCURRENCY,
    variable,
};
use crate::event::lambda::FunctionIdentity;
use crate::fault::{Fault, Kind};
use crate::invocation::Timeout;
use crate::limits;

/// The function's handler.
const HANDLER: &str = "_HANDLER";

/// The configuration as deployed, in the function's own folder. It may name functions that are deployed
/// elsewhere.
pub(super) fn load() -> Result<Config, Fault> {
    let folder = variable("LAMBDA_TASK_ROOT").map_or_else(|| PathBuf::from("."), PathBuf::from);
    let handler = variable(HANDLER);
    let only: Vec<&str> = handler.as_deref().into_iter().collect();
    Config::load_for(&folder.join("hearth.toml"), &variable, &only)
        .map_err(|error| Fault::new(Kind::InvalidConfiguration, error.to_string()))
}

/// What is logged, and how. There is an answer even if the configuration cannot be read, since the log has to
/// say so.
pub(super) fn log(config: &Result<Config, Fault>) -> LogConfig {
    match config {
        Ok(config) => config.log,
        Err(_) => LogConfig::of_variables(&variable),
    }
}

/// Leaves in the configuration the one function that this environment runs, and what it needs.
/// Returns its name.
pub(super) fn choose(config: &mut Config, slots: u32) -> Result<String, Fault> {
    let names: Vec<&str> = config.functions.keys().map(String::as_str).collect();
    let handler = match (variable(HANDLER), names.as_slice()) {
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
    if !config.functions.contains_key(&handler) {
        let message = format!(
            "_HANDLER names the function {handler:?}, but hearth.toml has only: {}; correct the function's handler, \
             or add [function.{handler}]",
            names.join(", ")
        );
        return Err(Fault::new(Kind::InvalidConfiguration, message));
    }
    config.keep(&[&handler]);
    for function in config.functions.values_mut() {
        function.instances_max = instances(function, slots);
    }
    for database in config.databases.values_mut() {
        database.make_room(slots);
    }
    Ok(handler)
}

/// As many instances as all slots together can use.
fn instances(function: &FunctionConfig, slots: u32) -> u32 {
    match function.isolation {
        Isolation::Fresh | Isolation::Serial => slots,
        Isolation::Concurrent(share) => slots.div_ceil(share),
    }
}

/// What Lambda calls the function, which need not be what `hearth.toml` calls it. `timeout` is what that
/// says of its time; Lambda says so with each event only, and AWS's emulator in a variable.
pub(super) fn identity(timeout: Duration) -> FunctionIdentity {
    let named = |name| variable(name).unwrap_or_default();
    let seconds = variable("AWS_LAMBDA_FUNCTION_TIMEOUT").and_then(|number| number.parse().ok());
    let most = match is_managed() {
        true => limits::TIMEOUT_MAX_MANAGED,
        false => limits::TIMEOUT_MAX,
    };
    FunctionIdentity {
        name: named("AWS_LAMBDA_FUNCTION_NAME"),
        version: named("AWS_LAMBDA_FUNCTION_VERSION"),
        timeout: Timeout {
            assumed: seconds.map_or(timeout, Duration::from_secs).min(most),
            most,
        },
    }
}

/// How many invocations Lambda sends at a time: one, except on Lambda Managed Instances. What is no number
/// counts as one, and a number out of range as the nearest in it.
pub(super) fn slots() -> u32 {
    let asked = variable(MAX_CONCURRENCY).and_then(|number| number.parse().ok());
    asked.unwrap_or(1).clamp(1, limits::SLOTS_MAX)
}

/// At most as many slots as the limit of open files allows. A slot that cannot connect is given up in the
/// end, and takes all others down.
pub(super) fn fitting(slots: u32) -> u32 {
    let fitting = slots.min(files::slots_max());
    if fitting < slots {
        tracing::warn!(
            slots,
            fitting,
            "{MAX_CONCURRENCY} asks for more events at a time than this process may have connections open for; \
             lower it, or raise the limit of open files"
        );
    }
    fitting
}

/// Whether this is Lambda Managed Instances.
pub(super) fn is_managed() -> bool {
    config::is_managed(&variable)
}

/// Whether the environment starts without an event that waits for it. Such a start may take minutes, and if it
/// takes longer Lambda does not say what was wrong. A start for an event is ended by Lambda itself, which then
/// starts it again.
pub(super) fn starts_before_events() -> bool {
    is_managed() || is_snapshot() || is_initialized_as("provisioned-concurrency")
}

/// Whether Lambda makes a snapshot of the environment once it has started.
pub(super) fn is_snapshot() -> bool {
    is_initialized_as("snap-start")
}

fn is_initialized_as(kind: &str) -> bool {
    variable(INITIALIZATION_TYPE).is_some_and(|given| given == kind)
}
