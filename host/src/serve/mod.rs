//! The environment: everything that outlives an invocation, and the way of an invocation through it.
//!
//! ```text
//! front door ─► Environment::handle ─► lease ─► instance ─► guest ─► session ─► database
//!            ◄─ Handled             ◄─ finish ◄─          ◄─       ◄─
//!            ─► Handled::settle     ─► session.end
//! ```
//!
//! Promises:
//! - an invocation is answered by its enforced deadline, whatever the guest does;
//! - after [`Handled::settle`] nothing of it is left: no statement runs on, no connection is out.
//!
//! Left to others: where events come from and answers go to ([`lambda`], [`local`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::config::{Config, FunctionConfig};
use crate::database::grants::Grants;
use crate::database::permission::Permissions;
use crate::database::session::Session;
use crate::database::{self, Databases};
use crate::fault::{Blame, Fault, Kind};
use crate::instance::engine::{Capacity, Engine};
use crate::instance::pool::InstancePool;
use crate::instance::{Blueprint, Job};
use crate::invocation::{Answer, Deadline, Invocation};
use crate::limits;
use crate::telemetry::Output;

pub mod lambda;
pub mod local;
mod permissions;

/// What one host process keeps warm.
pub struct Environment {
    functions: BTreeMap<String, Arc<Function>>,
    databases: Databases,
    /// Whether the process is frozen between two invocations.
    freezes: bool,
    endings: TaskTracker,
}

/// One function, ready to be invoked.
pub struct Function {
    config: FunctionConfig,
    databases: Arc<Databases>,
    permissions: Permissions,
    instances: InstancePool,
}

/// An invocation that has its answer, but whose loans are still out.
pub struct Handled {
    /// What the caller gets.
    pub answer: Answer,
    output: Arc<Output>,
    ending: Ending,
}

/// Ends an invocation's session, also when the invocation is given up.
struct Ending {
    session: Option<Arc<Session>>,
    endings: TaskTracker,
}

impl Environment {
    /// Loads every function and opens every database of a configuration. Nothing is connected to
    /// and no instance is built yet.
    pub fn start(config: &Config) -> Result<Self, Fault> {
        let databases = database::open(&config.databases)?;
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
            memory_bytes: memory_mib as usize * 1024 * 1024,
        })?);
        let mut functions = BTreeMap::new();
        for (name, config) in config.functions.clone() {
            let own: Databases = config
                .databases
                .iter()
                .filter_map(|name| Some((name.clone(), databases.get(name)?.clone())))
                .collect();
            let own = Arc::new(own);
            let instances = InstancePool::new(Blueprint {
                config: config.clone(),
                component: engine.load(&name, &config.component)?,
                engine: engine.clone(),
                databases: own.clone(),
            });
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
    pub async fn handle(&self, function: &Function, invocation: Invocation) -> Handled {
        let grants = Grants::new(&function.permissions, &invocation);
        let databases = function.databases.clone();
        let session = Session::new(databases, grants, invocation.deadline, self.freezes);
        let ending = Ending {
            session: Some(session.clone()),
            endings: self.endings.clone(),
        };
        let output = Arc::new(Output::new(&function.config.name, &invocation.request_id));
        let invocation = Arc::new(invocation);
        let answer = function.call(&invocation, &session, &output).await;
        output.finish();
        if let Err(fault) = &answer {
            report(fault, &function.config.name, &invocation.request_id);
        }
        Handled {
            answer,
            output,
            ending,
        }
    }

    /// Ends every instance and every session, and says good-bye to every database.
    pub async fn drain(&self) {
        for function in self.functions.values() {
            function.instances.close();
        }
        self.endings.close();
        // Each of them is bounded; together they take no longer, since they run side by side.
        let _ = tokio::time::timeout(limits::SETTLE_TIMEOUT * 2, self.endings.wait()).await;
        for database in self.databases.values() {
            database.close().await;
        }
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
        Session::new(self.databases.clone(), grants, deadline, false)
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
    ) -> Answer {
        let enforced = invocation.deadline.enforced;
        let lease = self.instances.lease(enforced).await?;
        let (reply, answer) = oneshot::channel();
        lease.instance().submit(Job {
            invocation: invocation.clone(),
            session: session.clone(),
            output: output.clone(),
            reply,
        });
        let answer = tokio::select! {
            biased;
            answer = answer => answer,
            () = lease.watch(enforced) => return Err(overdue(invocation)),
        };
        let Ok(answer) = answer else {
            return Err(Fault::new(
                Kind::Internal,
                "the instance ended before it could answer",
            ));
        };
        match &answer {
            // The guest answered, if only with an error of its own: it is well.
            Ok(_) => lease.finish(),
            Err(fault) if matches!(fault.kind, Kind::Failed | Kind::InvalidEvent) => lease.finish(),
            Err(_) => drop(lease),
        }
        answer.and_then(checked)
    }
}

impl Handled {
    /// The end of what the guest wrote.
    pub fn output_tail(&self) -> Vec<u8> {
        self.output.tail()
    }

    /// Makes clean and gives back what the invocation has borrowed. To be called when the answer
    /// is on its way.
    pub async fn settle(mut self) {
        if let Some(session) = self.ending.session.take() {
            self.ending.endings.track_future(session.end()).await;
        }
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.endings.spawn(async move { session.end().await });
        }
    }
}

/// Logs a fault; what is the caller's own mistake is nothing to wake anybody for.
fn report(fault: &Fault, function: &str, request_id: &str) {
    let (blame, kind) = (fault.blame.as_str(), fault.error_type.as_str());
    match fault.blame {
        Blame::Caller => tracing::info!(function, request_id, fault = kind, blame, "{}", fault.log),
        _ => tracing::error!(function, request_id, fault = kind, blame, "{}", fault.log),
    }
}

fn checked(answer: bytes::Bytes) -> Answer {
    if answer.len() > limits::PAYLOAD_BYTES_MAX {
        return Err(Fault::new(
            Kind::ResponseTooLarge,
            format!(
                "the answer has {} bytes; {} are the most",
                answer.len(),
                limits::PAYLOAD_BYTES_MAX
            ),
        ));
    }
    Ok(answer)
}

fn overdue(invocation: &Invocation) -> Fault {
    Fault::new(
        Kind::DeadlineExceeded,
        format!(
            "the function {:?} had not answered {} ms before its deadline and was ended",
            invocation.function_name,
            invocation.deadline.remaining().as_millis()
        ),
    )
}
