//! `wasi:filesystem`, for which there is nothing but temporary directories in memory.

use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{
    self, Advice, Descriptor, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry,
    DirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::convert::{hash, kind, stat, time};
use super::streams::{Failed, Reader, Writer};
use super::tree::{Handle, Opening};
use super::{Open, View};
use crate::limits;

/// Where a guest finds the directory.
const PATH: &str = "/tmp";

/// The entries of a directory, as they are asked for.
struct Listing {
    directory: Handle,
    /// The name of the last one.
    last: Option<String>,
}

impl View<'_> {
    /// What a descriptor stands for now. The topmost directory is that of whoever asks.
    fn handle(&self, descriptor: &Resource<Descriptor>) -> FsResult<Handle> {
        match self.table.get(&own::<Open>(descriptor.rep()))? {
            Open::Root => Ok(self.root()?),
            Open::Below { handle, .. } => Ok(handle.clone()),
        }
    }

    /// A file that may be written.
    fn writable(&self, descriptor: &Resource<Descriptor>) -> FsResult<Handle> {
        match self.table.get(&own::<Open>(descriptor.rep()))? {
            Open::Root => Err(ErrorCode::IsDirectory.into()),
            Open::Below { handle, flags } => match handle.stat()?.is_directory {
                true => Err(ErrorCode::IsDirectory.into()),
                false if !flags.contains(DescriptorFlags::WRITE) => {
                    Err(ErrorCode::BadDescriptor.into())
                }
                false => Ok(handle.clone()),
            },
        }
    }

    /// A file that may be read.
    fn readable(&self, descriptor: &Resource<Descriptor>) -> FsResult<Handle> {
        let handle = self.handle(descriptor)?;
        match handle.stat()?.is_directory {
            true => Err(ErrorCode::IsDirectory.into()),
            false => Ok(handle),
        }
    }

    /// What a path below a directory leads to.
    fn below(&self, descriptor: &Resource<Descriptor>, path: &str) -> FsResult<Handle> {
        Ok(self.handle(descriptor)?.open(path, Opening::default())?)
    }

    fn push(&mut self, open: Open) -> FsResult<Resource<Descriptor>> {
        Ok(own(self.table.push(open)?.rep()))
    }
}

/// The table knows what it holds; the type of a handle is but a word for it.
fn own<T: 'static>(number: u32) -> Resource<T> {
    Resource::new_own(number)
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Resource<Descriptor>, String)>> {
        if !self.is_mounted() {
            return Ok(Vec::new());
        }
        let root = own(self.table.push(Open::Root)?.rep());
        Ok(vec![(root, PATH.to_owned())])
    }
}

impl types::Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<types::ErrorCode> {
        Ok(error.downcast()?.into())
    }

    fn filesystem_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<types::ErrorCode>> {
        let failed = self.table.get(&error)?.downcast_ref::<Failed>();
        Ok(failed.map(|failed| failed.0.into()))
    }
}

impl types::HostDescriptor for View<'_> {
    fn read_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<DynInputStream>> {
        let file = self.readable(&descriptor)?;
        let reader: DynInputStream = Box::new(Reader { file, offset });
        Ok(self.table.push(reader)?)
    }

    fn write_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
        offset: u64,
    ) -> FsResult<Resource<DynOutputStream>> {
        let (file, offset) = (self.writable(&descriptor)?, Some(offset));
        let writer: DynOutputStream = Box::new(Writer { file, offset });
        Ok(self.table.push(writer)?)
    }

    fn append_via_stream(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<Resource<DynOutputStream>> {
        let (file, offset) = (self.writable(&descriptor)?, None);
        let writer: DynOutputStream = Box::new(Writer { file, offset });
        Ok(self.table.push(writer)?)
    }

    fn advise(
        &mut self,
        descriptor: Resource<Descriptor>,
        _: u64,
        _: u64,
        _: Advice,
    ) -> FsResult<()> {
        self.readable(&descriptor).map(drop)
    }

    fn sync_data(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.handle(&descriptor).map(drop)
    }

    fn get_flags(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorFlags> {
        Ok(match self.table.get(&own::<Open>(descriptor.rep()))? {
            Open::Root => DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY,
            Open::Below { flags, .. } => *flags,
        })
    }

    fn get_type(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorType> {
        match self.table.get(&own::<Open>(descriptor.rep()))? {
            // It is one at any time, also between two invocations.
            Open::Root => Ok(DescriptorType::Directory),
            Open::Below { handle, .. } => Ok(kind(handle.stat()?.is_directory)),
        }
    }

    fn set_size(&mut self, descriptor: Resource<Descriptor>, bytes: u64) -> FsResult<()> {
        Ok(self.writable(&descriptor)?.set_size(bytes)?)
    }

    fn set_times(
        &mut self,
        descriptor: Resource<Descriptor>,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let handle = self.handle(&descriptor)?;
        Ok(handle.set_times(time(accessed)?, time(modified)?)?)
    }

    fn read(
        &mut self,
        descriptor: Resource<Descriptor>,
        bytes_max: u64,
        offset: u64,
    ) -> FsResult<(Vec<u8>, bool)> {
        let bytes_max = bytes_max.min(limits::TEMPORARY_PIECE_BYTES as u64) as usize;
        let read = self.readable(&descriptor)?.read(offset, bytes_max)?;
        let ended = read.is_empty() && bytes_max > 0;
        Ok((read, ended))
    }

    fn write(
        &mut self,
        descriptor: Resource<Descriptor>,
        bytes: Vec<u8>,
        offset: u64,
    ) -> FsResult<u64> {
        self.writable(&descriptor)?.write(Some(offset), &bytes)?;
        Ok(bytes.len() as u64)
    }

    fn read_directory(
        &mut self,
        descriptor: Resource<Descriptor>,
    ) -> FsResult<Resource<DirectoryEntryStream>> {
        let listing = Listing {
            directory: self.handle(&descriptor)?,
            last: None,
        };
        listing.directory.entry_after(None)?;
        Ok(own(self.table.push(listing)?.rep()))
    }

    fn sync(&mut self, descriptor: Resource<Descriptor>) -> FsResult<()> {
        self.handle(&descriptor).map(drop)
    }

    fn create_directory_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        Ok(self.handle(&descriptor)?.create_directory(&path)?)
    }

    fn stat(&mut self, descriptor: Resource<Descriptor>) -> FsResult<DescriptorStat> {
        Ok(stat(&self.handle(&descriptor)?.stat()?))
    }

    fn stat_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _: PathFlags,
        path: String,
    ) -> FsResult<DescriptorStat> {
        Ok(stat(&self.below(&descriptor, &path)?.stat()?))
    }

    fn set_times_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        let handle = self.below(&descriptor, &path)?;
        Ok(handle.set_times(time(accessed)?, time(modified)?)?)
    }

    /// There are no links, of neither kind.
    fn link_at(
        &mut self,
        _: Resource<Descriptor>,
        _: PathFlags,
        _: String,
        _: Resource<Descriptor>,
        _: String,
    ) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    fn open_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _: PathFlags,
        path: String,
        open: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Resource<Descriptor>> {
        let opening = Opening {
            create: open.contains(OpenFlags::CREATE),
            exclusive: open.contains(OpenFlags::EXCLUSIVE),
            truncate: open.contains(OpenFlags::TRUNCATE),
            directory: open.contains(OpenFlags::DIRECTORY),
            write: flags.contains(DescriptorFlags::WRITE),
        };
        if opening.directory && (opening.create || opening.exclusive || opening.truncate) {
            return Err(ErrorCode::Invalid.into());
        }
        let handle = self.handle(&descriptor)?.open(&path, opening)?;
        self.push(Open::Below { handle, flags })
    }

    fn readlink_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<String> {
        self.below(&descriptor, &path)?;
        Err(ErrorCode::Invalid.into())
    }

    fn remove_directory_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
    ) -> FsResult<()> {
        Ok(self.handle(&descriptor)?.remove_directory(&path)?)
    }

    fn rename_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        path: String,
        new_descriptor: Resource<Descriptor>,
        new_path: String,
    ) -> FsResult<()> {
        let (from, to) = (self.handle(&descriptor)?, self.handle(&new_descriptor)?);
        Ok(from.rename(&path, &to, &new_path)?)
    }

    fn symlink_at(&mut self, _: Resource<Descriptor>, _: String, _: String) -> FsResult<()> {
        Err(ErrorCode::NotPermitted.into())
    }

    fn unlink_file_at(&mut self, descriptor: Resource<Descriptor>, path: String) -> FsResult<()> {
        Ok(self.handle(&descriptor)?.unlink(&path)?)
    }

    fn is_same_object(
        &mut self,
        one: Resource<Descriptor>,
        other: Resource<Descriptor>,
    ) -> wasmtime::Result<bool> {
        Ok(match (self.handle(&one), self.handle(&other)) {
            (Ok(one), Ok(other)) => one.is_same(&other),
            _ => false,
        })
    }

    fn metadata_hash(&mut self, descriptor: Resource<Descriptor>) -> FsResult<MetadataHashValue> {
        Ok(hash(&self.handle(&descriptor)?))
    }

    fn metadata_hash_at(
        &mut self,
        descriptor: Resource<Descriptor>,
        _: PathFlags,
        path: String,
    ) -> FsResult<MetadataHashValue> {
        Ok(hash(&self.below(&descriptor, &path)?))
    }

    fn drop(&mut self, descriptor: Resource<Descriptor>) -> wasmtime::Result<()> {
        self.table.delete(own::<Open>(descriptor.rep()))?;
        Ok(())
    }
}

impl types::HostDirectoryEntryStream for View<'_> {
    fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        let listing = self.table.get_mut(&own::<Listing>(stream.rep()))?;
        let Some((name, is_directory)) = listing.directory.entry_after(listing.last.as_deref())?
        else {
            return Ok(None);
        };
        listing.last = Some(name.clone());
        let type_ = kind(is_directory);
        Ok(Some(DirectoryEntry { type_, name }))
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        self.table.delete(own::<Listing>(stream.rep()))?;
        Ok(())
    }
}
