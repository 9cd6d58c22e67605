//! Answers that are posted while the next event is asked for already.
//!
//! On Managed Instances an event that finds nobody asking is refused, and no request for one is tied to an
//! answer: a slot whose function has returned is free, whenever the answer arrives.
//!
//! Promises: what is posted goes on until it is taken or refused, or nobody waits for it any more, whatever
//! the slot does meanwhile; a connection is used again, and a second one only for as long as an answer is
//! slow; there are no more than [`limits::ANSWERS_BESIDE_MAX`] of them, and whoever has another one to post
//! waits for it.

use std::time::Instant;

use tokio::task::{JoinError, JoinSet};

use super::connection::Endpoint;
use super::patience::pause;
use super::{Error, Receipt, posting};
use crate::invocation::Answer;
use crate::limits;
use crate::telemetry::line_for;

/// The answers of one slot that are on their way.
pub(super) struct Beside {
    address: String,
    /// A connection on which nothing is on its way.
    idle: Option<Endpoint>,
    posts: JoinSet<(Endpoint, Result<(), Error>)>,
    /// What one of them has found out.
    failure: Option<Error>,
}

impl Beside {
    /// None yet, to the Runtime API at this address.
    pub(super) fn new(address: String) -> Self {
        Self {
            address,
            idle: None,
            posts: JoinSet::new(),
            failure: None,
        }
    }

    /// Itself, if there is room for another answer beside those that are on their way.
    pub(super) fn with_room(&mut self) -> Option<&mut Self> {
        while let Some(ended) = self.posts.try_join_next() {
            self.note(ended);
        }
        (self.posts.len() < limits::ANSWERS_BESIDE_MAX).then_some(self)
    }

    /// Begins to post an answer. If it was posted before, there is to be no second copy of it.
    pub(super) fn post(&mut self, receipt: Receipt, answer: Answer, again: bool) {
        let idle = self.idle.take();
        let endpoint = idle.unwrap_or_else(|| Endpoint::new(&self.address));
        // It begins when the slot waits for the next event: the other way round, whoever gets the answer may
        // have sent that before it is asked for.
        self.posts.spawn(deliver(endpoint, receipt, answer, again));
    }

    /// Waits for an answer after which the process is to end, for ever if there is none.
    pub(super) async fn failed(&mut self) -> Error {
        loop {
            if let Some(failure) = self.failure.take() {
                return failure;
            }
            match self.posts.join_next().await {
                Some(ended) => self.note(ended),
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until nothing is on its way any more.
    pub(super) async fn delivered(&mut self) {
        while self.posts.join_next().await.is_some() {}
    }

    fn note(&mut self, ended: Result<(Endpoint, Result<(), Error>), JoinError>) {
        match ended {
            Ok((endpoint, Ok(()))) => self.idle = Some(endpoint),
            Ok((_, Err(failure))) => self.failure = Some(failure),
            Err(error) => tracing::error!("the posting of an answer ended oddly: {error}"),
        }
    }
}

/// Posts an answer for as long as somebody waits for it. An error is what ends the process.
async fn deliver(
    mut endpoint: Endpoint,
    receipt: Receipt,
    answer: Answer,
    mut again: bool,
) -> (Endpoint, Result<(), Error>) {
    let mut failures = 0;
    loop {
        let posted = posting::answer(&mut endpoint, &receipt, &answer, again).await;
        let error = match posted {
            Err(error @ (Error::Transient(_) | Error::Unreachable(_))) => error,
            ended => return (endpoint, ended),
        };
        failures += 1;
        again = true;
        line_for!(Some(&receipt.invocation), warn, failures, "{error}");
        tokio::time::sleep(pause(failures)).await;
        if receipt.invocation.deadline.settled_by() < Instant::now() {
            return (endpoint, Ok(()));
        }
    }
}
