//! A guest's temporary directory: `/tmp`, in memory, of the invocation that looks at it.
//!
//! Promises:
//! - each invocation finds it empty, sees nothing of others, also of those beside it in the same instance, and
//!   what it leaves there is gone when it has ended, however it ends;
//! - it never holds more than the function may keep there;
//! - no file of the machine is reached: no disk, no path of the host's, no link. So nothing is left to be swept
//!   when the process is killed.
//!
//! Left to others: which invocation calls ([`Mount::enter`]).

use std::sync::Arc;

use wasmtime::component::{HasData, Linker, ResourceTable};
use wasmtime_wasi::p2::bindings::filesystem::preopens;
use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;
use wasmtime_wasi::p2::bindings::sync::filesystem::types::{self, DescriptorFlags};

mod convert;
mod host;
mod nodes;
mod path;
mod streams;
mod tree;

use tree::{Handle, Tree};

/// Where the directory of the invocation that runs is, in one instance.
#[derive(Default)]
pub struct Mount {
    /// What a directory may hold, if the function has one.
    bytes_max: Option<u64>,
    current: Option<Arc<Tree>>,
}

/// The directory of one invocation. Dropping it empties it.
pub struct Directory(Arc<Tree>);

/// What a descriptor of the guest's stands for.
enum Open {
    /// The directory of whoever uses it.
    Root,
    /// Something in one directory.
    Below {
        handle: Handle,
        flags: DescriptorFlags,
    },
}

/// What a host call may touch of its store.
pub struct View<'a> {
    /// This interface's own state.
    pub mount: &'a Mount,
    /// The handles of the instance.
    pub table: &'a mut ResourceTable,
}

/// Names [`View`] to wasmtime.
pub struct HasTemporary;

impl HasData for HasTemporary {
    type Data<'a> = View<'a>;
}

/// Lets guests import `wasi:filesystem`, in place of one that has been added before.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> View<'_>,
) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    types::add_to_linker::<T, HasTemporary>(linker, view)?;
    preopens::add_to_linker::<T, HasTemporary>(linker, view)?;
    linker.allow_shadowing(false);
    Ok(())
}

impl Mount {
    /// For an instance whose invocations may keep so many MiB each, or nothing at all.
    pub fn new(mib_max: Option<u32>) -> Self {
        Self {
            bytes_max: mib_max.map(|mib| u64::from(mib) * 1024 * 1024),
            current: None,
        }
    }

    /// Makes the directory of a new invocation, if the function has one.
    pub fn make(&self) -> Option<Directory> {
        self.bytes_max
            .map(|bytes_max| Directory(Tree::new(bytes_max)))
    }

    /// Calls come from the invocation with this directory now, or from none.
    pub fn enter(&mut self, directory: Option<&Directory>) {
        self.current = directory.map(|directory| directory.0.clone());
    }
}

impl View<'_> {
    fn is_mounted(&self) -> bool {
        self.mount.bytes_max.is_some()
    }

    /// The topmost directory of the invocation that calls; outside of one there is none.
    fn root(&self) -> Result<Handle, ErrorCode> {
        let current = self.mount.current.as_ref();
        let root = current.and_then(|tree| tree.root().ok());
        root.ok_or(ErrorCode::NotPermitted)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.0.clear();
    }
}
