//! What is in the log is as important as was asked for, and written as was asked for.

use std::path::Path;

use e2e::guests::MISBEHAVE;
use e2e::{Database, Door, PATIENCE, Setup, Trial};
use serde_json::{Value, json};

/// Who asks for nothing else hears what a guest calls so, and no error; figures are no matter of level.
#[tokio::test]
async fn fatal_is_more_than_an_error() {
    let setup = Setup::of(&MISBEHAVE)
        .toml("[log]\nmetrics = \"emf\"\n")
        .variable("AWS_LAMBDA_LOG_FORMAT", "JSON")
        .variable("AWS_LAMBDA_LOG_LEVEL", "FATAL");
    let mut trial = setup.start(Door::Lambda).await;
    let said = |level: &str, what: &str| json!({ "level": level, "message": what }).to_string();
    let text = [said("ERROR", "not so bad"), said("FATAL", "very bad")].join("\n");
    trial.value(json!({ "act": "print", "text": text })).await;
    trial.invoke(json!({ "act": "trap" })).await;
    let text = said("CRITICAL", "the last one");
    trial.value(json!({ "act": "print", "text": text })).await;
    trial.lambda().parked(1).await;
    trial.host.terminate();
    trial.host.end(PATIENCE).await;
    let log = trial.host.log();
    let lines = log
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let (figures, words): (Vec<_>, Vec<_>) = lines.partition(|line| line["_aws"].is_object());
    let words: Vec<_> = words.iter().map(|line| &line["message"]).collect();
    assert_eq!(words, ["very bad", "the last one"], "{log:?}");
    assert_eq!(figures.len(), 3);
    assert!(
        log.iter().all(|line| line.contains(r#""level":"FATAL""#)),
        "{log:?}"
    );
}

/// Lambda's own setting decides what of the guest's and of the host's lines is written, whatever the file says.
#[tokio::test]
async fn lambdas_level_holds_for_the_guests_lines_and_for_the_hosts() {
    let database = Database::create().await;
    let guests = ["said on one", "on the other output"];
    let (debug, error) = ("the pool after an invocation", "Function.Trap");
    let cases = [
        ("DEBUG", true, true),
        ("INFO", true, false),
        ("WARN", false, false),
        ("ERROR", false, false),
    ];
    for (level, said, pool) in cases {
        let setup = Setup::of(&MISBEHAVE)
            .with(&database)
            .toml("[log]\nlevel = \"trace\"\n")
            .variable("AWS_LAMBDA_LOG_FORMAT", "JSON")
            .variable("AWS_LAMBDA_LOG_LEVEL", level);
        let mut trial = setup.start(Door::Lambda).await;
        let steps = json!([{ "query": "select 1" }]);
        let event = json!({ "steps": steps, "act": "print", "text": guests[0] });
        trial.value(event).await;
        // The last line of all, at a level that is always heard.
        trial.invoke(json!({ "act": "trap" })).await;
        trial.host.line(error).await;
        let heard = guests.map(|text| trial.host.lines(text) == 1);
        assert_eq!(heard, [said; 2], "{level}");
        assert_eq!(trial.host.lines(debug) > 0, pool, "{level}");
    }
}

/// What is in the last line that has these words, if it is JSON.
async fn json_of(trial: &mut Trial, words: &str) -> Option<Value> {
    let line = trial.host.line(words).await;
    serde_json::from_str::<Value>(&line).ok()
}

/// Those take no other, and each line has to say to which of several invocations it belongs.
#[tokio::test]
async fn the_log_of_managed_instances_is_json_unless_somebody_says_otherwise() {
    let concurrency = ("AWS_LAMBDA_MAX_CONCURRENCY", "1");
    let kind = ("AWS_LAMBDA_INITIALIZATION_TYPE", "lambda-managed-instances");
    let other_kind = ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand");
    let text = "[log]\nformat = \"text\"\n";
    for ((name, value), file, format, is_json) in [
        (concurrency, "", "", true),
        (kind, "", "", true),
        (kind, "[log]\nmetrics = \"emf\"\n", "", true),
        (kind, text, "", false),
        (kind, text, "JSON", true),
        (kind, "", "Text", false),
        (other_kind, "", "", false),
    ] {
        let mut trial = Setup::of(&MISBEHAVE)
            .toml(file)
            .variable(name, value)
            .variable("AWS_LAMBDA_LOG_FORMAT", format)
            .start(Door::Lambda)
            .await;
        let event = json!({ "act": "print", "text": "said on one" });
        let answer = trial.invoke(event).await;
        let line = json_of(&mut trial, "said on one").await;
        assert_eq!(line.is_some(), is_json, "{value}, {file}, {format}");
        if let Some(line) = line {
            assert_eq!(line["requestId"], answer.request_id);
        }
    }
}

/// Also where there is no configuration that could say so.
#[tokio::test]
async fn a_failed_start_on_managed_instances_is_told_as_json() {
    let mut trial = Setup::component(Path::new("nowhere.wasm"))
        .variable("AWS_LAMBDA_MAX_CONCURRENCY", "1")
        .launch(Door::Lambda)
        .await;
    let line = json_of(&mut trial, "nowhere.wasm").await;
    assert_eq!(line.expect("it is JSON")["level"], "FATAL");
}
