//! Files and directories in memory, with a bound on all of them together.
//!
//! Promises:
//! - their bytes, and the entries themselves, never take more than the tree may have; what is removed while
//!   it is open counts until it is closed;
//! - a path leads to nothing but what is below the directory that it begins at. There are no links, so each
//!   file has one place;
//! - after [`Tree::clear`] nothing of it is left, whoever still holds something open.

use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use super::nodes::{Content, Id, Nodes, PAGE, ROOT, Stat};
use super::path::{Found, Path};
use crate::lock::lock;

/// A tree with its bound.
pub struct Tree(Mutex<Nodes>);

/// Something in a tree that is held open. It is there, if without a name, until this is dropped.
pub struct Handle {
    tree: Arc<Tree>,
    id: Id,
}

/// How something is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening {
    /// A file is made if there is none.
    pub create: bool,
    /// It must not be there yet.
    pub exclusive: bool,
    /// A file's content is dropped.
    pub truncate: bool,
    /// It must be a directory.
    pub directory: bool,
    /// It is to be written.
    pub write: bool,
}

impl Tree {
    /// An empty directory, for so many bytes.
    pub fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Nodes::new(bytes_max))))
    }

    /// Its topmost directory.
    pub fn root(self: &Arc<Self>) -> Result<Handle, ErrorCode> {
        self.hold(&mut self.lock(), ROOT)
    }

    /// Drops all that is in it, for good.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn hold(self: &Arc<Self>, nodes: &mut Nodes, id: Id) -> Result<Handle, ErrorCode> {
        nodes.node_mut(id)?.opens += 1;
        Ok(Handle {
            tree: self.clone(),
            id,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        lock(&self.0)
    }
}

impl Handle {
    /// Whether both are the same file or directory.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tree, &other.tree) && self.id == other.id
    }

    /// Its number within its tree.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What is known of it.
    pub fn stat(&self) -> Result<Stat, ErrorCode> {
        Ok(self.tree.lock().node(self.id)?.stat())
    }

    /// Sets its times, those that are given.
    pub fn set_times(
        &self,
        accessed: Option<SystemTime>,
        modified: Option<SystemTime>,
    ) -> Result<(), ErrorCode> {
        let mut nodes = self.tree.lock();
        let node = nodes.node_mut(self.id)?;
        node.accessed = accessed.unwrap_or(node.accessed);
        node.modified = modified.unwrap_or(node.modified);
        Ok(())
    }

    /// Up to so many bytes of a file from there on; none at its end.
    pub fn read(&self, offset: u64, bytes_max: usize) -> Result<Vec<u8>, ErrorCode> {
        let nodes = self.tree.lock();
        let (pages, bytes) = nodes.node(self.id)?.file()?;
        let left = bytes.saturating_sub(offset).min(bytes_max as u64) as usize;
        let mut read = Vec::with_capacity(left);
        let mut at = offset as usize;
        while read.len() < left {
            let within = at % PAGE;
            let take = (PAGE - within).min(left - read.len());
            match &pages[at / PAGE] {
                Some(page) => read.extend_from_slice(&page[within..within + take]),
                None => read.resize(read.len() + take, 0),
            }
            at += take;
        }
        Ok(read)
    }

    /// Writes all of it to a file, from there on or else from its end. Returns where it ends.
    pub fn write(&self, offset: Option<u64>, data: &[u8]) -> Result<u64, ErrorCode> {
        let mut nodes = self.tree.lock();
        let (_, bytes) = nodes.node(self.id)?.file()?;
        let start = offset.unwrap_or(bytes);
        let end = start
            .checked_add(data.len() as u64)
            .ok_or(ErrorCode::FileTooLarge)?;
        if data.is_empty() {
            return Ok(end);
        }
        if end > bytes {
            nodes.resize(self.id, end)?;
        }
        let node = nodes.node_mut(self.id)?;
        node.modified = SystemTime::now();
        let pages = node.pages_mut()?;
        let (mut at, mut rest) = (start as usize, data);
        while !rest.is_empty() {
            let within = at % PAGE;
            let (piece, after) = rest.split_at((PAGE - within).min(rest.len()));
            let page = pages[at / PAGE].get_or_insert_with(|| Box::new([0; PAGE]));
            page[within..within + piece.len()].copy_from_slice(piece);
            at += piece.len();
            rest = after;
        }
        Ok(end)
    }

    /// Cuts a file, or makes it longer with zeros.
    pub fn set_size(&self, bytes: u64) -> Result<(), ErrorCode> {
        let mut nodes = self.tree.lock();
        nodes.node(self.id)?.file()?;
        nodes.resize(self.id, bytes)?;
        nodes.node_mut(self.id)?.modified = SystemTime::now();
        Ok(())
    }

    /// The entry of a directory whose name comes next after this one, and whether that is a directory.
    pub fn entry_after(&self, name: Option<&str>) -> Result<Option<(String, bool)>, ErrorCode> {
        let nodes = self.tree.lock();
        let after = name.map_or(Bound::Unbounded, Bound::Excluded);
        let mut entries = nodes
            .node(self.id)?
            .entries()?
            .range::<str, _>((after, Bound::Unbounded));
        let Some((name, id)) = entries.next() else {
            return Ok(None);
        };
        Ok(Some((name.clone(), nodes.node(*id)?.stat().is_directory)))
    }

    /// Opens something below a directory.
    pub fn open(&self, path: &str, opening: Opening) -> Result<Self, ErrorCode> {
        let mut nodes = self.tree.lock();
        let path = Path::parse(path)?;
        let id = match nodes.find(self.id, &path)? {
            Found::Itself(_) if opening.create && opening.exclusive => {
                return Err(ErrorCode::Exist);
            }
            Found::Itself(id) => id,
            Found::Entry { parent, name } => match nodes.child(parent, name)? {
                Some(_) if opening.create && opening.exclusive => return Err(ErrorCode::Exist),
                Some(id) => id,
                None if !opening.create => return Err(ErrorCode::NoEntry),
                None if path.is_directory => return Err(ErrorCode::IsDirectory),
                None => nodes.add(parent, name, Content::file())?,
            },
        };
        let is_directory = nodes.node(id)?.stat().is_directory;
        match is_directory {
            true if opening.write || opening.truncate => return Err(ErrorCode::IsDirectory),
            false if opening.directory || path.is_directory => {
                return Err(ErrorCode::NotDirectory);
            }
            false if opening.truncate => nodes.resize(id, 0)?,
            _ => {}
        }
        self.tree.hold(&mut nodes, id)
    }

    /// Makes a directory below a directory.
    pub fn create_directory(&self, path: &str) -> Result<(), ErrorCode> {
        let mut nodes = self.tree.lock();
        let Found::Entry { parent, name } = nodes.find(self.id, &Path::parse(path)?)? else {
            return Err(ErrorCode::Exist);
        };
        if nodes.child(parent, name)?.is_some() {
            return Err(ErrorCode::Exist);
        }
        nodes.add(parent, name, Content::directory())?;
        Ok(())
    }

    /// Removes an empty directory below a directory.
    pub fn remove_directory(&self, path: &str) -> Result<(), ErrorCode> {
        let mut nodes = self.tree.lock();
        let Found::Entry { parent, name } = nodes.find(self.id, &Path::parse(path)?)? else {
            return Err(ErrorCode::Invalid);
        };
        let id = nodes.child(parent, name)?.ok_or(ErrorCode::NoEntry)?;
        if !nodes.node(id)?.entries()?.is_empty() {
            return Err(ErrorCode::NotEmpty);
        }
        nodes.remove(parent, name)
    }

    /// Removes a file below a directory.
    pub fn unlink(&self, path: &str) -> Result<(), ErrorCode> {
        let mut nodes = self.tree.lock();
        let path = Path::parse(path)?;
        let Found::Entry { parent, name } = nodes.find(self.id, &path)? else {
            return Err(ErrorCode::IsDirectory);
        };
        let id = nodes.child(parent, name)?.ok_or(ErrorCode::NoEntry)?;
        match nodes.node(id)?.stat().is_directory {
            true => Err(ErrorCode::IsDirectory),
            false if path.is_directory => Err(ErrorCode::NotDirectory),
            false => nodes.remove(parent, name),
        }
    }

    /// Gives a file or directory below this directory another name, below the other one. What had
    /// that name before is gone, if it is of the same kind and no directory with something in it.
    pub fn rename(&self, path: &str, to: &Self, new_path: &str) -> Result<(), ErrorCode> {
        if !Arc::ptr_eq(&self.tree, &to.tree) {
            return Err(ErrorCode::CrossDevice);
        }
        let mut nodes = self.tree.lock();
        let (path, new_path) = (Path::parse(path)?, Path::parse(new_path)?);
        let Found::Entry { parent, name } = nodes.find(self.id, &path)? else {
            return Err(ErrorCode::Busy);
        };
        let id = nodes.child(parent, name)?.ok_or(ErrorCode::NoEntry)?;
        let is_directory = nodes.node(id)?.stat().is_directory;
        if !is_directory && (path.is_directory || new_path.is_directory) {
            return Err(ErrorCode::NotDirectory);
        }
        let Found::Entry {
            parent: new_parent,
            name: new_name,
        } = nodes.find(to.id, &new_path)?
        else {
            return Err(ErrorCode::Busy);
        };
        if !nodes.node(new_parent)?.stat().is_linked {
            return Err(ErrorCode::NoEntry);
        }
        if is_directory && nodes.is_within(new_parent, id)? {
            return Err(ErrorCode::Invalid);
        }
        match nodes.child(new_parent, new_name)? {
            Some(same) if same == id => return Ok(()),
            Some(old) => {
                match (is_directory, nodes.node(old)?.entries()) {
                    (true, Ok(entries)) if !entries.is_empty() => return Err(ErrorCode::NotEmpty),
                    (true, Err(error)) => return Err(error),
                    (false, Ok(_)) => return Err(ErrorCode::IsDirectory),
                    _ => {}
                }
                nodes.remove(new_parent, new_name)?;
            }
            None => {}
        }
        nodes.entries_mut(parent)?.remove(name);
        nodes
            .entries_mut(new_parent)?
            .insert(new_name.to_owned(), id);
        nodes.node_mut(id)?.parent = new_parent;
        Ok(())
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        if let Ok(node) = self.tree.lock().node_mut(self.id) {
            node.opens += 1;
        }
        Self {
            tree: self.tree.clone(),
            id: self.id,
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut nodes = self.tree.lock();
        if let Ok(node) = nodes.node_mut(self.id) {
            node.opens -= 1;
            nodes.forget(self.id);
        }
    }
}

#[cfg(test)]
#[path = "tree_tests.rs"]
mod tests;
