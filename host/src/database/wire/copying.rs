//! The wire while data go beside a statement.
//!
//! Promises:
//! - a `COPY` that was asked for as such is ended by exactly one `Sync`, whatever interrupts it, so that
//!   the server's answers can be counted;
//! - a server that has much to say of the data, such as a notice for each row, is listened to.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use postgres_protocol::message::{backend, frontend};

use super::{Passage, Request, Wire};
use crate::database::error::Result;

impl Wire {
    /// Answers a server that waits for `COPY` data with a refusal.
    ///
    /// If the `Sync` was sent with the statement, the server overlooks it while it waits for data, but
    /// not if it was interrupted before: then there is one readiness more. So the connection is of
    /// no more use after that.
    pub fn refuse_copy(&mut self) {
        // Without a zero byte in it, the text can always be sent.
        let _ = frontend::copy_fail("no data follows", &mut self.output);
        if self.request == Request::Extended {
            frontend::sync(&mut self.output);
            self.doubtful = true;
        }
        self.end_copy();
    }

    /// Ends a request of the extended protocol for now without the `Sync`, which is sent by
    /// [`Self::end_copy`]: data are to go between.
    pub fn sync_later(&mut self) {
        frontend::flush(&mut self.output);
        self.owe();
        self.request = Request::CopyAsked;
    }

    /// The server takes data.
    pub fn begin_copy(&mut self) {
        self.request = Request::CopyingIn;
    }

    /// Sends what is waiting to be sent, without waiting for an answer.
    pub async fn flush(&mut self) -> Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<()>> {
        while self.poll_write(context).is_pending() {
            // It takes no more while it cannot get rid of what it says.
            if self.has_an_answer()? {
                return Poll::Pending;
            }
            match ready!(self.poll_read(context)) {
                // It may have said why before it closed the connection.
                Ok(0) | Err(_) => {
                    self.shut();
                    break;
                }
                Ok(_) => {}
            }
        }
        Poll::Ready(match self.passage {
            Passage::Open => Ok(()),
            Passage::LastWords | Passage::Closed => Err(self.lost()),
        })
    }

    /// Whether the server has said something that concerns the request, or has ended the connection. Waits for nothing.
    pub fn has_answered(&mut self) -> Result<bool> {
        loop {
            if self.has_an_answer()? {
                return Ok(true);
            }
            if !self.read_now() {
                return Ok(self.is_dead());
            }
        }
    }

    /// Whether a message is in front that concerns the request, which is left there. Others are taken.
    fn has_an_answer(&mut self) -> Result<bool> {
        self.consume();
        loop {
            match self.in_front()? {
                None => return Ok(false),
                Some(backend::PARAMETER_STATUS_TAG) => self.consume(),
                Some(backend::NOTICE_RESPONSE_TAG) => self.take_notice(),
                Some(backend::NOTIFICATION_RESPONSE_TAG) => self.take_notification(),
                Some(_) => {
                    (self.current, self.unseen) = (0, 0);
                    return Ok(true);
                }
            }
        }
    }

    /// Sends the `Sync` that was put off, if one was.
    pub fn end_copy(&mut self) {
        if matches!(self.request, Request::CopyAsked | Request::CopyingIn) {
            self.request = Request::Extended;
            frontend::sync(&mut self.output);
        }
    }
}
