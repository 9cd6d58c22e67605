//! The end of a connection, in the server's own terms where it can still be told.

use std::task::Context;

use postgres_protocol::message::frontend;
use tokio::io::AsyncWriteExt;

use super::Wire;

impl Wire {
    /// Says good-bye and waits until the server has closed its side. False if that could not be said.
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

    /// Says good-bye as far as that is possible without waiting.
    pub fn terminate(&mut self) {
        if self.owed == 0 && self.output.is_empty() && !self.dead {
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
