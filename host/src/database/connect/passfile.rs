//! libpq's password file: lines of `host:port:database:user:password`, of which the first that fits counts.

use std::path::Path;

use crate::config::address::{Host, HostName};

/// Where a socket's folder is the one that goes without saying, a line calls the host by this name.
const LOCAL: &str = "localhost";

/// The folders that go without saying: PostgreSQL's own, and Debian's.
const FOLDERS: [&str; 2] = ["/tmp", "/var/run/postgresql"];

/// The password of the first line that is for this.
pub(super) fn password(file: &[u8], host: &Host, database: &str, user: &str) -> Option<Vec<u8>> {
    let port = host.port.to_string();
    let name = match &host.name {
        HostName::Name(name) => name.as_bytes(),
        HostName::Folder(folder) if FOLDERS.iter().any(|own| folder == Path::new(own)) => {
            LOCAL.as_bytes()
        }
        HostName::Folder(folder) => folder.as_os_str().as_encoded_bytes(),
    };
    let wanted = [name, port.as_bytes(), database.as_bytes(), user.as_bytes()];
    let lines = file.split(|byte| *byte == b'\n');
    lines
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .filter(|line| !line.starts_with(b"#"))
        .find_map(|line| of_line(line, &wanted))
}

fn of_line(line: &[u8], wanted: &[&[u8]; 4]) -> Option<Vec<u8>> {
    let mut rest = line;
    for wanted in wanted {
        let (field, behind) = field(rest)?;
        if rest.starts_with(b"*:") || field == *wanted {
            rest = behind;
        } else {
            return None;
        }
    }
    let password = unescaped(rest);
    (!password.is_empty()).then_some(password)
}

/// The field in front, and what follows the colon behind it.
fn field(line: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut escaped = false;
    let end = line.iter().position(|byte| {
        let ends = *byte == b':' && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends
    })?;
    Some((unescaped(&line[..end]), &line[end + 1..]))
}

/// Without the backslashes that stand before what is to be taken as it is.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut bytes = text.iter();
    let mut plain = Vec::new();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => plain.extend(bytes.next()),
            byte => plain.push(*byte),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, name: HostName, port: u16) -> Option<String> {
        let host = Host {
            name,
            port,
            address: None,
        };
        password(file.as_bytes(), &host, "shop:eu", "u\\s")
            .map(|found| String::from_utf8(found).unwrap())
    }

    fn db() -> HostName {
        HostName::Name("db".to_owned())
    }

    #[test]
    fn the_first_line_that_fits_counts() {
        for (file, expected) in [
            ("db:5432:shop\\:eu:u\\\\s:sesame", Some("sesame")),
            ("*:*:*:*:sesame\n", Some("sesame")),
            (
                "# db:*:*:*:not this\ndb:*:*:*:a\\:b\\\\c:d\r\n",
                Some("a:b\\c:d"),
            ),
            (
                "other:*:*:*:no\ndb:5433:*:*:no\ndb:*:x:*:no\n*:*:*:x:no\n*:*:*:*:yes",
                Some("yes"),
            ),
            ("*:*:*:*:first\ndb:5432:*:*:second", Some("first")),
            ("*:*:*:*:\ndb:5432:*:*:second", Some("second")),
            ("db:5432:shop:eu:u:no\nnonsense\n\n:", None),
            ("\\*:*:*:*:no", None),
            ("", None),
        ] {
            assert_eq!(found(file, db(), 5432).as_deref(), expected, "{file}");
        }
    }

    #[test]
    fn a_socket_is_called_by_its_folder_or_localhost() {
        let folder = |path: &str| HostName::Folder(path.into());
        let file = "localhost:*:*:*:default\n/run/pg:*:*:*:own";
        for (place, expected) in [
            (folder("/tmp"), "default"),
            (folder("/var/run/postgresql"), "default"),
            (folder("/run/pg"), "own"),
        ] {
            assert_eq!(found(file, place, 1).as_deref(), Some(expected));
        }
    }
}
