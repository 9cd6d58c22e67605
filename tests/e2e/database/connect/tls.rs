//! The way to a database is encrypted where that is asked for, and the server is the one that was meant.

use std::net::SocketAddr;
use std::path::Path;

use e2e::certificate_authority::{Identity, file};
use e2e::guests::QUERY;
use e2e::tls_terminator::TlsTerminator;
use e2e::{CertificateAuthority, Database, Door, Server, Setup};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Who may log in, and how. The tests themselves look at it through its socket.
const RULES: &str = "\
local all all trust
hostssl all keyholder 0.0.0.0/0 cert
host all in_clear 0.0.0.0/0 password
host all hashed 0.0.0.0/0 md5
host all all 0.0.0.0/0 scram-sha-256
";

const ROLES: &str = "\
create role shop login password 'sesame';
create role in_clear login password 'sesame';
create role keyholder login;
set password_encryption = md5;
create role hashed login password 'sesame'";

/// Servers that listen on TCP, all with the same roles.
struct Site {
    authority: CertificateAuthority,
    /// Speaks TLS as `db.test`.
    secure: Server,
    /// Speaks TLS with a certificate that has expired.
    expired: Server,
    /// Speaks none.
    plain: Server,
    /// Speaks TLS as `db.test`, by nobody's word but its own, and with a certificate as an authority has.
    alone: Server,
    /// So does this, with one that has expired.
    past: Server,
    /// Their certificates.
    own: [Identity; 2],
}

async fn site() -> &'static Site {
    static SITE: OnceCell<Site> = OnceCell::const_new();
    SITE.get_or_init(|| async {
        let authority = CertificateAuthority::new("The tests' own");
        let (secure, expired, plain, alone, past) = tokio::join!(
            Server::listening(),
            Server::listening(),
            Server::listening(),
            Server::listening(),
            Server::listening()
        );
        let good = authority.issue("db.test");
        let old = authority.issue_until("db.test", 2020);
        let own = [4000, 2020].map(|year| CertificateAuthority::of_itself("db.test", year));
        for (server, identity) in [
            (&secure, Some(&good)),
            (&expired, Some(&old)),
            (&plain, None),
            (&alone, Some(&own[0])),
            (&past, Some(&own[1])),
        ] {
            let mut files = vec![
                ("pg_hba.conf", RULES),
                ("root.pem", authority.certificate()),
            ];
            let mut settings = vec![("ssl", "off")];
            if let Some(identity) = identity {
                files.extend([
                    ("db.pem", identity.certificate.as_str()),
                    ("db.key", identity.key.as_str()),
                ]);
                settings = vec![
                    ("ssl_cert_file", "db.pem"),
                    ("ssl_key_file", "db.key"),
                    ("ssl_ca_file", "root.pem"),
                    ("ssl", "on"),
                ];
            }
            server.set_up(&files, &settings).await;
            Database::create_on(server).await.run(ROLES).await;
        }
        Site {
            authority,
            secure,
            expired,
            plain,
            alone,
            past,
            own,
        }
    })
    .await
}

impl Site {
    /// How to trust it, for a `hearth.toml`.
    fn trust(&self) -> String {
        format!(
            "{{ ca = {:?} }}",
            self.authority.file().display().to_string()
        )
    }
}

/// An address of this database by TCP, as if its host had this name.
fn url(database: &Database, user: &str, host: &str, more: &str) -> String {
    let (address, name) = (database.server.address(), &database.name);
    let password = if user == "keyholder" { "" } else { ":sesame" };
    format!(
        "{:?}",
        format!("postgres://{user}{password}@{host}/{name}?hostaddr={address}{more}")
    )
}

/// What a query says, or why it cannot be asked.
async fn ask(door: Door, setup: Setup, sql: &str) -> Result<Value, String> {
    let trial = setup.start(door).await;
    let answer = trial.value(json!({ "steps": [{ "query": sql }] })).await;
    let log = trial.host.log().join("\n");
    assert!(
        !log.contains("sesame") && !answer.to_string().contains("sesame"),
        "{answer}\n{log}"
    );
    match answer[0]["error"]["message"].as_str() {
        Some(message) => {
            assert!(
                !message.contains(".test"),
                "a guest is told no host: {message}"
            );
            Err(message.to_owned())
        }
        None => Ok(answer[0]["rows"][0][0].clone()),
    }
}

/// What a guest is told of it.
const MISNAMED: &str = "is not for the name of its host";
const ENCRYPTED: &str = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";

behind_both_doors! {
    async fn every_way_to_log_in_works_with_tls_and_without(door) {
        let site = site().await;
        let secure = Database::create_on(&site.secure).await;
        let plain = Database::create_on(&site.plain).await;
        for user in ["shop", "in_clear", "hashed"] {
            let setup = Setup::of(&QUERY)
                .database("url", &url(&secure, user, "db.test", ""))
                .database("tls", &site.trust());
            assert_eq!(ask(door, setup, ENCRYPTED).await, Ok(json!(true)), "{user}");
            let setup = Setup::of(&QUERY).database("url", &url(&plain, user, "db.test", "&sslmode=prefer"));
            assert_eq!(ask(door, setup, ENCRYPTED).await, Ok(json!(false)), "{user}");
        }
    }

    async fn a_certificate_of_the_clients_own_is_a_login(door) {
        let site = site().await;
        let database = Database::create_on(&site.secure).await;
        let identity = site.authority.issue("keyholder");
        let more = format!(
            "&sslcert={}&sslkey={}",
            file("client.pem", &identity.certificate).display(),
            file("client.key", &identity.key).display()
        );
        let setup = Setup::of(&QUERY)
            .database("url", &url(&database, "keyholder", "db.test", &more))
            .database("tls", &site.trust());
        assert_eq!(ask(door, setup, "select current_user::text").await, Ok(json!("keyholder")));
    }

    /// The server looks at what the login is bound to: a wrong hash is refused.
    async fn a_login_is_bound_to_its_channel(door) {
        let site = site().await;
        let secure = Database::create_on(&site.secure).await;
        let plain = Database::create_on(&site.plain).await;
        let required = url(&secure, "shop", "db.test", "&channel_binding=require");
        let setup = Setup::of(&QUERY).database("url", &required).database("tls", &site.trust());
        assert_eq!(ask(door, setup, ENCRYPTED).await, Ok(json!(true)));
        let required = url(&plain, "shop", "db.test", "&channel_binding=require");
        let error = ask(door, Setup::of(&QUERY).database("url", &required), ENCRYPTED).await.unwrap_err();
        assert!(error.contains("does not bind the login"), "{error}");
    }

    async fn what_is_wrong_with_a_certificate_is_said(door) {
        let site = site().await;
        let secure = Database::create_on(&site.secure).await;
        let expired = Database::create_on(&site.expired).await;
        let trust = site.trust();
        let stranger = format!("{{ ca = {:?} }}", CertificateAuthority::new("A stranger").file().display().to_string());
        for (url, tls, words) in [
            (url(&secure, "shop", "other.test", ""), Some(&trust), MISNAMED),
            (url(&expired, "shop", "db.test", ""), Some(&trust), "certificate expired "),
            (url(&secure, "shop", "db.test", ""), Some(&stranger), "issuer that is not trusted"),
            (url(&secure, "shop", "db.test", "&sslmode=require"), None, "issuer that is not trusted"),
        ] {
            let mut setup = Setup::of(&QUERY).database("url", &url);
            if let Some(tls) = tls {
                setup = setup.database("tls", tls);
            }
            let error = ask(door, setup, ENCRYPTED).await.unwrap_err();
            assert!(error.contains(words) && !error.contains('\n'), "{words}: {error}");
        }
    }

    async fn a_certificate_that_is_an_authoritys_is_trusted_by_itself(door) {
        let site = site().await;
        let (alone, past) = tokio::join!(Database::create_on(&site.alone), Database::create_on(&site.past));
        let [own, old] = &site.own;
        let stranger = CertificateAuthority::of_itself("db.test", 4000);
        for (database, host, more, trusted, expected) in [
            (&alone, "db.test", "", own, Ok(json!(true))),
            (&alone, "other.test", "&sslmode=verify-ca", own, Ok(json!(true))),
            (&alone, "other.test", "", own, Err(MISNAMED)),
            (&past, "db.test", "", old, Err("certificate expired ")),
            (&past, "db.test", "&sslmode=verify-ca", old, Err("certificate expired ")),
            (&alone, "db.test", "", &stranger, Err("issuer that is not trusted")),
            (&alone, "db.test", "&sslmode=verify-ca", old, Err("issuer that is not trusted")),
        ] {
            let trust = file("server.crt", &trusted.certificate).display().to_string();
            let setup = Setup::of(&QUERY)
                .database("url", &url(database, "shop", host, more))
                .database("tls", &format!("{{ ca = {trust:?} }}"));
            match (ask(door, setup, ENCRYPTED).await, expected) {
                (Err(error), Err(words)) => assert!(error.contains(words), "{words}: {error}"),
                (found, expected) => assert_eq!(found, expected.map_err(str::to_owned), "{host}{more}"),
            }
        }
    }

    /// As Amazon's bundle for RDS is: one after the other, with words between them.
    async fn any_authority_of_a_bundle_may_have_signed_the_certificate(door) {
        let site = site().await;
        let database = Database::create_on(&site.secure).await;
        let [before, after] = ["A stranger", "Another stranger"].map(CertificateAuthority::new);
        let own = site.authority.certificate();
        let (before, after) = (before.certificate(), after.certificate());
        let url = url(&database, "shop", "db.test", "");
        for (text, expected) in [
            (format!("# Before\n{before}\n# Our own\n{own}{after}"), Ok(json!(true))),
            (format!("{before}{after}"), Err("issuer that is not trusted")),
        ] {
            let bundle = format!("{{ ca = {:?} }}", file("bundle.pem", &text).display().to_string());
            let setup = Setup::of(&QUERY).database("url", &url).database("tls", &bundle);
            match (ask(door, setup, ENCRYPTED).await, expected) {
                (Err(error), Err(words)) => assert!(error.contains(words), "{error}"),
                (found, expected) => assert_eq!(found, expected.map_err(str::to_owned)),
            }
        }
    }

    /// OpenSSL's variable says where they are, as it does for other programs of the machine.
    async fn the_systems_authorities_are_trusted_where_no_others_are_named(door) {
        let site = site().await;
        let database = Database::create_on(&site.secure).await;
        let own = site.authority.file().display().to_string();
        let strange = CertificateAuthority::new("A stranger").file().display().to_string();
        for more in ["&sslmode=verify-full", "&sslrootcert=system"] {
            let url = url(&database, "shop", "db.test", more);
            let setup = |system| Setup::of(&QUERY).database("url", &url).variable("SSL_CERT_FILE", system);
            assert_eq!(ask(door, setup(&own), ENCRYPTED).await, Ok(json!(true)), "{more}");
            let error = ask(door, setup(&strange), ENCRYPTED).await.unwrap_err();
            assert!(error.contains("issuer that is not trusted"), "{error}");
        }
    }

    async fn how_far_a_certificate_is_checked_can_be_chosen(door) {
        let site = site().await;
        let database = Database::create_on(&site.secure).await;
        let by_another_name = url(&database, "shop", "other.test", "&sslmode=verify-ca");
        let setup = Setup::of(&QUERY).database("url", &by_another_name).database("tls", &site.trust());
        assert_eq!(ask(door, setup, ENCRYPTED).await, Ok(json!(true)));
        let unknown = url(&database, "shop", "other.test", "&sslmode=require");
        let setup = Setup::of(&QUERY).database("url", &unknown).database("tls", r#"{ verify = "nothing" }"#);
        assert_eq!(ask(door, setup, ENCRYPTED).await, Ok(json!(true)));
        let unsaid = url(&database, "shop", "other.test", "");
        assert_eq!(ask(door, Setup::of(&QUERY).database("url", &unsaid), ENCRYPTED).await, Ok(json!(true)));
    }

    /// As servers from PostgreSQL 17 on take it. A cancellation goes the same way.
    async fn tls_begins_with_the_connection_where_that_is_asked_for(door) {
        let site = site().await;
        let plain = Database::create_on(&site.plain).await;
        let server = (site.plain.address(), site.plain.port()).into();
        let identity = site.authority.issue("db.test");
        let terminator = TlsTerminator::before(server, &identity, &["postgresql"]).await;
        let other = TlsTerminator::before(server, &identity, &[]).await;
        let direct = |address: SocketAddr| {
            let more = "sslnegotiation=direct&sslmode=verify-full&channel_binding=disable";
            let url = format!("postgres://shop:sesame@db.test:{}/{}?hostaddr=127.0.0.1&{more}", address.port(), plain.name);
            Setup::of(&QUERY).url(&url).variable("SSL_CERT_FILE", &site.authority.file().display().to_string())
        };
        let trial = direct(terminator.address()).database("pool_max", "1").start(door).await;
        let who = json!({ "query": "select current_user::text" });
        let steps = json!({ "steps": [who, { "abandon": "select pg_sleep(600)" }, who] });
        let answer = trial.value(steps).await;
        for index in [0, 2] {
            assert_eq!(answer[index]["rows"], json!([["shop"]]), "{answer}");
        }
        plain.settles(1).await;
        let error = ask(door, direct(other.address()), ENCRYPTED).await.unwrap_err();
        assert!(error.contains("does not say that it speaks PostgreSQL"), "{error}");

        let secure = Database::create_on(&site.secure).await;
        let setup = Setup::of(&QUERY)
            .database("url", &url(&secure, "shop", "db.test", "&sslnegotiation=direct"))
            .database("tls", &site.trust());
        let knows = secure.value("select current_setting('server_version_num')::int >= 170000").await;
        match ask(door, setup, ENCRYPTED).await {
            Ok(encrypted) => assert_eq!((encrypted, knows.as_deref()), (json!(true), Some("t"))),
            Err(error) => {
                assert_eq!(knows.as_deref(), Some("f"), "{error}");
                assert!(error.contains("sslnegotiation=direct"), "{error}");
            }
        }
    }

    async fn a_server_without_tls_is_refused_where_tls_is_asked_for(door) {
        let site = site().await;
        let database = Database::create_on(&site.plain).await;
        for mode in ["require", "verify-ca", "verify-full"] {
            let url = url(&database, "shop", "db.test", &format!("&sslmode={mode}"));
            let error = ask(door, Setup::of(&QUERY).database("url", &url), ENCRYPTED).await.unwrap_err();
            assert!(error.contains("speaks no TLS"), "{error}");
        }
    }

    /// Where nothing was said about TLS, anyone could be there.
    async fn a_password_is_not_sent_in_clear_text_to_whoever_asks(door) {
        let site = site().await;
        let database = Database::create_on(&site.plain).await;
        let unsaid = url(&database, "in_clear", "db.test", "");
        let error = ask(door, Setup::of(&QUERY).database("url", &unsaid), ENCRYPTED).await.unwrap_err();
        assert!(error.contains("clear text"), "{error}");
    }

    async fn an_encrypted_connection_that_was_terminated_is_replaced(door) {
        let site = site().await;
        let database = Database::create_on(&site.secure).await;
        let setup = Setup::of(&QUERY)
            .database("url", &url(&database, "shop", "db.test", ""))
            .database("tls", &site.trust());
        let trial = setup.start(door).await;
        let pid = json!({ "steps": [{ "query": "select pg_backend_pid()::text" }] });
        for _ in 0..3 {
            let before = trial.value(pid.clone()).await[0]["rows"][0][0].clone();
            assert_eq!(trial.value(pid.clone()).await[0]["rows"][0][0], before);
            assert_eq!(database.end_sessions().await, 1);
            let after = trial.value(pid.clone()).await[0]["rows"][0][0].clone();
            assert!(after.is_string() && after != before, "{after}");
        }
    }

    async fn an_encrypted_query_is_cancelled_on_the_server(door) {
        let site = site().await;
        let database = Database::create_on(&site.secure).await;
        let setup = Setup::of(&QUERY)
            .database("url", &url(&database, "shop", "db.test", ""))
            .database("tls", &site.trust())
            .database("pool_max", "1");
        let trial = setup.start(door).await;
        let steps = json!([{ "abandon": "select pg_sleep(600)" }, { "query": ENCRYPTED }]);
        let answer = trial.value(json!({ "steps": steps })).await;
        assert_eq!(answer[1]["rows"], json!([[true]]), "{answer}");
        database.settles(1).await;
    }
}

/// Only the local host runs them.
#[tokio::test]
async fn setup_files_run_over_the_same_way() {
    let site = site().await;
    let database = Database::create_on(&site.secure).await;
    database.run("grant create on schema public to shop").await;
    let schema = file(
        "schema.sql",
        "create table noted as\nselect 'noted' as what;",
    );
    let broken = file("broken.sql", "select 1;\nselect nothing;");
    let url = url(&database, "shop", "db.test", "");
    let setup = |path: &Path| {
        Setup::of(&QUERY)
            .database("url", &url)
            .database("tls", &site.trust())
            .database("setup", &format!("[{:?}]", path.display().to_string()))
    };
    let found = ask(Door::Local, setup(&schema), "select what from noted").await;
    assert_eq!(found, Ok(json!("noted")));
    let mut refused = setup(&broken).launch(Door::Local).await;
    let line = refused.host.line("broken.sql:2: column").await;
    assert!(line.contains("42703"), "{line}");
}
