//! What a guest is told of a snapshot of its environment: before it, and in each copy after.
//!
//! Promises: a hook runs while no invocation is in its instance, and is answered: by the guest, or by the
//! fault that ended the instance. An instance whose hook failed, or had not returned in time, is ended.
//!
//! Left to others: what becomes of an instance that is not to be kept ([`super::pool`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use wasmtime::Store;

use super::keeper::Keeper;
use super::state::State;
use super::waiting::fault_of;
use super::{Instance, trap};
use crate::fault::{Fault, Kind};
use crate::interface::bindings::hearth::function::invocation::Verdict;
use crate::interface::bindings::{Failure, Function};
use crate::telemetry::{Account, Output};

/// One of the hooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the snapshot.
    Snapshot,
    /// After the restore.
    Restored,
}

/// A hook for an instance to run.
pub(super) struct HookRequest {
    hook: Hook,
    reply: oneshot::Sender<Result<Verdict, Fault>>,
}

impl Hook {
    /// Its name among the guest's exports, and in the log.
    fn name(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Restored => "restored",
        }
    }

    fn kind(self) -> Kind {
        match self {
            Self::Snapshot => Kind::SnapshotFailed,
            Self::Restored => Kind::RestoreFailed,
        }
    }
}

impl Instance {
    /// Has the guest run a hook, and says what is to become of the instance.
    ///
    /// Fails if the guest did, and if it has not returned after this time.
    pub async fn run_hook(&self, hook: Hook, timeout: Duration) -> Result<Verdict, Fault> {
        let (reply, verdict) = oneshot::channel();
        let _ = self.hooks.send(HookRequest { hook, reply });
        let begun = Instant::now();
        match tokio::time::timeout(timeout, verdict).await {
            Ok(Ok(Ok(verdict))) => {
                if hook == Hook::Restored {
                    self.vitals.renew_birth();
                }
                Ok(verdict)
            }
            Ok(Ok(Err(fault))) => Err(fault),
            Ok(Err(_)) => Err(Fault::new(
                Kind::Internal,
                format!(
                    "the instance ended before its hook `{}` could run",
                    hook.name()
                ),
            )),
            Err(_) => {
                self.condemn();
                let message = format!(
                    "the function's hook `{}` had not returned after {} ms, and was ended",
                    hook.name(),
                    begun.elapsed().as_millis()
                );
                Err(Fault::new(hook.kind(), message))
            }
        }
    }
}

impl Keeper {
    /// Runs a hook. Returns whether the instance goes on.
    pub(super) async fn run_hook(
        &self,
        store: &mut Store<State>,
        function: &Function,
        request: HookRequest,
    ) -> bool {
        let HookRequest { hook, reply } = request;
        let account = Account::outside(&self.blueprint.config.name, hook.name());
        let output = Arc::new(Output::new(account));
        let state = store.data_mut();
        state.attribute(output.clone());
        state.memory.forget_refusal();
        if hook == Hook::Restored {
            state.renew_random();
        }
        store.set_epoch_deadline(1);
        let ticking = self.blueprint.engine.ticker().tick();
        let outcome = tokio::select! {
            biased;
            () = self.vitals.condemned() => return false,
            outcome = call_guest(store, function, hook) => outcome,
        };
        drop(ticking);
        output.finish();
        let cause = match outcome {
            Ok(Ok(verdict)) => {
                let _ = reply.send(Ok(verdict));
                return true;
            }
            Ok(Err(failure)) => fault_of(failure),
            Err(error) => trap::fault(&error, store.data().memory.was_refused(), &output),
        };
        self.vitals.condemn();
        let message = format!(
            "the hook `{}` of the function {:?} failed: {}",
            hook.name(),
            self.blueprint.config.name,
            cause.log
        );
        let _ = reply.send(Err(
            Fault::new(hook.kind(), message).traced(cause.stack_trace)
        ));
        false
    }
}

async fn call_guest(
    store: &mut Store<State>,
    function: &Function,
    hook: Hook,
) -> wasmtime::Result<Result<Verdict, Failure>> {
    store
        .run_concurrent(async |accessor| match hook {
            Hook::Snapshot => {
                let prepared = function.call_snapshot(accessor).await?;
                Ok(prepared.map(|()| Verdict::Keep))
            }
            Hook::Restored => function.call_restored(accessor).await,
        })
        .await?
}
