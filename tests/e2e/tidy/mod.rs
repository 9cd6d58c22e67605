//! The house rules, checked over the source.

mod imports;
mod links;

use std::fs;
use std::path::{Path, PathBuf};

/// Lines of a file, its unit tests not counted.
const FILE_LINES_MAX: usize = 400;
/// Lines of a function, from its name to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

pub(super) struct Source {
    /// Its path within the repository.
    pub(super) path: String,
    pub(super) text: String,
}

impl Source {
    /// Its text without unit tests, which stand at its end or fill a file of their own.
    fn code(&self) -> &str {
        if self.path.ends_with("tests.rs") {
            return "";
        }
        let Some((code, tests)) = self.text.split_once("\n#[cfg(test)]\n") else {
            return &self.text;
        };
        // Nothing else may stand there: no rule would look at it.
        let mut is_for_tests = true;
        let rest = tests
            .lines()
            .take_while(|line| !line.starts_with("mod tests {"));
        for line in rest {
            is_for_tests |= line == "#[cfg(test)]";
            if line.starts_with(char::is_alphabetic) {
                let path = &self.path;
                assert!(is_for_tests, "{path}: behind its tests stands: {line}");
                is_for_tests = false;
            }
        }
        code
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("it is in a workspace")
}

/// The files below these paths that have this ending.
pub(super) fn files(paths: &[&str], ending: &str) -> Vec<Source> {
    let mut found = Vec::new();
    let mut open: Vec<PathBuf> = paths.iter().map(|path| root().join(path)).collect();
    while let Some(path) = open.pop() {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && !["target", ".git", ".hearth"].contains(&name) {
            open.extend(
                fs::read_dir(&path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.is_file() && name.ends_with(ending) {
            // What cannot be read as text has no words in it.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let path = path.strip_prefix(root()).unwrap().display().to_string();
            found.push(Source { path, text });
        }
    }
    assert!(
        !found.is_empty(),
        "nothing below {paths:?} ends with {ending:?}"
    );
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// The Rust of this repository.
fn rust() -> Vec<Source> {
    files(
        &["host/src", "guest-sdk", "guests", "tests", "bench"],
        ".rs",
    )
}

pub(super) fn none(problems: Vec<String>) {
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_file_opens_with_what_it_is() {
    none(
        rust()
            .into_iter()
            .filter(|file| !file.text.starts_with("//! "))
            .map(|file| file.path)
            .collect(),
    );
}

#[test]
fn no_file_is_too_long() {
    let lines = rust()
        .into_iter()
        .map(|file| (file.code().lines().count(), file.path));
    none(
        lines
            .filter(|(lines, _)| *lines > FILE_LINES_MAX)
            .map(|(lines, path)| format!("{path}: {lines}"))
            .collect(),
    );
}

/// As rustfmt lays them out: a function ends with a brace as far to the right as its beginning.
#[test]
fn no_function_is_too_long() {
    let mut problems = Vec::new();
    for file in rust() {
        let lines: Vec<&str> = file.code().lines().collect();
        for (start, line) in lines.iter().enumerate() {
            let begun = line.trim_start();
            let words: Vec<&str> = begun.split_whitespace().collect();
            let Some(at) = words.iter().position(|word| *word == "fn") else {
                continue;
            };
            let qualifiers = [
                "pub",
                "pub(crate)",
                "pub(super)",
                "async",
                "const",
                "unsafe",
                "extern",
            ];
            if !words[..at].iter().all(|word| qualifiers.contains(word)) {
                continue;
            }
            let end = format!("{}}}", &line[..line.len() - begun.len()]);
            let body = &lines[start..];
            // A declaration in a trait has no body.
            let head = body
                .iter()
                .position(|line| line.ends_with('{') || line.ends_with(['}', ';']));
            if head.is_some_and(|head| !body[head].ends_with('{')) {
                continue;
            }
            let length = body
                .iter()
                .position(|line| **line == end)
                .map_or(1, |length| length + 1);
            if length > FUNCTION_LINES_MAX {
                problems.push(format!("{}:{}: {length} lines", file.path, start + 1));
            }
        }
    }
    none(problems);
}

#[test]
fn the_host_leaves_nothing_undone_and_panics_nowhere_without_a_reason() {
    let mut problems = Vec::new();
    for file in files(&["host/src", "guest-sdk/src", "guests"], ".rs") {
        for word in ["TODO", "FIXME", "XXX", "todo!(", "unimplemented!(", "dbg!("] {
            if file.text.contains(word) {
                problems.push(format!("{}: {word}", file.path));
            }
        }
        let comments = |line: &&str| !line.trim_start().starts_with("//");
        if file
            .code()
            .lines()
            .filter(comments)
            .any(|line| line.contains(".unwrap()"))
        {
            problems.push(format!("{}: unwrap()", file.path));
        }
    }
    none(problems);
}

#[test]
fn every_guest_of_the_tests_is_named_by_a_test() {
    let tests = files(&["tests/e2e"], ".rs");
    let mut problems = Vec::new();
    for guest in files(&["tests/guests/examples"], ".rs") {
        let name = Path::new(&guest.path)
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_uppercase();
        let mut words = tests
            .iter()
            .flat_map(|test| test.text.split(|c: char| !c.is_alphanumeric() && c != '_'));
        if !words.any(|word| word == name) {
            problems.push(guest.path);
        }
    }
    none(problems);
}

#[test]
fn every_file_of_tests_is_one_of_its_modules() {
    let is_one = |path: &str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        let (folder, name) = match name {
            "mod.rs" => folder.rsplit_once('/').unwrap_or_default(),
            name => (folder, name.trim_end_matches(".rs")),
        };
        let parent = match folder {
            "tests/e2e" => "main.rs",
            _ => "mod.rs",
        };
        let parent = root().join(folder).join(parent);
        fs::read_to_string(parent).is_ok_and(|text| text.contains(&format!("mod {name};")))
    };
    let paths = files(&["tests/e2e"], ".rs")
        .into_iter()
        .map(|file| file.path);
    none(
        paths
            .filter(|path| path != "tests/e2e/main.rs" && !is_one(path))
            .collect(),
    );
}

#[test]
fn tests_wait_for_conditions_and_never_for_time() {
    let mut problems = Vec::new();
    for file in files(&["tests/e2e", "tests/src"], ".rs") {
        // Written in two parts, or this line would be one of those it looks for.
        let sleeps = file.text.matches(concat!("slee", "p(")).count()
            - file.text.matches("pg_sleep(").count();
        // `within` is where everything waits; a slow network is one that takes time.
        let known = ["tests/src/lib.rs", "tests/src/middlebox.rs"];
        if sleeps > usize::from(known.contains(&file.path.as_str())) {
            problems.push(file.path);
        }
    }
    none(problems);
}

#[test]
fn no_path_of_somebodys_machine_is_in_the_repository() {
    let mut problems = Vec::new();
    for file in files(&[""], "")
        .into_iter()
        .filter(|file| file.path != "Cargo.lock")
    {
        // Written in two parts, or this line would be one of those it looks for.
        if file.text.contains(concat!("/wor", "k/")) {
            problems.push(file.path);
        }
    }
    none(problems);
}
