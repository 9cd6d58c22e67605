//! Tokens of RDS IAM authentication: passwords that are signed here and last 15 minutes.
//!
//! Promises: a token is signed with the credentials that the environment holds at that moment, in its
//! variables or, as under SnapStart, behind an address on this machine; neither they nor the token are
//! in an error.
//!
//! Left to others: the signature itself, which is AWS's own crate's.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{Request, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::config::address::{Host, HostName};
use crate::limits;

/// How long a token is good for a login: what RDS allows.
const EXPIRES_IN: Duration = Duration::from_secs(900);

/// What a URL's query must encode by the rules of the signature.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// The credentials as they are fetched.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fetched {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
}

/// The credentials that the environment holds now: in variables, or behind an address.
pub(super) async fn credentials(
    variable: impl Fn(&str) -> Option<String>,
) -> Result<Credentials, String> {
    let missing = |name: &str| {
        format!("`iam` needs the environment variable {name}, which is not set; Lambda sets it")
    };
    let needed = |name: &str| variable(name).ok_or_else(|| missing(name));
    let (key, secret, token) = match variable("AWS_CONTAINER_CREDENTIALS_FULL_URI") {
        Some(uri) if variable("AWS_ACCESS_KEY_ID").is_none() => {
            let authorization = variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
            let fetched = fetch(&uri, authorization).await.map_err(|problem| {
                format!("the credentials for `iam` at AWS_CONTAINER_CREDENTIALS_FULL_URI {problem}")
            })?;
            (
                fetched.access_key_id,
                fetched.secret_access_key,
                fetched.token,
            )
        }
        _ => (
            needed("AWS_ACCESS_KEY_ID")?,
            needed("AWS_SECRET_ACCESS_KEY")?,
            variable("AWS_SESSION_TOKEN"),
        ),
    };
    Ok(Credentials::new(key, secret, token, None, "environment"))
}

/// Asks for the credentials. What is wrong is told without anything of what was received.
async fn fetch(uri: &str, authorization: Option<String>) -> Result<Fetched, String> {
    let uri: Uri = uri.parse().map_err(|_| "have no URL there".to_owned())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("have an address that does not begin with http://".to_owned());
    };
    let failed = |error: &dyn std::fmt::Display| format!("cannot be fetched: {error}");
    let address = (
        authority.host().trim_matches(['[', ']']),
        authority.port_u16().unwrap_or(80),
    );
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| failed(&error))?;
    // In clear text they must not leave the machine.
    let peer = stream.peer_addr().map_err(|error| failed(&error))?;
    if !peer.ip().is_loopback() {
        return Err("are not on this machine, as they must be for http".to_owned());
    }
    let mut request = Request::get(uri.path_and_query().map_or("/", |path| path.as_str()))
        .header(HOST, authority.as_str());
    if let Some(authorization) = authorization {
        request = request.header(AUTHORIZATION, authorization);
    }
    let request = request
        .body(Empty::<Bytes>::new())
        .map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let reply = sender
        .send_request(request)
        .await
        .map_err(|error| failed(&error))?;
    if !reply.status().is_success() {
        return Err(format!("were refused with status {}", reply.status()));
    }
    let body = Limited::new(reply.into_body(), limits::CREDENTIALS_BYTES_MAX);
    let body = body.collect().await.map_err(|error| failed(&error))?;
    serde_json::from_slice(&body.to_bytes())
        .map_err(|_| "came without AccessKeyId and SecretAccessKey".to_owned())
}

/// A token for this user at this host, valid from `now`.
pub(super) fn token(
    host: &Host,
    user: &str,
    region: Option<&str>,
    credentials: Credentials,
    variable: impl Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<String, String> {
    let HostName::Name(name) = &host.name else {
        return Err("`iam` needs the name of an RDS host, and this is a Unix socket".to_owned());
    };
    let region = region.map(str::to_owned);
    let region = region.or_else(|| region_of(name).map(str::to_owned));
    let region = region.or_else(|| variable("AWS_REGION")).ok_or_else(|| {
        "`iam` needs a region, which neither the host's name nor AWS_REGION says; set iam = { region = \"...\" }"
            .to_owned()
    })?;

    let user = utf8_percent_encode(user, ENCODED);
    let mut token = format!("{name}:{}/?Action=connect&DBUser={user}", host.port);
    let url = format!("https://{token}");
    let mut settings = SigningSettings::default();
    settings.expires_in = Some(EXPIRES_IN);
    settings.signature_location = SignatureLocation::QueryParams;
    // What these may say of what they were given is not for a log.
    let unsigned = |_| "the token for `iam` cannot be signed for this host and user".to_owned();
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(&region)
        .name("rds-db")
        .time(now)
        .settings(settings)
        .build()
        .map_err(|_| "the token for `iam` lacks a part".to_owned())?
        .into();
    let request = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::empty())
        .map_err(unsigned)?;
    let (signed, _) = sign(request, &parameters).map_err(unsigned)?.into_parts();
    for (key, value) in signed.params() {
        token.push_str(&format!("&{key}={}", utf8_percent_encode(value, ENCODED)));
    }
    Ok(token)
}

/// The region in the name of an RDS host: `NAME.ID.REGION.rds.amazonaws.com`.
fn region_of(name: &str) -> Option<&str> {
    let name = name.trim_end_matches('.');
    let (rest, _) = name
        .split_once(".rds.amazonaws.com")
        .filter(|(_, end)| end.is_empty() || *end == ".cn")?;
    rest.rsplit('.').next()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host {
            name: HostName::Name(name.to_owned()),
            port,
            address: None,
        }
    }

    fn held(secret: &str, session: Option<&str>) -> Credentials {
        Credentials::new("akid", secret, session.map(str::to_owned), None, "test")
    }

    fn unset(_: &str) -> Option<String> {
        None
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    /// Two tokens that AWS publishes with its own clients: the SDK for Rust's and botocore's.
    #[test]
    fn tokens_are_those_of_awss_own_clients() {
        let host = host("prod-instance.us-east-1.rds.amazonaws.com", 3306);
        let of_rust = token(
            &host,
            "peccy",
            None,
            held("secret", None),
            unset,
            at(1_724_709_600),
        );
        assert_eq!(
            of_rust.unwrap(),
            "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=peccy\
             &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=akid%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request\
             &X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
             &X-Amz-Signature=dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89"
        );
        let of_python = token(
            &host,
            "someusername",
            None,
            held("skid", None),
            unset,
            at(1_478_540_373),
        );
        let of_python = of_python.unwrap();
        assert!(
            of_python.contains("&X-Amz-Date=20161107T173933Z&"),
            "{of_python}"
        );
        assert!(
            of_python.ends_with(
                "&X-Amz-Signature=d1138cdbc0ca63eec012ec0fc6c2267e03642168f5884a7795320d4c18374c61"
            ),
            "{of_python}"
        );
    }

    #[test]
    fn a_session_token_and_an_odd_user_are_encoded() {
        let host = host("db.eu-west-1.rds.amazonaws.com", 5432);
        let token = token(
            &host,
            "a b@c",
            None,
            held("s", Some("To/ken+==")),
            unset,
            at(0),
        )
        .unwrap();
        assert!(
            token.contains("/?Action=connect&DBUser=a%20b%40c&"),
            "{token}"
        );
        assert!(
            token.contains("&X-Amz-Security-Token=To%2Fken%2B%3D%3D"),
            "{token}"
        );
    }

    #[test]
    fn the_region_is_what_is_said_or_the_hosts_or_the_environments() {
        let named = host("db.x.eu-west-1.rds.amazonaws.com", 1);
        let other = host("db.example.com", 1);
        let nowhere = unset;
        let somewhere = |name: &str| (name == "AWS_REGION").then(|| "sa-east-1".to_owned());
        let region = |host, region, variables: &dyn Fn(&str) -> Option<String>| {
            let token = token(host, "u", region, held("s", None), variables, at(0))?;
            let (_, scope) = token.split_once("19700101%2F").expect("the date is in it");
            Ok::<_, String>(scope.split("%2F").next().unwrap_or_default().to_owned())
        };
        assert_eq!(
            region(&named, Some("us-west-2"), &somewhere).unwrap(),
            "us-west-2"
        );
        assert_eq!(region(&named, None, &somewhere).unwrap(), "eu-west-1");
        assert_eq!(region(&other, None, &somewhere).unwrap(), "sa-east-1");
        assert!(
            region(&other, None, &nowhere)
                .unwrap_err()
                .contains("iam = { region")
        );
        assert_eq!(
            region_of("db.x.cn-north-1.rds.amazonaws.com.cn"),
            Some("cn-north-1")
        );
        assert_eq!(region_of("db.rds.amazonaws.com.example.com"), None);
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let error = credentials(unset).await.unwrap_err();
        assert!(error.contains("AWS_ACCESS_KEY_ID"), "{error}");
        let socket = Host {
            name: HostName::Folder("/run".into()),
            port: 1,
            address: None,
        };
        let error = token(&socket, "u", Some("r"), held("s", None), unset, at(0)).unwrap_err();
        assert!(error.contains("Unix socket"), "{error}");
    }

    /// What is asked, and what becomes of this reply.
    async fn fetched(reply: &'static str) -> (String, Result<Credentials, String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/v/credentials", listener.local_addr().unwrap());
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                stream.read_buf(&mut asked).await.unwrap();
            }
            stream.write_all(reply.as_bytes()).await.unwrap();
            String::from_utf8(asked).unwrap().to_lowercase()
        };
        let variable = |name: &str| match name {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI" => Some(uri.clone()),
            "AWS_CONTAINER_AUTHORIZATION_TOKEN" => Some("abracadabra".to_owned()),
            _ => None,
        };
        tokio::join!(serving, credentials(variable))
    }

    /// So it is under SnapStart.
    #[tokio::test]
    async fn credentials_may_be_behind_an_address() {
        let (asked, credentials) = fetched(
            "HTTP/1.1 200 OK\r\ncontent-length: 95\r\n\r\n\
             {\"AccessKeyId\":\"akid\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"2026-11-24T12:00:00Z\"   }",
        )
        .await;
        assert!(asked.starts_with("get /v/credentials http/1.1"), "{asked}");
        assert!(asked.contains("authorization: abracadabra"), "{asked}");
        let credentials = credentials.unwrap();
        assert_eq!(credentials.access_key_id(), "akid");
        assert_eq!(credentials.secret_access_key(), "s");
        assert_eq!(credentials.session_token(), Some("t"));
    }

    #[tokio::test]
    async fn credentials_that_do_not_come_are_an_error_without_them() {
        for (reply, expected) in [
            (
                "HTTP/1.1 403 Forbidden\r\ncontent-length: 6\r\n\r\nsesame",
                "status 403",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{\"a\":\"sesa\"}",
                "AccessKeyId",
            ),
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 12\r\n\r\n{",
                "cannot be fetched",
            ),
        ] {
            let (_, credentials) = fetched(reply).await;
            let error = credentials.unwrap_err();
            assert!(error.contains(expected), "{error}");
            assert!(
                !error.contains("sesa") && !error.contains("abra"),
                "{error}"
            );
        }
        for uri in ["https://localhost/v", "/v", "http://127.0.0.1:1/v"] {
            let variable = |name: &str| name.ends_with("FULL_URI").then(|| uri.to_owned());
            let error = credentials(variable).await.unwrap_err();
            assert!(error.contains("FULL_URI"), "{error}");
        }
    }
}
