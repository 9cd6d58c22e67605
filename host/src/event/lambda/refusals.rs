//! What the status of a reply means.
//!
//! Promises: a refusal that concerns one invocation alone is logged and is no error, since Lambda has told
//! the caller already; one that says nothing of what was posted is an error, after which that is posted again.

use http::StatusCode;

use super::{Error, Receipt};
use crate::telemetry::line_for;

/// What the status of a posted answer means. A refusal of that answer alone is logged; one that may be over
/// the next time is an error.
pub(super) fn judged(
    what: &str,
    status: StatusCode,
    body: &[u8],
    receipt: Option<&Receipt>,
) -> Result<(), Error> {
    if status.is_success() {
        return Ok(());
    }
    match refused(what, status, body) {
        fatal @ Error::Fatal(_) => Err(fatal),
        refusal if says_nothing(status) => Err(refusal),
        refusal => {
            let invocation = receipt.map(|receipt| &*receipt.invocation);
            line_for!(invocation, warn, "{refusal}");
            Ok(())
        }
    }
}

/// Whether a refusal says nothing about what was posted: it comes from a proxy, or from a server that is
/// overloaded.
pub(super) fn says_nothing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// What a refusal is.
pub(super) fn refused(what: &str, status: StatusCode, body: &[u8]) -> Error {
    let body = String::from_utf8_lossy(&body[..body.len().min(1024)]);
    let text = format!("{what} was refused with status {}: {body}", status.as_u16());
    match status {
        StatusCode::INTERNAL_SERVER_ERROR => Error::Fatal(text),
        _ => Error::Transient(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_500_is_the_end() {
        let refused = |status| super::refused("x", status, b"");
        assert!(matches!(
            refused(StatusCode::INTERNAL_SERVER_ERROR),
            Error::Fatal(_)
        ));
        assert!(matches!(
            refused(StatusCode::SERVICE_UNAVAILABLE),
            Error::Transient(_)
        ));
    }

    #[test]
    fn a_refusal_that_says_nothing_of_an_answer_is_not_its_end() {
        let judged = |status: u16| judged("x", StatusCode::from_u16(status).unwrap(), b"", None);
        for status in [408, 429, 502, 503, 504] {
            assert!(
                matches!(judged(status), Err(Error::Transient(_))),
                "{status}"
            );
        }
        for status in [202, 400, 403, 410, 413, 431, 501] {
            assert!(judged(status).is_ok(), "{status}");
        }
    }
}
