//! Checks a token for a login at RDS as RDS does: whether it is signed by a key that it knows, for this server and
//! this user, now.
//!
//! Written from the description of AWS's Signature Version 4, and not with the crate that signs.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use percent_encoding::percent_decode_str;
use ring::{digest, hmac};

/// Seconds that a token is good for.
const EXPIRES_IN: i64 = 900;

/// Seconds by which the clock of whoever signs may be ahead.
const AHEAD_MAX: i64 = 5;

/// What a token must be for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// The server's name and port.
    pub host: String,
    /// Who logs in.
    pub user: String,
    /// The server's region.
    pub region: String,
    /// The key's name.
    pub key: String,
    /// The key's secret.
    pub secret: String,
    /// What the key comes with, if it is a temporary one.
    pub session: Option<String>,
}

impl Wanted {
    /// Says what is wrong with a token, if it is not good now.
    pub fn check(&self, token: &str) -> Result<(), String> {
        self.check_at(token, now())
    }

    fn check_at(&self, token: &str, now: i64) -> Result<(), String> {
        let is = |what: &str, found: &str, wanted: &str| match found == wanted {
            true => Ok(()),
            false => Err(format!("{what}: {found:?} instead of {wanted:?}")),
        };
        let (host, query) = token.split_once("/?").ok_or("it is no token")?;
        is("host", host, &self.host)?;
        let mut pairs = BTreeMap::new();
        for pair in query.split('&') {
            let (key, value) = pair.split_once('=').ok_or("a key has no value")?;
            let is_new = pairs.insert(key, value).is_none();
            is("twice", &is_new.to_string(), "true")?;
        }
        let signature = pairs.remove("X-Amz-Signature").ok_or("it is not signed")?;
        let date = pairs.get("X-Amz-Date").copied().unwrap_or_default();
        let (day, region) = (date.get(..8).unwrap_or_default(), &self.region);
        let scope = format!("{day}/{region}/rds-db/aws4_request");
        let credential = format!("{}/{scope}", self.key);
        let said = |key: &str| {
            let value = pairs.get(key).copied().unwrap_or_default();
            percent_decode_str(value).decode_utf8_lossy().into_owned()
        };
        for (key, wanted) in [
            ("Action", "connect"),
            ("DBUser", &self.user),
            ("X-Amz-Algorithm", "AWS4-HMAC-SHA256"),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Expires", &EXPIRES_IN.to_string()),
            (
                "X-Amz-Security-Token",
                self.session.as_deref().unwrap_or(""),
            ),
            ("X-Amz-SignedHeaders", "host"),
        ] {
            is(key, &said(key), wanted)?;
        }
        let age = now - seconds(date).ok_or("it has no date")?;
        if !(-AHEAD_MAX..EXPIRES_IN).contains(&age) {
            return Err(format!("its age is {age} s"));
        }

        // The keys are in their order by now.
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let request = format!(
            "GET\n/\n{}\nhost:{host}\n\nhost\n{}",
            pairs.join("&"),
            hash("")
        );
        let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(&request));
        let mut key = format!("AWS4{}", self.secret).into_bytes();
        for part in scope.split('/') {
            key = mac(&key, part);
        }
        is("signature", signature, &hex(&mac(&key, &text)))
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
}

fn hash(text: &str) -> String {
    hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970");
    since.as_secs() as i64
}

/// Seconds since 1970 of a date like `20260824T123600Z`.
fn seconds(date: &str) -> Option<i64> {
    let digits = |from: usize, to: usize| date.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (digits(0, 4)?, digits(4, 6)?, digits(6, 8)?);
    let clock = digits(9, 11)? * 3600 + digits(11, 13)? * 60 + digits(13, 15)?;
    // Years that begin in March end with the day that not all of them have.
    let (year, month) = match month {
        1 | 2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    Some((days - 719_469) * 86_400 + clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A token that AWS publishes with its SDK for Rust.
    #[test]
    fn a_published_token_is_good_as_long_as_it_lasts_and_for_nothing_else() {
        let token = "prod-instance.us-east-1.rds.amazonaws.com:3306/?Action=connect&DBUser=peccy\
            &X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=akid%2F20240826%2Fus-east-1%2Frds-db%2Faws4_request\
            &X-Amz-Date=20240826T220000Z&X-Amz-Expires=900&X-Amz-SignedHeaders=host\
            &X-Amz-Signature=dd0cba843009474347af724090233265628ace491ea17ce3eb3da098b983ad89";
        let right = Wanted {
            host: "prod-instance.us-east-1.rds.amazonaws.com:3306".to_owned(),
            user: "peccy".to_owned(),
            region: "us-east-1".to_owned(),
            key: "akid".to_owned(),
            secret: "secret".to_owned(),
            session: None,
        };
        let signed = 1_724_709_600;
        for (age, expected) in [(-60, false), (0, true), (899, true), (900, false)] {
            let checked = right.check_at(token, signed + age);
            assert_eq!(checked.is_ok(), expected, "{age}: {checked:?}");
        }
        let no = "no".to_owned();
        #[rustfmt::skip]
        let wrong = [
            ("host", Wanted { host: no.clone(), ..right.clone() }),
            ("DBUser", Wanted { user: no.clone(), ..right.clone() }),
            ("X-Amz-Credential", Wanted { region: no.clone(), ..right.clone() }),
            ("X-Amz-Credential", Wanted { key: no.clone(), ..right.clone() }),
            ("signature", Wanted { secret: no.clone(), ..right.clone() }),
            ("X-Amz-Security-Token", Wanted { session: Some(no), ..right.clone() }),
        ];
        for (what, wanted) in wrong {
            let problem = wanted.check_at(token, signed).unwrap_err();
            assert!(problem.starts_with(what), "{what}: {problem}");
        }
    }
}
