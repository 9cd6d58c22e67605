//! The example functions do what they say, and so does the example configuration.

use std::path::Path;

use e2e::guests::{HELLO, ORDERS};
use e2e::lambda::Event;
use e2e::local::invoke;
use e2e::{Database, Door, Host, PATIENCE, Setup, Trial, run};
use futures_util::future::join_all;
use serde_json::{Value, json};

const SCHEMA: &str = include_str!("../../guests/orders/schema.sql");

async fn shop(door: Door) -> (Database, Trial) {
    let database = Database::with(SCHEMA).await;
    let trial = Setup::of(&ORDERS)
        .with(&database)
        .concurrency(4)
        .start(door)
        .await;
    (database, trial)
}

fn order(lines: Value) -> Value {
    json!({ "action": "create", "customer": "Ada", "lines": lines })
}

behind_both_doors! {
    async fn hello_says_hello_and_counts(door) {
        let trial = Setup::of(&HELLO).start(door).await;
        for count in 1..=3 {
            let answer = trial.value(json!({ "name": "Ada" })).await;
            assert_eq!(
                answer,
                json!({ "message": "Hello, Ada!", "invocations": count, "first": count == 1 })
            );
        }
    }

    /// The event that the local host suggests.
    async fn hello_says_hello_to_the_world_if_no_name_is_given(door) {
        let trial = Setup::of(&HELLO).start(door).await;
        assert_eq!(trial.value(json!({})).await["message"], "Hello, world!");
    }

    async fn an_order_is_created_read_and_listed(door) {
        let (database, trial) = shop(door).await;
        let lines = json!([{ "sku": "lamp", "quantity": 2 }, { "sku": "chair", "quantity": 1 }]);
        let created = trial.value(order(lines)).await;
        assert_eq!((&created["customer"], &created["total_cents"]), (&json!("Ada"), &json!(22700)));
        let read = trial.value(json!({ "action": "read", "id": created["id"] })).await;
        assert_eq!(read, created);
        let page = trial.value(json!({ "action": "list" })).await;
        assert_eq!(page["orders"][0]["id"], created["id"]);
        let stock = database.value("select string_agg(stock::text, ' ' order by sku) from product").await;
        assert_eq!(stock.as_deref(), Some("19 1 5 98"));
    }

    /// An order that is placed meanwhile shifts no page.
    async fn orders_are_listed_page_by_page_newest_first(door) {
        let (_database, trial) = shop(door).await;
        let lamp = json!([{ "sku": "lamp", "quantity": 1 }]);
        let mut placed = Vec::new();
        for _ in 0..3 {
            placed.insert(0, trial.value(order(lamp.clone())).await["id"].clone());
        }
        let ids = |page: &Value| {
            let orders = page["orders"].as_array().expect("a page has orders");
            orders.iter().map(|order| order["id"].clone()).collect::<Vec<_>>()
        };
        let first = trial.value(json!({ "action": "list", "limit": 2 })).await;
        assert_eq!(ids(&first), placed[..2]);
        assert_eq!(first["next"], placed[1]);
        trial.value(order(lamp)).await;
        let second = json!({ "action": "list", "limit": 2, "before": first["next"] });
        let second = trial.value(second).await;
        assert_eq!(ids(&second), placed[2..]);
        assert_eq!(second["next"], Value::Null);
        // More than a page may have is as much as it may have.
        let most = trial.value(json!({ "action": "list", "limit": 100_000 })).await;
        assert_eq!(ids(&most).len(), 4);
        // As many as there are make a last page.
        let last = json!({ "action": "list", "limit": 2, "before": placed[0] });
        let last = trial.value(last).await;
        assert_eq!((ids(&last), &last["next"]), (placed[1..].to_vec(), &Value::Null));
    }

    async fn an_order_that_cannot_be_served_takes_nothing(door) {
        let (database, trial) = shop(door).await;
        for (sku, error_type) in [("globe", "OutOfStock"), ("unicorn", "UnknownProduct")] {
            let lines = json!([{ "sku": "chair", "quantity": 1 }, { "sku": sku, "quantity": 2 }]);
            assert_eq!(trial.error(order(lines)).await.0, error_type);
        }
        assert_eq!(trial.error(json!({ "action": "read", "id": 1 })).await.0, "UnknownOrder");
        assert_eq!(trial.error(order(json!([]))).await.0, "InvalidOrder");
        let nameless = json!([{ "sku": "la\0mp", "quantity": 1 }]);
        assert_eq!(trial.error(order(nameless)).await.0, "InvalidOrder");
        for event in [
            json!({ "action": "steal" }),
            json!({ "action": "list", "after": 3 }),
            json!({ "action": "read", "id": 1, "limit": 2 }),
            json!({ "action": "create", "customer": "Ada", "lines": [], "line": {} }),
            json!({ "action": "create", "customer": "Ada", "lines": [{ "sku": "lamp", "quantity": 1, "price": 0 }] }),
        ] {
            let (error_type, message) = trial.error(event).await;
            assert_eq!(error_type, "Function.InvalidEvent", "{message}");
        }
        assert_eq!(
            database.value("select stock from product where sku = 'chair'").await.as_deref(),
            Some("20")
        );
        assert_eq!(database.count("customer_order").await, 0);
    }

    async fn many_orders_at_once_sell_no_more_than_there_is(door) {
        let (database, trial) = shop(door).await;
        let one = order(json!([{ "sku": "kettle", "quantity": 1 }]));
        let answers = join_all((0..12).map(|_| trial.invoke(one.clone()))).await;
        let (refused, served): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.failed);
        assert!(refused.iter().all(|answer| answer.error().0 == "OutOfStock"), "{refused:?}");
        assert_eq!((served.len(), refused.len()), (5, 7));
        assert_eq!(
            database.value("select stock from product where sku = 'kettle'").await.as_deref(),
            Some("0")
        );
    }
}

/// Lambda repeats an event that failed, with the same request id.
#[tokio::test]
async fn an_order_that_lambda_repeats_is_placed_once() {
    let (database, trial) = shop(Door::Lambda).await;
    let event = order(json!([{ "sku": "lamp", "quantity": 1 }])).to_string();
    let mut answers = Vec::new();
    for attempt in 0..2 {
        let event =
            Event::new(event.clone(), PATIENCE).header("Lambda-Runtime-Aws-Request-Id", "the-same");
        trial.lambda().send(event);
        e2e::eventually("an answer to each", async || {
            let calls = trial.lambda().calls();
            let bodies = calls
                .into_iter()
                .filter(|call| call.what == e2e::lambda::What::Response);
            answers = bodies.map(|call| call.body).collect();
            (answers.len() == attempt + 1).then_some(())
        })
        .await;
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        database
            .value("select stock from product where sku = 'lamp'")
            .await
            .as_deref(),
        Some("99")
    );
}

/// As `scripts/demo` serves it: components that are not compiled, and a PostgreSQL of its own.
#[tokio::test]
async fn the_example_configuration_serves_both_functions() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("it is in a workspace");
    let directory = run::fresh_directory();
    std::fs::create_dir_all(directory.join("target/guests")).unwrap();
    std::fs::create_dir_all(directory.join("guests/orders")).unwrap();
    for file in ["hearth.toml", "guests/orders/schema.sql"] {
        std::fs::copy(root.join(file), directory.join(file)).unwrap();
    }
    for guest in [&HELLO, &ORDERS] {
        std::fs::copy(
            guest.wasm(),
            directory.join(format!("target/guests/{}.wasm", guest.name)),
        )
        .unwrap();
    }
    let mut host = Host::hearth(&directory, &["serve", "--port", "0"], &[]);
    let line = host.line("listening on http://").await;
    let address = line.rsplit_once("http://").unwrap().1.trim().to_owned();
    let answer = invoke(
        &address,
        "hello",
        &[],
        json!({ "name": "Ada" }).to_string().into(),
    )
    .await;
    assert!(
        String::from_utf8_lossy(answer.body()).contains("Hello, Ada!"),
        "{answer:?}"
    );
    let new = order(json!([{ "sku": "globe", "quantity": 1 }])).to_string();
    let answer = invoke(&address, "orders", &[], new.into()).await;
    assert!(
        String::from_utf8_lossy(answer.body()).contains("\"total_cents\":39900"),
        "{answer:?}"
    );

    assert_eq!(host.lines("is not this host's own"), 0);
    let pid_file = directory.join(".hearth/postgres/data/postmaster.pid");
    assert!(pid_file.exists());
    host.terminate();
    assert_eq!(host.end(PATIENCE).await.code(), Some(0));
    assert!(!pid_file.exists(), "its PostgreSQL outlives it");
}
