//! Logins by tokens for RDS, at a server that has them checked as RDS does; and by passwords that it
//! has checked elsewhere, and refuses with the same code.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use e2e::certificate_authority::file;
use e2e::guests::QUERY;
use e2e::ldap::Verdict;
use e2e::rds_token::Wanted;
use e2e::{CertificateAuthority, Clock, Database, Ldap, Server, Setup, Trial};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

const REGION: &str = "eu-central-1";

/// A server that speaks TLS as `db.test`, and whom it asks about logins.
struct Site {
    server: Server,
    ldap: Ldap,
    authority: CertificateAuthority,
}

async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(|| async {
        let (server, ldap) = (Server::listening().await, Ldap::start());
        let authority = CertificateAuthority::new("The tests' own");
        let identity = authority.issue("db.test");
        let rules = format!(
            "local all all trust\nhostssl all all 0.0.0.0/0 {}\n",
            ldap.method()
        );
        let files = [
            ("pg_hba.conf", rules.as_str()),
            ("db.pem", identity.certificate.as_str()),
            ("db.key", identity.key.as_str()),
        ];
        let settings = [
            ("ssl_cert_file", "db.pem"),
            ("ssl_key_file", "db.key"),
            ("ssl", "on"),
        ];
        server.set_up(&files, &settings).await;
        Site {
            server,
            ldap,
            authority,
        }
    })
    .await
}

/// A database, and a role of the same name, whose logins are judged like this.
async fn database(judge: impl FnMut(&str) -> Verdict + Send + 'static) -> Database {
    let site = site().await;
    let database = Database::create_on(&site.server).await;
    site.ldap.judge(&database.name, judge);
    let name = &database.name;
    database.run(&format!("create role {name} login")).await;
    database
}

/// The token that is right for this user: signed with this key.
fn wanted(user: &str, key: &str) -> Wanted {
    Wanted {
        host: "db.test:5432".to_owned(),
        user: user.to_owned(),
        region: REGION.to_owned(),
        key: key.to_owned(),
        secret: "open/sesame".to_owned(),
        // As long as real ones, with characters that must be encoded.
        session: Some("abra+cada/bra=".repeat(150)),
    }
}

/// Lets a role in with the tokens of this key, but for the first ones.
async fn database_for(key: &'static str, refused: usize) -> Database {
    let (user, count) = (Arc::new(Mutex::new(String::new())), AtomicUsize::new(0));
    let known = user.clone();
    let database = database(move |token| {
        wanted(&known.lock().unwrap(), key).check(token)?;
        match count.fetch_add(1, Ordering::SeqCst) < refused {
            true => Err("one too many".to_owned()),
            false => Ok(()),
        }
    })
    .await;
    user.lock().unwrap().clone_from(&database.name);
    database
}

async fn setup(database: &Database) -> Setup {
    let (name, address) = (&database.name, database.server.address());
    let url = format!("postgres://{name}@db.test/{name}?hostaddr={address}");
    let ca = site().await.authority.file();
    Setup::of(&QUERY)
        .url(&url)
        .database("tls", &format!("{{ ca = {:?} }}", ca.display().to_string()))
        .database("warm", "0")
        .toml("[log]\nlevel = \"debug\"")
}

/// With this key in the environment, as Lambda gives it.
async fn with_key(database: &Database, key: &str) -> Setup {
    let wanted = wanted(&database.name, key);
    setup(database)
        .await
        .database("iam", &format!("{{ region = {REGION:?} }}"))
        .variable("AWS_ACCESS_KEY_ID", key)
        .variable("AWS_SECRET_ACCESS_KEY", &wanted.secret)
        .variable("AWS_SESSION_TOKEN", &wanted.session.unwrap())
}

/// With keys that are fetched: the n-th time, those that this gives.
async fn with_address(
    database: &Database,
    keys: impl Fn(usize) -> String + Send + 'static,
) -> Setup {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap());
    let user = database.name.clone();
    tokio::spawn(async move {
        for count in 0.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut asked).await.unwrap();
            }
            let key = keys(count);
            let Wanted {
                secret, session, ..
            } = wanted(&user, &key);
            let body = json!({ "AccessKeyId": key, "SecretAccessKey": secret, "Token": session })
                .to_string();
            let reply = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(reply.as_bytes()).await.unwrap();
        }
    });
    setup(database)
        .await
        .database("iam", &format!("{{ region = {REGION:?} }}"))
        .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri)
}

/// Asks, and looks that no secret was told to anybody but the server.
async fn ask(trial: &Trial) -> Value {
    let answer = trial
        .value(json!({ "steps": [{ "query": "select current_user::text" }] }))
        .await;
    let log = trial.host.log().join("\n");
    for secret in ["sesame", "abra+cada", "abra%2Bcada", "X-Amz-"] {
        assert!(
            !log.contains(secret) && !answer.to_string().contains(secret),
            "{answer}\n{log}"
        );
    }
    answer[0].clone()
}

async fn refusal(trial: &Trial) -> String {
    let answer = ask(trial).await;
    let message = answer["error"]["message"].as_str();
    let message = message.unwrap_or_else(|| panic!("{answer}"));
    assert!(!message.contains('\n'), "{message}");
    message.to_owned()
}

/// What became of each token or password so far.
async fn verdicts(database: &Database) -> Vec<Verdict> {
    let asked = site().await.ldap.asked(&database.name);
    asked.into_iter().map(|(_, verdict)| verdict).collect()
}

behind_both_doors! {
    async fn a_token_lets_its_role_in(door) {
        let database = database_for("KEY", 0).await;
        let trial = with_key(&database, "KEY").await.start(door).await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        assert_eq!(verdicts(&database).await, [Ok(())]);
        let asked = site().await.ldap.asked(&database.name);
        assert!(asked[0].0.len() > 2000, "a token with a session is that long");
    }

    /// Nothing that the host knows has changed. It asks once more, no matter what.
    async fn a_token_that_was_refused_once_is_signed_again(door) {
        let database = database_for("KEY", 1).await;
        let trial = with_key(&database, "KEY").await.start(door).await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        assert_eq!(verdicts(&database).await, [Err("one too many".to_owned()), Ok(())]);
    }

    async fn credentials_that_were_replaced_are_read_again(door) {
        let database = database_for("NEW", 0).await;
        let keys = |count| if count == 0 { "OLD" } else { "NEW" }.to_owned();
        let trial = with_address(&database, keys).await.start(door).await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        let verdicts = verdicts(&database).await;
        assert!(matches!(&verdicts[..], [Err(old), Ok(())] if old.contains("OLD")), "{verdicts:?}");
    }

    /// As when the host was frozen between the signature and the login: the clock is put right
    /// while the second one is made.
    async fn a_token_that_expired_on_its_way_is_signed_again(door) {
        let database = database_for("KEY", 0).await;
        let clock = Clock::new();
        clock.shift(-1200);
        let own = clock.clone();
        let keys = move |count| {
            if count == 1 {
                own.shift(1200);
            }
            "KEY".to_owned()
        };
        let trial = with_address(&database, keys).await.clock(&clock).start(door).await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        let verdicts = verdicts(&database).await;
        assert!(matches!(&verdicts[..], [Err(old), Ok(())] if old.contains("age")), "{verdicts:?}");
    }

    async fn credentials_that_do_not_come_in_time_are_what_is_said_to_be_missing(door) {
        let database = database_for("KEY", 0).await;
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/", silent.local_addr().unwrap());
        let trial = setup(&database)
            .await
            .database("iam", "true")
            .database("connect_timeout_ms", "500")
            .variable("AWS_REGION", REGION)
            .variable("AWS_CONTAINER_CREDENTIALS_FULL_URI", &uri)
            .start(door)
            .await;
        let message = refusal(&trial).await;
        assert!(message.contains("the password cannot be had"), "{message}");
        let said = "AWS_CONTAINER_CREDENTIALS_FULL_URI did not come in time";
        e2e::eventually(said, async || (trial.host.lines(said) > 0).then_some(())).await;
    }

    async fn a_token_that_is_refused_for_good_is_refused_twice_and_one_error(door) {
        let database = database_for("KEY", usize::MAX).await;
        let trial = with_key(&database, "KEY").await.start(door).await;
        let message = refusal(&trial).await;
        for words in ["28000", "rds_iam", "rds-db:connect", "second token"] {
            assert!(message.contains(words), "{words}: {message}");
        }
        let said = "db.test:5432";
        e2e::eventually(said, async || (trial.host.lines(said) > 0).then_some(())).await;
        assert_eq!(message.matches("28000").count(), 1, "{message}");
        assert_eq!(verdicts(&database).await.len(), 2);
    }

    async fn a_token_of_another_key_or_region_lets_nobody_in(door) {
        let database = database_for("KEY", 0).await;
        for (setup, words) in [
            (with_key(&database, "OTHER").await, "OTHER"),
            (with_key(&database, "KEY").await.database("iam", r#"{ region = "us-west-2" }"#), "us-west-2"),
            (with_key(&database, "KEY").await.variable("AWS_SECRET_ACCESS_KEY", "abracadabra"), "signature"),
        ] {
            let message = refusal(&setup.start(door).await).await;
            assert!(message.contains("rds_iam"), "{message}");
            let Some(Err(why)) = verdicts(&database).await.pop() else {
                panic!("it was let in");
            };
            assert!(why.contains(words), "{words}: {why}");
        }
    }

    /// Where somebody else is asked about a password, the server says 28000, and not 28P01.
    async fn a_rotated_password_that_is_refused_by_28000_is_read_again(door) {
        let right = Arc::new(Mutex::new("sesame"));
        let known = right.clone();
        let database = database(move |password| match password == *known.lock().unwrap() {
            true => Ok(()),
            false => Err(password.to_owned()),
        })
        .await;
        let path = file("password", "sesame");
        let command = format!("{{ command = [\"cat\", {:?}] }}", path.display().to_string());
        let trial = setup(&database).await.database("password", &command).start(door).await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        *right.lock().unwrap() = "abracadabra";
        std::fs::write(&path, "abracadabra").unwrap();
        database.end_sessions().await;
        assert_eq!(ask(&trial).await["rows"], json!([[database.name]]));
        assert_eq!(verdicts(&database).await, [Ok(()), Err("sesame".to_owned()), Ok(())]);

        *right.lock().unwrap() = "something else";
        database.end_sessions().await;
        let message = refusal(&trial).await;
        assert!(message.contains("28000") && !message.contains("rds_iam"), "{message}");
        assert_eq!(verdicts(&database).await.len(), 4, "the same one is not tried twice");
    }
}
