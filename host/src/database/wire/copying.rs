//! The wire while data go beside a statement.
//!
//! Promises: a `COPY` that was asked for as such is ended by exactly one `Sync`, whatever interrupts
//! it, so that the server's answers can be counted.

use postgres_protocol::message::frontend;

use super::Wire;

impl Wire {
    /// Answers a server that waits for `COPY` data with a refusal.
    ///
    /// If the `Sync` was sent with the statement, the server overlooks it while it waits for data, but
    /// not if it was interrupted before: then there is one readiness more. So the connection is of
    /// no more use after that.
    pub fn refuse_copy(&mut self) {
        // Without a zero byte in it, the text can always be sent.
        let _ = frontend::copy_fail("no data follows", &mut self.output);
        if !self.simple && !self.sync_due {
            frontend::sync(&mut self.output);
            self.doubtful = true;
        }
        self.end_copy();
    }

    /// Ends a request of the extended protocol for now without the `Sync`, which is sent by
    /// [`Self::end_copy`]: data are to go between.
    pub fn sync_later(&mut self) {
        frontend::flush(&mut self.output);
        self.owed += 1;
        self.simple = false;
        self.sync_due = true;
    }

    /// The server takes data.
    pub fn begin_copy(&mut self) {
        self.copying_in = true;
    }

    /// Sends the `Sync` that was put off, if one was.
    pub fn end_copy(&mut self) {
        self.copying_in = false;
        if std::mem::take(&mut self.sync_due) {
            frontend::sync(&mut self.output);
        }
    }
}
