//! Where messages begin and end in what passes a proxy.

/// What a startup packet says instead of the protocol's version when it asks for a cancellation.
const CANCEL: u32 = 80_877_102;

/// Finds the messages in a stream of bytes.
#[derive(Default)]
pub(super) struct Framing {
    rest: Vec<u8>,
    /// Whether a packet without a tag comes first.
    startup: bool,
    /// Whether that packet asked for a cancellation.
    pub(super) cancels: bool,
    /// The statements found so far; no server sends any.
    pub(super) statements: Vec<(String, String)>,
}

impl Framing {
    pub(super) fn startup() -> Self {
        Self {
            startup: true,
            ..Self::default()
        }
    }

    /// The tags of the messages that end in these bytes.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        self.cancels = false;
        let mut tags = String::new();
        loop {
            let tag = usize::from(!self.startup);
            let number = |at: usize| {
                let bytes = self.rest.get(at..at + 4)?;
                Some(u32::from_be_bytes(bytes.try_into().expect("they are four")))
            };
            let Some(length) = number(tag) else { break };
            let whole = tag + length as usize;
            if self.rest.len() < whole {
                break;
            }
            if self.startup {
                self.cancels = number(4) == Some(CANCEL);
                self.startup = false;
            } else {
                tags.push(char::from(self.rest[0]));
                self.statements.extend(statement(&self.rest[..whole]));
            }
            self.rest.drain(..whole);
        }
        tags
    }
}

/// The name and the text of the statement in this message, if there is one.
fn statement(message: &[u8]) -> Option<(String, String)> {
    let texts = String::from_utf8_lossy(message.get(5..)?);
    let mut texts = texts.split('\0').map(str::to_owned);
    match message[0] {
        b'P' => texts.next().zip(texts.next()),
        b'Q' => texts.next().map(|text| (String::new(), text)),
        _ => None,
    }
}
