//! What other sessions tell with `NOTIFY`.
//!
//! Promises: a notification that arrives between other messages is kept until it is fetched; of
//! more than [`limits::NOTIFICATIONS_MAX`] the oldest go; why the server ends a connection on which one is waited
//! for is said in its own words.

use std::collections::VecDeque;

use postgres_protocol::message::backend;

use super::{Wire, reply};
use crate::database::error::{Error, Result};
use crate::limits;

/// Those that have arrived and were not fetched.
pub type Notifications = VecDeque<Notification>;

/// What another session has told with `NOTIFY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The process id of the session that sent it.
    pub process_id: i32,
    /// The channel.
    pub channel: String,
    /// The text that came with it; often empty.
    pub payload: String,
}

impl Wire {
    /// The next notification, waited for without limit.
    pub async fn notification(&mut self) -> Result<Notification> {
        loop {
            if let Some(notification) = self.notifications.pop_front() {
                return Ok(notification);
            }
            self.consume();
            match self.in_front()? {
                Some(backend::NOTIFICATION_RESPONSE_TAG) => self.take_notification(),
                Some(backend::NOTICE_RESPONSE_TAG) => self.take_notice(),
                Some(backend::ERROR_RESPONSE_TAG) => {
                    self.end();
                    return Err(reply::error(self));
                }
                Some(_) => {}
                // Nothing is being executed.
                None => self.transfer().await.map_err(Error::unexecuted)?,
            }
        }
    }

    /// Forgets the notifications that nobody has fetched.
    pub fn forget_notifications(&mut self) {
        self.notifications.clear();
    }

    pub(super) fn take_notification(&mut self) {
        let Ok(backend::Message::NotificationResponse(body)) = self.take() else {
            return;
        };
        if self.notifications.len() == limits::NOTIFICATIONS_MAX {
            self.notifications.pop_front();
        }
        self.notifications.push_back(Notification {
            process_id: body.process_id(),
            channel: body.channel().unwrap_or_default().to_owned(),
            payload: body.message().unwrap_or_default().to_owned(),
        });
    }
}
