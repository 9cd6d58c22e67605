//! Who runs the server, and the folder that this user can use.
//!
//! PostgreSQL refuses to run as root. A host that is root (in a container, mostly) runs it as
//! `postgres` or `nobody`, which must be able to reach the folder.
//!
//! Promises: the folder is there, is the user's own, and nobody else's to read; data that were begun there
//! or elsewhere go on where they are, as the user whose they are.

use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::ClusterError;
use super::programs::command;

/// Where clusters go that the user cannot reach in their project.
const ELSEWHERE: &str = "/var/lib/hearth";

/// How much of the project's path stays readable in the other folder's name: with it a socket's
/// path stays within the 107 bytes that the system allows.
const READABLE_BYTES: usize = 40;

/// A user of this machine that is not root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl User {
    /// Who runs the server, if that cannot be this process's own user.
    ///
    /// A cluster that exists goes on with its owner.
    pub(super) fn for_server(data: &Path) -> Result<Option<Self>, ClusterError> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        if let Some(owner) = Self::of_data(data) {
            return Ok(Some(owner));
        }
        let passwd = accounts();
        let user = ["postgres", "nobody"]
            .iter()
            .find_map(|name| find(&passwd, name));
        user.map(Some).ok_or(ClusterError::NoUser)
    }

    /// Who has these data, if there are any that a server can use.
    fn of_data(data: &Path) -> Option<Self> {
        let metadata = data.metadata().ok()?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let name = name_of(uid);
        (uid != 0).then_some(Self { name, uid, gid })
    }

    fn reaches(&self, directory: &Path) -> bool {
        let mut test = command("test".as_ref(), Some(self));
        test.arg("-w")
            .arg(directory)
            .status()
            .is_ok_and(|status| status.success())
    }

    fn own(&self, directory: &Path) -> Result<(), ClusterError> {
        std::os::unix::fs::chown(directory, Some(self.uid), Some(self.gid)).map_err(
            ClusterError::file("cannot give to another user the folder", directory),
        )
    }
}

/// Makes the folder ready for whoever is to run the server, if that is not this process's own user; answers
/// with another folder if that user cannot reach it, or could not when the data were begun.
pub(super) fn prepare(directory: &Path) -> Result<(PathBuf, Option<User>), ClusterError> {
    let data = directory.join("data");
    let Some(user) = User::for_server(&data)? else {
        make(directory, None)?;
        return Ok((directory.to_owned(), None));
    };
    let elsewhere = Path::new(ELSEWHERE).join(stable_name(directory));
    if !data.exists()
        && let Some(owner) = User::of_data(&elsewhere.join("data"))
    {
        tracing::info!(
            "the database was begun in {}, and goes on there as the user {}",
            elsewhere.display(),
            owner.name
        );
        return Ok((elsewhere, Some(owner)));
    }
    make(directory, Some(&user))?;
    if user.reaches(directory) {
        return Ok((directory.to_owned(), Some(user)));
    }
    // Only an empty folder goes away, which nobody can miss.
    let _ = std::fs::remove_dir(directory);
    tracing::warn!(
        "PostgreSQL does not run as root, and the user {} cannot reach {}; the database is kept in {} instead",
        user.name,
        directory.display(),
        elsewhere.display()
    );
    make(&elsewhere, Some(&user))?;
    Ok((elsewhere, Some(user)))
}

/// A fresh folder that only this user can enter.
pub(super) fn make_private(directory: &Path, user: Option<&User>) -> Result<(), ClusterError> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(directory)
        .map_err(ClusterError::file("cannot make the folder", directory))?;
    user.map_or(Ok(()), |user| user.own(directory))
}

fn make(directory: &Path, user: Option<&User>) -> Result<(), ClusterError> {
    if directory.is_dir() {
        return Ok(());
    }
    std::fs::create_dir_all(directory)
        .map_err(ClusterError::file("cannot make the folder", directory))?;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(directory, private).map_err(ClusterError::file(
        "cannot make private the folder",
        directory,
    ))?;
    user.map_or(Ok(()), |user| user.own(directory))
}

fn accounts() -> String {
    std::fs::read_to_string("/etc/passwd").unwrap_or_default()
}

/// What a user is called; one that the machine does not know, by its number.
pub(super) fn name_of(uid: u32) -> String {
    let passwd = accounts();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

fn find(passwd: &str, name: &str) -> Option<User> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let found = fields.next()? == name;
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        (found && uid != 0).then(|| User {
            name: name.to_owned(),
            uid,
            gid,
        })
    })
}

// The same for the same path in every build, which the standard library's hashes are not.
fn stable_name(directory: &Path) -> String {
    let path = directory.to_string_lossy();
    let hash = path.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let readable: String = path
        .trim_start_matches('/')
        .chars()
        .map(plain)
        .take(READABLE_BYTES)
        .collect();
    format!("{readable}-{hash:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\npostgresql:x:7:7::/:\nbroken\npostgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        let postgres = User {
            name: "postgres".to_owned(),
            uid: 101,
            gid: 104,
        };
        assert_eq!(find(passwd, "postgres"), Some(postgres));
        assert_eq!(find(passwd, "nobody"), None);
        assert_eq!(find(passwd, "root"), None);
    }

    #[test]
    fn a_user_is_called_as_the_machine_does() {
        assert_eq!(name_of(0), "root");
        assert_eq!(name_of(u32::MAX - 7), (u32::MAX - 7).to_string());
    }

    #[test]
    fn another_folders_name_is_stable_and_short() {
        let name = stable_name(Path::new("/root/shop/.hearth/postgres"));
        assert_eq!(name, "root-shop--hearth-postgres-8b5c9057d7f78300");
        assert_ne!(
            stable_name(Path::new("/root/a-b")),
            stable_name(Path::new("/root/a/b"))
        );
        assert!(stable_name(Path::new(&"/x".repeat(200))).len() < 60);
    }
}
