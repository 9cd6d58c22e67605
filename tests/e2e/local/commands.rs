//! What a command of `hearth` does besides what it is for: as little as it can, and nothing that cannot be
//! ended.

use std::path::PathBuf;

use e2e::component::{Extra, uncompiled_beside};
use e2e::guests::{COUNTER, DECLARED, ECHO};
use e2e::trial::FUNCTION;
use e2e::{Database, Door, Host, PATIENCE, Setup, run};
use rustix::process::Signal;

/// A setup file, which makes what it does not find.
fn schema() -> PathBuf {
    let file = run::fresh_directory().join("schema.sql");
    std::fs::write(&file, "create table made (id int)").expect("it is new");
    file
}

/// Whether the setup file has run.
async fn is_made(database: &Database) -> bool {
    let made = "select to_regclass('made') is not null";
    database.value(made).await.as_deref() == Some("t")
}

/// It may be the one that production uses, and what it lacks is what the check is for.
#[tokio::test]
async fn a_check_changes_nothing_in_the_database_that_it_looks_at() {
    let database = Database::create().await;
    let setup = Setup::of(&DECLARED)
        .with(&database)
        .database("setup", &format!("[{:?}]", schema()));
    let mut host = Host::hearth(&setup.write(), &["check"], &[]);
    assert_eq!(host.end(PATIENCE).await.code(), Some(1));
    host.line("relation \"things\" does not exist").await;
    assert!(!is_made(&database).await);
}

/// A database of the host's own has its tables from nowhere else.
#[tokio::test]
async fn a_check_sets_up_a_database_of_the_hosts_own() {
    let schema = schema();
    let setup = Setup::of(&DECLARED)
        .function("databases", "[\"default\"]")
        .database("setup", &format!("[{schema:?}]"));
    let mut host = Host::hearth(&setup.write(), &["check"], &[]);
    host.line(&format!("ran {}", schema.display())).await;
    assert_eq!(host.end(PATIENCE).await.code(), Some(1));
}

/// Neither its database nor the variables and files that it needs.
#[tokio::test]
async fn what_other_functions_need_is_not_touched_for_one_that_is_named() {
    let database = Database::create().await;
    let others = format!(
        "[function.other]\ncomponent = \"nowhere.wasm\"\ndatabases = [\"default\", \"more\"]\n\
         environment = {{ TOKEN = {{ variable = \"NOT_SET_ANYWHERE\" }} }}\n\
         [database.default]\nsetup = [{:?}]\n[database.more]\nurl = {{ variable = \"NOT_SET_ANYWHERE\" }}\n",
        schema()
    );
    let directory = Setup::of(&ECHO).toml(&others).write();
    let environment = [("DATABASE_URL".to_owned(), database.url())];
    for arguments in [&["invoke", FUNCTION][..], &["check", FUNCTION]] {
        for environment in [&environment[..], &[]] {
            let mut host = Host::hearth(&directory, arguments, environment);
            let status = host.end(PATIENCE).await;
            assert_eq!(status.code(), Some(0), "{:?}", host.log());
        }
    }
    assert!(!is_made(&database).await);
    assert!(!directory.join(".hearth").exists());
}

#[tokio::test]
async fn a_name_that_no_function_has_is_told_with_those_that_there_are() {
    let directory = Setup::of(&COUNTER).write();
    for command in ["invoke", "check"] {
        let mut host = Host::hearth(&directory, &[command, "testd"], &[]);
        assert_eq!(host.end(PATIENCE).await.code(), Some(1));
        host.line("there is no function \"testd\"; there are: tested")
            .await;
    }
}

/// The compiler has work for longer than anybody waits; nothing of it is asked for again.
#[tokio::test]
async fn a_signal_ends_the_host_while_it_compiles() {
    let database = Database::create().await;
    let large = uncompiled_beside(&ECHO, &[Extra::Functions(8_000)]);
    let setup = Setup::component(&large)
        .with(&database)
        .database("setup", &format!("[{:?}]", schema()));
    let mut trial = setup.launch(Door::Local).await;
    // What is done right before that.
    trial.host.line("ran ").await;
    trial.host.signal(Signal::INT);
    assert_eq!(trial.host.end(PATIENCE).await.code(), Some(0));
    assert_eq!(trial.host.lines("listening on"), 0);
}
