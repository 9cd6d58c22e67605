//! The memory of a connection's two buffers.
//!
//! Promises: a buffer that a large request or message has enlarged is given back once the server owes nothing more; one
//! of the usual size stays.

use bytes::{Buf, BytesMut};

use super::Wire;
use crate::limits;

impl Wire {
    /// Drops the message in front.
    pub(super) fn consume(&mut self) {
        self.input.advance(std::mem::take(&mut self.current));
        self.dropping += std::mem::take(&mut self.unseen);
    }

    /// Makes room for a message of this length, of which a part has arrived.
    pub(super) fn make_room(&mut self, whole: usize) {
        self.input.reserve(whole - self.input.len());
        self.enlarged |= whole > limits::WIRE_BYTES_KEPT;
    }

    /// Gives enlarged buffers back, once the answer is complete. What has arrived behind it stays.
    pub(super) fn shrink(&mut self) {
        if self.owed > 0 {
            return;
        }
        if std::mem::take(&mut self.enlarged) {
            self.input = BytesMut::from(&self.input[..]);
        }
        if self.sent > limits::WIRE_BYTES_KEPT as u64 && self.output.is_empty() {
            self.output = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::database::connect::{Backend, Established, Stream};

    /// A server that answers each query with a row as long as that, and then waits for the next.
    async fn repeat(mut stream: TcpStream) {
        while let Ok(b'Q') = stream.read_u8().await {
            let mut text = vec![0; stream.read_u32().await.unwrap() as usize - 4];
            stream.read_exact(&mut text).await.unwrap();
            stream.write_u8(b'D').await.unwrap();
            stream.write_u32(4 + text.len() as u32).await.unwrap();
            stream.write_all(&text).await.unwrap();
            stream.write_all(b"Z\0\0\0\x05I").await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_large_request_and_a_large_row_leave_no_large_buffers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connecting = TcpStream::connect(listener.local_addr().unwrap());
        let (stream, server) = tokio::join!(connecting, listener.accept());
        tokio::spawn(repeat(server.unwrap().0));
        let mut wire = Wire::new(Established {
            begun: std::time::SystemTime::now(),
            stream: Stream::Tcp(stream.unwrap()),
            received: BytesMut::new(),
            backend: Backend::at(Path::new("/nowhere")),
            parameters: BTreeMap::new(),
        });
        for length in [limits::WIRE_BYTES_KEPT * 8, 10] {
            let sql = "x".repeat(length);
            wire.begin();
            wire.simple_query(&sql).unwrap();
            assert_eq!(wire.message().await.unwrap(), b'D');
            assert_eq!(wire.body().len(), length + 1);
            assert_eq!(wire.message().await.unwrap(), b'Z');
            assert_eq!(wire.body(), b"I");
            // All of a buffer can only be seen where nothing is in it.
            wire.consume();
            wire.input.reserve(1);
            wire.output.reserve(1);
            let capacities = [wire.input.capacity(), wire.output.capacity()];
            let kept = capacities.iter().max().unwrap();
            assert!(*kept < limits::WIRE_BYTES_KEPT, "{capacities:?}");
        }
    }
}
