//! One function: the way of an invocation to an instance of it, and of the answer back.
//!
//! Promises: the answer is there by the invocation's enforced deadline, whatever the guest does; an instance
//! goes back to the others only if it is well.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::time::sleep_until;

use super::after::AfterWork;
use super::response::{self, Bounds};
use super::{came_late, is_well, overdue, report};
use crate::config::{self, AfterAnswer, FunctionConfig};
use crate::database::Databases;
use crate::database::permission::Permissions;
use crate::database::session::Session;
use crate::database::session::grants::Grants;
use crate::fault::{Fault, Kind};
use crate::instance::Job;
use crate::instance::answered::{Answered, Body};
use crate::instance::pool::{InstancePool, Lease};
use crate::instance::ticker::Watch;
use crate::invocation::{Answer, Deadline, Invocation};
use crate::limits;
use crate::telemetry::{Account, Output};

/// One function, ready to be invoked.
pub struct Function {
    pub(super) config: FunctionConfig,
    pub(super) databases: Arc<Databases>,
    pub(super) permissions: Permissions,
    pub(super) instances: Arc<InstancePool>,
}

/// What comes of handing an invocation to an instance.
pub(super) struct Called {
    pub(super) answer: Result<Answer, Fault>,
    pub(super) after_work: Option<AfterWork>,
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

    /// A session on its databases without any event, for commands that look at them; no guest runs in it.
    pub fn session(&self, deadline: Deadline) -> Arc<Session> {
        let grants = Grants::without_event(&self.permissions);
        let account = Account::outside(&self.config.name, "");
        let (databases, freezes) = (self.databases.clone(), false);
        Session::new(databases, grants, account, deadline, freezes)
    }

    /// How long an invocation may take where the event does not say it.
    pub fn timeout(&self) -> Duration {
        self.config.timeout
    }

    /// Builds an instance ahead of the first invocation.
    pub async fn warm(&self) -> Result<(), Fault> {
        self.instances.warm().await
    }

    /// Borrows an instance for an invocation that is yet to begin, and waits for one until `given_up` ends.
    pub(super) async fn lease(&self, given_up: impl Future<Output = ()>) -> Result<Lease, Fault> {
        self.instances.lease(given_up).await
    }

    /// The same, and waits until it stands.
    pub async fn ready(&self, given_up: impl Future<Output = ()>) -> Result<Lease, Fault> {
        let lease = self.lease(given_up).await?;
        built(&lease).await;
        Ok(lease)
    }

    /// Hands an invocation to an instance, to this one if there is one for it already, and waits for its answer
    /// until its enforced deadline.
    pub(super) async fn call(
        &self,
        leased: Option<Lease>,
        invocation: &Arc<Invocation>,
        session: &Arc<Session>,
        output: &Arc<Output>,
    ) -> Called {
        let enforced = invocation.deadline.enforced;
        // As of an event that lay here in a frozen process: nobody waits for what it would do.
        if let Some(ago) = invocation.deadline.passed() {
            if let Some(lease) = leased {
                lease.finish();
            }
            return Called::failed(came_late(invocation, ago));
        }
        let mut lease = match leased {
            Some(lease) => lease,
            None => match self.lease(sleep_until(enforced.into())).await {
                Ok(lease) => lease,
                Err(fault) => return Called::failed(fault),
            },
        };
        let (answer, watch) = loop {
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
                Ok(answer) => break (answer, watch),
                // The instance ended before the invocation had begun. There are others.
                Err(_) if Instant::now() < enforced => drop(watch),
                Err(_) => return Called::failed(overdue(invocation)),
            }
            lease = match lease.replace(sleep_until(enforced.into())).await {
                Ok(lease) => lease,
                Err(fault) => return Called::failed(fault),
            };
        };
        match answer {
            Ok(answered) => {
                self.answered(session, invocation, answered, lease, watch)
                    .await
            }
            Err(fault) => {
                if is_well(&fault) {
                    lease.finish();
                }
                Called::failed(fault)
            }
        }
    }

    /// Puts an answer into its form. If the guest goes on, the lease stays out.
    async fn answered(
        &self,
        session: &Arc<Session>,
        invocation: &Arc<Invocation>,
        answered: Answered,
        lease: Lease,
        watch: Watch,
    ) -> Called {
        let (form, account) = (self.config.response, session.account());
        let (after, body) = match (answered.after, answered.body) {
            (None, Body::Whole(bytes)) => {
                lease.finish();
                return Called {
                    answer: response::whole(form, answered.head.as_ref(), bytes),
                    after_work: None,
                };
            }
            (None, Body::Failed(fault)) => {
                lease.finish();
                return Called::failed(fault);
            }
            (None, Body::Streamed(_)) => {
                let broken = Fault::new(Kind::Internal, "a body came without its end");
                return Called::failed(broken);
            }
            (Some(after), body) => (after, body),
        };
        let fault_reported = Arc::new(AtomicBool::new(false));
        let bounds = Bounds {
            invocation: invocation.clone(),
            account: account.clone(),
            watch: lease.watch(invocation.deadline.enforced),
            fault_reported: fault_reported.clone(),
        };
        let is_whole = !matches!(body, Body::Streamed(_));
        let mut answer = response::respond(form, answered.head, body, bounds).await;
        let work = AfterWork {
            invocation: invocation.clone(),
            session: session.clone(),
            lease,
            after,
            suspended: answered.suspended,
            watch,
            fault_reported,
        };
        // A body that is sent while it is made cannot be held back.
        let holds_back = is_whole || form == config::ResponseForm::Buffered;
        if self.config.after_answer != AfterAnswer::Await || !holds_back {
            let after_work = Some(work);
            return Called { answer, after_work };
        }
        match (work.finish().await, &answer) {
            (Err(fault), Ok(_)) => answer = Err(fault),
            // The caller is told of the first one, and the log of both.
            (Err(fault), Err(first)) => {
                account.failed(first);
                report(&fault, account);
            }
            (Ok(()), _) => {}
        }
        Called {
            answer,
            after_work: None,
        }
    }
}

/// Waits until an instance stands. What that takes longer than Lambda gives a start is of the invocation's own
/// time, as it is there; and how it went, the invocation is told.
pub(super) async fn built(lease: &Lease) {
    let building = lease.instance().built();
    let _ = tokio::time::timeout(limits::BUILD_PATIENCE, building).await;
}

impl Called {
    /// There is no answer, and nothing goes on.
    pub(super) fn failed(fault: Fault) -> Self {
        Self {
            answer: Err(fault),
            after_work: None,
        }
    }
}
