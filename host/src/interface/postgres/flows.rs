//! The handles through which data flow piece by piece: cursors and copies.

use wasmtime::component::{Accessor, Resource};

use super::{CopyIn, CopyOut, Cursor, HasPostgres, HostResult, View, carry, own, wit};
use crate::database::Batch;

impl wit::HostCursor for View<'_> {
    fn drop(&mut self, handle: Resource<Cursor>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostCursorWithStore<T> for HasPostgres {
    async fn next(
        accessor: &Accessor<T, Self>,
        cursor: Resource<Cursor>,
        bytes: u32,
    ) -> HostResult<wit::Batch> {
        let cursor = own!(accessor, &cursor);
        Ok(cursor
            .next(bytes as usize)
            .await
            .map(Batch::into)
            .map_err(Into::into))
    }
}

impl wit::HostCopyIn for View<'_> {
    fn drop(&mut self, handle: Resource<CopyIn>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostCopyInWithStore<T> for HasPostgres {
    async fn write(
        accessor: &Accessor<T, Self>,
        copy: Resource<CopyIn>,
        bytes: Vec<u8>,
    ) -> HostResult<()> {
        let copy = own!(accessor, &copy);
        let _carried = match carry(accessor, &*bytes)? {
            Ok(part) => part,
            Err(error) => {
                copy.tear();
                return Ok(Err(error));
            }
        };
        Ok(copy.write(&bytes).await.map_err(Into::into))
    }

    async fn finish(accessor: &Accessor<T, Self>, copy: Resource<CopyIn>) -> HostResult<u64> {
        let copy = own!(accessor, &copy);
        Ok(copy.finish().await.map_err(Into::into))
    }
}

impl wit::HostCopyOut for View<'_> {
    fn drop(&mut self, handle: Resource<CopyOut>) -> wasmtime::Result<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl<T: Send + 'static> wit::HostCopyOutWithStore<T> for HasPostgres {
    async fn read(
        accessor: &Accessor<T, Self>,
        copy: Resource<CopyOut>,
        bytes: u32,
    ) -> HostResult<Vec<u8>> {
        let copy = own!(accessor, &copy);
        Ok(copy.read(bytes as usize).await.map_err(Into::into))
    }
}
