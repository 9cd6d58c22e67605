//! A server that goes away, or becomes a standby, is left for the one that took its place.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use e2e::database::RULES;
use e2e::guests::QUERY;
use e2e::{Database, Pooler, Proxy, Server, Setup, Trial};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn steps(trial: &Trial, steps: Value) -> Value {
    trial.value(json!({ "steps": steps })).await
}

async fn pid(trial: &Trial) -> Value {
    let answer = steps(trial, json!([{ "query": "select pg_backend_pid()::text" }])).await;
    answer[0]["rows"][0][0].clone()
}

/// A database on a server that another one follows, and that one.
async fn followed() -> (Database, Database) {
    let server = Server::listening().await;
    server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
    let database = Database::create_on(&server).await;
    let schema =
        "create table noted (key int4, place text default current_setting('listen_addresses'))";
    database.run(schema).await;
    let successor = Database::named(&database.name, &server.standby().await);
    (database, successor)
}

/// The address of a database on this and on that server, whichever takes writes.
fn either(one: &Database, other: &Database) -> String {
    format!(
        "\"postgres://postgres@{},{}/{}?target_session_attrs=read-write\"",
        one.server.address(),
        other.server.address(),
        one.name
    )
}

/// This database through a pooler or, if that does not take writes, on that server.
fn through(pooler: &Pooler, name: &str, other: &Server) -> Setup {
    let hosts = format!(",{}:{}/{name}", other.address(), other.port());
    let url = pooler.url().replace(&format!("/{name}"), &hosts);
    Setup::of(&QUERY)
        .database("url", &format!("\"{url}?target_session_attrs=read-write\""))
        .database("prepare", "\"never\"")
}

/// Writes this key, and says where it did.
async fn note(trial: &Trial, key: usize) -> Result<String, String> {
    let sql = format!("insert into noted values ({key}) returning place");
    let answer = steps(trial, json!([{ "query": sql }])).await;
    match answer[0]["error"]["message"].as_str() {
        Some(message) => Err(message.to_owned()),
        None => Ok(answer[0]["rows"][0][0].as_str().unwrap().to_owned()),
    }
}

/// Has four connections open at once.
async fn fill(trial: &Trial) {
    let wait = json!({ "query": "select pg_sleep(0.2)::text" });
    steps(trial, json!([{ "parallel": [wait, wait, wait, wait] }])).await;
}

behind_both_doors! {
    async fn the_next_write_after_a_promotion_is_done_by_the_new_primary(door) {
        let (database, successor) = followed().await;
        let places = [&database, &successor].map(|one| one.server.address().to_string());
        let setup = Setup::of(&QUERY).database("url", &either(&database, &successor));
        let trial = setup.database("pool_max", "4").start(door).await;
        fill(&trial).await;
        assert_eq!(note(&trial, 0).await.as_ref(), Ok(&places[0]));

        database.server.stop().await;
        successor.server.promote().await;
        assert_eq!(note(&trial, 1).await.as_ref(), Ok(&places[1]));
        fill(&trial).await;
        assert_eq!(note(&trial, 2).await.as_ref(), Ok(&places[1]));
        let noted = successor.value("select string_agg(key || ' ' || place, ', ' order by key) from noted");
        let expected = format!("0 {0}, 1 {1}, 2 {1}", places[0], places[1]);
        assert_eq!(noted.await, Some(expected));
    }

    /// It takes longer to pass over the first host than another one is given to take its place.
    async fn a_server_that_takes_writes_a_moment_later_is_waited_for_behind_a_silent_host(door) {
        let server = Server::listening().await;
        server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
        let database = Database::create_on(&server).await;
        let name = &database.name;
        database.run(&format!("alter database {name} set default_transaction_read_only = on")).await;
        let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let hosts = format!("{},{}", silent.local_addr().unwrap(), server.address());
        let trial = Setup::of(&QUERY)
            .database("url", &format!("\"postgres://postgres@{hosts}/{name}?target_session_attrs=read-write\""))
            .database("connect_timeout_ms", "8000")
            .database("warm", "0")
            .toml("[log]\nlevel = \"debug\"")
            .start(door)
            .await;
        let promotion = async {
            e2e::eventually("a refusal in the log", async || {
                (trial.host.lines("takes no writes") > 0).then_some(())
            })
            .await;
            let promote = format!("set transaction read write; alter database {name} reset default_transaction_read_only");
            database.run(&promote).await;
        };
        let (answer, ()) = tokio::join!(steps(&trial, json!([{ "query": "select 'here'" }])), promotion);
        assert_eq!(answer[0]["rows"], json!([["here"]]), "{answer}");
    }

    /// As a server does that goes away at that moment.
    async fn a_server_that_is_gone_while_tls_begins_is_asked_again(door) {
        let closing = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = closing.local_addr().unwrap();
        let asked = Arc::new(AtomicUsize::new(0));
        let count = asked.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = closing.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = stream.read_exact(&mut [0; 8]).await;
                let _ = stream.write_all(b"S").await;
            }
        });
        let url = format!("\"postgres://postgres@{address}/x?sslmode=require&target_session_attrs=primary\"");
        let trial = Setup::of(&QUERY).database("url", &url).database("warm", "0").start(door).await;
        let answer = steps(&trial, json!([{ "query": "select 1" }])).await;
        let message = answer[0]["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains("the connection was lost while TLS began"), "{answer}");
        assert!(asked.load(Ordering::SeqCst) > 1, "{answer}");
    }

    /// The first host answers, and is a standby of the second.
    async fn a_primary_that_came_back_as_a_standby_is_passed_over(door) {
        let (database, successor) = followed().await;
        let setup = Setup::of(&QUERY).database("url", &either(&database, &successor));
        let trial = setup.database("pool_max", "4").start(door).await;
        fill(&trial).await;
        database.server.give_way_to(&successor.server).await;
        let place = successor.server.address().to_string();
        for key in 0..3 {
            assert_eq!(note(&trial, key).await.as_ref(), Ok(&place));
        }
        fill(&trial).await;
        successor.settles(4).await;
        assert_eq!(database.backends().await, 0);
    }

    /// Somebody writes all the time. What was acknowledged is there, once; what was refused for
    /// want of a server is not.
    async fn no_write_is_lost_or_done_twice_while_a_standby_takes_over(door) {
        let (database, successor) = followed().await;
        let setup = Setup::of(&QUERY).database("url", &either(&database, &successor));
        let trial = setup.start(door).await;
        let place = successor.server.address().to_string();
        let begun = AtomicBool::new(false);
        let write = async {
            let (mut done, mut undone) = (Vec::new(), Vec::new());
            for key in 0.. {
                match note(&trial, key).await {
                    Ok(found) => {
                        done.push(key);
                        begun.store(true, Ordering::SeqCst);
                        if found == place {
                            break;
                        }
                    }
                    Err(message) if message.contains("may have been executed") => {}
                    Err(_) => undone.push(key),
                }
            }
            (done, undone)
        };
        let take_over = async {
            e2e::eventually("a write", async || begun.load(Ordering::SeqCst).then_some(())).await;
            database.server.stop().await;
            successor.server.promote().await;
        };
        let ((done, undone), ()) = tokio::join!(write, take_over);
        let keys = successor.value("select coalesce(string_agg(key::text, ' ' order by key), '') from noted");
        let keys: Vec<usize> = keys.await.unwrap().split(' ').map(|key| key.parse().unwrap()).collect();
        for key in done {
            let times = keys.iter().filter(|known| **known == key).count();
            assert_eq!(times, 1, "{key}");
        }
        for key in undone {
            assert!(!keys.contains(&key), "{key}");
        }
    }

    /// PgBouncer keeps the host's connections, and has them lead to what is a standby by now. It still
    /// says what it was told by the primary.
    async fn a_connection_that_leads_to_a_standby_by_now_is_left(door) {
        let (database, successor) = followed().await;
        let Some(pooler) = Pooler::of(&database).await else {
            return;
        };
        let setup = || through(&pooler, &database.name, &successor.server);
        let trial = setup().database("pool_max", "4").start(door).await;
        fill(&trial).await;
        let places = [&database, &successor].map(|one| one.server.address().to_string());
        assert_eq!(note(&trial, 0).await.as_ref(), Ok(&places[0]));

        database.server.give_way_to(&successor.server).await;
        let refused = note(&trial, 1).await.unwrap_err();
        assert!(refused.contains("25006"), "{refused}");
        for key in 2..5 {
            assert_eq!(note(&trial, key).await.as_ref(), Ok(&places[1]));
        }
        let fresh = setup().start(door).await;
        assert_eq!(note(&fresh, 5).await.as_ref(), Ok(&places[1]));
    }

    /// The other way around: here it says of a primary that it is a standby.
    async fn a_primary_that_was_known_as_a_standby_is_used_and_left(door) {
        let (database, successor) = followed().await;
        let Some(pooler) = Pooler::of(&successor).await else {
            return;
        };
        let early = Setup::of(&QUERY).url(pooler.url());
        assert!(pid(&early.start(door).await).await.is_string());
        database.server.give_way_to(&successor.server).await;

        let trial = through(&pooler, &database.name, &database.server).start(door).await;
        let places = [&database, &successor].map(|one| one.server.address().to_string());
        assert_eq!(note(&trial, 0).await.as_ref(), Ok(&places[1]));
        successor.server.give_way_to(&database.server).await;
        let refused = note(&trial, 1).await.unwrap_err();
        assert!(refused.contains("25006"), "{refused}");
        assert_eq!(note(&trial, 2).await.as_ref(), Ok(&places[0]));
    }

    /// One statement learns of it. All other connections of the pool are replaced unasked.
    async fn a_writer_that_became_a_reader_is_left(door) {
        let (one, other) = tokio::join!(Server::listening(), Server::listening());
        for server in [&one, &other] {
            server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
        }
        let database = Database::create_on(&one).await;
        let name = &database.name;
        let successor = Database::named(name, &other);
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

    /// Nor a round trip of any other.
    async fn a_write_in_a_transaction_that_a_text_made_read_only_is_no_reason_to_ask(door) {
        let database = Database::with("create table noted (id int4)").await;
        let proxy = Proxy::of(&database);
        let trial = Setup::of(&QUERY).through(&proxy).database("pool_max", "4").start(door).await;
        fill(&trial).await;
        let insert = json!({ "execute": "insert into noted values (1)" });
        for write in [
            json!({ "batch": "begin read only; insert into noted values (1)" }),
            json!({ "session": [{ "batch": "begin read only" }, insert, { "batch": "rollback" }] }),
            json!({ "session": [{ "execute": "set default_transaction_read_only = on" }, insert] }),
        ] {
            let answer = steps(&trial, json!([write])).await;
            assert!(answer.to_string().contains("25006"), "{answer}");
        }
        fill(&trial).await;
        let statements = proxy.statements();
        let asked = statements.iter().filter(|(_, sql)| sql.contains("pg_is_in_recovery"));
        assert_eq!(asked.count(), 0, "{statements:?}");
    }

    /// One connection is asked what its server is, and no other after that.
    async fn a_server_that_is_what_it_says_is_believed_again(door) {
        let schema = "create function fail() returns text language plpgsql as \
                      $$ begin raise exception using errcode = '25006'; end $$";
        let database = Database::with(schema).await;
        let proxy = Proxy::of(&database);
        let url = format!("\"{}?target_session_attrs=read-write\"", proxy.url());
        let trial = Setup::of(&QUERY).database("url", &url).database("pool_max", "1").start(door).await;
        let answer = steps(&trial, json!([{ "query": "select fail()" }])).await;
        assert_eq!(answer[0]["error"]["code"], "25006", "{answer}");
        for _ in 0..3 {
            database.end_sessions().await;
            pid(&trial).await;
        }
        let statements = proxy.statements();
        let asked = statements.iter().filter(|(_, sql)| sql.contains("pg_is_in_recovery()::text"));
        assert_eq!(asked.count(), 1, "{statements:?}");
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
