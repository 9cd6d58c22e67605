//! The end of a connection: the protocol's `Terminate`, where it can still be sent.

use std::task::Context;

use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt;

use super::Wire;

impl Wire {
    /// Sends `Terminate` and waits until the server has closed its side. False if it could not be sent.
    pub async fn close(mut self) -> bool {
        frontend::terminate(&mut self.output);
        let said = self.flush().await.is_ok();
        if said {
            let _ = self.stream.shutdown().await;
            while self.transfer().await.is_ok() {
                self.input.clear();
            }
        }
        said
    }

    /// Sends `Terminate` if that needs no waiting: nothing is unanswered or unsent, and the socket takes it.
    pub fn terminate(&mut self) {
        if self.owed == 0 && self.output.is_empty() && !self.is_dead() {
            frontend::terminate(&mut self.output);
            let mut context = Context::from_waker(std::task::Waker::noop());
            let _ = self.poll_write(&mut context);
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.terminate();
    }
}
