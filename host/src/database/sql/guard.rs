//! What in a text would undo what the host has put in force, or get around it: a role, settings,
//! read-only.
//!
//! Promises: whatever PostgreSQL itself offers for that, by statement or by function, is found
//! however it is written. What cannot be read for certain counts as found.
//!
//! What the text does not show, it cannot find: a function, view or trigger *of the database* that
//! changes a setting, or that runs text. The role should not be allowed to use such things; the
//! strongest form of a permission is to log in as that role.

use super::copying::writes_there;
use super::kinds::statements;
use super::lexer::{Token, Tokens};
use crate::limits;

/// Something in a text that a permission cannot bear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Risk {
    /// What the server makes of it depends on the server's settings, or is not decoded here.
    Ambiguous(&'static str),
    /// It changes a setting that is not its to change; the setting's name.
    Setting(String),
    /// It changes a setting whose name is not in the text.
    UnknownSetting,
    /// It makes or changes that for which settings are kept, a role or a database, but no setting.
    Keeper(String),
    /// It runs what is not in the text: text given as a value, or a statement prepared elsewhere.
    Code(String),
    /// It writes by a function that PostgreSQL lets write where only reads are allowed.
    Write(String),
}

/// Settings that decide where in a text its strings and words end, and so what the host's own reading is worth.
const READING: [&str; 3] = [
    "backslash_quote",
    "client_encoding",
    "standard_conforming_strings",
];

/// Settings on which permissions rest besides.
const PROTECTED: [&str; 6] = [
    "default_transaction_read_only",
    "role",
    "row_security",
    "session_authorization",
    "session_replication_role",
    "transaction_read_only",
];

/// The risks in a text, all of them: who may take one may not take the others with it. Given are the names of
/// the settings that are protected besides PostgreSQL's own, in lower case, and whether nothing may be written.
pub fn risks(sql: &str, protected: &[String], read_only: bool) -> Vec<Risk> {
    let tokens: Vec<Token> = Tokens::new(sql).collect();
    let is_protected = |name: &str| {
        PROTECTED.contains(&name)
            || decides_reading(name)
            || protected.iter().any(|other| todays_name(other) == name)
    };
    let of_token = |index: usize| match &tokens[index] {
        Token::Ambiguous => Some(Risk::Ambiguous(
            "a string in which a quote follows a backslash; write it as E'…', or give it as a parameter",
        )),
        Token::Escaped => Some(Risk::Ambiguous(
            "an identifier with Unicode escapes (U&\"…\"); write it as \"…\"",
        )),
        Token::Folded => Some(Risk::Ambiguous(
            "an unquoted word with a dotted capital I (İ), which some servers take for an i; write it as \"…\"",
        )),
        token => match token.name()? {
            "set_config" => set_config(&tokens[index + 1..], &is_protected),
            name if runs_text(name) && is_called(&tokens, index) => {
                Some(Risk::Code(name.to_owned()))
            }
            name if runs_text_elsewhere(&tokens, index) => Some(Risk::Code(name.to_owned())),
            name if read_only && WRITES.contains(&name) && is_called(&tokens, index) => {
                Some(Risk::Write(name.to_owned()))
            }
            "treat" if calls_by_type(&tokens, index) => Some(Risk::Code("TREAT".to_owned())),
            "execute" if executes(&tokens[index..]) => Some(Risk::Code("EXECUTE".to_owned())),
            _ => None,
        },
    };
    let of_statements = statements(&tokens)
        .filter_map(|statement| of_statement(statement, &is_protected, read_only));
    let of_tokens = (0..tokens.len()).filter_map(of_token);
    of_tokens.chain(of_statements).collect()
}

/// Whether a setting changes how the server reads a text: nobody whose texts are judged may make it.
pub fn decides_reading(setting: &str) -> bool {
    READING.contains(&setting)
}

fn of_statement(
    tokens: &[Token],
    is_protected: &impl Fn(&str) -> bool,
    read_only: bool,
) -> Option<Risk> {
    // PostgreSQL makes an update of this view a call of `set_config`.
    let reads = tokens[0] == Token::Symbol('(')
        || tokens[0].is_one_of(&["copy", "declare", "explain", "select", "table", "with"]);
    let writes = ["update", "insert", "delete", "merge", "into"];
    let names_settings = tokens
        .iter()
        .any(|token| token.name() == Some("pg_settings"));
    if names_settings && (!reads || tokens.iter().any(|token| token.is_one_of(&writes))) {
        return Some(Risk::UnknownSetting);
    }
    match &tokens[0] {
        Token::Word(verb) if verb == "copy" => {
            let risk = || Risk::Write("COPY, to a file of the server's".to_owned());
            (read_only && writes_there(tokens)).then(risk)
        }
        Token::Word(verb) if verb == "set" => set(&tokens[1..], is_protected),
        Token::Word(verb) if verb == "reset" => reset(&tokens[1..], is_protected),
        Token::Word(verb) if verb == "discard" && tokens.get(1).is_some_and(|t| t.is("all")) => {
            Some(Risk::Setting("every setting".to_owned()))
        }
        // A setting that takes effect at the next login.
        Token::Word(verb) if verb == "alter" || verb == "create" => {
            let keeps = |token: &Token| token.is_one_of(&["role", "user", "database", "group"]);
            let noun = tokens.get(1).filter(|token| keeps(token))?;
            // Elsewhere it is a name like any other.
            let is_mapping = matches!(tokens, [_, user, mapping, next, ..]
                if user.is("user") && mapping.is("mapping") && next.is_one_of(&["for", "if"]));
            let sets = tokens
                .iter()
                .any(|token| token.is_one_of(&["reset", "set"]));
            let name = format!("a {}", noun.name().unwrap_or_default());
            match sets {
                _ if is_mapping => None,
                true => Some(Risk::Setting(name)),
                false => Some(Risk::Keeper(name)),
            }
        }
        _ => None,
    }
}

/// Behind `SET`.
fn set(mut tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    let is_setting = |name: &str| is_protected(name).then(|| Risk::Setting(name.to_owned()));
    // How long it holds, which a guest may repeat as often as it likes.
    let holds = |tokens: &[Token]| match tokens {
        [scope, name, ..] if scope.is("session") => {
            !name.is_one_of(&["authorization", "characteristics"])
        }
        [scope, ..] => scope.is_one_of(&["local", "session"]),
        [] => false,
    };
    // `SET local.x`, as any of these words, is a setting of that name.
    while tokens.get(1) != Some(&Token::Symbol('.')) && holds(tokens) {
        tokens = &tokens[1..];
    }
    if tokens.get(1) == Some(&Token::Symbol('.')) {
        return named(tokens, is_protected);
    }
    let is = |index: usize, word: &str| tokens.get(index).is_some_and(|token| token.is(word));
    if is(0, "session") && is(1, "authorization") {
        return Some(Risk::Setting("session_authorization".to_owned()));
    }
    if is(0, "session") || is(0, "transaction") {
        let write = tokens.iter().any(|token| token.is("write"));
        let isolation = tokens.iter().any(|token| token.is("isolation"));
        let deferrable = tokens.iter().any(|token| token.is("deferrable"));
        let default = if is(0, "session") { "default_" } else { "" };
        let mode = |named: bool, mode: &str| {
            let name = format!("{default}transaction_{mode}");
            named.then(|| is_setting(&name)).flatten()
        };
        return write
            .then(|| Risk::Setting("transaction_read_only".to_owned()))
            .or_else(|| mode(isolation, "isolation"))
            .or_else(|| mode(deferrable, "deferrable"));
    }
    if is(0, "constraints") {
        return None;
    }
    match ALIASES.iter().find(|(words, _)| begins_with(tokens, words)) {
        Some((_, name)) => is_setting(name),
        None => named(tokens, is_protected),
    }
}

/// Behind `RESET`.
fn reset(tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    match tokens.first() {
        Some(token) if token.is("all") => Some(Risk::Setting("every setting".to_owned())),
        Some(token) if token.is("session") => {
            Some(Risk::Setting("session_authorization".to_owned()))
        }
        _ if begins_with(tokens, &["transaction", "isolation"]) => {
            let name = "transaction_isolation";
            is_protected(name).then(|| Risk::Setting(name.to_owned()))
        }
        _ => set(tokens, is_protected),
    }
}

/// What `SET` calls otherwise than the setting is called.
const ALIASES: [(&[&str], &str); 4] = [
    (&["names"], "client_encoding"),
    (&["schema"], "search_path"),
    (&["time", "zone"], "timezone"),
    (&["xml", "option"], "xmloption"),
];

fn begins_with(tokens: &[Token], words: &[&str]) -> bool {
    let mut pairs = tokens.iter().zip(words);
    tokens.len() >= words.len() && pairs.all(|(token, word)| token.is(word))
}

/// The name of a setting that PostgreSQL still knows by an older one.
fn todays_name(name: &str) -> &str {
    match name {
        "sort_mem" => "work_mem",
        "vacuum_mem" => "maintenance_work_mem",
        name => name,
    }
}

/// A setting's name, perhaps of several parts.
fn named(tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    let Some(first) = tokens.first().and_then(Token::name) else {
        return Some(Risk::UnknownSetting);
    };
    let mut name = identifier(first);
    let mut rest = &tokens[1..];
    while let [Token::Symbol('.'), part, behind @ ..] = rest {
        let Some(part) = part.name() else {
            return Some(Risk::UnknownSetting);
        };
        name.push('.');
        name.push_str(&identifier(part));
        rest = behind;
    }
    let name = todays_name(&name);
    is_protected(name).then(|| Risk::Setting(name.to_owned()))
}

/// A part of a setting's name as PostgreSQL takes it: cut short, and without regard to case.
fn identifier(name: &str) -> String {
    let mut end = name.len().min(limits::IDENTIFIER_BYTES_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_ascii_lowercase()
}

/// Behind the name `set_config`. What a backslash in the setting's name means depends on the server.
fn set_config(tokens: &[Token], is_protected: &impl Fn(&str) -> bool) -> Option<Risk> {
    match tokens {
        [
            Token::Symbol('('),
            Token::Text(name),
            Token::Symbol(','),
            ..,
        ] if !name.contains('\\') => {
            let name = name.to_ascii_lowercase();
            let name = todays_name(&name);
            is_protected(name).then(|| Risk::Setting(name.to_owned()))
        }
        _ => Some(Risk::UnknownSetting),
    }
}

/// Whether these tokens begin with an `EXECUTE` of a prepared statement: a trigger and a privilege have the word as
/// well.
pub fn executes(tokens: &[Token]) -> bool {
    let [execute, next, behind @ ..] = tokens else {
        return false;
    };
    // A prepared statement may be called `function`.
    let names_function = || match behind.first() {
        Some(token) => !token.is("with") && !matches!(token, Token::Symbol(_)),
        None => false,
    };
    let elsewhere = match next {
        next if next.is_one_of(&["function", "procedure"]) => names_function(),
        next => next.is("on"),
    };
    execute.is("execute") && !elsewhere
}

/// Whether a function of this name runs text that it is given.
pub(in crate::database) fn runs_text(name: &str) -> bool {
    let mut families = RUNS_TEXT_FAMILIES.iter();
    families.any(|begin| name.starts_with(begin)) || RUNS_TEXT.contains(&name)
}

/// Whether a function is called here that runs text, by its schema or by none.
fn runs_text_elsewhere(tokens: &[Token], index: usize) -> bool {
    let is_qualified = index > 0 && tokens[index - 1] == Token::Symbol('.');
    let schema = match is_qualified && index > 1 {
        true => tokens[index - 2].name(),
        false => None,
    };
    let is_meant = |(own, name): &(&str, &str)| {
        tokens[index].name() == Some(name) && (!is_qualified || schema == Some(own))
    };
    tokens.get(index + 1) == Some(&Token::Symbol('(')) && RUNS_TEXT_IN.iter().any(is_meant)
}

/// Whether this is `TREAT(x AS name)`: to PostgreSQL a call of `pg_catalog.name(x)`, whatever that is, however its
/// name is written. A table may have that name as well, but no call stands behind these words.
pub fn calls_by_type(tokens: &[Token], index: usize) -> bool {
    let before = index.checked_sub(1).map(|before| &tokens[before]);
    let is_table = before.is_some_and(|token| token.is_one_of(&["copy", "into", "table"]));
    tokens[index].is("treat") && tokens.get(index + 1) == Some(&Token::Symbol('(')) && !is_table
}

/// Whether a name can be that of a function which is called here: `f(x)`, or `(x).f`, where `x` may
/// be anything that ends before the dot.
fn is_called(tokens: &[Token], index: usize) -> bool {
    let attribute = index > 0 && tokens[index - 1] == Token::Symbol('.');
    attribute || tokens.get(index + 1) == Some(&Token::Symbol('('))
}

/// Functions of PostgreSQL's own and of its extensions that execute SQL they are given as text.
#[rustfmt::skip]
const RUNS_TEXT: [&str; 21] = [
    "connectby", "create_immv", "cursor_to_xml", "cursor_to_xmlschema", "database_to_xml",
    "database_to_xml_and_xmlschema", "oracle_execute", "pg_background_launch",
    "query_export_to_s3", "query_to_json", "query_to_xml", "query_to_xml_and_xmlschema",
    "query_to_xmlschema", "replicate_ddl_command", "schedule_in_database", "schema_to_xml",
    "schema_to_xml_and_xmlschema", "table_import_from_s3", "ts_rewrite", "ts_stat", "xpath_table",
];

/// Functions of PostgreSQL's own that write: sequences; large objects, which PostgreSQL before 16 allows in a
/// transaction that may only read; the log of writes, which each allows there; what looks after indexes,
/// statistics, slots, origins and backups; files of the server's. And those that end what others do, which may be others' calls
/// on the connections of the same pool.
#[rustfmt::skip]
const WRITES: [&str; 61] = [
    "brin_desummarize_range", "brin_summarize_new_values", "brin_summarize_range",
    "gin_clean_pending_list", "lo_creat", "lo_create", "lo_export", "lo_from_bytea", "lo_import",
    "lo_put", "lo_truncate", "lo_truncate64", "lo_unlink", "lowrite", "nextval", "pg_backup_start",
    "pg_backup_stop", "pg_cancel_backend", "pg_clear_attribute_stats", "pg_clear_relation_stats",
    "pg_copy_logical_replication_slot", "pg_copy_physical_replication_slot",
    "pg_create_logical_replication_slot", "pg_create_physical_replication_slot",
    "pg_create_restore_point", "pg_drop_replication_slot", "pg_file_rename", "pg_file_unlink",
    "pg_file_write", "pg_import_system_collations", "pg_log_standby_snapshot",
    "pg_logical_emit_message", "pg_logical_slot_get_binary_changes", "pg_logical_slot_get_changes",
    "pg_promote", "pg_reload_conf", "pg_replication_origin_advance", "pg_replication_origin_create",
    "pg_replication_origin_drop", "pg_replication_origin_session_setup",
    "pg_replication_origin_xact_setup", "pg_replication_slot_advance", "pg_restore_attribute_stats",
    "pg_restore_relation_stats", "pg_rotate_logfile", "pg_start_backup", "pg_stat_reset",
    "pg_stat_reset_backend_stats", "pg_stat_reset_replication_slot", "pg_stat_reset_shared",
    "pg_stat_reset_single_function_counters", "pg_stat_reset_single_table_counters",
    "pg_stat_reset_slru", "pg_stat_reset_subscription_stats", "pg_stop_backup", "pg_switch_wal",
    "pg_sync_replication_slots", "pg_terminate_backend", "pg_wal_replay_pause",
    "pg_wal_replay_resume", "setval",
];

/// How the names of functions that run text begin, where an extension has many.
#[rustfmt::skip]
const RUNS_TEXT_FAMILIES: [&str; 7] = [
    "_pgr_", "_st_mapalgebra", "crosstab", "dblink", "pgr_", "run_command_on_", "st_mapalgebra",
];

/// The schemas of extensions, and functions there that run what they are given. A database may well have
/// functions of its own with such names.
const RUNS_TEXT_IN: [(&str, &str); 4] = [
    ("ag_catalog", "cypher"),
    ("aws_lambda", "invoke"),
    ("cron", "alter_job"),
    ("cron", "schedule"),
];

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
