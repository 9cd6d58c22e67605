//! Where a password comes from, and that changing it costs nobody an error.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use e2e::certificate_authority::file;
use e2e::guests::QUERY;
use e2e::{Database, Door, Server, Setup, Trial};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

const RULES: &str = "local all all trust\nhost all all 0.0.0.0/0 scram-sha-256\n";

/// A server that asks whoever comes by TCP for a password.
async fn server() -> &'static Server {
    static SERVER: OnceCell<Server> = OnceCell::const_new();
    SERVER
        .get_or_init(|| async {
            let server = Server::listening().await;
            server.set_up(&[("pg_hba.conf", RULES)], &[]).await;
            server
        })
        .await
}

/// A database, and a role of the same name with this password.
async fn database(password: &str) -> Database {
    let database = Database::create_on(server().await).await;
    let name = &database.name;
    database
        .run(&format!("create role {name} login password '{password}'"))
        .await;
    database
}

fn setup(database: &Database) -> Setup {
    let (name, address) = (&database.name, database.server.address());
    Setup::of(&QUERY).database("url", &format!("\"postgres://{name}@{address}/{name}\""))
}

fn from_file(path: &Path) -> String {
    format!("{{ file = {:?} }}", path.display().to_string())
}

async fn ask(trial: &Trial) -> Value {
    let answer = trial
        .value(json!({ "steps": [{ "query": "select current_user::text" }] }))
        .await;
    let log = trial.host.log().join("\n");
    for secret in ["sesame", "abracadabra"] {
        assert!(
            !log.contains(secret) && !answer.to_string().contains(secret),
            "{answer}\n{log}"
        );
    }
    answer[0].clone()
}

async fn refusal(door: Door, setup: Setup) -> String {
    let answer = ask(&setup.start(door).await).await;
    answer["error"]["message"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

/// Changes the role's password and ends its connections.
async fn rotate(database: &Database, password: &str) {
    let name = &database.name;
    database
        .run(&format!("alter role {name} password '{password}'"))
        .await;
    database.end_sessions().await;
}

/// What answers as AWS's extension for secrets does, to who shows this token. Returns its port.
fn secrets_extension(token: &'static str, secret: &Value) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let body = json!({ "Name": "orders", "SecretString": secret.to_string() }).to_string();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match stream.read(&mut byte) {
                    Ok(1) => request.push(byte[0]),
                    _ => break,
                }
            }
            let request = String::from_utf8_lossy(&request);
            let is_asked = request.starts_with("GET /secretsmanager/get?secretId=orders ")
                && request.contains(&format!("X-Aws-Parameters-Secrets-Token: {token}\r\n"));
            let (status, body) = if is_asked {
                ("200 OK", &*body)
            } else {
                ("401 Unauthorized", "{}")
            };
            let length = body.len();
            let _ = write!(
                stream,
                "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
            );
        }
    });
    port
}

behind_both_doors! {
    /// By the command that README has, at another port.
    async fn a_password_comes_from_the_extension_for_secrets(door) {
        let database = database("sesame").await;
        let port = secrets_extension("let-me-in", &json!({ "username": "orders", "password": "sesame" }));
        let (_, section) = include_str!("../../../../README.md").split_once("[database.default.password]\ncommand = ").unwrap();
        let (command, _) = section.split_once("```").unwrap();
        let command = command.trim().replace("localhost:2773", &format!("127.0.0.1:{port}"));
        let setup = setup(&database)
            .database("password", &format!("{{ command = {command} }}"))
            .variable("AWS_SESSION_TOKEN", "let-me-in");
        assert_eq!(ask(&setup.start(door).await).await["rows"], json!([[database.name]]));
    }

    async fn a_password_is_read_from_a_file_at_each_connect(door) {
        let database = database("sesame").await;
        let path = file("password", "sesame\n");
        let trial = setup(&database).database("password", &from_file(&path)).start(door).await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        rotate(&database, "abracadabra").await;
        std::fs::write(&path, "abracadabra").unwrap();
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
    }

    /// Beside others, in libpq's own file.
    async fn a_password_is_looked_up_in_a_passfile(door) {
        let database = database("sesame").await;
        let (name, address) = (&database.name, database.server.address());
        let path = file("pgpass", &format!("# ours\nelsewhere:*:*:*:abracadabra\n{address}:*:{name}:{name}:sesame\n"));
        let url = format!("\"postgres://{name}@{address}/{name}?passfile={}\"", path.display());
        let trial = Setup::of(&QUERY).database("url", &url).start(door).await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        rotate(&database, "abracadabra").await;
        std::fs::write(&path, "*:*:*:*:abracadabra").unwrap();
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
    }

    async fn a_password_is_read_from_a_variable(door) {
        let database = database("sesame").await;
        let setup = setup(&database)
            .database("password", r#"{ variable = "SHOP_PASSWORD" }"#)
            .variable("SHOP_PASSWORD", "sesame");
        assert_eq!(ask(&setup.start(door).await).await["rows"], json!([[database.name]]));
    }

    /// The command runs once for all connections, and again when the server refuses what it printed.
    async fn a_password_is_printed_by_a_command_and_rotated(door) {
        let database = database("sesame").await;
        let path = file("password", "sesame");
        let runs = file("runs", "");
        let script = format!("echo run >> {}; cat {}", runs.display(), path.display());
        let command = format!("{{ command = [\"sh\", \"-c\", {script:?}] }}");
        let trial = setup(&database)
            .database("password", &command)
            .database("pool_max", "2")
            .start(door)
            .await;
        let count = || std::fs::read_to_string(&runs).unwrap().lines().count();
        let wait = json!({ "query": "select pg_sleep(0.1)::text" });
        trial.value(json!({ "steps": [{ "parallel": [wait, wait] }] })).await;
        database.settles(2).await;
        assert_eq!(count(), 1);
        rotate(&database, "abracadabra").await;
        std::fs::write(&path, "abracadabra").unwrap();
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        assert_eq!(count(), 2);
    }

    /// The first of two hosts has half of the time, less what the password takes.
    async fn a_password_that_takes_longer_than_a_hosts_turn_lets_us_in(door) {
        let database = database("sesame").await;
        let (name, address) = (&database.name, database.server.address());
        let setup = Setup::of(&QUERY)
            .database("url", &format!("\"postgres://{name}@{address},127.0.0.1:1/{name}\""))
            .database("password", r#"{ command = ["sh", "-c", "sleep 5; echo sesame"] }"#)
            .database("connect_timeout_ms", "8000")
            .database("warm", "0");
        assert_eq!(ask(&setup.start(door).await).await["rows"], json!([[database.name]]));
    }

    /// It is run once all the same, and to its end.
    async fn a_password_that_takes_longer_than_a_call_has_is_there_for_a_later_one(door) {
        let database = database("sesame").await;
        let runs = file("runs", "");
        let script = format!("echo run >> {}; sleep 3; echo sesame", runs.display());
        let trial = setup(&database)
            .database("password", &format!("{{ command = [\"sh\", \"-c\", {script:?}] }}"))
            .database("warm", "0")
            .start(door)
            .await;
        let hurried = json!({ "steps": [{ "timeout_ms": 500, "hurried": [{ "query": "select 'here'" }] }] });
        let first = trial.value(hurried.clone()).await;
        assert!(first.to_string().contains("its password is still being read"), "{first}");
        e2e::eventually("a connection", async || {
            let answer = trial.value(hurried.clone()).await;
            (answer[0][0]["rows"] == json!([["here"]])).then_some(())
        })
        .await;
        assert_eq!(std::fs::read_to_string(&runs).unwrap().lines().count(), 1);
    }

    /// Each is told of the refusal after one more run for all, not after one of its own behind those of all others.
    async fn a_command_that_prints_a_wrong_password_runs_once_more_for_all_connections(door) {
        let database = database("sesame").await;
        let runs = file("runs", "");
        let script = format!("echo run >> {}; sleep 2; echo abracadabra", runs.display());
        let trial = setup(&database)
            .database("password", &format!("{{ command = [\"sh\", \"-c\", {script:?}] }}"))
            .database("connect_timeout_ms", "20000")
            .database("warm", "0")
            .start(door)
            .await;
        let query = json!({ "query": "select 1" });
        let results = trial.value(json!({ "steps": [{ "parallel": [query, query, query, query] }] })).await;
        for result in results[0].as_array().unwrap() {
            assert!(result["error"]["message"].to_string().contains("28P01"), "{results}");
        }
        let count = std::fs::read_to_string(&runs).unwrap().lines().count();
        assert!(count < 4, "{count}");
    }

    /// As AWS does it: the role has the new password before the secret does.
    async fn a_password_that_arrives_a_moment_after_the_old_one_is_refused_costs_no_error(door) {
        let database = database("sesame").await;
        let path = file("password", "sesame");
        let runs = file("runs", "");
        let script = format!("cat {}; echo run >> {}", path.display(), runs.display());
        let trial = setup(&database)
            .database("password", &format!("{{ command = [\"sh\", \"-c\", {script:?}] }}"))
            .start(door)
            .await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        rotate(&database, "abracadabra").await;
        let arrival = async {
            e2e::eventually("a second run", async || {
                let count = std::fs::read_to_string(&runs).unwrap().lines().count();
                (count > 1).then_some(())
            })
            .await;
            std::fs::write(&path, "abracadabra").unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&trial), arrival);
        assert_eq!(answer["rows"], json!([[database.name]]), "{answer}");
    }

    async fn a_password_that_is_wrong_is_refused_by_the_server(door) {
        let database = database("sesame").await;
        let path = file("password", "abracadabra");
        let message = refusal(door, setup(&database).database("password", &from_file(&path))).await;
        assert!(message.contains("28P01"), "{message}");
        let message = refusal(door, setup(&database)).await;
        assert!(message.contains("none is configured"), "{message}");
    }

    async fn a_password_that_cannot_be_had_is_an_error_that_says_why(door) {
        let database = database("sesame").await;
        for (source, words) in [
            (r#"{ file = "missing" }"#, "missing cannot be read: No such file"),
            (r#"{ variable = "NOT_SET" }"#, "the environment variable NOT_SET"),
            (r#"{ command = ["/no/such/program"] }"#, "cannot be started"),
            (r#"{ command = ["sh", "-c", "echo sesame >&2; echo abracadabra; exit 3"] }"#, "exit status: 3"),
            (r#"{ command = ["true"] }"#, "gives no password"),
            (r#"{ command = ["yes", "abracadabra"] }"#, "gives more than 16384 bytes"),
            (r#"{ command = ["sh", "-c", "exec sleep 600"] }"#, "had not ended after"),
        ] {
            let setup = setup(&database).database("password", source).database("connect_timeout_ms", "2000");
            let trial = setup.start(door).await;
            let message = ask(&trial).await["error"]["message"].to_string();
            assert!(message.contains("the password cannot be had"), "{words}: {message}");
            e2e::eventually(words, async || (trial.host.lines(words) > 0).then_some(())).await;
        }
    }

    /// The token itself is checked against AWS's own; here, that it leaves the host by TLS alone.
    async fn a_token_for_rds_is_not_sent_without_tls(door) {
        let database = database("sesame").await;
        let setup = setup(&database)
            .database("iam", r#"{ region = "eu-central-1" }"#)
            .variable("AWS_ACCESS_KEY_ID", "abracadabra")
            .variable("AWS_SECRET_ACCESS_KEY", "sesame");
        let message = refusal(door, setup).await;
        assert!(message.contains("speaks no TLS"), "{message}");
    }
}
