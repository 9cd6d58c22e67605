//! A database is found among several hosts, and what is wrong with each is said.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::guests::QUERY;
use e2e::{Database, Door, Server, Setup, database};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

const RULES: &str = "local all all trust\nhost all all 0.0.0.0/0 trust\n";

/// Two servers that let everyone in.
async fn servers() -> &'static [Server; 2] {
    static SERVERS: OnceCell<[Server; 2]> = OnceCell::const_new();
    SERVERS
        .get_or_init(|| async {
            let (one, other) = tokio::join!(Server::listening(), Server::listening());
            for server in [&one, &other] {
                server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
            }
            [one, other]
        })
        .await
}

/// A server, and one that follows it.
async fn followed() -> &'static [Server; 2] {
    static SERVERS: OnceCell<[Server; 2]> = OnceCell::const_new();
    SERVERS
        .get_or_init(|| async {
            let primary = Server::listening().await;
            primary
                .set_up(&[("pg_hba.conf", database::RULES)], &[])
                .await;
            let standby = primary.standby().await;
            [primary, standby]
        })
        .await
}

/// An address of these hosts.
fn url(database: &str, hosts: &[String], more: &str) -> String {
    format!(
        "\"postgres://postgres@{}/{database}?{more}\"",
        hosts.join(",")
    )
}

fn host(server: &Server) -> String {
    server.address().to_string()
}

async fn ask(door: Door, setup: Setup, sql: &str) -> Result<Value, String> {
    let trial = setup.start(door).await;
    let answer = trial.value(json!({ "steps": [{ "query": sql }] })).await;
    match answer[0]["error"]["message"].as_str() {
        Some(message) => Err(message.to_owned()),
        None => Ok(answer[0]["rows"][0][0].clone()),
    }
}

/// A listener at an address and port of its own.
async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

/// A host where nobody listens.
async fn dead() -> String {
    listener().await.1
}

/// A host that says this to whoever comes; it counts them.
async fn refusing(code: &str) -> (String, Arc<AtomicU32>) {
    let (listener, address) = listener().await;
    let count = Arc::new(AtomicU32::new(0));
    let counted = count.clone();
    let fields = format!("SFATAL\0VFATAL\0C{code}\0Mno\0\0");
    let length = u8::try_from(4 + fields.len()).unwrap();
    // No TLS, and then the refusal.
    let refusal = [b"NE\0\0\0".as_slice(), &[length], fields.as_bytes()].concat();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.write_all(&refusal).await;
            open.push(stream);
        }
    });
    (address, count)
}

behind_both_doors! {
    /// It may be anybody's, and is told why, not where.
    async fn a_guest_is_told_no_address_of_what_it_cannot_reach(door) {
        let url = "\"postgres://somebody@127.0.0.1:1/nothing?connect_timeout=3\"";
        let file = "/nowhere/at/all";
        for (setup, told, kept) in [
            (Setup::of(&QUERY).database("url", url), "refused", "127.0.0.1:1"),
            (
                Setup::of(&QUERY).database("url", url).database("password", &format!("{{ file = {file:?} }}")),
                "the password cannot be had",
                file,
            ),
        ] {
            let trial = setup.start(door).await;
            let answer = trial.value(json!({ "steps": [{ "query": "select 1" }] })).await;
            let message = answer[0]["error"]["message"].as_str().unwrap_or_default();
            assert!(message.contains(told) && !message.contains(kept), "{message}");
            e2e::eventually("the log says where", async || (trial.host.lines(kept) > 0).then_some(())).await;
        }
    }

    async fn a_host_that_is_dead_is_passed_over(door) {
        let [server, _] = servers().await;
        let database = Database::create_on(server).await;
        let hosts = [dead().await, "no-such-host.invalid".to_owned(), host(server)];
        let setup = Setup::of(&QUERY).database("url", &url(&database.name, &hosts, ""));
        assert_eq!(ask(door, setup, "select 'here'").await, Ok(json!("here")));
    }

    /// It takes connections and says nothing: its share of the time passes, no more.
    async fn a_host_that_is_silent_is_passed_over(door) {
        let [server, _] = servers().await;
        let database = Database::create_on(server).await;
        let (_silent, address) = listener().await;
        let url = url(&database.name, &[address, host(server)], "");
        let setup = Setup::of(&QUERY).database("url", &url).database("connect_timeout_ms", "3000");
        assert_eq!(ask(door, setup, "select 'here'").await, Ok(json!("here")));
    }

    async fn what_became_of_each_host_is_said(door) {
        let (garbage, address) = listener().await;
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = garbage.accept().await {
                // Answers the request for TLS as any web server would.
                let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            }
        });
        let dead = dead().await;
        let setup = Setup::of(&QUERY).database("url", &url("x", &[dead.clone(), address.clone()], ""));
        let trial = setup.start(door).await;
        let answer = trial.value(json!({ "steps": [{ "query": "select 1" }] })).await.to_string();
        for (place, words) in [(dead, "Connection refused"), (address, "what answers there does not speak")] {
            assert!(answer.contains(words), "{words}: {answer}");
            let said = format!("{place}: {words}");
            e2e::eventually(&said, async || (trial.host.lines(&said) > 0).then_some(())).await;
        }
    }

    /// Bytes that make no sense, at each point of the login: an error, and never a crash.
    async fn a_server_that_talks_nonsense_is_an_error(door) {
        for nonsense in [
            &b"N"[..],
            b"NE\xff\xff\xff\xff",
            b"NR\0\0\0\x08\0\0\0\x63",
            b"NR\0\0\0\x04",
            b"NR\0\0\0\x0a\0\0\0\x0aXX",
            b"NS\0\0\0\x05x",
            b"NZ\0\0\0\x05I",
            b"S\0\0\0\0\0\0\0\0\0",
        ] {
            let (listener, address) = listener().await;
            tokio::spawn(async move {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let _ = stream.write_all(nonsense).await;
                }
            });
            let setup = Setup::of(&QUERY).database("url", &url("x", &[address], ""));
            let error = ask(door, setup, "select 1").await.unwrap_err();
            assert!(!error.contains('\n') && !error.contains("panicked"), "{error}");
        }
    }

    async fn a_database_that_is_not_there_is_not_looked_for_elsewhere(door) {
        let [one, other] = servers().await;
        let database = Database::create_on(other).await;
        let name = format!("{}_missing", database.name);
        let setup = Setup::of(&QUERY).database("url", &url(&name, &[host(one), host(other)], ""));
        let error = ask(door, setup, "select 1").await.unwrap_err();
        assert!(error.contains("3D000") && !error.contains(&host(other)), "{error}");
    }

    async fn a_server_of_the_wanted_kind_is_found(door) {
        let [reader, writer] = servers().await;
        let on_reader = Database::create_on(reader).await;
        let name = &on_reader.name;
        let on_writer = Database::named(name, writer);
        Database::create_on(writer).await.run(&format!("create database {name}")).await;
        on_reader.run("create table here (name text)").await;
        on_writer.run("create table here (name text); insert into here values ('writer')").await;
        on_reader
            .run(&format!(
                "insert into here values ('reader'); alter database {name} set default_transaction_read_only = on"
            ))
            .await;
        let hosts = [host(reader), host(writer)];
        for (target, expected) in [
            ("any", Ok("reader")),
            ("read-write", Ok("writer")),
            ("read-only", Ok("reader")),
            ("primary", Ok("reader")),
            ("standby", Err("it is no standby")),
            ("prefer-standby", Ok("reader")),
        ] {
            let more = format!("target_session_attrs={target}");
            let setup = Setup::of(&QUERY).database("url", &url(name, &hosts, &more));
            match (ask(door, setup, "select name from here").await, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, json!(expected), "{target}"),
                (Err(error), Err(words)) => assert!(error.contains(words), "{target}: {error}"),
                (found, expected) => panic!("{target}: {found:?} instead of {expected:?}"),
            }
        }
    }

    async fn a_standby_is_found_where_one_is_wanted_wherever_it_is_named(door) {
        let [primary, standby] = followed().await;
        let alone = [host(primary), dead().await];
        let is_standby = async |hosts: &[String], target: &str| {
            let more = format!("target_session_attrs={target}");
            let setup = Setup::of(&QUERY).database("url", &url("postgres", hosts, &more));
            ask(door, setup, "select pg_is_in_recovery()").await
        };
        for hosts in [[host(primary), host(standby)], [host(standby), host(primary)]] {
            for (target, expected) in [
                ("standby", true),
                ("prefer-standby", true),
                ("read-only", true),
                ("primary", false),
                ("read-write", false),
            ] {
                let found = is_standby(&hosts, target).await;
                assert_eq!(found, Ok(json!(expected)), "{target} of {hosts:?}");
            }
        }
        assert_eq!(is_standby(&alone, "prefer-standby").await, Ok(json!(false)));
        let error = is_standby(&alone, "standby").await.unwrap_err();
        assert!(error.contains("it is no standby"), "{error}");
    }

    async fn load_is_spread_over_the_hosts_where_that_is_wanted(door) {
        let hosts = servers().await.each_ref().map(host);
        let query = json!({ "query": "select host(inet_server_addr()) from pg_sleep(0.3)" });
        let steps = json!({ "steps": [{ "parallel": vec![query; 40] }] });
        for (more, expected) in [("", 1), ("load_balance_hosts=random", 2)] {
            let setup = Setup::of(&QUERY).database("url", &url("postgres", &hosts, more));
            let trial = setup.database("pool_max", "40").start(door).await;
            let answer = trial.value(steps.clone()).await;
            let results = answer[0].as_array().expect("each has one");
            let reached: HashSet<&str> = results
                .iter()
                .map(|result| result["rows"][0][0].as_str().unwrap_or_else(|| panic!("{result}")))
                .collect();
            assert_eq!(reached.len(), expected, "{more}: {reached:?}");
        }
    }

    /// Whatever the database says, unless the address says it too.
    async fn a_backslash_in_a_plain_string_is_one(door) {
        let database = Database::create().await;
        database.run(&format!("alter database {} set standard_conforming_strings = off", database.name)).await;
        let strings = json!({ "query": "select current_setting('standard_conforming_strings')" });
        let steps = json!({ "steps": [{ "session": [strings, { "batch": "reset all" }, strings] }] });
        for (options, expected) in [("", "on"), ("?options=-c%20standard_conforming_strings%3Doff", "off")] {
            let url = format!("{:?}", database.url() + options);
            let trial = Setup::of(&QUERY).database("url", &url).start(door).await;
            let results = trial.value(steps.clone()).await;
            for result in [&results[0][0], &results[0][2]] {
                assert_eq!(result["rows"], json!([[expected]]), "{results}");
            }
        }
    }

    /// As a standby is that is promoted at this moment.
    async fn a_server_that_takes_writes_a_moment_later_is_waited_for(door) {
        let [server, _] = servers().await;
        let database = Database::create_on(server).await;
        let name = &database.name;
        database.run(&format!("alter database {name} set default_transaction_read_only = on")).await;
        let setup = Setup::of(&QUERY)
            .database("url", &url(name, &[host(server)], "target_session_attrs=read-write"))
            .database("warm", "0")
            .toml("[log]\nlevel = \"debug\"");
        let trial = setup.start(door).await;
        let promotion = async {
            refused_with(&trial, "takes no writes").await;
            let promote = format!("set transaction read write; alter database {name} reset default_transaction_read_only");
            database.run(&promote).await;
        };
        let (answer, ()) = tokio::join!(trial.value(json!({ "steps": [{ "query": "select 'here'" }] })), promotion);
        assert_eq!(answer[0]["rows"], json!([["here"]]), "{answer}");
    }

    /// The end of the time cuts the last attempt short, and is not what was wrong.
    async fn what_a_server_said_is_told_though_the_last_attempt_had_no_answer(door) {
        let (listener, address) = listener().await;
        tokio::spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                if open.is_empty() {
                    let refusal = b"NE\0\0\0\x25SFATAL\0VFATAL\0C57P03\0Mit starts\0\0";
                    stream.write_all(refusal).await.unwrap();
                }
                open.push(stream);
            }
        });
        let setup = Setup::of(&QUERY)
            .database("url", &url("x", &[address], ""))
            .database("warm", "0")
            .database("connect_timeout_ms", "2000");
        let error = ask(door, setup, "select 1").await.unwrap_err();
        assert!(error.contains("57P03") && !error.contains("no answer"), "{error}");
    }

    /// Another host may take connections later, but this login is refused: asking again would lock it.
    async fn a_refused_password_is_not_repeated_for_the_sake_of_another_host(door) {
        for code in ["57P03", "53300"] {
            let (passing, asked) = refusing(code).await;
            let (strict, logins) = refusing("28P01").await;
            let setup = Setup::of(&QUERY)
                .database("url", &url("x", &[passing, strict], ""))
                .database("password", "{ command = [\"echo\", \"sesame\"] }")
                .database("warm", "0");
            let error = ask(door, setup, "select 1").await.unwrap_err();
            assert!(error.contains("28P01"), "{error}");
            let counts = [&asked, &logins].map(|count| count.load(Ordering::SeqCst));
            assert_eq!(counts, [1, 1], "{code}");
        }
    }

    /// A call has less time than connecting may take. Its pool is not exhausted.
    async fn whoever_gives_up_connecting_is_told_what_it_waited_for(door) {
        let (_silent, silent) = listener().await;
        let (full, _) = refusing("53300").await;
        for (address, words) in [(silent, "no server has answered yet"), (full, "53300")] {
            let setup = Setup::of(&QUERY)
                .database("url", &url("x", &[address], ""))
                .database("pool_max", "2")
                .database("warm", "0");
            let hurried = |ms: u32| json!({ "timeout_ms": ms, "hurried": [{ "query": "select 1" }] });
            let steps = json!({ "steps": [{ "parallel": [hurried(800), hurried(800), hurried(400)] }] });
            let results = setup.start(door).await.value(steps).await;
            let message = |index: usize| results[0][index][0]["error"]["message"].as_str().unwrap_or_default();
            let waiting = " s: 0 of 2 in use, 2 being opened, 0 others waiting; ";
            assert!(message(2).contains(waiting), "{results}");
            for message in [message(0), message(1)] {
                assert!(message.contains("could be made within the 0.8 s"), "{message}");
                assert!(message.contains(words) && !message.contains("pool_max"), "{message}");
            }
        }
    }

    /// As soon as the server takes one more, it is connected to.
    async fn a_server_with_too_many_clients_is_asked_again(door) {
        let [server, _] = servers().await;
        let database = Database::create_on(server).await;
        let role = format!("{}_only", database.name);
        database.run(&format!("create role {role} login connection limit 1")).await;
        let url = format!("\"postgres://{role}@{}/{}\"", host(server), database.name);
        let log = "[log]\nlevel = \"debug\"";
        let setup = || Setup::of(&QUERY).database("url", &url).toml(log);

        let full = setup().database("connect_timeout_ms", "3000").timeout(e2e::PATIENCE);
        let waiting = setup().database("connect_timeout_ms", "60000").timeout(e2e::PATIENCE);
        let holder = setup().start(door).await;
        let event = json!({ "steps": [{ "query": "select current_user::text" }] });
        holder.value(event.clone()).await;

        let error = ask(door, full, "select 1").await.unwrap_err();
        assert!(error.contains("53300") && error.contains("max_connections"), "{error}");

        let waiting = waiting.start(door).await;
        let release = async {
            refused_with(&waiting, "53300").await;
            database.end_sessions().await
        };
        let (answer, killed) = tokio::join!(waiting.value(event.clone()), release);
        assert_eq!(killed, 1);
        assert_eq!(answer[0]["rows"], json!([[role]]), "{answer}");
    }
}

/// Waits until the host was told so.
async fn refused_with(trial: &e2e::Trial, words: &str) {
    e2e::eventually("a refusal in the log", async || {
        (trial.host.lines(words) > 0).then_some(())
    })
    .await;
}
