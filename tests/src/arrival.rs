//! How the fake Lambda reads an answer: piece by piece, as fast or as slowly as a test wants.

use std::collections::HashMap;
use std::io;
use std::sync::Mutex;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use tokio::sync::watch;

/// Bytes of an answer that are kept.
const KEPT: usize = 16 << 20;

/// An answer as it arrived.
#[derive(Debug, Clone, Default)]
pub struct Arrived {
    /// As much of it as is kept, which is more than Lambda takes of an answer that is no stream.
    pub body: Bytes,
    /// When each piece came, and how many bytes there were with it.
    pub pieces: Vec<(Instant, usize)>,
    /// What came behind it.
    pub trailers: HeaderMap,
}

/// How answers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// As fast as they come.
    Freely,
    /// Not beyond the first piece.
    Held,
    /// Not beyond the first piece, after which the connection is closed.
    Hanging,
}

/// All answers that are being read.
#[derive(Debug)]
pub struct Reader {
    reading: watch::Sender<Reading>,
    /// Bytes that have arrived of each answer, by request id.
    progress: Mutex<HashMap<String, usize>>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            reading: watch::Sender::new(Reading::Freely),
            progress: Mutex::default(),
        }
    }
}

impl Reader {
    /// From now on answers are read like this.
    pub fn set(&self, reading: Reading) {
        self.reading.send_replace(reading);
    }

    /// How many bytes of an answer have arrived.
    pub fn progress(&self, id: &str) -> usize {
        self.progress.lock().unwrap().get(id).copied().unwrap_or(0)
    }

    /// Reads a body to its end, or as far as the test wants. The error is its broken end.
    pub(crate) async fn read(&self, id: &str, mut body: Incoming) -> io::Result<Arrived> {
        let mut reading = self.reading.subscribe();
        let (mut arrived, mut whole, mut bytes) = (Arrived::default(), BytesMut::new(), 0);
        while let Some(frame) = body.frame().await {
            let frame = match frame.map_err(io::Error::other)?.into_data() {
                Ok(data) => data,
                Err(frame) => {
                    arrived.trailers = frame.into_trailers().unwrap_or_default();
                    continue;
                }
            };
            arrived.pieces.push((Instant::now(), frame.len()));
            bytes += frame.len();
            whole.extend_from_slice(&frame[..frame.len().min(KEPT - whole.len())]);
            self.progress.lock().unwrap().insert(id.to_owned(), bytes);
            if !id.is_empty() {
                let now = reading.wait_for(|reading| *reading != Reading::Held).await;
                if now.is_ok_and(|reading| *reading == Reading::Hanging) {
                    return Err(io::Error::other("as the test chose"));
                }
            }
        }
        arrived.body = whole.freeze();
        Ok(arrived)
    }
}
