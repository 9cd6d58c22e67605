//! What is in the log is as important as was asked for.

use e2e::guests::MISBEHAVE;
use e2e::{Database, Door, PATIENCE, Setup};
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
