//! Answers that are posted while the next event is asked for already.
//!
//! On Managed Instances Lambda refuses an event if no slot is asking for one, and a slot may ask before its
//! last answer has arrived. So a slot is free as soon as its function has returned.
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
use crate::invocation::WholeAnswer;
use crate::telemetry::line_for;

/// The answer of one slot that is on its way.
pub(super) struct BackgroundPost {
    /// New connections are copies of this one's settings.
    template: Endpoint,
    /// The connection of the last post, when no post is under way.
    idle: Option<Endpoint>,
    posting: Option<JoinHandle<(Endpoint, Result<(), Error>)>>,
    /// A failure that ends the process.
    failure: Option<Error>,
}

impl BackgroundPost {
    /// Nothing is posted yet. Connections will be like this one.
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
    pub(super) fn post(&mut self, receipt: Receipt, answer: WholeAnswer, attempt: Attempt) {
        let idle = self.idle.take();
        let endpoint = idle.unwrap_or_else(|| self.template.another());
        // Spawned, so it starts only once the slot waits for the next event. If it were posted first, its
        // receiver could send the next event before the slot asks for one.
        let posting = post_until_taken(endpoint, receipt, answer, attempt);
        self.posting = Some(tokio::spawn(posting));
    }

    /// Waits for a failure that is to end the process; for ever, if there is none.
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

/// Posts an answer until it arrives or its deadline has passed. Returns an error only if that is to end the
/// process.
async fn post_until_taken(
    mut endpoint: Endpoint,
    receipt: Receipt,
    answer: WholeAnswer,
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
