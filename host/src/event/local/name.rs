//! The name by which a function is invoked: alone, in a partial ARN or in a whole one, with or
//! without a version or alias.
//!
//! Promises: every form that Lambda documents is read. Left to others: whether there is such a
//! function.

use http::Uri;
use percent_encoding::percent_decode_str;

use super::refusal::{ErrorType, Refusal};

/// What stands around a function's name.
const FORMS: &[(&str, &str)] = &[
    ("/2015-03-31/functions/", "/invocations"),
    STREAM,
    ASYNC,
    (ASYNC.0, "/invoke-async/"),
];

/// What stands around it where the answer is to be a stream.
const STREAM: (&str, &str) = ("/2021-11-15/functions/", "/response-streaming-invocations");

/// What stands around it where nobody waits for the answer, in Lambda's first API.
const ASYNC: (&str, &str) = ("/2014-11-13/functions/", "/invoke-async");

/// The version that Managed Instances have beside those with a number.
const PUBLISHED: &str = "$LATEST.PUBLISHED";

/// Lambda's limit for a whole ARN, in bytes; more is not repeated in an error.
const NAME_BYTES_MAX: usize = 256;

/// Lambda's limit for a version or an alias, in bytes.
const QUALIFIER_BYTES_MAX: usize = 128;

/// What a name is to be.
const NO_NAME: &str = "expected a function name, a partial ARN (123456789012:function:NAME) or an ARN, each with or \
                       without :QUALIFIER";
/// What a qualifier is to be, in Lambda's words.
const NO_QUALIFIER: &str =
    "Member must satisfy regular expression pattern: \\$(LATEST(\\.PUBLISHED)?)|[a-zA-Z0-9-_$]+";
const TOO_LONG: &str = "Member must have length less than or equal to 128";

/// Whether this path is of the API in which all invocations are events.
pub(super) fn is_async(uri: &Uri) -> bool {
    uri.path().starts_with(ASYNC.0)
}

/// Whether this path is of the API that answers with a stream.
pub fn is_stream(uri: &Uri) -> bool {
    uri.path().starts_with(STREAM.0)
}

/// Which function, and which version or alias of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionName {
    /// The function's name.
    pub name: String,
    /// The version or alias, as it was asked for.
    pub qualifier: Option<String>,
}

impl FunctionName {
    /// Reads the path, and `Qualifier` in the query.
    pub(super) fn parse(uri: &Uri) -> Result<Self, Refusal> {
        let raw = FORMS.iter().find_map(|(before, after)| {
            let rest = uri.path().strip_prefix(before)?;
            rest.strip_suffix(after)
        });
        let given = percent_decode_str(raw.unwrap_or_default()).decode_utf8_lossy();
        let mut function =
            Self::from_parts(&given).ok_or_else(|| refused("functionName", &given, NO_NAME))?;
        if let Some(qualifier) = in_query(uri.query().unwrap_or_default()) {
            if qualifier.len() > QUALIFIER_BYTES_MAX {
                return Err(refused("qualifier", &qualifier, TOO_LONG));
            }
            if !qualifier.bytes().all(|byte| byte == b'$' || is_plain(byte))
                && qualifier != PUBLISHED
            {
                return Err(refused("qualifier", &qualifier, NO_QUALIFIER));
            }
            if function
                .qualifier
                .as_ref()
                .is_some_and(|derived| *derived != qualifier)
            {
                let message = "The derived qualifier from the function name does not match the specified qualifier.";
                return Err(Refusal::new(ErrorType::InvalidParameterValue, message));
            }
            function.qualifier = Some(qualifier);
        }
        Ok(function)
    }

    /// The function's ARN on the local host, as it was invoked.
    pub fn arn(&self) -> String {
        let name = &self.name;
        let arn = format!("arn:aws:lambda:us-east-1:000000000000:function:{name}");
        match &self.qualifier {
            Some(qualifier) => format!("{arn}:{qualifier}"),
            None => arn,
        }
    }

    /// The refusal when there is no such function, in Lambda's words.
    pub fn not_found(&self) -> Refusal {
        Refusal::new(
            ErrorType::ResourceNotFound,
            format!("Function not found: {}", self.arn()),
        )
    }

    // Lambda's own pattern, from the front: each of these parts may be missing.
    // (arn:aws:lambda:)?(region:)?(account:)?(function:)?name(:qualifier)?
    fn from_parts(given: &str) -> Option<Self> {
        let parts: Vec<&str> = given.split(':').collect();
        let mut rest = parts.as_slice();
        if let ["arn", partition, "lambda", after @ ..] = rest
            && partition.starts_with("aws")
        {
            rest = after;
        }
        for is_part in [is_region, is_account, is_word_function] {
            if let [first, after @ ..] = rest
                && !after.is_empty()
                && is_part(first)
            {
                rest = after;
            }
        }
        let (name, qualifier) = match rest {
            [name] => (*name, None),
            [name, qualifier] => (*name, Some(*qualifier)),
            _ => return None,
        };
        let valid = is_name(name) && qualifier.is_none_or(is_qualifier);
        valid.then(|| Self {
            name: name.to_owned(),
            qualifier: qualifier.map(str::to_owned),
        })
    }
}

/// `(eusc-)?[a-z]{2}((-gov)|(-iso[a-z]?))?-[a-z]+-\d`: a name may look much like one.
fn is_region(part: &str) -> bool {
    let is_word = |word: &str| word.bytes().all(|b| b.is_ascii_lowercase());
    let is_kind = |word: &str| {
        let iso = word.strip_prefix("iso");
        word == "gov" || iso.is_some_and(|which| which.len() <= 1 && is_word(which))
    };
    let words: Vec<&str> = part
        .strip_prefix("eusc-")
        .unwrap_or(part)
        .split('-')
        .collect();
    let (land, place, number) = match words[..] {
        [land, place, number] => (land, place, number),
        [land, kind, place, number] if is_kind(kind) => (land, place, number),
        _ => return false,
    };
    land.len() == 2
        && is_word(land)
        && !place.is_empty()
        && is_word(place)
        && number.len() == 1
        && number.bytes().all(|b| b.is_ascii_digit())
}

fn is_account(part: &str) -> bool {
    part.len() == 12 && part.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_word_function(part: &str) -> bool {
    part == "function"
}

fn is_name(part: &str) -> bool {
    (1..=64).contains(&part.len()) && part.bytes().all(is_plain)
}

fn is_qualifier(part: &str) -> bool {
    let is_alias = (1..=QUALIFIER_BYTES_MAX).contains(&part.len()) && part.bytes().all(is_plain);
    is_alias || part == super::VERSION || part == PUBLISHED
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'
}

fn in_query(query: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let value = pairs
        .filter(|(key, _)| *key == "Qualifier")
        .map(|(_, value)| value)
        .next_back()?;
    Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
        .filter(|value| !value.is_empty())
}

/// The refusal of a parameter's value.
fn refused(parameter: &str, given: &str, constraint: &str) -> Refusal {
    let shown: String = given.chars().take(NAME_BYTES_MAX).collect();
    Refusal::new(
        ErrorType::Validation,
        format!(
            "1 validation error detected: Value '{shown}' at '{parameter}' failed to satisfy constraint: {constraint}"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path_and_query: &str) -> Result<FunctionName, Refusal> {
        let (before, _) = FORMS[0];
        FunctionName::parse(&format!("{before}{path_and_query}").parse().unwrap())
    }

    #[test]
    fn a_stream_is_asked_for_at_a_path_of_its_own() {
        let path = "/2021-11-15/functions/hello/response-streaming-invocations?Qualifier=7";
        let uri = Uri::from_static(path);
        assert!(is_stream(&uri));
        let function = FunctionName::parse(&uri).unwrap();
        assert_eq!(function.name, "hello");
        assert_eq!(function.qualifier.as_deref(), Some("7"));
    }

    #[test]
    fn an_event_may_be_sent_by_the_first_api() {
        for path in [
            "/2014-11-13/functions/hello/invoke-async/",
            "/2014-11-13/functions/hello/invoke-async",
        ] {
            let uri = Uri::from_static(path);
            assert!(is_async(&uri));
            assert_eq!(FunctionName::parse(&uri).unwrap().name, "hello");
        }
        assert!(!is_async(&Uri::from_static(
            "/2015-03-31/functions/hello/invocations"
        )));
    }

    #[test]
    fn every_documented_form_is_read() {
        let cases = [
            ("hello/invocations", "hello", None),
            ("a-B_9/invocations", "a-B_9", None),
            ("hello:live/invocations", "hello", Some("live")),
            ("hello/invocations?Qualifier=7", "hello", Some("7")),
            (
                "hello/invocations?a=b&Qualifier=%24LATEST",
                "hello",
                Some("$LATEST"),
            ),
            ("hello:7/invocations?Qualifier=7", "hello", Some("7")),
            (
                "hello/invocations?Qualifier=%24LATEST.PUBLISHED",
                "hello",
                Some("$LATEST.PUBLISHED"),
            ),
            ("hello/invocations?Qualifier=", "hello", None),
            ("123456789012:function:hello/invocations", "hello", None),
            (
                "123456789012%3Afunction%3Ahello%3A%24LATEST/invocations",
                "hello",
                Some("$LATEST"),
            ),
            (
                "arn:aws:lambda:us-east-1:123456789012:function:hello/invocations",
                "hello",
                None,
            ),
            (
                "arn%3Aaws-cn%3Alambda%3Acn-north-1%3A123456789012%3Afunction%3Ahello%3Alive/invocations",
                "hello",
                Some("live"),
            ),
            ("function:hello/invocations", "hello", None),
            ("function/invocations", "function", None),
            ("eu-west-1/invocations", "eu-west-1", None),
            (
                "orders-api-2:live/invocations",
                "orders-api-2",
                Some("live"),
            ),
            ("order-1:live/invocations", "order-1", Some("live")),
            ("us-api-v-1:live/invocations", "us-api-v-1", Some("live")),
        ];
        for (given, name, qualifier) in cases {
            let function = parse(given).expect(given);
            assert_eq!(
                (function.name.as_str(), function.qualifier.as_deref()),
                (name, qualifier),
                "{given}"
            );
        }
    }

    #[test]
    fn every_region_is_one() {
        for region in [
            "us-east-1",
            "ap-southeast-7",
            "us-gov-west-1",
            "us-iso-east-1",
            "us-isob-east-1",
            "eusc-de-east-1",
        ] {
            let function = parse(&format!("{region}:000000000000:hello/invocations"));
            assert_eq!(function.expect(region).name, "hello");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = format!("{}/invocations", "x".repeat(65));
        let cases = [
            "/invocations",
            "a%20b/invocations",
            "a:b:c/invocations",
            "arn:aws:s3:::bucket/invocations",
            "hello:/invocations",
            "hello/invocations?Qualifier=a%20b",
            "%ff/invocations",
            long.as_str(),
        ];
        for given in cases {
            assert_eq!(
                parse(given).expect_err(given).error_type,
                ErrorType::Validation,
                "{given}"
            );
        }
        let long = "x".repeat(129);
        for (parameter, given, constraint) in [
            (
                "functionName",
                "hello:a.b/invocations",
                "expected a function name",
            ),
            (
                "qualifier",
                "hello/invocations?Qualifier=a%20b",
                "Member must satisfy regular",
            ),
            (
                "qualifier",
                &format!("hello/invocations?Qualifier={long}"),
                "Member must have length",
            ),
        ] {
            let message = parse(given).unwrap_err().message;
            let blamed = format!("' at '{parameter}' failed to satisfy constraint: {constraint}");
            assert!(message.contains(&blamed), "{message}");
        }
        let refusal = parse("hello:7/invocations?Qualifier=8").unwrap_err();
        assert_eq!(refusal.error_type, ErrorType::InvalidParameterValue);
        assert!(refusal.message.starts_with("The derived qualifier"));
    }

    #[test]
    fn an_unknown_function_is_named_by_its_arn() {
        let refusal = parse("hello:live/invocations").unwrap().not_found();
        let expected =
            "Function not found: arn:aws:lambda:us-east-1:000000000000:function:hello:live";
        assert_eq!(refusal.message, expected);
    }
}
