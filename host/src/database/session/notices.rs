//! What a server says beside its answers, as lines in the log of the invocation for which it worked.
//!
//! Promises: each line has the invocation's request id, tenant and trace, and the level that corresponds to the server's
//! severity. There are at most [`limits::NOTICES_PER_CALL_MAX`] lines for a call and
//! [`limits::NOTICES_PER_INVOCATION_MAX`] for an invocation. If there would be more, one last line says so.

use crate::database::connection::Connection;
use crate::database::wire::notice::{Notice, Notices};
use crate::limits;
use crate::telemetry::{Account, line_of};

/// Logs what the server has said on a connection since this was last called; and why no second connection could be
/// made, if the call needed one.
pub(in crate::database) fn log(connection: &mut Connection, account: &Account, database: &str) {
    if let Some(notices) = connection.wire.take_notices() {
        log_all(&notices, account, database);
    }
    if let Some(why) = connection.unconnected.take() {
        line_of!(account, warn, database, "{why}");
    }
}

#[cold]
fn log_all(notices: &Notices, account: &Account, database: &str) {
    for notice in &notices.kept {
        if !admitted(account, database) {
            return;
        }
        log_one(notice, account, database);
    }
    if notices.more > 0 && admitted(account, database) {
        line_of!(
            account,
            warn,
            database,
            more = notices.more,
            "the database said more in this call than is told of one"
        );
    }
}

/// Whether one more line may be told of this invocation.
fn admitted(account: &Account, database: &str) -> bool {
    let told = account.count_notice();
    if told == limits::NOTICES_PER_INVOCATION_MAX {
        line_of!(
            account,
            warn,
            database,
            "what the database says from here on is not told: it was {told} lines of this invocation"
        );
    }
    told < limits::NOTICES_PER_INVOCATION_MAX
}

fn log_one(notice: &Notice, account: &Account, database: &str) {
    let Notice {
        severity, message, ..
    } = notice;
    macro_rules! tell {
        ($level:ident) => {
            line_of!(
                account,
                $level,
                database,
                sqlstate = notice.code,
                detail = notice.detail,
                hint = notice.hint,
                "{severity}: {message}"
            )
        };
    }
    match severity.as_str() {
        // The last words of a connection: whoever called is told of its loss alone.
        "WARNING" | "FATAL" | "PANIC" => tell!(warn),
        // A function of the database says by it what a guest says on its standard output.
        "NOTICE" | "INFO" => tell!(info),
        _ => tell!(debug),
    }
}
