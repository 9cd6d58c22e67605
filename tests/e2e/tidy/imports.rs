//! What may import what: the floors of the host, and those of its database.

use super::{files, none};

/// What everything stands on.
const GROUND: &[&str] = &[
    "invocation",
    "fault",
    "limits",
    "telemetry",
    "shutdown",
    "config",
    "lock",
];

/// What the programs begin with, and what only one of them has.
const TOP: &[&str] = &["bootstrap", "command", "cluster"];

/// What may not import what: imports run one way, from `bootstrap` and `command` down.
const FORBIDDEN: &[(&[&str], &[&str])] = &[
    (&["bootstrap"], &["command", "cluster"]),
    (&["command"], &["bootstrap"]),
    (
        &["cluster"],
        &[
            "instance",
            "interface",
            "event",
            "serve",
            "bootstrap",
            "command",
        ],
    ),
    (
        &["serve", "instance", "interface", "database", "event"],
        TOP,
    ),
    (GROUND, TOP),
    (&["database"], &["instance", "interface", "event", "serve"]),
    (&["interface"], &["instance", "event", "serve"]),
    (&["event"], &["instance", "database", "interface", "serve"]),
    (&["instance"], &["event", "serve"]),
    (
        GROUND,
        &["database", "interface", "instance", "event", "serve"],
    ),
];

/// The floors of `host/src/database`, the lowest first: what each may import stands before it. The errors are on
/// none of them, since all floors use them and they tell of a statement; nor is `mod.rs`, which names all floors.
const DATABASE_FLOORS: &[&str] = &[
    "sql",
    "connect",
    "wire",
    "statement",
    "permission",
    "connection",
    "pool",
    "session",
    "script",
    "warming",
];

#[test]
fn imports_run_one_way() {
    let mut problems = Vec::new();
    for file in files(&["host/src"], ".rs") {
        let path = file.path.trim_start_matches("host/src/");
        let floor = path
            .split(['/', '.'])
            .next()
            .expect("there is always a first part");
        // Elsewhere an error has a type of its own, which says whose it is.
        if !["command", "bin"].contains(&floor) && file.code().contains("anyhow") {
            problems.push(format!("{}: names `anyhow`", file.path));
        }
        let imported = imports(file.code(), "crate::");
        for (_, forbidden) in FORBIDDEN
            .iter()
            .filter(|(floors, _)| floors.contains(&floor))
        {
            for import in imported
                .iter()
                .filter(|import| forbidden.contains(&import.as_str()))
            {
                problems.push(format!("{}: imports `{import}`", file.path));
            }
        }
    }
    none(problems);
}

#[test]
fn imports_within_the_database_run_one_way() {
    let mut problems = Vec::new();
    for file in files(&["host/src/database"], ".rs") {
        let path = file.path.trim_start_matches("host/src/database/");
        let floor = path.split(['/', '.']).next();
        let above = DATABASE_FLOORS
            .iter()
            .skip_while(|name| Some(**name) != floor)
            .skip(1);
        let imported = imports(file.code(), "crate::database::");
        for import in above.filter(|above| imported.iter().any(|name| name == *above)) {
            problems.push(format!("{}: imports `{import}`", file.path));
        }
    }
    none(problems);
}

/// What a type can do, it can do on its own floor: a floor above cannot add to it.
#[test]
fn what_a_floor_of_the_database_has_is_not_added_to_from_another() {
    let owners = [
        ("impl Connection {", "connection"),
        ("impl Wire {", "wire"),
        ("impl Database {", ""),
    ];
    let mut problems = Vec::new();
    for file in files(&["host/src/database"], ".rs") {
        let path = file.path.trim_start_matches("host/src/database/");
        let floor = path.split_once('/').map_or("", |(floor, _)| floor);
        let begins = |line: &str| owners.iter().find(|(begin, _)| line == *begin);
        for (begin, owner) in file.code().lines().filter_map(begins) {
            if *owner != floor {
                problems.push(format!("{}: {begin}", file.path));
            }
        }
    }
    none(problems);
}

/// From two floors up a module is named from the root: nobody has to count folders.
#[test]
fn nothing_is_named_from_two_floors_up() {
    let mut problems = Vec::new();
    for file in files(&["host/src", "guest-sdk", "guests", "bench"], ".rs") {
        for line in file
            .code()
            .lines()
            .filter(|line| line.contains("super::super"))
        {
            problems.push(format!("{}: {}", file.path, line.trim()));
        }
    }
    none(problems);
}

/// The modules behind this path that are named in this code.
fn imports(code: &str, path: &str) -> Vec<String> {
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let code: String = lines.map(|line| format!("{line}\n")).collect();
    let mut found = Vec::new();
    for rest in code.split(path).skip(1) {
        let Some(group) = rest.strip_prefix('{') else {
            found.push(first_word(rest));
            continue;
        };
        let mut depth = 1;
        let mut start = 0;
        for (index, character) in group.char_indices() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            if (character == ',' && depth == 1) || depth == 0 {
                found.push(first_word(group[start..index].trim()));
                start = index + 1;
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|module| !module.is_empty());
    found
}

fn first_word(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn imports_are_found_however_they_are_written() {
    let code = "use crate::fault;\nuse crate::{\n    event::{A, b},\n    limits,\n};\n// crate::serve\nlet x = crate::config::X;";
    let within = "use crate::event::{lambda, local};\n//! crate::event::none";
    assert_eq!(
        imports(code, "crate::"),
        ["fault", "event", "limits", "config"]
    );
    assert_eq!(imports(within, "crate::event::"), ["lambda", "local"]);
}
