//! The frames of `InvokeWithResponseStream`, in AWS's event stream encoding.
//!
//! Promises: what AWS's clients read: any number of `PayloadChunk`, then one `InvokeComplete`.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use bytes::{Bytes, BytesMut};
use serde_json::json;

use crate::fault::Fault;

/// A piece of an answer.
pub fn piece(bytes: Bytes) -> Bytes {
    frame("PayloadChunk", "application/octet-stream", bytes)
}

/// The end of an answer: what went wrong, if anything did, and the end of the log as base64, if it
/// was asked for.
pub fn complete(fault: Option<&Fault>, log_result: Option<&str>) -> Bytes {
    let mut document = json!({});
    if let Some(fault) = fault {
        document["ErrorCode"] = fault.error_type.as_str().into();
        document["ErrorDetails"] = String::from_utf8_lossy(&fault.body()).into();
    }
    if let Some(log_result) = log_result {
        document["LogResult"] = log_result.into();
    }
    frame(
        "InvokeComplete",
        "application/json",
        document.to_string().into(),
    )
}

fn frame(event_type: &'static str, content_type: &'static str, payload: Bytes) -> Bytes {
    let header = |name: &'static str, value: &'static str| {
        Header::new(name, HeaderValue::String(value.into()))
    };
    let message = Message::new(payload)
        .add_header(header(":event-type", event_type))
        .add_header(header(":content-type", content_type))
        .add_header(header(":message-type", "event"));
    let mut frame = BytesMut::new();
    // It fails only if headers or payload are longer than a frame's length field can say, which pieces of an
    // answer, and whole ones of 6 MB, are not.
    if let Err(error) = write_message_to(&message, &mut frame) {
        tracing::error!("an answer's frame cannot be written: {error}");
    }
    frame.freeze()
}
