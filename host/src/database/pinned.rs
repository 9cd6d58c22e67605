//! A connection that the guest holds for as long as it wants: for settings, temporary tables,
//! advisory locks and notifications.
//!
//! Promises: all its calls run on one connection, one after another; when it is dropped, or its
//! invocation ends, the connection is made clean before it is lent again.

use std::sync::Arc;

use super::error::{Error, Result};
use super::seat::Seat;
use super::session::Session;
use super::wire::notification::Notification;
use super::work::Work;

/// A connection on loan to the guest itself.
pub struct Pinned {
    session: Arc<Session>,
    seat: Arc<Seat>,
}

impl Pinned {
    pub(super) fn new(session: Arc<Session>, seat: Arc<Seat>) -> Self {
        Self { session, seat }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(super) fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    pub(super) async fn perform<W: Work>(&self, work: W) -> Result<W::Done> {
        self.session.admit(self.seat.database().name(), &work)?;
        self.session.perform(&self.seat, &work).await
    }

    /// Waits for the next notification on a channel to which it listens. Giving up the wait does no
    /// harm.
    pub async fn notification(&self) -> Result<Notification> {
        if self.session.may_freeze() {
            return Err(Error::Unsupported(
                "notifications cannot be waited for where the environment is frozen between two invocations: \
                 the server would drop the connection, and what it told meanwhile"
                    .to_owned(),
            ));
        }
        if self.seat.is_streaming() {
            return Err(Error::InUse);
        }
        self.session
            .unless_ended(async {
                let mut place = self.seat.loan.lock().await;
                let loan = place.as_mut().ok_or(Error::Ended)?;
                loan.notification().await
            })
            .await
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.session.release(&self.seat);
    }
}
