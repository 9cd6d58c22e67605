//! A fault as AWS X-Ray wants to be told of it, in the header of an error.
//!
//! Promises: a header's value whatever the guest wrote, as small as the Runtime API keeps it; what
//! does not fit is left out from the outermost frame inwards, and then from the message's end.

use http::header::HeaderValue;
use serde_json::json;

use crate::fault::Fault;
use crate::limits;

/// The document `{"working_directory", "paths", "exceptions", "message"}` as a header's value.
pub(super) fn cause(fault: &Fault) -> Option<HeaderValue> {
    let (mut frames, mut message) = (fault.stack_trace.len(), fault.caller.as_str());
    loop {
        let text = document(fault, frames, message);
        if text.len() <= limits::CAUSE_BYTES_MAX {
            return HeaderValue::from_str(&text).ok();
        }
        match (frames, message.len()) {
            (0, 0) => return None,
            (0, length) => message = &message[..message.floor_char_boundary(length / 2)],
            _ => frames /= 2,
        }
    }
}

fn document(fault: &Fault, frames: usize, message: &str) -> String {
    let frames = fault.stack_trace.iter().take(frames);
    let stack: Vec<_> = frames.map(|frame| json!({ "label": frame })).collect();
    let working_directory = std::env::current_dir().unwrap_or_default();
    let document = json!({
        "working_directory": working_directory,
        "paths": [],
        "exceptions": [{
            "type": fault.error_type,
            "message": message,
            "stack": stack,
        }],
        "message": message,
    });
    ascii(&document.to_string())
}

/// The same JSON without a character that a header could not carry: JSON has an escape for each.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && !c.is_ascii_control() {
            text.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    #[test]
    fn whatever_the_guest_wrote_is_a_headers_value_and_reads_the_same() {
        let message = "Zoë 🦀 said:\n\u{7f}\"no\"";
        let fault = Fault::new(Kind::Panic, message).traced(vec!["à::b".to_owned()]);
        let value = cause(&fault).unwrap();
        let read: serde_json::Value = serde_json::from_slice(value.as_bytes()).unwrap();
        assert_eq!(read["message"], message);
        assert_eq!(read["exceptions"][0]["stack"][0]["label"], "à::b");
    }

    #[test]
    fn a_long_message_is_told_as_far_as_it_fits() {
        for letter in ["x", "é", "\u{1}"] {
            let name = letter.repeat(limits::FAULT_MESSAGE_BYTES_MAX);
            let fault = Fault::new(Kind::Failed, name.clone()).named(name.clone());
            let fault = fault.traced(vec![name.clone(); 64]);
            let value = cause(&fault).unwrap();
            assert!(value.len() <= limits::CAUSE_BYTES_MAX);
            let read: serde_json::Value = serde_json::from_slice(value.as_bytes()).unwrap();
            let message = read["message"].as_str().unwrap();
            assert!(
                !message.is_empty() && name.starts_with(message),
                "{letter:?}"
            );
        }
    }

    #[test]
    fn the_outermost_frames_are_left_out_first() {
        let frames = (0..64).map(|n| format!("{n}{}", "é".repeat(400))).collect();
        let fault = Fault::new(Kind::Trap, "short").traced(frames);
        let value = cause(&fault).unwrap();
        assert!(value.len() <= limits::CAUSE_BYTES_MAX);
        let read: serde_json::Value = serde_json::from_slice(value.as_bytes()).unwrap();
        let label = read["exceptions"][0]["stack"][0]["label"].as_str().unwrap();
        assert!(label.starts_with("0é"));
    }
}
