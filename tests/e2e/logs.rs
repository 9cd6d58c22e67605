//! Each line of the log says whose it is, and none says more than it may.

use e2e::guests::{MISBEHAVE, QUERY, STARTING};
use e2e::{Database, Door, PATIENCE, Setup};
use futures_util::future::join_all;
use serde_json::{Value, json};

const JSON: &str = "[log]\nformat = \"json\"\n";

behind_both_doors! {
    async fn a_guests_lines_have_the_id_of_their_request(door) {
        let mut trial = Setup::of(&MISBEHAVE).start(door).await;
        let event = json!({ "act": "print", "text": "first line\nsecond line" });
        let answer = trial.invoke(event).await;
        assert!(!answer.request_id.is_empty());
        for text in ["first line", "second line", "on the other output, without an end"] {
            let line = trial.host.line(text).await;
            assert!(line.contains(&answer.request_id), "{line}");
            assert_eq!(trial.host.log().iter().filter(|line| line.contains(text)).count(), 1);
        }
    }

    async fn a_line_of_json_is_as_lambda_documents_it(door) {
        let mut trial = Setup::of(&MISBEHAVE).toml(JSON).start(door).await;
        let answer = trial.invoke(json!({ "act": "print", "text": "say \"this\"" })).await;
        trial.invoke(json!({ "act": "panic" })).await;
        let line = trial.host.line("say").await;
        let line: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(line["message"], "say \"this\"");
        assert_eq!(line["requestId"], answer.request_id);
        assert!(line["level"].is_string() && line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        for line in trial.host.log() {
            // The local host's ready line is for people.
            assert!(line.starts_with('{') || line.contains("listening on"), "{line}");
        }
    }

    async fn a_line_of_an_init_belongs_to_no_request(door) {
        let mut trial = Setup::of(&STARTING).toml(JSON).start(door).await;
        trial.value(json!(1)).await;
        let line = trial.host.line("an instance starts").await;
        let line: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line.get("requestId"), None, "{line}");
    }

    /// What the guest writes, what it fails with, and what the host says of its connections.
    async fn each_line_of_an_invocation_says_whose_it_is(door) {
        let database = Database::create().await;
        let setup = Setup::of(&MISBEHAVE).with(&database).toml("[log]\nformat = \"json\"\nlevel = \"debug\"\n");
        let mut trial = setup.start(door).await;
        let steps = json!([{ "query": "select 1" }]);
        let event = json!({ "steps": steps, "act": "print", "text": "said by the guest" });
        let mut answers = vec![trial.invoke_for(Some("blue"), event).await];
        answers.push(trial.invoke_for(Some("blue"), json!({ "steps": steps, "act": "trap" })).await);
        for text in ["said by the guest", "on the other output", "the pool after", "Function.Trap"] {
            let line: Value = serde_json::from_str(&trial.host.line(text).await).unwrap();
            assert!(answers.iter().any(|answer| line["requestId"] == answer.request_id.as_str()), "{line}");
            assert_eq!(line["tenantId"], "blue", "{line}");
            assert!(line["xrayTraceId"].as_str().is_some_and(|id| id.starts_with("1-")), "{line}");
        }
    }

    async fn lines_of_neighbours_do_not_mix(door) {
        let trial = Setup::of(&MISBEHAVE).isolation("{ concurrent = 4 }").concurrency(4).start(door).await;
        let print = |n: usize| {
            let lines: Vec<String> = (0..50).map(|line| format!("mark-{n}-{line}.")).collect();
            json!({ "act": "print", "text": lines.join("\n") })
        };
        let answers = join_all((0..4).map(|n| trial.invoke(print(n)))).await;
        e2e::eventually("all lines", async || {
            let log = trial.host.log();
            (log.iter().filter(|line| line.contains("mark-")).count() == 200).then_some(())
        })
        .await;
        for (n, answer) in answers.iter().enumerate() {
            let mark = format!("mark-{n}-");
            let log = trial.host.log();
            assert!(
                log.iter().filter(|line| line.contains(&mark)).all(|line| line.contains(&answer.request_id))
            );
        }
    }

    async fn a_flood_is_cut_and_the_log_says_so(door) {
        let trial = Setup::of(&MISBEHAVE).start(door).await;
        let answer = trial.invoke(json!({ "act": "flood" })).await;
        assert!(!answer.failed);
        trial.value(json!({ "act": "print", "text": "the next is heard" })).await;
        let mut host = trial.host;
        host.line("the next is heard").await;
        let log = host.log();
        let bytes: usize = log.iter().map(String::len).sum();
        assert!(bytes < 2 * 1024 * 1024, "{bytes}");
        assert!(log.iter().any(|line| line.contains("dropped")), "nothing says that output was dropped");
    }

    async fn a_fault_is_logged_with_its_blame_and_its_request(door) {
        let mut trial = Setup::of(&MISBEHAVE).toml(JSON).start(door).await;
        let answer = trial.invoke(json!({ "act": "trap" })).await;
        let line = trial.host.line("Function.Trap").await;
        assert!(line.contains(&answer.request_id) && line.contains("guest"), "{line}");
    }

    async fn no_password_and_no_sql_value_is_in_the_log(door) {
        let database = Database::create().await;
        let url = database.url_as("nobody_here", Some("geheim-1"));
        let setup = Setup::of(&QUERY).database("url", &format!("{url:?}")).toml("[log]\nlevel = \"trace\"\n");
        let trial = setup.start(door).await;
        let step = json!({ "query": "select $1::text", "arguments": ["geheim-2"] });
        let answer = trial.invoke(json!({ "steps": [step] })).await;
        assert!(!String::from_utf8_lossy(&answer.body).contains("geheim-1"), "{answer:?}");
        let good = Setup::of(&QUERY).with(&database).toml("[log]\nlevel = \"trace\"\n").start(door).await;
        let step = json!({ "query": "select $1::int4", "arguments": ["geheim-3"] });
        good.invoke(json!({ "steps": [step] })).await;
        for line in trial.host.log().iter().chain(&good.host.log()) {
            assert!(!line.contains("geheim"), "{line}");
        }
    }
}

/// Whoever reads the log as JSON is to find out why nothing starts.
#[tokio::test]
async fn the_line_that_says_why_there_is_no_configuration_has_lambdas_format() {
    let setup = Setup::of(&QUERY)
        .toml("[functoin.other]\n")
        .variable("AWS_LAMBDA_LOG_FORMAT", "JSON");
    let mut trial = setup.launch(Door::Lambda).await;
    assert_eq!(trial.host.end(PATIENCE).await.code(), Some(1));
    let line = trial.host.line("functoin").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["level"], "ERROR");
}
