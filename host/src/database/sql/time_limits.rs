//! Which texts may set how long a server waits for its session.

use super::kinds::statements;
use super::lexer::{Token, Tokens};
use super::words::Words;

/// The settings that do so. PostgreSQL knows the last one from version 14 on.
pub const SETTINGS: [&str; 3] = [
    "statement_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
];

/// Whether a text may set one of them: it names it, or sets something whose name cannot be told from the text. What a
/// function does is not in the text.
pub fn limits(sql: &str, words: &Words) -> bool {
    let is_told = |statement: &&[Token]| !statement[0].is("show");
    let sets = words.readings().flat_map(statements).filter(is_told);
    let mut calls = false;
    for token in sets.flatten() {
        if token.name() == Some(CALLED) {
            calls = true;
        } else if token.hides_a_setting() || token.names_setting(&SETTINGS) {
            return true;
        }
    }
    // Where strings can be read in two ways, neither is relied on.
    calls && (words.readings().nth(1).is_some() || calls_for_one(sql))
}

/// Whether a text may undo all settings of its session, those of the host's among them.
pub fn resets(words: &Words) -> bool {
    let undoes = |pair: &[Token]| pair[0].is_one_of(&["discard", "reset"]) && pair[1].is("all");
    words.readings().any(|tokens| tokens.windows(2).any(undoes))
}

/// The function that makes a setting.
const CALLED: &str = "set_config";

/// Whether a call in a text makes one of them, or one whose name is not a plain string: only that is the same
/// however it is read.
fn calls_for_one(sql: &str) -> bool {
    let tokens: Vec<Token> = Tokens::new(sql).collect();
    let is_another = |behind: &[Token]| match behind {
        [
            Token::Symbol('('),
            Token::Text(name),
            Token::Symbol(','),
            ..,
        ] => !name.contains('\\') && !SETTINGS.iter().any(|own| own.eq_ignore_ascii_case(name)),
        _ => false,
    };
    let each = tokens.iter().enumerate();
    let mut calls = each.filter(|(_, token)| token.name() == Some(CALLED));
    calls.any(|(at, _)| !is_another(&tokens[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_undoes_all_settings_is_told_from_what_undoes_one() {
        for sql in ["RESET ALL", "select 1; /* clean */ discard /* */ all;"] {
            assert!(resets(&Words::of(sql)), "{sql}");
        }
        for sql in ["", "reset work_mem", "discard plans", "select 'reset all'"] {
            assert!(!resets(&Words::of(sql)), "{sql}");
        }
    }

    #[test]
    fn what_may_limit_a_session_is_told_from_what_does_not() {
        let limits = |sql: &str| limits(sql, &Words::of(sql));
        for sql in [
            "set statement_timeout to 200",
            "select 1; SET LOCAL \"idle_session_timeout\" = 0",
            "reset idle_in_transaction_session_timeout",
            "show work_mem; set statement_timeout to 200",
            "select set_config($1, $2, true)",
            "set \"Statement_Timeout\" to 0",
            "set U&\"statement\\005ftimeout\" to 0",
            "select set_config('Statement_Timeout', '0', false)",
            "select set_config('a.b', 'c', true), set_config ( 'idle_session_timeout', '0', true)",
            "select set_config(E'statement\\137timeout', '0', true)",
            "select set_config('statement\\137timeout', '0', true)",
            "select set_config(U&'statement\\005ftimeout', '0', true)",
            "select set_config($$statement_timeout$$, '0', true)",
            "select set_config('statement'\n'_timeout', '0', true)",
            "select set_config('statement' || '_timeout', '0', true)",
            "select set_config('a.b'::text, 'c', true)",
            "select set_config(setting_name => 'statement_timeout', new_value => '0', is_local => true)",
            "select set_config(name, '0', true) from (values ('statement_timeout')) as v (name)",
            "select 'a\\'', set_config('a.b', 'c', true) --'",
            "select U&\"set\\005fconfig\"('statement_timeout', '0', true)",
        ] {
            assert!(limits(sql), "{sql}");
        }
        for sql in [
            "",
            "set lock_timeout to 200",
            "show statement_timeout; select 1",
            "select set_config('app.tenant', $1, true)",
            "select pg_catalog.set_config /* the tenant's */ ('app.tenant', 'a', true)",
            "select \"set_config\"('app.tenant', 'statement_timeout', true)",
            "select 'set statement_timeout to 0' -- statement_timeout",
            "update jobs set timeout = $1",
        ] {
            assert!(!limits(sql), "{sql}");
        }
    }
}
