//! A server that goes away, or becomes a standby, is left for the one that took its place.

use e2e::guests::QUERY;
use e2e::{Database, Server, Setup, Trial};
use serde_json::{Value, json};

const RULES: &str = "local all all trust\nhost all all 0.0.0.0/0 trust\n";

async fn steps(trial: &Trial, steps: Value) -> Value {
    trial.value(json!({ "steps": steps })).await
}

async fn pid(trial: &Trial) -> Value {
    let answer = steps(trial, json!([{ "query": "select pg_backend_pid()::text" }])).await;
    answer[0]["rows"][0][0].clone()
}

behind_both_doors! {
    /// One statement learns of it. All other connections of the pool are replaced unasked.
    async fn a_writer_that_became_a_reader_is_left(door) {
        let (one, other) = tokio::join!(Server::listening(), Server::listening());
        for server in [&one, &other] {
            server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
        }
        let database = Database::create_on(&one).await;
        let name = &database.name;
        let successor = Database { name: name.clone(), server: other.clone() };
        Database::create_on(&other).await.run(&format!("create database {name}")).await;
        for (database, place) in [(&database, "one"), (&successor, "other")] {
            let schema = "create table noted (pid int4 default pg_backend_pid(), place text default";
            database.run(&format!("{schema} '{place}')")).await;
        }
        let url = format!(
            "\"postgres://postgres@{},{}/{name}?target_session_attrs=read-write\"",
            one.address(),
            other.address()
        );
        let trial = Setup::of(&QUERY).database("url", &url).database("pool_max", "4").start(door).await;
        let wait = json!({ "query": "select pg_sleep(0.2)::text" });
        steps(&trial, json!([{ "parallel": [wait, wait, wait, wait] }])).await;
        database.settles(4).await;

        one.set_up(&[], &[("default_transaction_read_only", "on")]).await;
        let note = json!({ "query": "with noted as (insert into noted default values returning place) \
                                     select place, pg_sleep(0.2)::text from noted" });
        let told = steps(&trial, json!([note])).await;
        assert_eq!(told[0]["error"]["code"], "25006", "{told}");
        let answer = steps(&trial, json!([{ "parallel": [note, note, note, note] }])).await;
        for noted in answer[0].as_array().unwrap() {
            assert_eq!(noted["rows"][0][0], "other", "{answer}");
        }
        successor.settles(4).await;
        database.until("select count(*) from pg_stat_activity where datname = $name", "0").await;
    }

    /// Where a guest itself asked for a transaction that only reads, the connection is as good as before.
    async fn a_write_in_a_transaction_that_only_reads_costs_no_connection(door) {
        let database = Database::with("create table noted (id int4)").await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        let before = pid(&trial).await;
        let write = json!([{ "batch": "begin read only; insert into noted values (1)" }]);
        let answer = steps(&trial, write).await;
        assert_eq!(answer[0]["error"]["code"], "25006", "{answer}");
        assert_eq!(pid(&trial).await, before);
    }

    async fn a_connection_whose_server_says_that_it_is_lost_is_not_used_again(door) {
        let schema = "create function fail(code text) returns text language plpgsql as \
                      $$ begin raise exception using errcode = code; end $$";
        let database = Database::with(schema).await;
        let trial = Setup::of(&QUERY).with(&database).database("pool_max", "1").start(door).await;
        for (code, is_kept) in [("22000", true), ("08006", false), ("57P01", false), ("57014", true)] {
            let before = pid(&trial).await;
            let answer = steps(&trial, json!([{ "query": format!("select fail('{code}')") }])).await;
            assert_eq!(answer[0]["error"]["code"], code, "{answer}");
            assert_eq!(pid(&trial).await == before, is_kept, "{code}");
            database.settles(1).await;
        }
    }
}
