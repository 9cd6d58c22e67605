//! Bytes to and from the socket.
//!
//! Promises: what waits to be written leaves while replies are read, so neither side can block the other; a
//! connection that the other side has closed is dead, but what it said before that is read.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::SystemTime;

use bytes::Buf;
use tokio::io::AsyncWrite;
use tokio_util::io::poll_read_buf;

use super::{Passage, READ_BYTES, Wire};
use crate::database::error::Result;
use crate::limits;

impl Wire {
    /// Moves bytes until some have arrived.
    pub(super) async fn transfer(&mut self) -> Result<()> {
        if self.is_dead() {
            return Err(self.lost());
        }
        let received = poll_fn(|context| {
            // Whether it could all be written does not matter here: the answer does.
            let _ = self.poll_write(context);
            self.poll_read(context)
        })
        .await;
        match received {
            Ok(0) | Err(_) => {
                self.end();
                Err(self.lost())
            }
            Ok(_) => Ok(()),
        }
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.input
            .reserve(READ_BYTES.min(self.input.capacity().max(4096)));
        let read = poll_read_buf(Pin::new(&mut self.stream), context, &mut self.input);
        if let Poll::Ready(Ok(bytes)) = read {
            self.traffic.received_bytes += bytes as u64;
        }
        read
    }

    /// Writes as much as the socket takes. Ready when nothing is left to write, or nothing can be.
    pub(super) fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<()> {
        while !self.output.is_empty() {
            if self.passage != Passage::Open {
                self.output.clear();
                break;
            }
            if !self.patient && self.sent + self.output.len() as u64 > limits::REQUEST_BYTES_HELD {
                self.patient = self.stream.be_patient(true);
            }
            match Pin::new(&mut self.stream).poll_write(context, &self.output) {
                Poll::Ready(Ok(written)) if written > 0 => {
                    self.output.advance(written);
                    self.sent += written as u64;
                    self.sent_at = SystemTime::now();
                    self.traffic.sent_bytes += written as u64;
                }
                // The server may have said why before it closed the connection.
                Poll::Ready(Ok(_) | Err(_)) => self.shut(),
                Poll::Pending => return Poll::Pending,
            }
        }
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Ready(Ok(())) => Poll::Ready(()),
            Poll::Ready(Err(_)) => {
                self.shut();
                Poll::Ready(())
            }
            Poll::Pending => Poll::Pending,
        }
    }
}
