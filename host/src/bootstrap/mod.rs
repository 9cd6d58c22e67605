//! `bootstrap`: from the start of the process to its first event.
//!
//! Promises:
//! - a start that fails, or takes too long, is reported to Lambda with what was wrong and what to do, and then
//!   the process ends with status 1; the same holds for a restore from a snapshot;
//! - what a start has to wait for, it waits for side by side: the component, the connections, and the
//!   registration that makes SIGTERM come;
//! - a database that cannot be reached does not keep a function from starting, and one that is silent delays it
//!   by no more than [`limits::WARM_PATIENCE`];
//! - SIGTERM ends a start as well, from its very beginning, and the report of one that has failed.

use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use tokio::time::{sleep, timeout};

use crate::config::{self, Config};
use crate::database::warming::{self, Warming};
use crate::database::{self, Databases};
use crate::event::lambda::{self, RuntimeApi, extension, is_address};
use crate::fault::{Fault, Kind};
use crate::instance::workers::Workers;
use crate::limits;
use crate::serve::drain::Drain;
use crate::serve::{self, Environment, Function};
use crate::shutdown::Shutdown;
use crate::telemetry::{self, FATAL};

mod files;
mod variables;

/// Turns of the runtime in which the first message to a server on the same machine gets out: one to connect,
/// one to send it.
const ASKING_TURNS: u32 = 3;

/// Everything that is there before the first event is asked for.
struct Started {
    environment: Arc<Environment>,
    function: Arc<Function>,
    /// How many events it takes at a time.
    slots: u32,
    drain: Drain,
    restore_timeout: Duration,
}

/// Runs as Lambda's custom runtime until the environment is to end.
pub fn bootstrap() -> ExitCode {
    let Some(address) = config::variable("AWS_LAMBDA_RUNTIME_API") else {
        eprintln!(
            "bootstrap: AWS_LAMBDA_RUNTIME_API is not set; this program runs on AWS Lambda. \
             To run functions on this machine, use `hearth serve`"
        );
        return ExitCode::FAILURE;
    };
    if !is_address(&address) {
        eprintln!("bootstrap: AWS_LAMBDA_RUNTIME_API: expected host:port, got {address:?}");
        return ExitCode::FAILURE;
    }
    let runtimes = match runtimes() {
        Ok(runtimes) => runtimes,
        Err(error) => {
            eprintln!("bootstrap: the runtime cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let (home, workers, shutdown) = runtimes;
    let outcome = home.block_on(async {
        let workers = workers
            .as_ref()
            .map(|workers| Workers::new(workers.handle().clone()));
        run(&address, shutdown, workers).await
    });
    // Whatever still runs has used up the time that the drain left it.
    home.shutdown_background();
    if let Some(workers) = workers {
        workers.shutdown_background();
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            tracing::error!(
                target: FATAL,
                fault = fault.kind.error_type(),
                blame = fault.blame.as_str(),
                "{}",
                fault.log
            );
            ExitCode::FAILURE
        }
    }
}

/// One thread for everything, since two would only hand things to each other. Where several events come at a
/// time, there are worker threads beside it for guests that compute.
fn runtimes() -> std::io::Result<(Runtime, Option<Runtime>, Shutdown)> {
    let home = Builder::new_current_thread().enable_all().build()?;
    // Listened for before anything else: until then, a signal kills the process in the middle of what it does.
    let shutdown = {
        let _home = home.enter();
        Shutdown::on_signals()?
    };
    let workers = match variables::is_managed() {
        true => {
            files::raise_limit();
            let mut workers = Builder::new_multi_thread();
            // Who was woken by the home thread has waited for something, and has every other turn of those that
            // only compute. By itself the runtime finds that out after some hundred turns.
            workers.global_queue_interval(2);
            Some(workers.enable_all().build()?)
        }
        false => None,
    };
    Ok((home, workers, shutdown))
}

async fn run(
    address: &str,
    shutdown: Shutdown,
    workers: Option<Arc<Workers>>,
) -> Result<(), Fault> {
    let api = |timeout| RuntimeApi::new(address, variables::identity(timeout));
    let config = variables::load();
    telemetry::start(&variables::log(&config));
    let timeout = match &config {
        Ok(config) => config.lambda.drain_timeout,
        Err(_) => limits::DRAIN_TIMEOUT,
    };
    let drain = Drain { shutdown, timeout };
    let started = match start(address, config, drain.clone(), workers).await {
        Ok(Some(started)) => started,
        Ok(None) => return Ok(()),
        Err(fault) => {
            let mut api = api(limits::TIMEOUT_DEFAULT);
            report(&drain, "start", api.init_error(&fault)).await;
            return Err(fault);
        }
    };
    let api = || api(started.function.timeout());
    if variables::is_snapshot() {
        restore(&started, api()).await?;
    }
    // With a single slot, a request for the next event before the answer may be taken for a repetition.
    let api = api();
    let apis = (0..started.slots).map(|_| match started.slots {
        1 => api.another(),
        _ => api.another().posting_in_background(),
    });
    let apis = apis.collect();
    let Started {
        environment,
        function,
        ..
    } = started;
    serve::lambda::serve(&environment, &function, apis, &drain).await
}

/// None if the environment is to end before it has started.
async fn start(
    address: &str,
    config: Result<Config, Fault>,
    drain: Drain,
    workers: Option<Arc<Workers>>,
) -> Result<Option<Started>, Fault> {
    let mut config = config?;
    let slots = variables::fitting(variables::slots());
    let handler = variables::choose(&mut config, slots)?;
    let databases = database::open(&config.databases)?;
    let begun = Instant::now();
    let warming = ask(&config, &databases, &handler).await;
    let restore_timeout = config.lambda.restore_timeout;
    let limit = variables::starts_before_events().then_some(config.lambda.init_timeout);
    let building = build(config, databases.clone(), &handler, workers, warming);
    let building = within(limit, building);
    let starting = async {
        // Registered before the first event is asked for: later it is refused.
        let joining = async {
            extension::join(address).await;
            Ok(())
        };
        let ((environment, function), ()) = tokio::try_join!(building, joining)?;
        if variables::is_snapshot() {
            let left = limit.map_or(Duration::MAX, |limit| limit.saturating_sub(begun.elapsed()));
            let timeout = left.min(limits::SNAPSHOT_TIMEOUT);
            environment.prepare(&function, timeout).await?;
        }
        Ok((environment, function))
    };
    let started = tokio::select! {
        started = starting => Some(started?),
        () = drain.shutdown.requested() => None,
    };
    let Some((environment, function)) = started else {
        let _ = timeout(drain.waits(), database::close(&databases)).await;
        return Ok(None);
    };
    Ok(Some(Started {
        environment,
        function,
        slots,
        drain,
        restore_timeout,
    }))
}

/// Gives up a start that takes longer than `limit`, if there is one.
async fn within<T>(
    limit: Option<Duration>,
    building: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    let Some(limit) = limit else {
        return building.await;
    };
    timeout(limit, building).await.unwrap_or_else(|_| {
        let message = format!(
            "the function's `init` had not returned after {:.1} s, shortly before Lambda would end the start without \
             a word; give it less to do, or more time (`init_timeout_ms`) if Lambda does",
            limit.as_secs_f64()
        );
        Err(Fault::new(Kind::InitFailed, message))
    })
}

/// Begins to connect to the databases. A server takes longer to reply than anything else takes to be made
/// ready, so it is asked first, before the processor is busy.
async fn ask(config: &Config, databases: &Databases, handler: &str) -> Warming {
    let warm_up = config.functions.get(handler).map(serve::warm_up::read);
    let warming = warming::begin(databases, warm_up.unwrap_or_default());
    for _ in 0..ASKING_TURNS {
        tokio::task::yield_now().await;
    }
    warming
}

/// Loads the component on a thread of its own, and builds its instances, while the databases are connected to.
async fn build(
    config: Config,
    databases: Databases,
    handler: &str,
    workers: Option<Arc<Workers>>,
    warming: Warming,
) -> Result<(Arc<Environment>, Arc<Function>), Fault> {
    let patience = match variables::is_snapshot() {
        // A connection made only later would become part of the snapshot.
        true => limits::WARM_TIMEOUT,
        false => limits::WARM_PATIENCE,
    };
    let begun = Instant::now();
    let freezes = !variables::is_managed();
    let loading = tokio::task::spawn_blocking(move || {
        Environment::start(&config, databases, freezes, workers.as_ref())
    });
    let environment = loading.await.unwrap_or_else(|error| {
        let message = format!("the start ended oddly: {error}");
        Err(Fault::new(Kind::Internal, message))
    })?;
    let environment = Arc::new(environment);
    let function = environment.function(handler).cloned().ok_or_else(|| {
        let message = format!("the function {handler:?} was not loaded");
        Fault::new(Kind::Internal, message)
    })?;
    warm(&function).await?;
    // If it takes longer it goes on in the background: it has a bound of its own, and logs what could not be
    // opened.
    let patience = patience.saturating_sub(begun.elapsed());
    match variables::starts_before_events() {
        true => warming.told(patience).await,
        // An event waits already.
        false => warming.opened(patience).await,
    }
    Ok((environment, function))
}

/// Builds as many instances as there will be at a time. Where that takes long, the log says so: Lambda
/// may end the start without a word.
async fn warm(function: &Function) -> Result<(), Fault> {
    let building = (0..function.config().instances_max).map(|_| function.warm());
    let mut building = pin!(futures_util::future::try_join_all(building));
    tokio::select! {
        built = &mut building => return built.map(drop),
        () = sleep(limits::INIT_PATIENCE) => {}
    }
    tracing::warn!(
        function = function.name(),
        "the function's `init` has taken {} s so far; Lambda gives an environment 10 s to start before its \
         first event, and then the function's timeout",
        limits::INIT_PATIENCE.as_secs()
    );
    building.await.map(drop)
}

/// Waits until the environment is one that was restored from a snapshot, and renews what is out of
/// date then.
async fn restore(started: &Started, mut api: RuntimeApi) -> Result<(), Fault> {
    let Started {
        environment,
        function,
        drain,
        restore_timeout,
        ..
    } = started;
    let restoring = async {
        api.restored().await?;
        environment.renew(function, *restore_timeout).await
    };
    let restored = tokio::select! {
        restored = restoring => restored,
        () = drain.shutdown.requested() => return Ok(()),
    };
    if let Err(fault) = &restored {
        report(drain, "restore", api.restore_error(fault)).await;
        // Connections may have been opened meanwhile.
        environment.drain(drain.left()).await;
    }
    restored
}

/// Waits until a failure is reported, unless the environment is to end and has no time for it any more.
async fn report(
    drain: &Drain,
    failed: &str,
    reporting: impl Future<Output = Result<(), lambda::Error>>,
) {
    tokio::select! {
        biased;
        reported = reporting => if let Err(error) = reported {
            tracing::error!(%error, "the failed {failed} could not be reported");
        },
        () = drain.over() => tracing::error!("there was no time to report the failed {failed}"),
    }
}
