//! `SETTINGS.md` has every key that a configuration may have and every variable that is read, with the
//! defaults and the bounds that hold. What holds is asked of the configuration itself.

use std::collections::BTreeSet;
use std::fs;

use super::address::AddressParts;
use super::*;
use crate::limits;

const DIRECTORY: &str = env!("CARGO_MANIFEST_DIR");

/// Stands for the names that a user chooses: the database of this name needs no definition.
const NAME: &str = DEFAULT_DATABASE;

/// A key that there is not, and a word that means nothing.
const NONSENSE: &str = "zzzzzzzzzzzz";

/// What a configuration needs, and what makes all of the rest count.
const BASE: [(&str, &str); 4] = [
    ("function.default.component", "\"Cargo.toml\""),
    ("function.default.database.default.rows_max", "1"),
    ("database.default.url", "\"host=db user=u\""),
    ("log.metrics", "\"emf\""),
];

fn document(file: &str) -> String {
    let path = Path::new(DIRECTORY).join("..").join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The configuration with these settings, or what is wrong with it.
fn with(settings: &[(&str, &str)]) -> Result<Config, String> {
    let is_given = |base: &str| {
        let below = format!("{base}.");
        let mut paths = settings.iter().map(|(path, _)| *path);
        paths.any(|path| path == base || path.starts_with(&below))
    };
    let base = BASE.iter().filter(|(path, _)| !is_given(path));
    let lines = base.chain(settings);
    let text: String = lines
        .map(|(path, value)| format!("{path} = {value}\n"))
        .collect();
    parse(&text)
}

fn parse(text: &str) -> Result<Config, String> {
    let examples = ["TOKEN", "ORDERS_URL"];
    let variables = |name: &str| examples.contains(&name).then(|| "host=db".to_owned());
    let file = Path::new("hearth.toml");
    let source = Source::new(file, text, Path::new(DIRECTORY), &variables);
    Config::parse(&source, &[]).map_err(|error| error.to_string())
}

/// The keys that there are, according to the answer to one that there is not.
fn known(answer: Result<impl Sized, String>) -> Vec<String> {
    let problem = answer.err().unwrap_or_default();
    let unknown = format!("unknown key {NONSENSE:?}");
    let is_about_it = problem.contains(&unknown) || problem.contains("is not known");
    let keys = problem.split_once("; known are ").filter(|_| is_about_it);
    let keys = keys.map(|(_, keys)| keys.split(", ").map(str::to_owned));
    keys.map(Iterator::collect).unwrap_or_default()
}

/// The paths of all keys that a configuration may have.
fn accepted() -> BTreeSet<String> {
    let mut open = known(with(&[(NONSENSE, "1")]));
    let mut found = BTreeSet::new();
    while let Some(path) = open.pop() {
        // A table of keys, or one of names under which there may be tables.
        for inner in [path.clone(), format!("{path}.{NAME}")] {
            let nonsense = format!("{inner}.{NONSENSE}");
            for key in known(with(&[(&nonsense, "1")])) {
                open.push(format!("{inner}.{key}"));
            }
        }
        found.insert(path);
    }
    found
}

/// A row of a table.
struct Row {
    /// Its key's whole path, or its own where the table is of no section.
    path: String,
    default: String,
    values: String,
}

/// What stands first in a cell as code.
fn code(cell: &str) -> Option<&str> {
    Some(cell.strip_prefix('`')?.split_once('`')?.0)
}

/// All that stands in a text as code.
fn codes(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The rows of those tables whose heading is so.
fn rows(is_wanted: impl Fn(&str) -> bool) -> Vec<Row> {
    let text = document("SETTINGS.md");
    let mut rows = Vec::new();
    for part in text.split("\n## ").skip(1) {
        let (heading, part) = part.split_once('\n').unwrap();
        if !is_wanted(heading) {
            continue;
        }
        let section = heading
            .strip_prefix("`[")
            .map(|rest| &rest[..rest.len() - 2]);
        for line in part.lines().filter(|line| line.starts_with("| `")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            let key = code(cells[0]).unwrap();
            let path = section.map_or(key.to_owned(), |section| format!("{section}.{key}"));
            rows.push(Row {
                path: path.replace("NAME", NAME),
                default: cells[2].to_owned(),
                values: cells[3].to_owned(),
            });
        }
    }
    assert!(!rows.is_empty(), "there is no such table");
    rows
}

fn settings() -> Vec<Row> {
    rows(|heading| heading.starts_with("`["))
}

fn address() -> Vec<Row> {
    rows(|heading| heading.starts_with("The address"))
}

/// The bounds in an error about a number.
fn bounds(problem: &str) -> Option<&str> {
    let (_, rest) = problem.split_once("a whole number ")?;
    let rest = rest.strip_prefix("from ").or(rest.strip_prefix("of "))?;
    Some(rest.split_once(',').map_or(rest, |(bounds, _)| bounds))
}

/// Whether a setting of this value is the same as none.
fn is_default(path: &str, value: &str) -> bool {
    let (said, mut unsaid) = (with(&[(path, value)]).unwrap(), with(&[]).unwrap());
    if path == "log.metrics" {
        // The base asks for them.
        unsaid.metrics = None;
    }
    format!("{said:?}") == format!("{unsaid:?}")
}

#[test]
fn every_key_has_its_row_and_every_row_its_key() {
    let (accepted, rows) = (accepted(), settings());
    for deep in [
        "function.default.database.default.settings.default.context",
        "database.default.password.command",
        "function.default.environment.default.variable",
    ] {
        assert!(accepted.contains(deep), "{deep} is not in {accepted:#?}");
    }
    let documented = |path: &str| {
        let (parent, key) = path.rsplit_once('.').unwrap_or_default();
        let (below, example) = (format!("{path}."), format!("`{{ {key} = "));
        rows.iter().any(|row| {
            row.path == path
                || row.path.starts_with(&below)
                || row.path == parent && row.values.contains(&example)
        })
    };
    for path in &accepted {
        assert!(documented(path), "SETTINGS.md has no row for {path}");
    }
    for row in &rows {
        let name = format!(".{NAME}");
        let path = row.path.strip_suffix(&name).unwrap_or(&row.path);
        assert!(accepted.contains(path), "there is no {}", row.path);
    }
}

#[test]
fn every_default_is_the_one_that_holds() {
    let mut defaults = 0;
    for row in settings() {
        let Some(default) = code(&row.default) else {
            continue;
        };
        assert!(is_default(&row.path, default), "{} = {default}", row.path);
        defaults += 1;
    }
    assert!(defaults > 15, "{defaults}");
}

#[test]
fn the_values_are_those_that_are_taken() {
    let related = [
        ("`memory_mib`", limits::MEMORY_MIB_DEFAULT),
        ("`pool_max`", limits::POOL_DEFAULT),
    ];
    for Row { path, values, .. } in settings() {
        let nonsense = format!("\"{NONSENSE}\"");
        let problem = with(&[(&path, &nonsense)]).err().unwrap_or_default();
        if let Some(bounds) = bounds(&problem) {
            let said = related.iter().fold(values.clone(), |said, (name, value)| {
                said.replace(name, &value.to_string())
            });
            assert_eq!(said, bounds, "{path}");
            continue;
        }
        let is_value =
            |text: &&str| text.starts_with(['"', '{', '[']) || ["true", "false"].contains(text);
        for value in codes(&values).filter(is_value) {
            // The one way to say that needs the other key beside it.
            if value != "\"identity\"" {
                let taken = with(&[(&path, value)]);
                assert!(taken.is_ok(), "{path} = {value}: {taken:?}");
            }
        }
        let expected = problem
            .split_once(": expected ")
            .map_or("", |(_, rest)| rest);
        let expected = expected.split(" like ").next().unwrap_or_default();
        let expected = expected.split(", got ").next().unwrap_or_default();
        let words: Vec<&str> = match expected.strip_prefix("one of ") {
            Some(words) => words
                .split(", ")
                .map(|word| word.trim_matches('"'))
                .collect(),
            None => expected.split('"').skip(1).step_by(2).collect(),
        };
        for word in words {
            let quoted = format!("\"{word}\"");
            assert!(values.contains(&quoted), "{path} takes {word:?} as well");
        }
    }
}

#[test]
fn the_address_has_these_keys_and_bounds() {
    let parse = |pair: &str| {
        let parsed = AddressParts::parse(&format!("host=db {pair}"));
        parsed.map_err(|problem| problem.to_string())
    };
    let known = known(parse(&format!("{NONSENSE}=1")));
    let rows = address();
    let documented: Vec<&str> = rows.iter().map(|row| row.path.as_str()).collect();
    assert_eq!(documented, known);
    for Row { path, values, .. } in &rows {
        let problem = parse(&format!("{path}={NONSENSE}"))
            .err()
            .unwrap_or_default();
        if let Some(bounds) = bounds(&problem) {
            let said = values.split(',').next().unwrap_or_default();
            assert_eq!(said, bounds, "{path}");
        }
        let words = problem
            .split_once(" is to be one of ")
            .map_or("", |(_, rest)| rest);
        for word in words.split(", ").filter(|word| !word.is_empty()) {
            assert!(
                codes(values).any(|said| said == word),
                "{path} takes {word:?} as well"
            );
        }
    }
    let default = |key: &str| {
        let row = rows.iter().find(|row| row.path == key).unwrap();
        row.default.parse().ok()
    };
    for (key, default_value) in [
        ("keepalives_idle", limits::KEEPALIVE_IDLE.as_secs()),
        ("keepalives_interval", limits::KEEPALIVE_INTERVAL.as_secs()),
        ("keepalives_count", limits::KEEPALIVE_COUNT.into()),
        (
            "tcp_user_timeout",
            limits::UNRECEIVED_TIMEOUT.as_millis() as u64,
        ),
    ] {
        assert_eq!(default(key), Some(default_value), "{key}");
    }
}

#[test]
fn every_variable_that_is_read_is_told() {
    let text = document("SETTINGS.md");
    let told: BTreeSet<&str> = codes(&text).collect();
    let prefixes = [
        "AWS_",
        "OTEL_",
        "HEARTH_",
        "LAMBDA_",
        "_HANDLER",
        "DATABASE_URL",
    ];
    let mut open = vec![Path::new(DIRECTORY).join("src")];
    let mut read = 0;
    while let Some(path) = open.pop() {
        if path.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            open.extend(entries.map(|entry| entry.unwrap().path()));
            continue;
        }
        if path.ends_with("tests.rs") || path.ends_with("settings_tests.rs") {
            continue;
        }
        let code = fs::read_to_string(&path).unwrap();
        let texts: Vec<&str> = code.split('"').collect();
        for pair in texts.windows(2) {
            let (before, name) = (pair[0], pair[1]);
            let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
            let calls = ["env::var(", "env::var_os(", "variable("];
            let is_read = calls.iter().any(|call| before.ends_with(call));
            let is_one = prefixes.iter().any(|prefix| name.starts_with(prefix))
                && name.chars().all(is_name)
                && !name.ends_with('_');
            if is_read || is_one {
                assert!(
                    told.contains(name),
                    "{}: SETTINGS.md lacks {name}",
                    path.display()
                );
                read += 1;
            }
        }
    }
    assert!(read > 20, "{read}");
}

#[test]
fn the_sample_of_the_readme_says_which_values_are_defaults() {
    let readme = document("README.md");
    let (_, configure) = readme.split_once("\n## Configure\n").unwrap();
    let (_, sample) = configure.split_once("```toml\n").unwrap();
    let (sample, _) = sample.split_once("```").unwrap();
    parse(&sample.replace("orders.wasm", "Cargo.toml")).unwrap();

    let (mut section, mut defaults) = (String::new(), 0);
    for line in sample.lines().filter(|line| !line.is_empty()) {
        if let Some((name, _)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            section = name.replace("orders", NAME);
            continue;
        }
        let (key, rest) = line.split_once(" = ").unwrap();
        let (value, remark) = rest.rsplit_once(" # ").unwrap();
        let kinds = ["default", "example", "needed"];
        assert!(kinds.iter().any(|kind| remark.starts_with(kind)), "{line}");
        if remark.starts_with("default") {
            let path = format!("{section}.{key}");
            assert!(is_default(&path, value.trim()), "{line}");
            defaults += 1;
        }
    }
    assert!(defaults > 3, "{defaults}");
}
