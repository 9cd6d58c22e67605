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
//! - after [`Handled::settle`] nothing of it is left: no statement runs on, no connection is out.
//!   Only where the function asks for it, work goes on beside later invocations, and its session
//!   with it, until it is done or its own deadline is reached.
//!
//! Left to others: where events come from and answers go to ([`lambda`], [`local`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{self, AfterAnswer, Config, FunctionConfig};
use crate::database::permission::Permissions;
use crate::database::session::Session;
use crate::database::session::grants::Grants;
use crate::database::warming;
use crate::database::{self, Databases};
use crate::fault::{Blame, Fault, Kind};
use crate::instance::answered::{Answered, Body};
use crate::instance::engine::{Capacity, Engine};
use crate::instance::pool::{self, InstancePool, Lease};
use crate::instance::ticker::Watch;
use crate::instance::{Blueprint, Job};
use crate::invocation::{Deadline, Invocation, Response};
use crate::limits;
use crate::telemetry::{Account, Metrics, Observers, Output, Spans, line_of};

pub mod ahead;
mod handled;
mod http;
pub mod lambda;
pub mod local;
mod permissions;
mod response;
mod work;

pub use handled::Handled;

use handled::Ending;
use response::Bounds;
use work::Work;

/// What one host process keeps warm.
pub struct Environment {
    functions: BTreeMap<String, Arc<Function>>,
    databases: Databases,
    /// Whether the process is frozen between two invocations.
    freezes: bool,
    endings: TaskTracker,
    /// Who wants to know of the invocations.
    observers: Observers,
    /// Cancelled when the environment ends.
    closing: CancellationToken,
}

/// One function, ready to be invoked.
pub struct Function {
    config: FunctionConfig,
    databases: Arc<Databases>,
    permissions: Permissions,
    instances: Arc<InstancePool>,
}

/// What comes of handing an invocation to an instance.
struct Called {
    answer: Result<Response, Fault>,
    work: Option<Work>,
}

impl Environment {
    /// Loads every function of a configuration, which may take seconds where a component has to be
    /// compiled. Nothing is connected to and no instance is built yet.
    pub fn start(config: &Config, databases: Databases) -> Result<Self, Fault> {
        let memory_mib = config
            .functions
            .values()
            .map(|function| function.memory_mib)
            .max()
            .unwrap_or(0);
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
            memory_bytes: memory_mib as usize * 1024 * 1024,
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
                component: engine.load(&name, &config.component)?,
                engine: engine.clone(),
                databases: own.clone(),
                measures: metrics.is_some(),
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
            freezes: false,
            endings: TaskTracker::new(),
            observers: Observers {
                metrics,
                spans: Spans::start(),
            },
            closing: CancellationToken::new(),
        })
    }

    /// The same, where Lambda freezes the process between two invocations.
    pub fn freezing(self, freezes: bool) -> Self {
        Self { freezes, ..self }
    }

    /// The functions' names, in order.
    pub fn function_names(&self) -> impl Iterator<Item = &str> {
        self.functions.keys().map(String::as_str)
    }

    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Arc<Function>> {
        self.functions.get(name)
    }

    /// Handles one invocation up to its answer.
    pub async fn handle(&self, function: &Function, invocation: Arc<Invocation>) -> Handled {
        let name = &function.config.name;
        let account = Account::open(name, invocation.clone(), &self.observers);
        let grants = Grants::new(&function.permissions, &invocation);
        let (databases, deadline) = (function.databases.clone(), invocation.deadline);
        let session = Session::new(databases, grants, account.clone(), deadline, self.freezes);
        let ending = Ending::new(session.clone(), self.endings.clone());
        let output = Arc::new(Output::new(account));
        let Called { answer, work } = function.call(&invocation, &session, &output).await;
        output.finish();
        if let Err(fault) = &answer {
            report(fault, output.account());
        }
        let going = work.map(|work| handled::Going {
            suspended: work.suspended.then(|| self.closing.clone()),
            work,
        });
        Handled {
            answer,
            going,
            output,
            ending,
        }
    }

    /// Makes an environment ready for a snapshot: the guests are told, and every connection to a
    /// database is closed.
    pub async fn prepare(&self, function: &Function) -> Result<(), Fault> {
        function.instances.prepare(limits::SNAPSHOT_TIMEOUT).await?;
        self.cool().await;
        Ok(())
    }

    /// Makes an environment that was restored from a snapshot fit for its first event: the guests
    /// are told, for which they have so much time, and connections opened anew.
    pub async fn renew(&self, function: &Function, timeout: Duration) -> Result<(), Fault> {
        // Its state is a copy like everything else; it draws nonces for logins.
        let _ = rand::rng().reseed();
        let connecting = async {
            warming::warm(&self.databases, ahead::read(&function.config)).await;
            Ok(())
        };
        // What cannot be renewed is told at once, whatever the databases do.
        tokio::try_join!(function.instances.renew(timeout), connecting)?;
        Ok(())
    }

    /// Closes every connection to a database that nobody uses, and keeps everything else.
    async fn cool(&self) {
        let cooling = self.databases.values().map(|database| database.cool());
        futures_util::future::join_all(cooling).await;
    }

    /// Ends every instance and every session and says good-bye to every database, for which it waits so
    /// long at most. By its end each good-bye has left, whether or not the server has replied.
    pub async fn drain(&self, patience: Duration) {
        let until = Instant::now() + patience;
        for function in self.functions.values() {
            function.instances.close();
        }
        self.closing.cancel();
        self.endings.close();
        let ending = async {
            self.endings.wait().await;
            if let Some(spans) = &self.observers.spans {
                spans.flush().await;
            }
        };
        // Neither a session that hangs nor a silent server keeps the others from being closed in time.
        let ending = timeout_at(until.into(), ending);
        let _ = tokio::join!(ending, timeout_at(until.into(), self.cool()));
        let _ = timeout_at(until.into(), database::close(&self.databases)).await;
    }
}

impl Function {
    /// Its name in the configuration.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// Its settings.
    pub fn config(&self) -> &FunctionConfig {
        &self.config
    }

    /// What it could borrow of its databases without any event: for looking at them, not for code.
    pub fn session(&self, deadline: Deadline) -> Arc<Session> {
        let grants = Grants::without_event(&self.permissions);
        let account = Account::outside(&self.config.name, "");
        Session::new(self.databases.clone(), grants, account, deadline, false)
    }

    /// What an invocation may take where nobody else says so.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Builds an instance ahead of the first invocation.
    pub async fn warm(&self) -> Result<(), Fault> {
        self.instances.warm().await
    }

    async fn call(
        &self,
        invocation: &Arc<Invocation>,
        session: &Arc<Session>,
        output: &Arc<Output>,
    ) -> Called {
        let enforced = invocation.deadline.enforced;
        let lease = match self.instances.lease(enforced).await {
            Ok(lease) => lease,
            Err(fault) => return Called::failed(fault),
        };
        let (reply, answer) = oneshot::channel();
        lease.instance().submit(Job {
            invocation: invocation.clone(),
            session: session.clone(),
            output: output.clone(),
            reply,
        });
        let mut watch = lease.watch(enforced);
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = &mut watch => return Called::failed(overdue(invocation)),
        };
        match answer {
            Ok(Ok(answered)) => {
                self.answered(session.account(), invocation, answered, lease, watch)
                    .await
            }
            Ok(Err(fault)) => {
                if is_well(&fault) {
                    lease.finish();
                }
                Called::failed(fault)
            }
            // The instance ended before the invocation had begun. There are others.
            Err(_) if Instant::now() < enforced => {
                drop((lease, watch));
                Box::pin(self.call(invocation, session, output)).await
            }
            Err(_) => Called::failed(overdue(invocation)),
        }
    }

    /// Puts an answer into its form. If the guest goes on, the lease stays out.
    async fn answered(
        &self,
        account: &Arc<Account>,
        invocation: &Arc<Invocation>,
        answered: Answered,
        lease: Lease,
        watch: Watch,
    ) -> Called {
        let form = self.config.response;
        let (rest, body) = match (answered.rest, answered.body) {
            (None, Body::Whole(bytes)) => {
                lease.finish();
                return Called {
                    answer: response::whole(form, answered.head.as_ref(), bytes),
                    work: None,
                };
            }
            (None, Body::Streamed(_)) => {
                let broken = Fault::new(Kind::Internal, "a body came without its end");
                return Called::failed(broken);
            }
            (Some(rest), body) => (rest, body),
        };
        let told = Arc::new(AtomicBool::new(false));
        let bounds = Bounds {
            invocation: invocation.clone(),
            account: account.clone(),
            watch: lease.watch(invocation.deadline.enforced),
            told: told.clone(),
        };
        let is_whole = matches!(body, Body::Whole(_));
        let mut answer = response::respond(form, answered.head, body, bounds).await;
        let work = Work {
            invocation: invocation.clone(),
            account: account.clone(),
            lease,
            rest,
            suspended: answered.suspended,
            watch,
            told,
        };
        // A body that is sent while it is made cannot be held back.
        let holds_back = is_whole || form == config::Response::Buffered;
        if self.config.after_answer != AfterAnswer::Await || !holds_back {
            let work = Some(work);
            return Called { answer, work };
        }
        if let Err(fault) = work.finish().await
            && answer.is_ok()
        {
            answer = Err(fault);
        }
        Called { answer, work: None }
    }
}

impl Called {
    fn failed(fault: Fault) -> Self {
        Self {
            answer: Err(fault),
            work: None,
        }
    }
}

/// Logs a fault; what is the caller's own mistake is nothing to wake anybody for.
fn report(fault: &Fault, account: &Account) {
    account.failed(fault);
    let (blame, kind) = (fault.blame.as_str(), fault.error_type.as_str());
    match fault.blame {
        Blame::Caller => line_of!(account, info, fault = kind, blame, "{}", fault.log),
        _ => line_of!(account, error, fault = kind, blame, "{}", fault.log),
    }
}

/// Whether the guest is none the worse for it: it answered, if only with an error of its own.
fn is_well(fault: &Fault) -> bool {
    matches!(fault.kind, Kind::Failed | Kind::InvalidEvent)
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
