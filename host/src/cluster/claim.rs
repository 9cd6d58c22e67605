//! Which host stops a cluster's server: the one that holds the claim on the folder.
//!
//! A host can be killed, and its server goes on. The claim is a file's lock, which the system takes
//! from a process that has ended, however it did: whoever gets it knows that no other host is alive
//! that would stop the server. The file says which server a host has started, since one that a person
//! started is not for any host to stop.
//!
//! Promises: of all hosts that use a cluster, one at most holds the claim.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::ClusterError;

/// The file's name, in the cluster's folder.
const FILE: &str = "owner";

/// The claim on a cluster's server, until it is dropped.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    // Open for as long as it is to be locked.
    _locked: File,
}

impl Claim {
    /// Takes the claim, unless a host that is alive has it.
    pub(super) fn take(directory: &Path) -> Result<Option<Self>, ClusterError> {
        let path = directory.join(FILE);
        let open = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(ClusterError::file("cannot write", &path))?;
        match open.try_lock() {
            Ok(()) => Ok(Some(Self {
                path,
                _locked: open,
            })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(ClusterError::file("cannot lock", &path)(error)),
        }
    }

    /// Whether this server was started by a host.
    pub(super) fn is_on(&self, server: Pid) -> bool {
        let noted = std::fs::read_to_string(&self.path).unwrap_or_default();
        noted.trim() == server.as_raw_nonzero().to_string()
    }

    /// Notes which server this host has started.
    pub(super) fn note(&self, server: Pid) -> Result<(), ClusterError> {
        let noted = format!("{}\n", server.as_raw_nonzero());
        std::fs::write(&self.path, noted).map_err(ClusterError::file("cannot write", &self.path))
    }

    /// Notes that the server has ended.
    pub(super) fn clear(&self) {
        // What stays names a process that is no server any more, which is looked at.
        let _ = std::fs::write(&self.path, "");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_most_has_the_claim_and_the_next_knows_the_server() {
        let directory = std::env::temp_dir().join(format!("hearth-claim-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (one, other) = (Pid::from_raw(4711).unwrap(), Pid::from_raw(471).unwrap());
        let first = Claim::take(&directory).unwrap().unwrap();
        assert!(!first.is_on(one));
        first.note(one).unwrap();
        assert!(Claim::take(&directory).unwrap().is_none());
        drop(first);
        let second = Claim::take(&directory).unwrap().unwrap();
        assert!(second.is_on(one) && !second.is_on(other));
        second.clear();
        assert!(!second.is_on(one));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
