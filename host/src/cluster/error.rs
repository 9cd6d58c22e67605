//! Why the local PostgreSQL does not run, in its own last words where it had any.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How many of a program's last lines an error repeats.
const LINES_MAX: usize = 5;

/// Why a cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// There are no server programs on this machine.
    #[error(
        "PostgreSQL is not installed here (no initdb and postgres by pg_config, in /usr/lib/postgresql or on PATH); \
         install it (apt-get install postgresql), or give the database a url"
    )]
    NotInstalled,
    /// The data are of another major version than the programs.
    #[error(
        "the data in {} are of PostgreSQL {wanted}, and what is installed here is {found}; install version {wanted} \
         (apt-get install postgresql-{wanted}), or move the folder away to begin with an empty database",
        data.display()
    )]
    OtherVersion {
        /// Their folder.
        data: PathBuf,
        /// Their version.
        wanted: String,
        /// Those that are installed.
        found: String,
    },
    /// PostgreSQL refuses to run as root, and there is nobody else to run it.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user postgres nor a user nobody"
    )]
    NoUser,
    /// A file or folder of the cluster cannot be made, read or given away.
    #[error("{act} {}", path.display())]
    File {
        /// What was tried.
        act: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of PostgreSQL's could not be run at all.
    #[error("cannot run {}", program.display())]
    Program {
        /// Which one.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program of PostgreSQL's ended when it should not have.
    #[error("{program} ended ({status}): {words}")]
    Ended {
        /// Which one.
        program: &'static str,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        words: String,
    },
    /// The server runs and cannot be connected to, or `initdb` goes on for ever.
    #[error("{program} was not ready after {} s: {words}", waited.as_secs())]
    NotReady {
        /// Which program.
        program: &'static str,
        /// How long it was waited for.
        waited: Duration,
        /// The last lines that it wrote.
        words: String,
    },
}

impl ClusterError {
    /// For `map_err` on what is done with a file or folder.
    pub(super) fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File {
            act,
            path: path.to_owned(),
            source,
        }
    }
}

/// The last lines of what a program wrote, as one line.
pub(super) fn last_words(output: &str) -> String {
    let lines: Vec<&str> = output
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    match lines.as_slice() {
        [] => "it wrote nothing".to_owned(),
        lines => lines[lines.len().saturating_sub(LINES_MAX)..].join("; "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn last_words_are_one_line() {
        assert_eq!(last_words(" \n"), "it wrote nothing");
        assert_eq!(last_words("a\n\nb\n"), "a; b");
        assert_eq!(last_words("1\n2\n3\n4\n5\n6\n"), "2; 3; 4; 5; 6");
    }
}
