//! A function's temporary directory: whose it is, how long, and how much it takes.

use e2e::guests::TEMPORARY;
use e2e::{Door, Setup, Trial};
use serde_json::{Value, json};

const KIB: usize = 1024;

fn with_a_directory() -> Setup {
    Setup::of(&TEMPORARY).function("temporary_mib", "1")
}

async fn acts(trial: &Trial, acts: Value) -> Value {
    trial.value(json!({ "acts": acts })).await
}

fn is_error(result: &Value) -> bool {
    result.get("error").is_some()
}

behind_both_doors! {
    async fn without_the_setting_there_is_no_directory(door) {
        let trial = Setup::of(&TEMPORARY).start(door).await;
        let results = acts(&trial, json!([
            { "write": ["/tmp/a", "x"] }, { "list": "/tmp" }, { "list": "/" }, { "list": "." },
        ])).await;
        assert!(results.as_array().unwrap().iter().all(is_error), "{results}");
    }

    async fn each_invocation_finds_it_empty_and_leaves_nothing(door) {
        for isolation in ["\"serial\"", "\"fresh\"", "{ concurrent = 2 }"] {
            let trial = with_a_directory().isolation(isolation).start(door).await;
            for _ in 0..3 {
                let results = acts(&trial, json!([
                    { "list": "/tmp" },
                    { "make": "/tmp/one/two" },
                    { "write": ["/tmp/one/two/file", "in the depth"] },
                    { "write": ["/tmp/above", "x"] },
                    { "append": ["/tmp/above", "yz"] },
                    { "patch": ["/tmp/above", 4, "!"] },
                    { "read": "/tmp/above" },
                    { "rename": ["/tmp/one", "/tmp/other"] },
                    { "read": "/tmp/other/two/file" },
                    { "list": "/tmp" },
                ])).await;
                let expected = json!([
                    [], null, null, null, null, null, "xyz\0!", null, "in the depth", [["above", 5], ["other", 0]],
                ]);
                assert_eq!(results, expected, "{isolation}");
            }
        }
    }

    async fn no_path_leads_out_of_it(door) {
        let trial = with_a_directory().start(door).await;
        let results = acts(&trial, json!([
            { "write": ["/tmp/a", "x"] },
            { "read": "/etc/passwd" },
            { "read": "/tmp/../etc/passwd" },
            { "read": "/tmp/../../etc/passwd" },
            { "list": "/" },
            { "list": "/tmp/.." },
            { "write": ["/a", "x"] },
            { "rename": ["/tmp/a", "/tmp/../a"] },
            { "link": ["/tmp/a", "/tmp/b"] },
            { "list": "/tmp" },
        ])).await;
        let results = results.as_array().unwrap();
        assert!(results[1..9].iter().all(is_error), "{results:?}");
        assert_eq!(results[9], json!([["a", 1]]));
    }
}

/// Each entry takes 4 KiB, and so does each 4 KiB of a file that are begun.
#[tokio::test]
async fn it_holds_what_it_may_and_no_more() {
    let trial = with_a_directory().start(Door::Lambda).await;
    // `EDQUOT` and `EIO`, as WASI numbers them: its C library does not ask why a write has failed.
    let (over, unwritten) = (json!({ "error": 19 }), json!({ "error": 29 }));
    let whole = 1020 * KIB;
    #[rustfmt::skip]
    let cases = [
        (
            json!([{ "fill": ["/tmp/a", whole] }, { "write": ["/tmp/b", ""] }]),
            json!([null, over]),
        ),
        (
            json!([{ "fill": ["/tmp/a", whole + 1] }]),
            json!([unwritten]),
        ),
        (
            json!([{ "many": "/tmp" }, { "make": "/tmp/d" }, { "remove": "/tmp/7" }, { "make": "/tmp/d" }]),
            json!([256, over, null, null]),
        ),
        (
            json!([
                { "write": ["/tmp/a", "x"] }, { "length": ["/tmp/a", whole + 1] }, { "length": ["/tmp/a", whole] },
                { "length": ["/tmp/a", u64::MAX / 2] }, { "list": "/tmp" },
            ]),
            json!([null, over, null, over, [["a", whole]]]),
        ),
        (
            json!([{ "write": ["/tmp/a", "x"] }, { "patch": ["/tmp/a", whole, "x"] }, { "read": "/tmp/a" }]),
            json!([null, unwritten, "x"]),
        ),
        // What has no name counts until it is closed.
        (
            json!([
                { "keep_unnamed": "/tmp/a" }, { "write_kept": "x".repeat(1000 * KIB) }, { "list": "/tmp" },
                { "fill": ["/tmp/b", 20 * KIB] }, { "close_kept": null }, { "fill": ["/tmp/b", 1000 * KIB] },
            ]),
            json!([null, null, [], unwritten, null, null]),
        ),
    ];
    for (event, expected) in cases {
        assert_eq!(acts(&trial, event).await, expected);
    }
}

#[tokio::test]
async fn what_is_kept_open_is_gone_with_its_invocation() {
    let trial = with_a_directory().start(Door::Lambda).await;
    let keep = json!([{ "keep_unnamed": "/tmp/a" }, { "write_kept": "x" }]);
    assert_eq!(acts(&trial, keep).await, json!([null, null]));
    let results = acts(
        &trial,
        json!([{ "write_kept": "y" }, { "fill": ["/tmp/b", 1020 * KIB] }]),
    )
    .await;
    assert!(is_error(&results[0]) && results[1].is_null(), "{results}");
}

#[tokio::test]
async fn there_is_none_before_the_first_invocation() {
    let mut trial = with_a_directory().start(Door::Lambda).await;
    trial.host.line("at first: false").await;
    assert_eq!(acts(&trial, json!([{ "list": "/tmp" }])).await, json!([[]]));
}

/// Each writes before the other looks.
#[tokio::test]
async fn invocations_that_share_an_instance_have_directories_of_their_own() {
    let setup = with_a_directory()
        .isolation("{ concurrent = 2 }")
        .concurrency(2);
    let trial = setup.start(Door::Lambda).await;
    let one = |name: &str| {
        acts(
            &trial,
            json!([
                { "write": ["/tmp/who", name] }, { "fill": [format!("/tmp/{name}"), 900 * KIB] }, { "meet": 2 },
                { "read": "/tmp/who" }, { "list": "/tmp" },
            ]),
        )
    };
    let (ada, bob) = tokio::join!(one("ada"), one("bob"));
    assert_eq!(
        ada,
        json!([null, null, null, "ada", [["ada", 900 * KIB], ["who", 3]]])
    );
    assert_eq!(
        bob,
        json!([null, null, null, "bob", [["bob", 900 * KIB], ["who", 3]]])
    );
}

#[tokio::test]
async fn work_after_the_answer_has_the_directory_of_its_invocation() {
    for after_answer in ["\"finish\"", "\"await\""] {
        let setup = with_a_directory().function("after_answer", after_answer);
        let mut trial = setup.start(Door::Lambda).await;
        let event = json!({
            "acts": [{ "write": ["/tmp/a", "mine"] }],
            "after": [{ "read": "/tmp/a" }, { "write": ["/tmp/later", ""] }],
        });
        trial.value(event).await;
        assert_eq!(
            acts(&trial, json!([{ "list": "/tmp" }])).await,
            json!([[]]),
            "{after_answer}"
        );
        trial.host.line(r#"after the answer: ["mine",null]"#).await;
    }
}

#[tokio::test]
async fn suspended_work_keeps_its_directory_beside_that_of_a_later_invocation() {
    let setup = with_a_directory().function("after_answer", "\"suspend\"");
    let mut trial = setup.start(Door::Lambda).await;
    let event = json!({
        "acts": [{ "write": ["/tmp/a", "mine"] }],
        "after": [{ "meet": 2 }, { "read": "/tmp/a" }, { "write": ["/tmp/later", ""] }, { "list": "/tmp" }],
    });
    trial.value(event).await;
    let others = acts(&trial, json!([
        { "list": "/tmp" }, { "write": ["/tmp/b", "x"] }, { "meet": 2 }, { "meet": 4 }, { "list": "/tmp" },
    ])).await;
    assert_eq!(others, json!([[], null, null, null, [["b", 1]]]));
    trial
        .host
        .line(r#"after the answer: [null,"mine",null,[["a",4],["later",0]]]"#)
        .await;
}
