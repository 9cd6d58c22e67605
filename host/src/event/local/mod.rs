//! Lambda's Invoke API as values: what a caller asks for, checked, and what it is refused with.
//!
//! Promises: whatever an AWS SDK or the AWS CLI sends for `Invoke` is understood; what Lambda
//! would refuse is refused with the same error type and the same words where they are known.
//!
//! What is deliberately wider than Lambda: any account, region, version and alias is taken for
//! the one function of that name, so that code with a production ARN in it runs unchanged.
//! Signatures are not looked at.
//!
//! Left to others: sockets and bodies ([`crate::serve`]), and which functions there are.

mod chunked;
pub mod frames;
mod name;
mod refusal;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Uri};
use serde::de::IgnoredAny;
use uuid::Uuid;

pub use name::{FunctionName, is_stream};
pub use refusal::{ErrorType, Refusal};

use crate::invocation::{Deadline, Invocation, event_of, unix_ms_now};
use crate::limits;

/// The version that runs here, whatever was asked for.
pub const VERSION: &str = "$LATEST";

/// How the caller wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvocationType {
    /// Waits for it.
    RequestResponse,
    /// Does not want one.
    Event,
    /// Wants to know whether it could invoke, no more.
    DryRun,
}

/// What a caller asks for, except for the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoke {
    /// Which function.
    pub function: FunctionName,
    /// How it wants its answer.
    pub invocation_type: InvocationType,
    /// Whether it wants the end of the log with its answer.
    pub log_tail: bool,
    /// Its client context, as JSON text.
    pub client_context: Option<String>,
    /// The tenant it invokes for.
    pub tenant_id: Option<String>,
    /// Its trace header, or one made up for it.
    pub trace_id: String,
    /// Whether its payload comes in the frames of `aws-chunked`.
    pub chunked: bool,
}

impl Invoke {
    /// Reads `POST /2015-03-31/functions/{name}/invocations`,
    /// `POST /2021-11-15/functions/{name}/response-streaming-invocations`, or the old
    /// `POST /2014-11-13/functions/{name}/invoke-async`, which is an event.
    pub fn parse(uri: &Uri, headers: &HeaderMap) -> Result<Self, Refusal> {
        let invocation_type = match header(headers, "x-amz-invocation-type")? {
            _ if name::is_async(uri) => InvocationType::Event,
            None | Some("RequestResponse") => InvocationType::RequestResponse,
            Some("Event") => InvocationType::Event,
            Some("DryRun") => InvocationType::DryRun,
            Some(other) => {
                return Err(not_one_of(
                    other,
                    "invocationType",
                    "[Event, RequestResponse, DryRun]",
                ));
            }
        };
        let log_tail = match header(headers, "x-amz-log-type")? {
            None | Some("None") => false,
            Some("Tail") => true,
            Some(other) => return Err(not_one_of(other, "logType", "[None, Tail]")),
        };
        let context = header(headers, "x-amz-client-context")?
            .map(client_context)
            .transpose()?;
        Ok(Self {
            function: FunctionName::parse(uri)?,
            invocation_type,
            log_tail,
            // Lambda hands a client context to synchronous invocations alone.
            client_context: context.filter(|_| invocation_type != InvocationType::Event),
            tenant_id: header(headers, "x-amz-tenant-id")?.map(str::to_owned),
            trace_id: header(headers, "x-amzn-trace-id")?.map_or_else(new_trace_id, str::to_owned),
            chunked: chunked::is_so(headers)?,
        })
    }

    /// The largest payload that this kind of invocation may have, in bytes.
    pub fn payload_bytes_max(&self) -> usize {
        match self.invocation_type {
            InvocationType::Event => limits::EVENT_ASYNC_BYTES_MAX,
            InvocationType::RequestResponse | InvocationType::DryRun => limits::EVENT_BYTES_MAX,
        }
    }

    /// The refusal of a payload larger than that.
    pub fn too_large(&self) -> Refusal {
        let bytes_max = self.payload_bytes_max();
        let message = format!(
            "Request must be smaller than {bytes_max} bytes for the InvokeFunction operation"
        );
        Refusal::new(ErrorType::RequestEntityTooLarge, message)
    }

    /// The largest body in which such a payload can come, in bytes.
    pub fn body_bytes_max(&self) -> usize {
        let frames_bytes = match self.chunked {
            true => limits::FRAMES_BYTES_MAX,
            false => 0,
        };
        self.payload_bytes_max() + frames_bytes
    }

    /// What came in a body as an event.
    pub fn event(&self, body: Bytes) -> Result<Bytes, Refusal> {
        let payload = match self.chunked {
            true => chunked::unframed(&body)?,
            false => body,
        };
        if payload.len() > self.payload_bytes_max() {
            return Err(self.too_large());
        }
        event(payload).map_err(|problem| {
            let message = format!("Could not parse request body into json: {problem}");
            Refusal::new(ErrorType::InvalidRequestContent, message)
        })
    }

    /// The invocation of this event. Each attempt has a deadline of its own.
    pub fn invocation(
        &self,
        request_id: &str,
        event: Bytes,
        deadline: Deadline,
    ) -> Arc<Invocation> {
        Arc::new(Invocation {
            request_id: request_id.to_owned(),
            event,
            deadline,
            function_name: self.function.name.clone(),
            function_version: VERSION.to_owned(),
            function_arn: self.function.arn(),
            trace_id: Some(self.trace_id.clone()),
            client_context: self.client_context.clone(),
            identity: None,
            tenant_id: self.tenant_id.clone(),
            headers: Vec::new(),
        })
    }
}

/// The payload as an event: JSON of any kind, or else what is wrong with it; nothing at all counts as `{}`.
pub fn event(payload: Bytes) -> Result<Bytes, String> {
    let payload = event_of(payload);
    let text = std::str::from_utf8(&payload)
        .map_err(|error| format!("invalid UTF-8 after {} bytes", error.valid_up_to()))?;
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| error.to_string())?;
    Ok(payload)
}

fn client_context(encoded: &str) -> Result<String, Refusal> {
    if encoded.len() > limits::CLIENT_CONTEXT_BYTES_MAX {
        let message = format!(
            "Client context must have at most {} bytes of base64, and this one has {}.",
            limits::CLIENT_CONTEXT_BYTES_MAX,
            encoded.len()
        );
        return Err(Refusal::new(ErrorType::InvalidRequestContent, message));
    }
    let decoded = BASE64_STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let is_object = |text: &String| serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok();
    decoded.filter(is_object).ok_or_else(|| {
        let message = "Client context must be a valid Base64-encoded JSON object.";
        Refusal::new(ErrorType::InvalidRequestContent, message)
    })
}

// An empty header is what some clients send for none.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Refusal> {
    let Some(value) = headers.get(name) else {
        return Ok(None);
    };
    plain(value.as_bytes()).ok_or_else(|| {
        let message = format!("The header {name} must be printable ASCII text.");
        Refusal::new(ErrorType::InvalidParameterValue, message)
    })
}

/// What a header says, or whatever stands for one: printable ASCII, without what is blank around it; or that it
/// says nothing.
pub fn plain(value: &[u8]) -> Option<Option<&str>> {
    let is_plain = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~');
    let text = str::from_utf8(value).ok()?;
    let text = value.iter().all(is_plain).then(|| text.trim())?;
    Some(Some(text).filter(|text| !text.is_empty()))
}

fn not_one_of(value: &str, parameter: &str, known: &str) -> Refusal {
    Refusal::new(
        ErrorType::Validation,
        format!(
            "1 validation error detected: Value '{value}' at '{parameter}' failed to satisfy constraint: \
             Member must satisfy enum value set: {known}"
        ),
    )
}

/// A trace header for a caller that sent none.
pub fn new_trace_id() -> String {
    // X-Ray's form: the time in seconds and 96 random bits, then 64 for the parent.
    let seconds = unix_ms_now() / 1000;
    let (root, parent) = (
        Uuid::new_v4().simple().to_string(),
        Uuid::new_v4().simple().to_string(),
    );
    format!(
        "Root=1-{seconds:08x}-{};Parent={};Sampled=0",
        &root[8..],
        &parent[16..]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(headers: &[(&'static str, &str)]) -> Result<Invoke, Refusal> {
        let uri = Uri::from_static("/2015-03-31/functions/hello/invocations");
        let headers = headers
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()));
        Invoke::parse(&uri, &headers.collect())
    }

    #[test]
    fn nothing_said_is_a_synchronous_invocation() {
        let invoke = parse(&[("x-amz-tenant-id", "")]).unwrap();
        assert_eq!(invoke.invocation_type, InvocationType::RequestResponse);
        assert!(!invoke.log_tail && invoke.client_context.is_none() && invoke.tenant_id.is_none());
        let (root, rest) = invoke.trace_id.split_once(";Parent=").unwrap();
        assert_eq!(
            (root.len(), rest.len()),
            ("Root=1-".len() + 8 + 1 + 24, 16 + ";Sampled=0".len())
        );
    }

    #[test]
    fn everything_said_arrives() {
        let context = BASE64_STANDARD.encode("{\"custom\":{\"a\":\"ä\"}}");
        let headers = [
            ("x-amz-log-type", "Tail"),
            ("x-amz-client-context", context.as_str()),
            ("x-amz-tenant-id", "blue"),
            ("x-amzn-trace-id", "Root=1-5-a;Lineage=1"),
        ];
        let invoke = parse(&headers).unwrap();
        assert!(invoke.log_tail);
        let invocation =
            invoke.invocation("r", Bytes::new(), Deadline::after(limits::TIMEOUT_DEFAULT));
        assert_eq!(
            invocation.client_context.as_deref(),
            Some("{\"custom\":{\"a\":\"ä\"}}")
        );
        assert_eq!(invocation.tenant_id.as_deref(), Some("blue"));
        assert_eq!(invocation.trace_id.as_deref(), Some("Root=1-5-a;Lineage=1"));
        assert_eq!(
            invocation.function_arn,
            "arn:aws:lambda:us-east-1:000000000000:function:hello"
        );
    }

    #[test]
    fn what_lambda_refuses_is_refused() {
        let not_json = BASE64_STANDARD.encode("hello");
        let not_object = BASE64_STANDARD.encode("[1]");
        let cases = [
            (
                "x-amz-invocation-type",
                "event",
                ErrorType::Validation,
                "1 validation error detected: Value 'event' at 'invocationType' failed to satisfy constraint: Member must satisfy enum value set: [Event, RequestResponse, DryRun]",
            ),
            (
                "x-amz-log-type",
                "All",
                ErrorType::Validation,
                "1 validation error detected: Value 'All' at 'logType' failed to satisfy constraint: Member must satisfy enum value set: [None, Tail]",
            ),
            (
                "x-amz-client-context",
                "%%%",
                ErrorType::InvalidRequestContent,
                "Client context must be a valid Base64-encoded JSON object.",
            ),
            (
                "x-amz-client-context",
                &not_json,
                ErrorType::InvalidRequestContent,
                "Client context must be a valid Base64-encoded JSON object.",
            ),
            (
                "x-amz-client-context",
                &not_object,
                ErrorType::InvalidRequestContent,
                "Client context must be a valid Base64-encoded JSON object.",
            ),
            (
                "x-amz-tenant-id",
                "ä",
                ErrorType::InvalidParameterValue,
                "The header x-amz-tenant-id must be printable ASCII text.",
            ),
        ];
        for (name, value, error_type, message) in cases {
            let refusal = parse(&[(name, value)]).unwrap_err();
            assert_eq!(
                (refusal.error_type, refusal.message.as_str()),
                (error_type, message),
                "{name}: {value}"
            );
        }
    }

    #[test]
    fn a_client_context_has_as_much_room_as_on_lambda() {
        // In base64 three bytes take four.
        let context =
            |bytes: usize| BASE64_STANDARD.encode(format!("{{}}{}", " ".repeat(bytes - 2)));
        let invoke = parse(&[("x-amz-client-context", &context(2_685))]).unwrap();
        assert!(invoke.client_context.is_some());
        let refusal = parse(&[("x-amz-client-context", &context(2_688))]).unwrap_err();
        assert_eq!(refusal.error_type, ErrorType::InvalidRequestContent);
        assert_eq!(
            refusal.message,
            "Client context must have at most 3583 bytes of base64, and this one has 3584."
        );
    }

    #[test]
    fn an_event_has_less_room_and_no_client_context() {
        let context = BASE64_STANDARD.encode("{}");
        let invoke = parse(&[
            ("x-amz-invocation-type", "Event"),
            ("x-amz-client-context", &context),
        ])
        .unwrap();
        assert_eq!(invoke.client_context, None);
        let message = "Request must be smaller than 1048576 bytes for the InvokeFunction operation";
        assert_eq!(
            invoke.too_large(),
            Refusal::new(ErrorType::RequestEntityTooLarge, message)
        );
        let message = "Request must be smaller than 6291456 bytes for the InvokeFunction operation";
        assert_eq!(parse(&[]).unwrap().too_large().message, message);
    }

    #[test]
    fn a_payload_is_json_of_any_kind_or_nothing() {
        for payload in ["{}", "null", " [1, 2] ", "\"text\"", "4.5e3"] {
            assert_eq!(event(Bytes::from(payload)).unwrap(), payload);
        }
        assert_eq!(event(Bytes::new()).unwrap(), "{}");
        let cases: [(&[u8], &str); 4] = [
            (b"hello", "expected value at line 1 column 1"),
            (
                b"{\"a\":1",
                "EOF while parsing an object at line 1 column 6",
            ),
            (b"{} {}", "trailing characters at line 1 column 4"),
            (b"\"\xff\"", "invalid UTF-8 after 1 bytes"),
        ];
        for (payload, problem) in cases {
            let payload = Bytes::from_static(payload);
            assert_eq!(event(payload.clone()).unwrap_err(), problem);
            let refusal = parse(&[]).unwrap().event(payload).unwrap_err();
            assert_eq!(refusal.error_type, ErrorType::InvalidRequestContent);
            let message = format!("Could not parse request body into json: {problem}");
            assert_eq!(refusal.message, message);
        }
    }
}
