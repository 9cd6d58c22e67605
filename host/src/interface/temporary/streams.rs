//! The content of a file as streams, which never wait: it is in memory.

use bytes::Bytes;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::{InputStream, OutputStream, Pollable, StreamError, StreamResult};

use super::tree::Handle;
use crate::limits;

/// Reads a file from some place on.
pub(super) struct Reader {
    pub(super) file: Handle,
    pub(super) offset: u64,
}

/// Writes a file from some place on, or always at its end.
pub(super) struct Writer {
    pub(super) file: Handle,
    pub(super) offset: Option<u64>,
}

/// Why a stream could not go on, which a guest asks for.
#[derive(Debug, thiserror::Error)]
#[error("a file in the temporary directory: {0}")]
pub(super) struct Failed(pub(super) ErrorCode);

fn failed(code: ErrorCode) -> StreamError {
    StreamError::LastOperationFailed(Failed(code).into())
}

#[wasmtime_wasi::async_trait]
impl Pollable for Reader {
    async fn ready(&mut self) {}
}

impl InputStream for Reader {
    fn read(&mut self, bytes_max: usize) -> StreamResult<Bytes> {
        let bytes_max = bytes_max.min(limits::TEMPORARY_PIECE_BYTES);
        let read = self.file.read(self.offset, bytes_max).map_err(failed)?;
        if read.is_empty() && bytes_max > 0 {
            return Err(StreamError::Closed);
        }
        self.offset += read.len() as u64;
        Ok(read.into())
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Writer {
    async fn ready(&mut self) {}
}

impl OutputStream for Writer {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        let end = self.file.write(self.offset, &bytes).map_err(failed)?;
        self.offset = self.offset.map(|_| end);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(limits::TEMPORARY_PIECE_BYTES)
    }
}
