//! The queries that a component declares, in its section `hearth:queries`.
//!
//! A record has eight fields, each ended by a zero byte: the version of the format (`1`), the
//! database, the query's name, the file, the line, the SQL text, the parameters' types and the
//! columns'; of these, each on a line of its own, as the guest's language writes it, followed by
//! ` as ` and a type of PostgreSQL's if the guest named one.
//!
//! Promises: they are found in a component and in what [`super::engine::compile`] makes of it,
//! which carries them behind its code; a file that carries none says so, and is not taken for one
//! that declares nothing.
//!
//! Left to others: comparing them with a database ([`crate::command`]), and allowing no others
//! ([`crate::database::permission`]).

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use crate::fault::{Fault, Kind};
use crate::limits;

/// The section's name.
#[cfg(feature = "compile")]
const SECTION: &str = "hearth:queries";
/// What stands at the very end of a compiled component, behind the section's bytes and their
/// number as eight bytes, the lowest first.
const MARK: &[u8; 16] = b"hearth:queries 1";
/// The mark and the number.
const TRAILER_BYTES: usize = MARK.len() + 8;
/// Fields of a record.
const FIELDS: usize = 8;

/// A query that a component declares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// The database it is meant for.
    pub database: String,
    /// Its name in the guest's source.
    pub name: String,
    /// The file of that source.
    pub file: String,
    /// The line in it.
    pub line: u32,
    /// The SQL text.
    pub sql: String,
    /// The types of its parameters.
    pub parameters: Vec<Type>,
    /// The types of its columns.
    pub columns: Vec<Type>,
}

/// A type as the guest declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// In the guest's language.
    pub guest: String,
    /// In PostgreSQL's, if the guest named it.
    pub sql: Option<String>,
}

/// The queries that the component in this file declares.
pub fn read(component: &Path) -> Result<Vec<Query>, Fault> {
    let compiled = component
        .extension()
        .is_some_and(|ending| ending == "cwasm");
    let records = match compiled {
        true => behind_code(component),
        false => of_component(component),
    };
    records
        .and_then(|records| parse(&records))
        .map_err(|problem| {
            let text = format!(
                "the queries that {} declares cannot be read: {problem}",
                component.display()
            );
            Fault::new(Kind::InvalidComponent, text)
        })
}

/// Puts the records of a component behind its code.
#[cfg(feature = "compile")]
pub fn append(component: &[u8], code: &mut Vec<u8>) -> Result<(), String> {
    let records = records(component)?;
    parse(&records)?;
    code.extend_from_slice(&records);
    code.extend_from_slice(&(records.len() as u64).to_le_bytes());
    code.extend_from_slice(MARK);
    Ok(())
}

fn behind_code(path: &Path) -> Result<Vec<u8>, String> {
    let failed = |error: std::io::Error| error.to_string();
    let mut file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let Some(end) = length.checked_sub(TRAILER_BYTES as u64) else {
        return Err(NOT_CARRIED.to_owned());
    };
    let mut trailer = [0; TRAILER_BYTES];
    file.seek(SeekFrom::Start(end)).map_err(failed)?;
    file.read_exact(&mut trailer).map_err(failed)?;
    let number = match trailer.split_first_chunk() {
        Some((number, mark)) if mark == MARK => u64::from_le_bytes(*number),
        _ => return Err(NOT_CARRIED.to_owned()),
    };
    let Some(begin) = end
        .checked_sub(number)
        .filter(|_| number <= limits::DECLARED_BYTES_MAX as u64)
    else {
        return Err("the file is damaged".to_owned());
    };
    let mut records = vec![0; number as usize];
    file.seek(SeekFrom::Start(begin)).map_err(failed)?;
    file.read_exact(&mut records).map_err(failed)?;
    Ok(records)
}

const NOT_CARRIED: &str = "the file carries none, as it was compiled by an older version; make it anew with `hearth compile`";

#[cfg(feature = "compile")]
fn of_component(path: &Path) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    records(&bytes)
}

#[cfg(not(feature = "compile"))]
fn of_component(_: &Path) -> Result<Vec<u8>, String> {
    Err("it is not compiled; make a .cwasm of it with `hearth compile`".to_owned())
}

/// The sections of this name in a component and in the modules within it, one behind another.
#[cfg(feature = "compile")]
fn records(component: &[u8]) -> Result<Vec<u8>, String> {
    let mut records = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(component) {
        let payload = payload.map_err(|error| error.to_string())?;
        if let wasmparser::Payload::CustomSection(section) = payload
            && section.name() == SECTION
        {
            records.extend_from_slice(section.data());
        }
    }
    if records.len() > limits::DECLARED_BYTES_MAX {
        return Err(format!(
            "they have {} bytes; {} are the most",
            records.len(),
            limits::DECLARED_BYTES_MAX
        ));
    }
    Ok(records)
}

fn parse(records: &[u8]) -> Result<Vec<Query>, String> {
    let text = str::from_utf8(records).map_err(|_| "they are not UTF-8".to_owned())?;
    let Some(text) = text.strip_suffix('\0') else {
        return match text.is_empty() {
            true => Ok(Vec::new()),
            false => Err("the last one is cut short".to_owned()),
        };
    };
    let fields: Vec<&str> = text.split('\0').collect();
    let mut queries = Vec::new();
    for record in fields.chunks(FIELDS) {
        let [
            version,
            database,
            name,
            file,
            line,
            sql,
            parameters,
            columns,
        ] = record
        else {
            return Err("the last one is cut short".to_owned());
        };
        if *version != "1" {
            return Err(format!(
                "one is of version {version:?}, and this host knows only 1; build the guest with the SDK of this version"
            ));
        }
        queries.push(Query {
            database: (*database).to_owned(),
            name: (*name).to_owned(),
            file: (*file).to_owned(),
            line: line
                .parse()
                .map_err(|_| format!("{line:?} is no line number"))?,
            sql: (*sql).to_owned(),
            parameters: types(parameters),
            columns: types(columns),
        });
    }
    Ok(queries)
}

fn types(lines: &str) -> Vec<Type> {
    let type_of = |line: &str| match line.rsplit_once(" as ") {
        Some((guest, sql)) => Type {
            guest: guest.to_owned(),
            sql: Some(sql.trim_matches('"').to_owned()),
        },
        None => Type {
            guest: line.to_owned(),
            sql: None,
        },
    };
    lines.lines().map(type_of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "1\0default\0read\0src/a.rs\x0012\0select $1\0& str\nMood as mood\n\0Option<i64>\nM as \"a.b\"\n\0";

    fn type_of(guest: &str, sql: Option<&str>) -> Type {
        Type {
            guest: guest.to_owned(),
            sql: sql.map(str::to_owned),
        }
    }

    #[test]
    fn records_are_read_one_behind_another() {
        assert_eq!(parse(b"").unwrap(), []);
        let twice = parse(RECORD.repeat(2).as_bytes()).unwrap();
        let query = Query {
            database: "default".to_owned(),
            name: "read".to_owned(),
            file: "src/a.rs".to_owned(),
            line: 12,
            sql: "select $1".to_owned(),
            parameters: vec![type_of("& str", None), type_of("Mood", Some("mood"))],
            columns: vec![type_of("Option<i64>", None), type_of("M", Some("a.b"))],
        };
        assert_eq!(twice, [query.clone(), query]);
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        let newer = RECORD.replacen('1', "2", 1);
        let cases: [(&[u8], &str); 4] = [
            (b"1", "cut short"),
            (b"1\0default\0", "cut short"),
            (newer.as_bytes(), "version \"2\""),
            (b"\xff\0", "UTF-8"),
        ];
        for (bytes, word) in cases {
            let problem = parse(bytes).unwrap_err();
            assert!(problem.contains(word), "{problem}");
        }
    }

    #[test]
    fn a_compiled_file_without_the_mark_is_told_from_one_without_queries() {
        let path =
            std::env::temp_dir().join(format!("hearth-declared-{}.cwasm", std::process::id()));
        let with = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read(&path).map_err(|fault| fault.log)
        };
        assert!(with(b"code").unwrap_err().contains("older version"));
        assert!(
            with(b"code that has more than twenty-four bytes")
                .unwrap_err()
                .contains("older version")
        );
        let trailer =
            |number: u64| [&b"code"[..], RECORD.as_bytes(), &number.to_le_bytes(), MARK].concat();
        assert_eq!(with(&trailer(0)).unwrap(), []);
        assert_eq!(with(&trailer(RECORD.len() as u64)).unwrap().len(), 1);
        assert!(with(&trailer(1 << 40)).unwrap_err().contains("damaged"));
        std::fs::remove_file(&path).unwrap();
    }
}
