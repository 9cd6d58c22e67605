//! Why the local PostgreSQL does not run, in its own last words where it had any.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::user::name_of;

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
    /// It lies where this process may not write.
    #[error(
        "{act} {}: {said}; give the database a url, or run where you may write",
        path.display()
    )]
    Unwritable {
        /// What was tried.
        act: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// What the system said.
        said: io::Error,
    },
    /// They are another user's, since a host has run as that one here.
    #[error(
        "{act} {}, which is the user {owner}'s; run as that user or as root, or move {} away to begin with an empty database",
        path.display(),
        folder.display()
    )]
    Foreign {
        /// What was tried.
        act: &'static str,
        /// With which file or folder.
        path: PathBuf,
        /// Whose it is.
        owner: String,
        /// What can be moved: what holds it lies in a folder of this process's user.
        folder: PathBuf,
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
        move |source| {
            let path = path.to_owned();
            let foreign = match source.kind() {
                io::ErrorKind::PermissionDenied => foreign(&path, &owner_of),
                io::ErrorKind::ReadOnlyFilesystem => None,
                _ => return Self::File { act, path, source },
            };
            match foreign {
                Some((uid, folder)) => Self::Foreign {
                    act,
                    path,
                    owner: name_of(uid),
                    folder,
                },
                None => Self::Unwritable {
                    act,
                    path,
                    said: source,
                },
            }
        }
    }
}

fn owner_of(path: &Path) -> Option<u32> {
    Some(path.metadata().ok()?.uid())
}

/// Whose a path is that this process may not use, if that is another user, and the outermost folder around
/// it that is not this process's own: that one may be moved by who owns the folder it is in.
fn foreign(path: &Path, owner_of: &dyn Fn(&Path) -> Option<u32>) -> Option<(u32, PathBuf)> {
    let own = rustix::process::geteuid().as_raw();
    // What is not there, or cannot be looked at, is its folder's matter.
    let mut owned = path
        .ancestors()
        .filter_map(|path| Some((owner_of(path)?, path)));
    let (owner, mut folder) = owned.next().filter(|(owner, _)| *owner != own)?;
    for (next, around) in owned {
        if next == own {
            return Some((owner, folder.to_owned()));
        }
        folder = around;
    }
    None
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
    fn what_is_another_users_is_told_with_what_can_be_moved() {
        let own = rustix::process::geteuid().as_raw();
        let owner_of = |path: &Path| match path.to_str()? {
            "/home/ada/shop/.hearth/postgres" => Some(own + 2),
            "/home/ada/shop/.hearth" => Some(own + 1),
            "/home/ada/shop" | "/home/ada" => Some(own),
            "/srv/shop" | "/home" | "/srv" | "/" => Some(own + 3),
            _ => None,
        };
        let foreign = |path: &str| foreign(Path::new(path), &owner_of);
        let expected = Some((own + 2, PathBuf::from("/home/ada/shop/.hearth")));
        assert_eq!(foreign("/home/ada/shop/.hearth/postgres/owner"), expected);
        assert_eq!(foreign("/home/ada/shop/new"), None);
        assert_eq!(foreign("/srv/shop/new"), None);
        let told = ClusterError::Foreign {
            act: "cannot write",
            path: "/shop/.hearth/postgres/owner".into(),
            owner: "postgres".to_owned(),
            folder: "/shop/.hearth".into(),
        };
        assert_eq!(
            told.to_string(),
            "cannot write /shop/.hearth/postgres/owner, which is the user postgres's; run as that user or as root, \
             or move /shop/.hearth away to begin with an empty database"
        );
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_with_what_to_do() {
        let told = |kind: io::ErrorKind| {
            let path = Path::new("/srv/shop/.hearth/postgres");
            ClusterError::file("cannot make the folder", path)(kind.into()).to_string()
        };
        let plain = "cannot make the folder /srv/shop/.hearth/postgres";
        let kind = io::ErrorKind::ReadOnlyFilesystem;
        let advised =
            format!("{plain}: {kind}; give the database a url, or run where you may write");
        assert_eq!(told(kind), advised);
        assert_eq!(told(io::ErrorKind::StorageFull), plain);
    }

    #[test]
    fn last_words_are_one_line() {
        assert_eq!(last_words(" \n"), "it wrote nothing");
        assert_eq!(last_words("a\n\nb\n"), "a; b");
        assert_eq!(last_words("1\n2\n3\n4\n5\n6\n"), "2; 3; 4; 5; 6");
    }
}
