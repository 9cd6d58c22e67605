//! Functions written with other crates, as the SDK's documentation shows it.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use e2e::guests::{CRATES, WEB};
use e2e::trial::FUNCTION;
use e2e::{Database, Setup, Trial};
use serde_json::{Value, json};

/// An event as a function URL makes it of a request.
fn request(method: &str, path: &str, query: &str, body: Option<(&str, bool)>) -> Value {
    let parameters: serde_json::Map<String, Value> = query
        .split_once('=')
        .map(|(name, value)| (name.to_owned(), json!(value)))
        .into_iter()
        .collect();
    let domain = "abc.lambda-url.eu-central-1.on.aws";
    let mut event = json!({
        "version": "2.0", "routeKey": "$default", "rawPath": path, "rawQueryString": query,
        "headers": { "content-type": "image/x", "host": domain, "x-amzn-trace-id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700" },
        "queryStringParameters": parameters,
        "requestContext": {
            "accountId": "anonymous", "apiId": "abc", "domainName": domain, "domainPrefix": "abc",
            "http": { "method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "192.0.2.1", "userAgent": "curl/8" },
            "requestId": "e1506fd5-9e7b-434f-bd42-4f8fa224b599", "routeKey": "$default", "stage": "$default",
            "time": "12/Mar/2026:19:03:58 +0000", "timeEpoch": 1773342238000_u64,
        },
        "isBase64Encoded": body.is_some_and(|(_, encoded)| encoded),
    });
    if let Some((body, _)) = body {
        event["body"] = json!(body);
    }
    event
}

async fn answered(trial: &Trial, event: Value) -> [Value; 5] {
    let answer = trial.value(event).await;
    let part = |name: &str| answer.get(name).cloned().unwrap_or_default();
    [
        "statusCode",
        "body",
        "isBase64Encoded",
        "headers",
        "cookies",
    ]
    .map(part)
}

behind_both_doors! {
    async fn an_http_request_is_read_and_answered(door) {
        let trial = Setup::of(&WEB).start(door).await;
        let hello = request("GET", "/hello", "name=Ada", None);
        let cookies = json!(["seen=1; HttpOnly"]);
        let plain = json!({ "content-type": "text/plain" });
        let expected = [json!(200), json!("Hello, Ada!"), json!(false), plain, cookies];
        assert_eq!(answered(&trial, hello).await, expected);
        let image = json!({ "content-type": "image/x" });
        for (body, encoded) in [("text \u{e4}", false), (&*BASE64_STANDARD.encode([0, 255]), true)] {
            let event = request("PUT", "/echo", "", Some((body, encoded)));
            let expected = [json!(200), json!(body), json!(encoded), image.clone(), Value::Null];
            assert_eq!(answered(&trial, event).await, expected, "{body}");
        }
        let none = answered(&trial, request("GET", "/", "", None)).await;
        assert_eq!(none, [json!(404), json!(""), json!(false), json!({}), Value::Null]);
        let (kind, _) = trial.error(request("PUT", "/echo", "", Some(("!", true)))).await;
        assert_eq!(kind, "InvalidBody");
    }

    async fn types_and_a_logger_of_others_work(door) {
        let database = Database::create().await;
        let setup = Setup::of(&CRATES).with(&database).toml("[log]\nformat = \"json\"\n");
        let mut trial = setup.start(door).await;
        let answer = trial.invoke(json!(4)).await;
        assert_eq!(answer.value(), json!(true));
        let line: Value = serde_json::from_str(&trial.host.line("looked for 3").await).unwrap();
        let said = ["level", "message", "stream", "function", "requestId"].map(|name| line[name].clone());
        let expected = ["WARN", "looked for 3", "stdout", FUNCTION, &*answer.request_id];
        assert_eq!(said, expected.map(|text| json!(text)), "{line}");
        assert_eq!((&line["end"], &line["is_within"]), (&json!(4), &json!(true)), "{line}");
    }
}
