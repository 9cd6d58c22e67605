//! Tokens of RDS IAM authentication: passwords that are signed here and last 15 minutes.
//!
//! Promises: a token is signed with the credentials that the environment holds at that moment;
//! neither they nor the token are in an error.
//!
//! Left to others: the signature itself, which is AWS's own crate's.

use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{
    SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign,
};
use aws_sigv4::sign::v4;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::config::address::{Host, Place};

/// How long a token is good for a login: what RDS allows.
const EXPIRES_IN: Duration = Duration::from_secs(900);

/// What a URL's query must encode by the rules of the signature.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A variable of the environment; an empty one counts as not set.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A token for this user at this host, valid from `now`.
pub(super) fn token(
    host: &Host,
    user: &str,
    region: Option<&str>,
    variable: impl Fn(&str) -> Option<String>,
    now: SystemTime,
) -> Result<String, String> {
    let Place::Name(name) = &host.place else {
        return Err("`iam` needs the name of an RDS host, and this is a Unix socket".to_owned());
    };
    let missing = |name: &str| {
        format!("`iam` needs the environment variable {name}, which is not set; Lambda sets it")
    };
    let needed = |name: &str| variable(name).ok_or_else(|| missing(name));
    let credentials = Credentials::new(
        needed("AWS_ACCESS_KEY_ID")?,
        needed("AWS_SECRET_ACCESS_KEY")?,
        variable("AWS_SESSION_TOKEN"),
        None,
        "environment",
    );
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
    use super::*;

    fn host(name: &str, port: u16) -> Host {
        Host {
            place: Place::Name(name.to_owned()),
            port,
            address: None,
        }
    }

    fn variables<'a>(
        secret: &'a str,
        session: Option<&'a str>,
    ) -> impl Fn(&str) -> Option<String> + 'a {
        move |name| match name {
            "AWS_ACCESS_KEY_ID" => Some("akid".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some(secret.to_owned()),
            "AWS_SESSION_TOKEN" => session.map(str::to_owned),
            _ => None,
        }
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
            variables("secret", None),
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
            variables("skid", None),
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
            variables("s", Some("To/ken+==")),
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
        let nowhere = variables("s", None);
        let somewhere = |name: &str| match name {
            "AWS_REGION" => Some("sa-east-1".to_owned()),
            name => nowhere(name),
        };
        let region = |host, region, variables: &dyn Fn(&str) -> Option<String>| {
            let token = token(host, "u", region, variables, at(0))?;
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

    #[test]
    fn what_is_missing_is_named() {
        let error = token(&host("db", 1), "u", Some("r"), |_| None, at(0)).unwrap_err();
        assert!(error.contains("AWS_ACCESS_KEY_ID"), "{error}");
        let socket = Host {
            place: Place::Folder("/run".into()),
            port: 1,
            address: None,
        };
        let error = token(&socket, "u", Some("r"), variables("s", None), at(0)).unwrap_err();
        assert!(error.contains("Unix socket"), "{error}");
    }
}
