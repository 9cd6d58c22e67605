//! The environment: everything that outlives an invocation, and the way of an invocation through it.
//!
//! ```text
//! front door ─► Environment::handle ─► lease ─► instance ─► guest ─► session ─► database
//!            ◄─ Handled             ◄─ finish ◄─          ◄─       ◄─
//!            ─► Handled::settle     ─► work after the answer ─► session.end
//! ```
//!
//! Promises:
//! - an invocation is answered by its enforced deadline, whatever the guest does;
//! - [`Handled::settle`] waits for its work after the answer, then stops its statements and takes its
//!   connections back, for which it waits until shortly before the deadline; what takes longer is made clean
//!   beside later invocations;
//! - where the function asks for it, its work after the answer goes on beside later invocations, and its
//!   session with it, until it is done or its own deadline is reached.
//!
//! Left to others: where events come from and answers go to ([`lambda`], [`local`]).

use std::any::Any;
use std::collections::BTreeMap;
use std::future::pending;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::database::session::Session;
use crate::database::session::grants::Grants;
use crate::database::warming;
use crate::database::{self, Databases};
use crate::fault::{Blame, Fault, Kind};
use crate::instance::Blueprint;
use crate::instance::engine::{Capacity, Engine};
use crate::instance::pool::{self, InstancePool, Lease};
use crate::instance::workers::Workers;
use crate::invocation::Invocation;
use crate::limits;
use crate::telemetry::{Account, Metrics, Observers, Output, Spans, line_of};

mod after;
pub mod drain;
mod function;
mod handled;
mod http;
pub mod lambda;
pub mod local;
mod permissions;
mod response;
pub mod warm_up;

pub use function::Function;
pub use handled::Handled;

use after::Suspension;
use function::Called;
use handled::SessionEnd;

/// What one host process keeps warm.
pub struct Environment {
    functions: BTreeMap<String, Arc<Function>>,
    databases: Databases,
    /// Whether the process is frozen between two invocations.
    freezes: bool,
    endings: TaskTracker,
    /// Who wants to know of the invocations.
    observers: Observers,
    /// Suspended work.
    working: TaskTracker,
    /// Cancelled when suspended work is given up.
    closing: CancellationToken,
}

impl Environment {
    /// Loads every function of a configuration, which may take seconds where a component has to be
    /// compiled. Nothing is connected to and no instance is built yet. `freezes` says whether Lambda freezes
    /// the process between two invocations, `workers` where guests run if that is not everywhere.
    pub fn start(
        config: &Config,
        databases: Databases,
        freezes: bool,
        workers: Option<&Arc<Workers>>,
    ) -> Result<Self, Fault> {
        let engine = Arc::new(Engine::new(Capacity {
            instances: config
                .functions
                .values()
                .map(|function| function.instances_max)
                .sum(),
            alive: config
                .functions
                .values()
                .map(|function| pool::alive_max(function.instances_max))
                .sum(),
        })?);
        let metrics = config.metrics.as_ref();
        let metrics = metrics.map(|metrics| Metrics::new(metrics, &config.log));
        let mut functions = BTreeMap::new();
        for (name, config) in config.functions.clone() {
            let own: Databases = config
                .databases
                .iter()
                .filter_map(|name| Some((name.clone(), databases.get(name)?.clone())))
                .collect();
            let own = Arc::new(own);
            let instances = Arc::new(InstancePool::new(Blueprint {
                config: config.clone(),
                component: engine.load(&config)?,
                engine: engine.clone(),
                databases: own.clone(),
                measures: metrics.is_some(),
                freezes,
                workers: workers.cloned(),
                heritage: Arc::default(),
            }));
            let function = Function {
                permissions: permissions::read(&config)?,
                config: config.clone(),
                databases: own,
                instances,
            };
            functions.insert(name, Arc::new(function));
        }
        Ok(Self {
            functions,
            databases,
            freezes,
            endings: TaskTracker::new(),
            observers: Observers {
                metrics,
                spans: Spans::start(),
            },
            working: TaskTracker::new(),
            closing: CancellationToken::new(),
        })
    }

    /// The functions' names, in order.
    pub fn function_names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.get(name)
    }

    /// Handles one invocation up to its answer, in an instance that there is for it already.
    pub async fn handle(
        &self,
        lease: Lease,
        function: &Function,
        invocation: Arc<Invocation>,
    ) -> Handled {
        self.handle_until(pending(), function, Some(lease), invocation)
            .await
    }

    /// The same in that or another one, up to when the environment has no time for it any more; that is then the
    /// answer.
    async fn handle_until(
        &self,
        out_of_time: impl Future<Output = ()>,
        function: &Function,
        leased: Option<Lease>,
        invocation: Arc<Invocation>,
    ) -> Handled {
        let name = &function.config.name;
        let account = Account::open(name, invocation.clone(), &self.observers);
        let grants = Grants::new(&function.permissions, &invocation);
        let (databases, deadline) = (function.databases.clone(), invocation.deadline);
        let session = Session::new(databases, grants, account.clone(), deadline, self.freezes);
        let ending = SessionEnd::new(session.clone(), self.endings.clone());
        let output = Arc::new(Output::new(account));
        let called = {
            // Pinned where it is made: it is large, and would be moved several times.
            let calling = pin!(function.call(leased, &invocation, &session, &output));
            let calling = pin!(unpanicked(calling));
            tokio::select! {
                biased;
                called = calling => called.unwrap_or_else(Called::failed),
                () = out_of_time => {
                    // Before the answer: behind that there may be no time left to end what servers execute.
                    if let Some(settling) = session.end_beside() {
                        self.endings.spawn(settling);
                    }
                    Called::failed(cut_short())
                }
            }
        };
        let Called { answer, after_work } = called;
        output.finish();
        if let Err(fault) = &answer {
            report(fault, output.account());
        }
        let after_work = after_work.map(|work| handled::PendingAfterWork {
            suspension: (work.suspended).then(|| Suspension::new(&self.working, &self.closing)),
            work,
        });
        Handled {
            answer,
            after_work,
            output,
            ending,
        }
    }

    /// Tells of an invocation that is not begun, as of any other that has failed.
    fn refuse(&self, function: &Function, invocation: &Arc<Invocation>, fault: &Fault) {
        let name = &function.config.name;
        let account = Account::open(name, invocation.clone(), &self.observers);
        report(fault, &account);
        let until = invocation.deadline.settled_by();
        self.endings
            .spawn(async move { account.close(until).await });
    }

    /// Makes an environment ready for a snapshot: runs the guests' hooks, which may take `timeout`, and closes
    /// every connection to a database.
    pub async fn prepare(&self, function: &Function, timeout: Duration) -> Result<(), Fault> {
        function.instances.prepare(timeout).await?;
        self.cool().await;
        Ok(())
    }

    /// Makes an environment that was restored from a snapshot fit for its first event: runs the guests' hooks,
    /// which may take `timeout`, and opens connections anew, which is waited for no longer than
    /// [`limits::WARM_PATIENCE`].
    pub async fn renew(&self, function: &Function, timeout: Duration) -> Result<(), Fault> {
        // This generator's state was copied with the snapshot, and it makes the nonces for logins.
        let _ = rand::rng().reseed();
        let warming = warming::begin(&self.databases, warm_up::read(&function.config));
        // If it takes longer it goes on in the background, as at a start.
        let connecting = async {
            warming.opened(limits::WARM_PATIENCE).await;
            Ok(())
        };
        // A guest that cannot be renewed is reported at once, whatever the databases do.
        tokio::try_join!(function.instances.renew(timeout), connecting)?;
        Ok(())
    }

    /// Closes every connection to a database that nobody uses, and keeps everything else.
    async fn cool(&self) {
        let cooling = self.databases.values().map(|database| database.cool());
        futures_util::future::join_all(cooling).await;
    }

    /// Ends every instance and every session and says good-bye to every database. Takes no longer than
    /// `patience`, two thirds of which are for suspended work. By its end each good-bye has been sent, whether
    /// or not the server has replied.
    pub async fn drain(&self, patience: Duration) {
        let begun = Instant::now();
        let until = begun + patience;
        // Closed before the instances are: suspended work whose instance ends below then counts as given up
        // with the environment, not as failed.
        self.working.close();
        for function in self.functions.values() {
            function.instances.close();
        }
        self.endings.close();
        let working = async {
            let until = begun + patience * 2 / 3;
            let _ = timeout_at(until.into(), self.working.wait()).await;
            self.closing.cancel();
        };
        let ending = async {
            self.endings.wait().await;
            if let Some(spans) = &self.observers.spans {
                spans.flush().await;
            }
        };
        // Neither a session that hangs nor a silent server keeps the others from being closed in time.
        let ending = timeout_at(until.into(), ending);
        let _ = tokio::join!(working, ending, timeout_at(until.into(), self.cool()));
        let _ = timeout_at(until.into(), database::close(&self.databases)).await;
    }
}

/// Logs a fault: the caller's own mistakes at `info`, all others at `error`.
fn report(fault: &Fault, account: &Account) {
    account.failed(fault);
    let (blame, kind) = (fault.blame.as_str(), fault.error_type.as_str());
    match fault.blame {
        Blame::Caller => line_of!(account, info, fault = kind, blame, "{}", fault.log),
        _ => line_of!(account, error, fault = kind, blame, "{}", fault.log),
    }
}

/// The outcome of an invocation; a panic of the host's own is a fault of this invocation alone.
async fn unpanicked<T>(calling: impl Future<Output = T>) -> Result<T, Fault> {
    let called = AssertUnwindSafe(calling).catch_unwind().await;
    called.map_err(|panicked| {
        let words = words_of(&*panicked).unwrap_or("a panic");
        Fault::new(
            Kind::Internal,
            format!("the invocation ended oddly: {words}"),
        )
    })
}

/// The words of a panic, if it has any.
fn words_of(panic: &(dyn Any + Send)) -> Option<&str> {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
}

/// Whether the instance can be kept: the guest has answered, if only with an error of its own.
fn is_well(fault: &Fault) -> bool {
    matches!(fault.kind, Kind::Failed | Kind::InvalidEvent)
}

/// The answer where a drain has no time for a better one.
fn cut_short() -> Fault {
    let message = "the environment was ended before the function had answered";
    Fault::new(Kind::Internal, message).with_caller_message(message)
}

/// The answer to an event whose deadline was so long ago when it came.
fn came_late(invocation: &Invocation, ago: Duration) -> Fault {
    let fault = Fault::new(
        Kind::DeadlineExceeded,
        format!(
            "the event of the function {:?} came when its deadline had passed, by {:.1} s, and was not run: it was \
             handed out late, or the environment stood still meanwhile",
            invocation.function_name,
            ago.as_secs_f64()
        ),
    );
    // The function has not even begun.
    Fault {
        blame: Blame::Host,
        ..fault
    }
}

fn overdue(invocation: &Invocation) -> Fault {
    Fault::new(
        Kind::DeadlineExceeded,
        format!(
            "the function {:?} had not answered {} ms before its deadline and was ended; give it more time (the \
             function's timeout, on the local host `timeout_ms`) or less to do",
            invocation.function_name,
            invocation.deadline.remaining().as_millis()
        ),
    )
}

#[cfg(test)]
mod tests {
    use crate::telemetry::invocation_of;

    use super::*;

    #[test]
    fn the_function_is_not_blamed_for_an_event_that_came_late() {
        let fault = came_late(&invocation_of("r"), Duration::from_millis(4_210));
        let kind = (fault.kind, fault.blame);
        assert_eq!(kind, (Kind::DeadlineExceeded, Blame::Host));
        assert!(fault.log.contains("by 4.2 s, and was not run"), "{fault}");
    }

    #[tokio::test]
    async fn a_panic_of_the_hosts_own_is_a_fault_of_its_invocation() {
        let fault = unpanicked(async { panic!("a mistake") }).await;
        let fault: Fault = fault.map(|()| "no panic").unwrap_err();
        assert_eq!((fault.kind, fault.blame), (Kind::Internal, Blame::Host));
        assert!(fault.log.contains("a mistake"), "{}", fault.log);
    }
}
