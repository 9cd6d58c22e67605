//! A guest's standard output and error, on their way to the log.
//!
//! Promises: what is written goes to the invocation last named by [`Stdio::attribute`]; writing
//! never waits, and never fails because of the log.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::lock::lock;
use crate::telemetry::{Output, Stream};

/// Both streams of one instance.
pub struct Stdio {
    current: Arc<Mutex<Arc<Output>>>,
}

impl Stdio {
    /// Streams whose output belongs to `output` until told otherwise.
    pub fn new(output: Arc<Output>) -> Self {
        Self {
            current: Arc::new(Mutex::new(output)),
        }
    }

    /// What is written from now on belongs to `output`.
    pub fn attribute(&self, output: Arc<Output>) {
        *lock(&self.current) = output;
    }

    /// The standard output, for WASI.
    pub fn stdout(&self) -> Writer {
        Writer {
            current: self.current.clone(),
            stream: Stream::Stdout,
        }
    }

    /// The standard error, for WASI.
    pub fn stderr(&self) -> Writer {
        Writer {
            current: self.current.clone(),
            stream: Stream::Stderr,
        }
    }
}

/// One of the streams.
#[derive(Clone)]
pub struct Writer {
    current: Arc<Mutex<Arc<Output>>>,
    stream: Stream,
}

/// What a guest may write in one call, in bytes.
const PERMIT_BYTES: usize = 64 * 1024;

impl Writer {
    fn put(&self, bytes: &[u8]) {
        let output = lock(&self.current).clone();
        output.write(self.stream, bytes);
    }
}

impl IsTerminal for Writer {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Writer {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.put(&bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT_BYTES)
    }
}

impl AsyncWrite for Writer {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.put(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
