//! Answers that are posted while the next event is asked for already.
//!
//! On Managed Instances an event that finds nobody asking is refused, and no request for one is tied to an
//! answer: a slot whose function has returned is free, whenever the answer arrives.
//!
//! Promises: what is posted goes on until it is taken or refused, or nobody waits for it any more, whatever
//! the slot does meanwhile; there is one at a time, on a connection of its own.

use std::time::Instant;

use futures_util::FutureExt as _;
use tokio::task::{JoinError, JoinHandle};

use super::backoff::pause;
use super::endpoint::Endpoint;
use super::reply_timeout::Attempt;
use super::{Error, Receipt, posting};
use crate::invocation::Answer;
use crate::telemetry::line_for;

/// The answer of one slot that is on its way.
pub(super) struct BackgroundPost {
    /// What each connection is made like.
    template: Endpoint,
    /// The connection on which none is.
    idle: Option<Endpoint>,
    posting: Option<JoinHandle<(Endpoint, Result<(), Error>)>>,
    /// What one of them has found out.
    failure: Option<Error>,
}

impl BackgroundPost {
    /// None yet, on connections like this one.
    pub(super) fn new(template: Endpoint) -> Self {
        Self {
            template,
            idle: None,
            posting: None,
            failure: None,
        }
    }

    /// Itself, if no answer is on its way.
    pub(super) fn with_room(&mut self) -> Option<&mut Self> {
        let ended = self
            .posting
            .as_mut()
            .and_then(|posting| posting.now_or_never());
        if let Some(ended) = ended {
            self.note(ended);
        }
        self.posting.is_none().then_some(self)
    }

    /// Begins to post an answer; it is the last attempt, if it was posted before.
    pub(super) fn post(&mut self, receipt: Receipt, answer: Answer, attempt: Attempt) {
        let idle = self.idle.take();
        let endpoint = idle.unwrap_or_else(|| self.template.another());
        // It begins when the slot waits for the next event: the other way round, whoever gets the answer may
        // have sent that before it is asked for.
        let posting = post_until_taken(endpoint, receipt, answer, attempt);
        self.posting = Some(tokio::spawn(posting));
    }

    /// Waits for an answer after which the process is to end, for ever if there is none.
    pub(super) async fn failed(&mut self) -> Error {
        if self.failure.is_none() {
            self.finish().await;
        }
        match self.failure.take() {
            Some(failure) => failure,
            None => std::future::pending().await,
        }
    }

    /// Waits until nothing is on its way any more.
    pub(super) async fn finish(&mut self) {
        if let Some(posting) = &mut self.posting {
            let ended = posting.await;
            self.note(ended);
        }
    }

    fn note(&mut self, ended: Result<(Endpoint, Result<(), Error>), JoinError>) {
        self.posting = None;
        match ended {
            Ok((endpoint, posted)) => {
                self.idle = Some(endpoint);
                if let Err(failure) = posted {
                    self.failure = Some(failure);
                }
            }
            Err(error) => tracing::error!("the posting of an answer ended oddly: {error}"),
        }
    }
}

/// Posts an answer for as long as somebody waits for it. An error is what ends the process.
async fn post_until_taken(
    mut endpoint: Endpoint,
    receipt: Receipt,
    answer: Answer,
    mut attempt: Attempt,
) -> (Endpoint, Result<(), Error>) {
    let mut failures = 0;
    loop {
        let posted = posting::answer(&mut endpoint, &receipt, &answer, attempt).await;
        let error = match posted {
            Err(error @ (Error::Transient(_) | Error::Unreachable(_))) => error,
            ended => return (endpoint, ended),
        };
        failures += 1;
        attempt = Attempt::Last;
        line_for!(Some(&receipt.invocation), warn, failures, "{error}");
        tokio::time::sleep(pause(failures)).await;
        if receipt.invocation.deadline.settled_by() < Instant::now() {
            return (endpoint, Ok(()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_ends_the_process_is_not_forgotten_for_a_later_answer() {
        let endpoint = || Endpoint::new("127.0.0.1:1");
        let mut background = BackgroundPost::new(endpoint());
        let fatal = Error::Fatal("beyond repair".to_owned());
        background.note(Ok((endpoint(), Err(fatal))));
        background.note(Ok((endpoint(), Ok(()))));
        assert!(matches!(background.failed().await, Error::Fatal(_)));
    }
}
