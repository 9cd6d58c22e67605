//! PostgreSQL's programs on this machine: where they are, and how one is run.
//!
//! Promises: what runs here has a clean environment, since `PGDATA`, `PGOPTIONS` and the like
//! would change what it does; it does not run as root; and a Ctrl-C meant for the host does not
//! reach it, so that the host decides the order of the end.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::ClusterError;
use super::user::User;

const DEBIAN: &str = "/usr/lib/postgresql";

/// The folder that holds `initdb` and `postgres`.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// Looks where they may be: where `pg_config` says, the newest of Debian's, on `PATH`. Data that are
    /// there already are of one major version, and no other one reads them.
    pub(super) fn find(data: &Path) -> Result<Self, ClusterError> {
        let all = by_pg_config()
            .into_iter()
            .chain(debians())
            .chain(on_path())
            .filter(|directory| {
                ["initdb", "postgres"]
                    .iter()
                    .all(|program| directory.join(program).is_file())
            });
        let mut all = all.map(|directory| Self { directory }).peekable();
        let Some(first) = all.peek().cloned() else {
            return Err(ClusterError::NotInstalled);
        };
        let Ok(wanted) = std::fs::read_to_string(data.join("PG_VERSION")) else {
            return Ok(first);
        };
        let wanted = wanted.trim();
        let mut found = Vec::new();
        for programs in all {
            match programs.version() {
                Some(version) if version == wanted => return Ok(programs),
                version => found.extend(version),
            }
        }
        found.dedup();
        Err(ClusterError::OtherVersion {
            data: data.to_owned(),
            wanted: wanted.to_owned(),
            found: match found.is_empty() {
                true => "of a version that it does not tell".to_owned(),
                false => found.join(" and "),
            },
        })
    }

    /// The major version, as data name it: `16`, or `9.6`.
    fn version(&self) -> Option<String> {
        let output = self.command("postgres", None).arg("--version").output();
        major(&String::from_utf8(output.ok()?.stdout).ok()?)
    }

    /// The path of one of them.
    pub(super) fn path(&self, program: &str) -> PathBuf {
        self.directory.join(program)
    }

    /// One of them, ready to be given arguments.
    pub(super) fn command(&self, program: &str, user: Option<&User>) -> Command {
        command(self.path(program).as_os_str(), user)
    }
}

/// Any program, as this user.
pub(super) fn command(program: &OsStr, user: Option<&User>) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .process_group(0)
        .stdin(Stdio::null());
    for kept in ["PATH", "LD_LIBRARY_PATH", "TZ"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

// From "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", or "... 18beta1".
fn major(told: &str) -> Option<String> {
    let version = told.split_whitespace().nth(2)?;
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    match numbers.next().filter(|first| !first.is_empty())? {
        "9" => Some(format!("9.{}", numbers.next()?)),
        major => Some(major.to_owned()),
    }
}

fn by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .output()
        .ok()?;
    Some(PathBuf::from(
        String::from_utf8(output.stdout).ok()?.trim_end(),
    ))
}

fn debians() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(DEBIAN).into_iter().flatten().flatten();
    newest_first(entries.map(|entry| entry.path()).collect())
}

fn newest_first(mut versions: Vec<PathBuf>) -> Vec<PathBuf> {
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    versions.sort_by_key(|path| std::cmp::Reverse(number(path)));
    versions
        .into_iter()
        .map(|version| version.join("bin"))
        .collect()
}

// A link on PATH is followed: the other programs are where it points to.
fn on_path() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let links = std::env::split_paths(&path)
        .filter_map(|directory| directory.join("initdb").canonicalize().ok());
    links
        .filter_map(|initdb| Some(initdb.parent()?.to_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_major_version_is_what_data_are_of() {
        let cases = [
            (
                "postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n",
                Some("15"),
            ),
            ("postgres (PostgreSQL) 9.6.24", Some("9.6")),
            ("postgres (PostgreSQL) 18beta1", Some("18")),
            ("postgres (EnterpriseDB) x", None),
            ("", None),
        ];
        for (told, expected) in cases {
            assert_eq!(major(told).as_deref(), expected, "{told}");
        }
    }

    #[test]
    fn the_newest_of_debians_versions_comes_first() {
        let given = ["9", "14", "x", "17"].map(|version| Path::new(DEBIAN).join(version));
        let newest = newest_first(given.to_vec());
        let expected =
            ["17", "14", "9", "x"].map(|version| Path::new(DEBIAN).join(version).join("bin"));
        assert_eq!(newest, expected);
    }
}
