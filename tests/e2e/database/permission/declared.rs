//! Queries that a component declares: compared with the database before they are deployed, and all
//! that a function can do if it is limited to them.

use e2e::guests::{DECLARED, ORDERS, QUERY};
use e2e::{Database, Door, Host, PATIENCE, Proxy, Setup, Trial};
use serde_json::json;

const THINGS: &str = "create table things (id int8 primary key, name text not null, size int4);
    insert into things values (1, 'lamp', 30), (2, 'chair', null)";

async fn limited(door: Door) -> (Database, Trial) {
    let database = Database::with(THINGS).await;
    let section = "[function.tested.database.default]\nstatements = \"declared\"\n";
    let setup = Setup::of(&DECLARED).with(&database).toml(section);
    let trial = setup.start(door).await;
    (database, trial)
}

behind_both_doors! {
    async fn declared_queries_have_types_on_both_sides(door) {
        let (_database, trial) = limited(door).await;
        let answer = trial.value(json!({ "thing": 1 })).await;
        assert_eq!(answer, json!({ "thing": ["lamp", 30], "all": [["chair"], ["lamp"]] }));
        assert_eq!(trial.value(json!({ "thing": 2, "name": "stool" })).await, json!(1));
        assert_eq!(trial.value(json!({ "thing": 2 })).await["thing"], json!(["stool", null]));
        assert_eq!(trial.value(json!({ "thing": 3 })).await["thing"], json!(null));
    }

    async fn declared_queries_are_pipelined_and_streamed_with_their_types(door) {
        let (_database, trial) = limited(door).await;
        let names = json!([["chair"], ["lantern"]]);
        let others = json!([{ "Ok": ["lantern"] }]);
        let expected = json!([1, names, ["chair"], others]);
        assert_eq!(trial.value(json!({ "pipelined": true })).await, expected);
    }

    async fn a_function_can_be_limited_to_what_it_declares(door) {
        let (database, trial) = limited(door).await;
        let others = [
            "select 1",
            "select name from things",
            "select name, size from things where id = $1 ",
            "SELECT name, size from things where id = $1",
            "select name from things order by name; delete from things",
            "",
            // Declared, but for the other database.
            "select count(*) from things",
        ];
        for sql in others {
            let steps = json!([
                { "query": sql }, { "execute": sql }, { "batch": sql },
                { "transaction": [{ "query": sql }, { "batch": sql }], "end": "commit" },
            ]);
            let results = trial.value(json!({ "steps": steps })).await;
            let inside = &results[3]["steps"];
            for denied in [&results[0], &results[1], &results[2], &inside[0], &inside[1]] {
                let message = denied["error"]["message"].as_str().unwrap_or_default();
                assert!(message.contains("hearth::declare!"), "{sql}: {denied}");
            }
        }
        let declared = json!({ "steps": [{ "query": "select name from things order by name" }] });
        assert_eq!(trial.value(declared).await[0]["rows"], json!([["chair"], ["lamp"]]));
        assert_eq!(database.count("things").await, 2);
    }
}

/// Starts the function on Lambda, and returns what went to the database before its first event.
async fn started(database: &Database) -> (Proxy, Trial, Vec<String>) {
    let proxy = Proxy::of(database);
    let setup = Setup::of(&DECLARED).through(&proxy);
    let trial = setup.database("pool_max", "1").start(Door::Lambda).await;
    trial.lambda().parked(1).await;
    let (flushes, _) = proxy.passed();
    proxy.forget();
    (proxy, trial, flushes)
}

#[tokio::test]
async fn what_a_function_declares_is_prepared_before_its_first_event() {
    let database = Database::with(THINGS).await;
    let (proxy, trial, before) = started(&database).await;
    // The limits of time go first.
    assert_eq!(before, ["Q", "PDPDPDS"]);
    let answer = trial.value(json!({ "thing": 1 })).await;
    assert_eq!(answer["thing"], json!(["lamp", 30]));
    assert_eq!(proxy.passed().0, ["BES", "BES"]);
}

#[tokio::test]
async fn a_declared_query_that_cannot_be_prepared_keeps_no_other_from_it() {
    let database = Database::with("create table things (id int8, name text)").await;
    let (proxy, trial, before) = started(&database).await;
    assert_eq!(before.len(), 3, "{before:?}");
    let renamed = trial.value(json!({ "thing": 2, "name": "stool" })).await;
    assert_eq!(renamed, json!(0));
    let (flushes, _) = proxy.passed();
    assert_eq!(flushes, ["PBEBES", "PBES"]);
    let refused = trial.value(json!({ "thing": 2 })).await;
    assert!(refused.to_string().contains("42703"), "{refused}");
}

/// Runs `hearth check`, and returns whether it was content and what it printed.
async fn check(setup: &Setup, arguments: &[&str]) -> (bool, String) {
    let directory = setup.write();
    let arguments: Vec<&str> = ["check"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let mut host = Host::hearth(&directory, &arguments, &[]);
    let status = host.end(PATIENCE).await;
    (status.success(), host.log().join("\n"))
}

fn archive(database: &Database) -> String {
    format!(
        "[function.tested.database.archive]\nread_only = true\n[database.archive]\nurl = {:?}\n",
        database.url()
    )
}

#[tokio::test]
async fn what_fits_the_database_passes_the_check() {
    let database = Database::with(include_str!("../../../../guests/orders/schema.sql")).await;
    for setup in [Setup::of(&ORDERS), Setup::component(ORDERS.wasm())] {
        let (fits, text) = check(&setup.with(&database), &[]).await;
        assert!(fits, "{text}");
        assert!(
            text.contains("checked 8 queries of 1 function: 0 errors, 0 warnings"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_does_not_fit_is_said_as_a_compiler_says_it() {
    let schema = "create table things (id int4 primary key, name varchar(20), size text)";
    let database = Database::with(schema).await;
    let setup = Setup::of(&DECLARED)
        .with(&database)
        .toml(&archive(&database));
    let (fits, text) = check(&setup, &["tested"]).await;
    assert!(!fits, "{text}");
    let expected = [
        "error: mismatched types: parameter $1 of `thing` is declared as i64",
        "  --> tested: tests/guests/examples/declared.rs:11 (`thing`)",
        "  |",
        "1 | select name, size from things where id = $1",
        "  |                                          ^^ expected int8, found int4",
        "error: mismatched types: column 2 of `thing`, `size` is declared as Option<i32>",
        "  |              ^^^^ expected int4, found text",
        "error: mismatched types: parameter $1 of `rename` is declared as i64",
        "checked 4 queries of 1 function: 3 errors, 0 warnings",
    ];
    for line in expected {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert_eq!(database.count("things").await, 0);
}

#[tokio::test]
async fn what_the_server_refuses_is_pointed_at() {
    let database = Database::with("create table things (id int8, nam text, size int4)").await;
    let setup = Setup::of(&DECLARED)
        .with(&database)
        .toml(&archive(&database));
    let (fits, text) = check(&setup, &[]).await;
    assert!(!fits, "{text}");
    for line in [
        "error: column \"name\" does not exist [42703]",
        "  |        ^^^^",
        "checked 4 queries of 1 function: 3 errors, 0 warnings",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}

#[tokio::test]
async fn a_query_for_a_database_that_the_function_may_not_use_is_an_error() {
    let database = Database::with(THINGS).await;
    let (fits, text) = check(&Setup::of(&DECLARED).with(&database), &[]).await;
    assert!(!fits, "{text}");
    assert!(text.contains("error: no database \"archive\""), "{text}");
    assert!(
        text.contains("checked 4 queries of 1 function: 1 error, 0 warnings"),
        "{text}"
    );
}

#[tokio::test]
async fn a_query_that_its_permission_refuses_is_an_error() {
    let database = Database::with(THINGS).await;
    let section = "[function.tested.database.default]\nstatements = [\"select\"]\n";
    let setup = Setup::of(&DECLARED).with(&database).toml(section);
    let (fits, text) = check(&setup.toml(&archive(&database)), &[]).await;
    assert!(!fits, "{text}");
    assert!(
        text.contains("does not allow this kind of statement: update"),
        "{text}"
    );
    assert!(text.contains("4 queries of 1 function: 1 error"), "{text}");
}

#[tokio::test]
async fn a_check_that_cannot_be_made_says_why() {
    let database = Database::with(THINGS).await;
    let (fits, text) = check(&Setup::of(&DECLARED).with(&database), &["testd"]).await;
    assert!(
        !fits && text.contains("there is no function \"testd\"; there are: tested"),
        "{text}"
    );
    let nowhere = Setup::of(&DECLARED).database("url", "\"postgres://nobody@127.0.0.1:1/x\"");
    let (fits, text) = check(&nowhere, &[]).await;
    assert!(
        !fits && text.contains("the database \"default\" cannot be asked"),
        "{text}"
    );
}

#[tokio::test]
async fn a_limit_to_declared_queries_needs_some() {
    let database = Database::with(THINGS).await;
    let section = "[function.tested.database.default]\nstatements = \"declared\"\n";
    let limited = |database| Setup::of(&QUERY).with(database).toml(section);
    for door in [Door::Local, Door::Lambda] {
        let Trial { mut host, .. } = limited(&database).launch(door).await;
        assert_eq!(host.end(PATIENCE).await.code(), Some(1));
        host.line("declares none for this database").await;
    }
}
