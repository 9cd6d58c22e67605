//! Each line of the log says whose it is, and none says more than it may.

use std::time::Duration;

use e2e::guests::{MISBEHAVE, ONWARD, QUERY, STARTING};
use e2e::lambda::Fate;
use e2e::trial::FUNCTION;
use e2e::{Database, Door, PATIENCE, Setup, local};
use futures_util::future::join_all;
use serde_json::{Value, json};

const JSON: &str = "[log]\nformat = \"json\"\n";

behind_both_doors! {
    async fn a_guests_lines_name_their_function_and_request(door) {
        let mut trial = Setup::of(&MISBEHAVE).start(door).await;
        let event = json!({ "act": "print", "text": "first line\nsecond line" });
        let answer = trial.invoke(event).await;
        assert!(!answer.request_id.is_empty());
        for text in ["first line", "second line", "on the other output, without an end"] {
            let line = trial.host.line(text).await;
            let whose = [answer.request_id.as_str(), FUNCTION];
            assert!(whose.iter().all(|whose| line.contains(whose)), "{line}");
            assert_eq!(trial.host.lines(text), 1, "{text}");
        }
    }

    async fn what_is_printed_without_an_end_stays_with_its_invocation(door) {
        for isolation in ["\"serial\"", "\"fresh\"", "{ concurrent = 2 }"] {
            let mut trial = Setup::of(&MISBEHAVE).isolation(isolation).start(door).await;
            let one = trial.invoke(json!({ "act": "mutter", "text": "said by one" })).await;
            let other = trial.invoke(json!({ "act": "print", "text": "said by the other" })).await;
            for (answer, text) in [(one, "said by one"), (other, "said by the other")] {
                let line = trial.host.line(text).await;
                assert!(line.contains(&answer.request_id), "{isolation}: {line}");
            }
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
        assert_eq!(line["function"], FUNCTION);
        assert!(line["level"].is_string() && line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        for line in trial.host.log() {
            // The local host's ready line is for people.
            assert!(line.starts_with('{') || line.contains("listening on"), "{line}");
            // Rust begins a panic's message with one that is empty.
            assert!(!line.contains("\"message\":\"\""), "{line}");
        }
    }

    /// As loggers write them: not encoded a second time, and as loud as they say.
    async fn a_guests_lines_of_json_keep_their_level_and_their_members(door) {
        let mut trial = Setup::of(&MISBEHAVE).toml(JSON).start(door).await;
        let text = [
            r#"{"level":"DEBUG","message":"too quiet"}"#,
            r#"{"level":"ERROR","message":"out of stock","sku":"a","requestId":"another","left":[0]}"#,
            r#"{"_aws":{"Timestamp":1,"CloudWatchMetrics":[{"Namespace":"Shop","Dimensions":[[]],"Metrics":[{"Name":"Sold"}]}]},"Sold":2}"#,
        ];
        let answer = trial.invoke(json!({ "act": "print", "text": text.join("\n") })).await;
        let line: Value = serde_json::from_str(&trial.host.line("out of stock").await).unwrap();
        assert_eq!((&line["level"], &line["message"]), (&json!("ERROR"), &json!("out of stock")));
        assert_eq!((&line["sku"], &line["left"]), (&json!("a"), &json!([0])));
        assert_eq!((&line["requestId"], &line["function"]), (&json!(answer.request_id), &json!(FUNCTION)));
        assert_eq!(trial.host.line("Sold").await, text[2]);
        assert_eq!(trial.host.lines("too quiet"), 0);
    }

    /// What is cut is no JSON any more, and no metrics.
    async fn a_long_line_is_written_as_one_as_far_as_lambda_takes_it(door) {
        let mut trial = Setup::of(&MISBEHAVE).toml(JSON).start(door).await;
        let directives = json!([{ "Namespace": "Shop", "Dimensions": [[]], "Metrics": [{ "Name": "Sold" }] }]);
        let figures = json!({ "_aws": { "Timestamp": 1, "CloudWatchMetrics": directives }, "Sold": vec![1.5; 5000] });
        let words = json!({ "level": "ERROR", "message": "x".repeat(200 * 1024) });
        let text = [figures.to_string(), words.to_string(), "y".repeat(600 * 1024)];
        let answer = trial.invoke(json!({ "act": "print", "text": text.join("\n") })).await;
        trial.host.line("on the other output").await;
        let log = trial.host.log();
        let all = |mark: &str| {
            let lines = log.iter().filter(|line| line.contains(mark));
            let values = lines.map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|error| panic!("{error}")));
            values.collect::<Vec<_>>()
        };
        assert_eq!(all("Sold"), [figures]);
        let said = all("xxx");
        assert_eq!((said.len(), &said[0]["message"]), (1, &words["message"]));
        assert_eq!((&said[0]["level"], &said[0]["requestId"]), (&json!("ERROR"), &json!(answer.request_id)));
        let parts = all("yyy");
        let whole: String = parts.iter().map(|part| part["message"].as_str().unwrap()).collect();
        assert_eq!(whole, text[2]);
        let continues: Vec<bool> = parts.iter().map(|part| part["continues"] == true).collect();
        assert_eq!(continues, [true, true, false]);
        assert!(log.iter().all(|line| line.len() <= 256 * 1024), "a line is too long");
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

    /// As loud as it was meant, also if the call that it belongs to never came to its end.
    async fn what_a_database_says_beside_its_answers_is_told_in_the_log(door) {
        let database = Database::with("create table things (number int)").await;
        let mut trial = Setup::of(&QUERY).with(&database).toml(JSON).timeout(Duration::from_secs(1)).start(door).await;
        let answer = trial.invoke_for(Some("blue"), json!({ "steps": [
            { "query": "create table if not exists things (number int)" },
            { "batch": "commit" },
            { "batch": "do $$ begin raise notice 'said\nhere' using detail = 'at length', hint = 'read it'; end $$" },
            { "batch": "set client_min_messages = debug1; do $$ begin raise debug 'not worth it'; end $$" },
            { "batch": "do $$ begin raise info 'said before the end'; perform pg_sleep(60); end $$" },
        ] })).await;
        assert_eq!(answer.error().0, "Function.DeadlineExceeded");
        for (text, level, code) in [
            ("NOTICE: relation \"things\" already exists, skipping", "INFO", json!("42P07")),
            ("WARNING: there is no transaction in progress", "WARN", json!("25P01")),
            ("NOTICE: said\nhere", "INFO", Value::Null),
            ("INFO: said before the end", "INFO", Value::Null),
        ] {
            let line = trial.host.line(&Value::from(text).to_string()).await;
            let line: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["message"], &line["level"]), (&json!(text), &json!(level)), "{line}");
            assert_eq!((&line["database"], &line["sqlstate"]), (&json!("default"), &code), "{line}");
            assert_eq!((&line["requestId"], &line["tenantId"]), (&json!(answer.request_id), &json!("blue")), "{line}");
            assert_eq!(line["function"], FUNCTION, "{line}");
            assert!(line["xrayTraceId"].as_str().is_some_and(|id| id.starts_with("1-")), "{line}");
        }
        let log = trial.host.log();
        let said = log.iter().find(|line| line.contains("said\\nhere")).unwrap();
        assert!(said.contains(r#""detail":"at length","hint":"read it""#), "{said}");
        assert!(!log.iter().any(|line| line.contains("not worth it")), "the log's level is info");
    }

    async fn what_a_database_says_too_often_is_cut_and_the_log_says_so(door) {
        let database = Database::create().await;
        let trial = Setup::of(&QUERY).with(&database).toml(JSON).start(door).await;
        let flood = json!({ "batch": "do $$ begin
            for n in 1..1000 loop raise notice 'mark % %', n, repeat('x', 10000); end loop; end $$" });
        let answer = trial.invoke(json!({ "steps": vec![flood; 12] })).await;
        assert!(!answer.failed);
        trial.value(json!({ "steps": [{ "batch": "do $$ begin raise notice 'the next is heard'; end $$" }] })).await;
        let mut host = trial.host;
        host.line("the next is heard").await;
        let log = host.log();
        let count = |text: &str| log.iter().filter(|line| line.contains(text)).count();
        assert_eq!((count("mark "), count("\"more\":968"), count("is not told")), (249, 7, 1));
        assert!(log.iter().all(|line| line.len() < 4096), "a line is too long");
    }

    async fn lines_of_neighbours_do_not_mix(door) {
        let trial = Setup::of(&MISBEHAVE).isolation("{ concurrent = 4 }").concurrency(4).start(door).await;
        let print = |n: usize| {
            let lines: Vec<String> = (0..50).map(|line| format!("mark-{n}-{line}.")).collect();
            json!({ "act": "print", "text": lines.join("\n") })
        };
        let answers = join_all((0..4).map(|n| trial.invoke(print(n)))).await;
        e2e::eventually("all lines", async || {
            (trial.host.lines("mark-") == 200).then_some(())
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

    async fn what_caused_a_fault_is_logged_with_it(door) {
        let mut trial = Setup::of(&ONWARD).toml(JSON).start(door).await;
        trial.invoke(json!({ "first": [{ "fail_because": ["no order", "no paper"] }] })).await;
        let line: Value = serde_json::from_str(&trial.host.line("no order").await).unwrap();
        assert_eq!(line["message"], "no order: no paper", "{line}");
        assert_eq!((&line["level"], &line["fault"]), (&json!("ERROR"), &json!("Failed")), "{line}");
    }

    async fn no_password_and_no_sql_value_is_in_the_log(door) {
        let database = Database::create().await;
        let url = database.url_as("nobody_here", Some("geheim-1"));
        let setup = Setup::of(&QUERY).url(&url).toml("[log]\nlevel = \"trace\"\n");
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

/// Each with a tenant and a trace of its own, in one instance.
#[tokio::test]
async fn ids_of_neighbours_do_not_mix() {
    let setup = Setup::of(&MISBEHAVE)
        .isolation("{ concurrent = 8 }")
        .function("instances_max", "1");
    let setup = setup
        .toml("[log]\nformat = \"json\"\nmetrics = \"emf\"\n")
        .concurrency(8);
    let trial = setup.start(Door::Lambda).await;
    let trace = |n: usize| format!("1-5bef4de7-ad49b0e87f6ef6c87fc2e{n:03}");
    let sending = (0..80).map(|n| {
        let lines: Vec<String> = (0..20).map(|line| format!("mark-{n}-{line}.")).collect();
        let event = json!({ "act": "print", "text": lines.join("\n") });
        let header = format!("Root={};Parent=9a9197af755a6419;Sampled=1", trace(n));
        let event = trial
            .event(event.to_string())
            .header("Lambda-Runtime-Trace-Id", &header);
        let event = event.header("Lambda-Runtime-Aws-Tenant-Id", &format!("tenant-{n}"));
        let id = event.id.clone();
        trial.lambda().send(event);
        let trial = &trial;
        async move { trial.lambda().answer(&id).await.id }
    });
    let ids = join_all(sending).await;
    let lines = e2e::eventually("all lines", async || {
        let log = trial.host.log();
        let lines = log
            .iter()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<Value> = lines
            .filter(|line| line.get("tenantId").is_some())
            .collect();
        // Those that were said, the one on the other output, and the figures.
        (lines.len() == 80 * 22).then_some(lines)
    })
    .await;
    for line in lines {
        let tenant = line["tenantId"].as_str().unwrap();
        let n: usize = tenant.strip_prefix("tenant-").unwrap().parse().unwrap();
        assert_eq!(
            (&line["requestId"], &line["xrayTraceId"]),
            (&json!(ids[n]), &json!(trace(n))),
            "{line}"
        );
        let text = line["message"].as_str().unwrap_or_default();
        assert!(
            !text.starts_with("mark-") || text.starts_with(&format!("mark-{n}-")),
            "{line}"
        );
    }
}

/// What becomes of an answer is told with whose it is: refused, lost, or lost while it was streamed.
#[tokio::test]
async fn an_answer_that_does_not_arrive_is_told_as_its_invocations() {
    let stream = ("response", "\"stream\"");
    let cases = [
        (
            &MISBEHAVE,
            ("isolation", "\"serial\""),
            1,
            Fate::Refused(413),
            "with status 413",
        ),
        (
            &MISBEHAVE,
            ("isolation", "\"serial\""),
            2,
            Fate::AnswersLost(3),
            "failures",
        ),
        (&ONWARD, stream, 1, Fate::AnswersLost(1), "did not arrive"),
    ];
    for (guest, (key, value), slots, fate, text) in cases {
        let setup = Setup::of(guest)
            .function(key, value)
            .toml(JSON)
            .concurrency(slots);
        let mut trial = setup.start(Door::Lambda).await;
        let event = trial
            .event("{}")
            .header("Lambda-Runtime-Aws-Tenant-Id", "blue");
        let id = event.id.clone();
        trial.lambda().invoke(event, Some(fate)).await.unwrap();
        trial.host.line(text).await;
        for line in trial.host.log().iter().filter(|line| line.contains(text)) {
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (&line["level"], &line["requestId"]),
                (&json!("WARN"), &json!(id)),
                "{line}"
            );
            assert_eq!(line["tenantId"], "blue", "{line}");
            assert!(
                line["xrayTraceId"]
                    .as_str()
                    .is_some_and(|id| id.starts_with("1-")),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn an_event_that_is_given_up_is_told_as_its_invocations() {
    let mut trial = Setup::of(&MISBEHAVE).toml(JSON).start(Door::Local).await;
    let headers = [
        ("x-amz-invocation-type", "Event"),
        ("x-amz-tenant-id", "blue"),
    ];
    let event = json!({ "act": "trap" }).to_string();
    let accepted = local::invoke(trial.address(), FUNCTION, &headers, event.into()).await;
    let id = &accepted.headers()["x-amzn-requestid"];
    trial.host.line("Function.Trap").await;
    trial.host.terminate();
    let line = trial.host.line("an event was given up").await;
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(
        (&line["requestId"], &line["tenantId"]),
        (&json!(id.to_str().unwrap()), &json!("blue")),
        "{line}"
    );
    assert!(
        line["xrayTraceId"]
            .as_str()
            .is_some_and(|id| id.starts_with("1-")),
        "{line}"
    );
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
    assert_eq!(line["level"], "FATAL");
}
