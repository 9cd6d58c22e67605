//! What a server says beside its answers: `RAISE NOTICE`, warnings.
//!
//! Promises: one that arrives between other messages is kept until it is fetched; of more than
//! [`limits::NOTICES_PER_CALL_MAX`] the first stay, and the others are counted.

use postgres_protocol::message::backend;

use super::Wire;
use crate::database::server_error::ServerError;
use crate::limits;

/// What a server has said beside its answers.
#[derive(Debug, Default)]
pub struct Notices {
    /// The first ones, cut to [`limits::NOTICE_BYTES_MAX`].
    pub kept: Vec<Notice>,
    /// How many more there were.
    pub more: u64,
}

/// One of them, as far as it is told.
#[derive(Debug, PartialEq, Eq)]
pub struct Notice {
    /// `WARNING`, `NOTICE`, `INFO`, `LOG` or `DEBUG`; `FATAL` or `PANIC` of a connection's last words.
    pub severity: String,
    /// The SQLSTATE, where it says something.
    pub code: Option<String>,
    /// What is said.
    pub message: String,
    /// More about it.
    pub detail: Option<String>,
    /// What can be done about it.
    pub hint: Option<String>,
}

impl Wire {
    /// What was said since this was last asked.
    pub fn take_notices(&mut self) -> Option<Box<Notices>> {
        self.notices.take()
    }

    /// Forgets what was said with this code.
    pub fn drop_notice(&mut self, code: &str) {
        let Some(notices) = &mut self.notices else {
            return;
        };
        let is_other = |notice: &Notice| notice.code.as_deref() != Some(code);
        notices.kept.retain(is_other);
        if notices.kept.is_empty() && notices.more == 0 {
            self.notices = None;
        }
    }

    pub(super) fn take_notice(&mut self) {
        let notices = self.notices.get_or_insert_default();
        if notices.kept.len() == limits::NOTICES_PER_CALL_MAX {
            notices.more += 1;
            self.consume();
            return;
        }
        let Ok(backend::Message::NoticeResponse(body)) = self.take() else {
            return;
        };
        self.add_notice(ServerError::read(body.fields()));
    }

    /// Keeps this as one of the things that are told beside the answer, whatever their number.
    pub fn add_notice(&mut self, said: ServerError) {
        let notices = self.notices.get_or_insert_default();
        notices.kept.push(Notice::from(said));
    }
}

impl From<ServerError> for Notice {
    fn from(said: ServerError) -> Self {
        Self {
            severity: cut(said.severity),
            code: Some(cut(said.code)).filter(|code| code != SUCCESS),
            message: cut(said.message),
            detail: said.detail.map(cut),
            hint: said.hint.map(cut),
        }
    }
}

/// The SQLSTATE of what is said for its own sake.
const SUCCESS: &str = "00000";

fn cut(mut text: String) -> String {
    if text.len() > limits::NOTICE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(limits::NOTICE_BYTES_MAX));
        text.push('…');
        // What was cut off would stay with the rest.
        text.shrink_to_fit();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_notice_is_cut_between_two_characters() {
        let said = ServerError {
            code: SUCCESS.to_owned(),
            message: format!("x{}", "ä".repeat(limits::NOTICE_BYTES_MAX)),
            hint: Some("short".to_owned()),
            ..ServerError::default()
        };
        let notice = Notice::from(said);
        assert!(notice.message.ends_with("ä…"));
        assert!(notice.message.len() <= limits::NOTICE_BYTES_MAX + '…'.len_utf8());
        assert_eq!((notice.code, notice.hint.as_deref()), (None, Some("short")));
    }
}
