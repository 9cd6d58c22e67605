//! From a path to the place in a tree that it names. A path ends below where it begins, or nowhere.

use wasmtime_wasi::p2::bindings::filesystem::types::ErrorCode;

use super::nodes::{Id, Nodes};
use crate::limits;

/// A path, in its parts.
pub(super) struct Path<'a> {
    parts: Vec<&'a str>,
    /// Whether it says that it names a directory, with a slash at its end.
    pub(super) is_directory: bool,
}

/// What a path leads to.
pub(super) enum Found<'a> {
    /// A directory that is not named by its entry: `.` and the like.
    Itself(Id),
    /// An entry of a directory, whether it is there or not.
    Entry { parent: Id, name: &'a str },
}

impl<'a> Path<'a> {
    /// Fails for what no path of a guest can be.
    pub(super) fn parse(text: &'a str) -> Result<Self, ErrorCode> {
        if text.is_empty() {
            return Err(ErrorCode::NoEntry);
        }
        // Before its parts are counted, of which each takes more than itself.
        if text.len() > limits::TEMPORARY_PATH_BYTES_MAX {
            return Err(ErrorCode::NameTooLong);
        }
        if text.starts_with('/') {
            return Err(ErrorCode::NotPermitted);
        }
        if text.contains('\0') {
            return Err(ErrorCode::Invalid);
        }
        let parts = text
            .split('/')
            .filter(|part| !part.is_empty() && *part != ".");
        let parts: Vec<_> = parts.collect();
        let is_long = |part: &&str| part.len() > limits::TEMPORARY_NAME_BYTES_MAX;
        if parts.iter().any(is_long) {
            return Err(ErrorCode::NameTooLong);
        }
        Ok(Self {
            parts,
            is_directory: text.ends_with('/') || text.ends_with("/."),
        })
    }
}

impl Nodes {
    /// Follows a path from a directory. All on the way to its end must be there.
    pub(super) fn find<'a>(&self, from: Id, path: &Path<'a>) -> Result<Found<'a>, ErrorCode> {
        let mut way = vec![from];
        let last = path.parts.len().saturating_sub(1);
        for (index, part) in path.parts.iter().enumerate() {
            if *part == ".." {
                way.pop();
                if way.is_empty() {
                    return Err(ErrorCode::NotPermitted);
                }
                continue;
            }
            let Some(&here) = way.last() else {
                return Err(ErrorCode::NotPermitted);
            };
            let child = self.child(here, part)?;
            if index == last {
                return Ok(Found::Entry {
                    parent: here,
                    name: part,
                });
            }
            let child = child.ok_or(ErrorCode::NoEntry)?;
            self.node(child)?.entries()?;
            way.push(child);
        }
        let here = way.last().copied().ok_or(ErrorCode::NotPermitted)?;
        self.node(here)?.entries()?;
        Ok(Found::Itself(here))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_measured_before_it_is_taken_apart() {
        let refused = |text: &str| Path::parse(text).err();
        let long = "a/".repeat(limits::TEMPORARY_PATH_BYTES_MAX / 2);
        assert_eq!(refused(&long), None);
        // Whatever else is wrong with it.
        for text in [format!("{long}b"), format!("/{long}"), format!("{long}\0")] {
            assert_eq!(refused(&text), Some(ErrorCode::NameTooLong));
        }
    }
}
