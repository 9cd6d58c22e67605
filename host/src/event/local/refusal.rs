//! Why an invocation was not even begun, as the Invoke API says it.
//!
//! Promises: the error types, statuses and form ("rest-json") that AWS's clients turn into their
//! typed exceptions. Left to others: functions that fail, which are a 200 to this API.

use http::StatusCode;
use serde_json::json;

/// What kind of refusal it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// A header or the name has a value that the API's model does not allow.
    Validation,
    /// A header or the name has a value that is allowed, and does not fit to the rest.
    InvalidParameterValue,
    /// The payload or the client context is not JSON.
    InvalidRequestContent,
    /// There is no such function.
    ResourceNotFound,
    /// The payload is too large. The model has another name for it, which Lambda does not use.
    RequestEntityTooLarge,
    /// No instance came free, or too many events are waiting.
    TooManyRequests,
    /// This host failed.
    Service,
    /// There is nothing at this path.
    UnknownOperation,
    /// There is something at this path, but not for this method.
    MethodNotAllowed,
}

impl ErrorType {
    /// The name by which a client knows it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "ValidationException",
            Self::InvalidParameterValue => "InvalidParameterValueException",
            Self::InvalidRequestContent => "InvalidRequestContentException",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::RequestEntityTooLarge => "RequestEntityTooLargeException",
            Self::TooManyRequests => "TooManyRequestsException",
            Self::Service => "ServiceException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::MethodNotAllowed => "MethodNotAllowedException",
        }
    }

    /// Its HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Validation | Self::InvalidParameterValue | Self::InvalidRequestContent => {
                StatusCode::BAD_REQUEST
            }
            Self::ResourceNotFound | Self::UnknownOperation => StatusCode::NOT_FOUND,
            Self::RequestEntityTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
            Self::Service => StatusCode::INTERNAL_SERVER_ERROR,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        }
    }
}

/// Why an invocation was not even begun.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub error_type: ErrorType,
    /// What the caller reads.
    pub message: String,
}

impl Refusal {
    /// A refusal of this kind.
    pub fn new(error_type: ErrorType, message: impl Into<String>) -> Self {
        Self {
            error_type,
            message: message.into(),
        }
    }

    /// The error document.
    ///
    /// The message is in it twice because the API's model spells it `Message` for some of the
    /// types and `message` for others, and typed clients read only their own spelling.
    pub fn body(&self) -> Vec<u8> {
        let blamed = if self.error_type.status().is_server_error() {
            "Service"
        } else {
            "User"
        };
        let mut body = json!({ "Type": blamed, "Message": self.message, "message": self.message });
        if self.error_type == ErrorType::TooManyRequests {
            body["Reason"] = "ConcurrentInvocationLimitExceeded".into();
        }
        body.to_string().into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_what_the_model_describes() {
        let body = |error_type| -> serde_json::Value {
            serde_json::from_slice(&Refusal::new(error_type, "no").body()).unwrap()
        };
        let expected = json!({ "Type": "User", "Message": "no", "message": "no" });
        assert_eq!(body(ErrorType::ResourceNotFound), expected);
        assert_eq!(body(ErrorType::Service)["Type"], "Service");
        assert_eq!(
            body(ErrorType::TooManyRequests)["Reason"],
            "ConcurrentInvocationLimitExceeded"
        );
    }
}
