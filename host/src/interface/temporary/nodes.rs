//! The nodes of a tree: what there is, where it is named, and what it is charged for.
//!
//! Promises: all nodes together have no more pages than they may. Left to others: what may be done to them
//! ([`super::tree`]).

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use crate::limits;

/// What is charged for at a time, in bytes: a file's content in whole ones, and each entry as one.
pub(super) const PAGE: usize = limits::TEMPORARY_PAGE_BYTES;

/// The number of a node, which no other of its tree ever has.
pub(super) type Id = u64;

/// The topmost directory.
pub(super) const ROOT: Id = 0;

/// The nodes of a tree; none at all once it is cleared.
pub(super) struct Nodes {
    nodes: HashMap<Id, Node>,
    next: Id,
    pages: u64,
    pages_max: u64,
}

/// A file or a directory.
pub(super) struct Node {
    content: Content,
    /// The directory that names it, or did.
    pub(super) parent: Id,
    is_linked: bool,
    /// Who holds it open.
    pub(super) opens: usize,
    pub(super) accessed: SystemTime,
    pub(super) modified: SystemTime,
}

/// A part of a file.
pub(super) type Page = Option<Box<[u8; PAGE]>>;

/// What is in it.
pub(super) enum Content {
    Directory(BTreeMap<String, Id>),
    /// A page that nobody has written is not there.
    File {
        pages: Vec<Page>,
        bytes: u64,
    },
}

/// What is known of something in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Whether it has a name.
    pub is_linked: bool,
    /// The length of a file's content, in bytes.
    pub bytes: u64,
    /// When it was last read, as far as the guest has said so.
    pub accessed: SystemTime,
    /// When it was last changed.
    pub modified: SystemTime,
}

impl Content {
    /// An empty directory.
    pub(super) fn directory() -> Self {
        Self::Directory(BTreeMap::new())
    }

    /// An empty file.
    pub(super) fn file() -> Self {
        Self::File {
            pages: Vec::new(),
            bytes: 0,
        }
    }
}

impl Nodes {
    /// A topmost directory, and room for so many bytes.
    pub(super) fn new(bytes_max: u64) -> Self {
        let root = Node::new(Content::directory(), ROOT);
        Self {
            nodes: HashMap::from([(ROOT, root)]),
            next: ROOT + 1,
            pages: 0,
            pages_max: bytes_max / PAGE as u64,
        }
    }

    /// Drops everything, the topmost directory too.
    pub(super) fn clear(&mut self) {
        self.nodes.clear();
    }

    pub(super) fn node(&self, id: Id) -> Result<&Node, ErrorCode> {
        // What is open is there, as long as the tree is.
        self.nodes.get(&id).ok_or(ErrorCode::BadDescriptor)
    }

    pub(super) fn node_mut(&mut self, id: Id) -> Result<&mut Node, ErrorCode> {
        self.nodes.get_mut(&id).ok_or(ErrorCode::BadDescriptor)
    }

    pub(super) fn entries_mut(&mut self, id: Id) -> Result<&mut BTreeMap<String, Id>, ErrorCode> {
        let node = self.node_mut(id)?;
        node.modified = SystemTime::now();
        match &mut node.content {
            Content::Directory(entries) => Ok(entries),
            Content::File { .. } => Err(ErrorCode::NotDirectory),
        }
    }

    /// What a directory has of this name.
    pub(super) fn child(&self, directory: Id, name: &str) -> Result<Option<Id>, ErrorCode> {
        Ok(self.node(directory)?.entries()?.get(name).copied())
    }

    /// Whether something is a directory, or in one that is.
    pub(super) fn is_within(&self, mut id: Id, directory: Id) -> Result<bool, ErrorCode> {
        while id != directory {
            if id == ROOT {
                return Ok(false);
            }
            id = self.node(id)?.parent;
        }
        Ok(true)
    }

    /// Puts something new into a directory.
    pub(super) fn add(
        &mut self,
        parent: Id,
        name: &str,
        content: Content,
    ) -> Result<Id, ErrorCode> {
        if !self.node(parent)?.is_linked {
            return Err(ErrorCode::NoEntry);
        }
        self.charge(1)?;
        let id = self.next;
        self.next += 1;
        self.entries_mut(parent)?.insert(name.to_owned(), id);
        self.nodes.insert(id, Node::new(content, parent));
        Ok(id)
    }

    /// Takes a name away, and what has it unless that is open.
    pub(super) fn remove(&mut self, parent: Id, name: &str) -> Result<(), ErrorCode> {
        if let Some(id) = self.entries_mut(parent)?.remove(name) {
            self.node_mut(id)?.is_linked = false;
            self.forget(id);
        }
        Ok(())
    }

    /// Drops a node that has no name and is not open.
    pub(super) fn forget(&mut self, id: Id) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        if !node.is_linked && node.opens == 0 {
            let pages = node.file().map_or(0, |(pages, _)| pages.len());
            self.pages -= pages as u64 + 1;
            self.nodes.remove(&id);
        }
    }

    /// Takes so many pages of those that are left.
    fn charge(&mut self, pages: u64) -> Result<(), ErrorCode> {
        match self.pages.checked_add(pages) {
            Some(pages) if pages <= self.pages_max => {
                self.pages = pages;
                Ok(())
            }
            _ => Err(ErrorCode::Quota),
        }
    }

    /// Gives a file another length.
    pub(super) fn resize(&mut self, id: Id, bytes_wanted: u64) -> Result<(), ErrorCode> {
        let before = self.node(id)?.file()?.0.len() as u64;
        let after = bytes_wanted.div_ceil(PAGE as u64);
        self.charge(after.saturating_sub(before))?;
        if let Content::File { pages, bytes } = &mut self.node_mut(id)?.content {
            pages.resize_with(after as usize, || None);
            // What is kept of the list is charged for as well: it has at most twice as many places as pages.
            if pages.len() < pages.capacity() / 2 {
                pages.shrink_to_fit();
            }
            // What is cut off does not come back when the file grows again.
            if let Some(Some(last)) = pages.last_mut()
                && bytes_wanted < *bytes
            {
                last[((bytes_wanted - 1) % PAGE as u64) as usize + 1..].fill(0);
            }
            *bytes = bytes_wanted;
        }
        self.pages -= before.saturating_sub(after);
        Ok(())
    }
}

impl Node {
    fn new(content: Content, parent: Id) -> Self {
        let now = SystemTime::now();
        Self {
            content,
            parent,
            is_linked: true,
            opens: 0,
            accessed: now,
            modified: now,
        }
    }

    pub(super) fn stat(&self) -> Stat {
        Stat {
            is_directory: self.entries().is_ok(),
            is_linked: self.is_linked,
            bytes: self.file().map_or(0, |(_, bytes)| bytes),
            accessed: self.accessed,
            modified: self.modified,
        }
    }

    pub(super) fn entries(&self) -> Result<&BTreeMap<String, Id>, ErrorCode> {
        match &self.content {
            Content::Directory(entries) => Ok(entries),
            Content::File { .. } => Err(ErrorCode::NotDirectory),
        }
    }

    pub(super) fn file(&self) -> Result<(&[Page], u64), ErrorCode> {
        match &self.content {
            Content::File { pages, bytes } => Ok((pages, *bytes)),
            Content::Directory(_) => Err(ErrorCode::IsDirectory),
        }
    }

    pub(super) fn pages_mut(&mut self) -> Result<&mut [Page], ErrorCode> {
        match &mut self.content {
            Content::File { pages, .. } => Ok(pages),
            Content::Directory(_) => Err(ErrorCode::IsDirectory),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_keeps_no_places_for_its_pages() {
        let mut nodes = Nodes::new(1000 * PAGE as u64);
        let id = nodes.add(ROOT, "file", Content::file()).unwrap();
        for pages in [900, 400, 401, 200, 1, 0] {
            nodes.resize(id, pages * PAGE as u64).unwrap();
            let Content::File { pages: places, .. } = &nodes.node(id).unwrap().content else {
                panic!("it is a file");
            };
            assert!(places.capacity() as u64 <= 2 * pages + 1, "{pages}");
        }
    }
}
