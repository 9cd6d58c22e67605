//! What the host takes for a string or a comment, the server does not execute.

use e2e::guests::QUERY;
use e2e::{Database, Door, Setup};
use serde_json::{Value, json};

/// Pieces of SQL between which strings, comments and identifiers begin and end in ways that one can
/// get wrong.
const PIECES: &[&str] = &[
    "set role none;",
    "set role none;",
    "select set_config('role', 'none', true);",
    "select set_config('ro",
    "\\154e', 'none', true);",
    "le', 'none', true);",
    "select 1;",
    "select ",
    "'",
    "'",
    "''",
    "\\",
    "\\'",
    "\"",
    "$$",
    "$a$",
    "$",
    "--",
    "\n",
    "\r",
    "/*",
    "*/",
    "/",
    "e'",
    "E'",
    "u&'",
    "U&\"",
    "b'",
    "n'",
    "x'",
    "1",
    "1e'",
    "1.",
    ".5",
    "1_0",
    "$1",
    " ",
    ";",
    "é",
    "\u{a0}",
    "\u{b}",
    "as ",
    "a",
    "_$",
    ",",
    "€$a$",
];

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound
    }
}

/// What the host takes for a string or a comment, the server does not execute: texts put together by
/// chance, on a server that reads strings in either of its two ways.
#[tokio::test]
async fn no_text_hides_a_change_of_the_role_from_the_host() {
    for strings in ["on", "off"] {
        let database = Database::create().await;
        let app = format!("{}_app", database.name);
        let schema = format!(
            "create role {app}; create table spoils (who text); grant all on spoils to {app};
             create function met() returns trigger language plpgsql as
                 $$ begin new.who := current_user; return new; end $$;
             create trigger met before insert on spoils for each row execute function met()"
        );
        database.run(&schema).await;
        let url = format!(
            "{}?options=-c%20standard_conforming_strings%3D{strings}",
            database.url()
        );
        let section = format!("[function.tested.database.default]\nrole = {app:?}\n");
        let setup = Setup::of(&QUERY).url(&url).toml(&section);
        let trial = setup.start(Door::Local).await;
        let mut dice = Dice(7);
        let mut sent = 0;
        for _ in 0..40 {
            let steps: Vec<Value> = (0..200)
                .map(|_| {
                    let pieces: String = (0..3 + dice.below(9))
                        .map(|_| PIECES[dice.below(PIECES.len())])
                        .collect();
                    json!({ "batch": format!("{pieces}\n;insert into spoils values ('');") })
                })
                .collect();
            let results = trial.value(json!({ "steps": steps })).await;
            let results = results.as_array().expect("it is a list");
            sent += results
                .iter()
                .filter(|result| {
                    let message = result["error"]["message"].as_str().unwrap_or_default();
                    !message.starts_with("not allowed: ")
                })
                .count();
        }
        let strangers = format!(
            "select count(*) filter (where who <> '{app}') || ' of ' || (count(*) > 100) from spoils"
        );
        assert_eq!(
            database.value(&strangers).await.as_deref(),
            Some("0 of true"),
            "{strings}: {sent} were sent"
        );
    }
}
