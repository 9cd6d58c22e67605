//! Behind a pooler that gives a server's session to whoever begins a transaction (`prepare = "never"`):
//! what an invocation may do to a session there, and how that is undone.
//!
//! Nothing can be undone later: the next request may meet another session. So a transaction that may
//! have changed its session is ended, and the session reset, by two messages that leave together: while a pooler
//! owes an answer, it gives the session to nobody else. They are not one message, since of a commit that fails the
//! server skips the rest of that.
//!
//! Promises: what certainly needs a session beyond its transaction is refused before it is sent, and so is what would end
//! a transaction in another way; a commit is told as what it was, whatever becomes of the reset behind it.

use std::cell::OnceCell;

use postgres_protocol::message::backend as tags;

use super::work::Work;
use crate::config::Prepare;
use crate::database::Database;
use crate::database::connection::Connection;
use crate::database::connection::settling::reset;
use crate::database::error::{Error, Result};
use crate::database::sql::ending::ends_somewhere;
use crate::database::sql::kinds::statements;
use crate::database::sql::lexer::{Token, Tokens};
use crate::database::sql::parentheses::Parentheses;
use crate::database::sql::residue::{Residue, ends_with_transaction, is_temporary};
use crate::database::wire::reply;

/// Refuses, outside of a transaction, what certainly changes a session for longer than that, or relies
/// on one.
pub fn permit(database: &Database, work: &impl Work) -> Result<()> {
    if database.shares_sessions && work.texts().any(needs_session) {
        return Err(Error::Unsupported(
            "the statement changes its session, which a pooler shares with others (`prepare = \"never\"`): \
             do it in a transaction, at whose end it is undone"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Refuses, within a transaction, what would end it without the reset of its session.
pub fn permit_within(database: &Database, work: &impl Work) -> Result<()> {
    if database.shares_sessions && work.texts().any(ends_somewhere) {
        return Err(Error::Unsupported(
            "the statement ends its transaction, and what that has changed in its session would stay for others, with \
             whom a pooler shares that (`prepare = \"never\"`): end it by `commit` or `rollback` of its handle"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Refuses to wait for notifications.
pub fn permit_notifications(database: &Database) -> Result<()> {
    if database.shares_sessions {
        return Err(Error::Unsupported(
            "there are no notifications behind a pooler that shares the server's sessions \
             (`prepare = \"never\"`): use a database whose address leads to the server itself"
                .to_owned(),
        ));
    }
    Ok(())
}

impl Connection {
    /// Whether the session is to be reset together with the end of the transaction.
    pub fn resets_at_end(&self) -> bool {
        self.prepare == Prepare::Never && self.residue == Residue::Session
    }

    /// Ends a transaction with this statement, and resets the session, in one flush. Whether the
    /// server did what the statement says.
    pub async fn end_and_reset(&mut self, sql: &str) -> Result<bool> {
        self.begin_command(sql)?;
        self.wire.simple_query(&reset())?;
        let ended = self.ended(sql).await;
        if self.wire.is_dead() {
            return ended;
        }
        // It has its own answer, also where the transaction's end has failed.
        match self.wire.owed() > 0 && self.finish().await.is_ok() {
            true => self.was_reset(),
            false => self.doom(),
        }
        ended
    }

    /// The answer to the statement that ends a transaction, and to nothing behind it.
    async fn ended(&mut self, sql: &str) -> Result<bool> {
        let (mut done, mut refused) = (None, None);
        loop {
            let error = match self.wire.message().await {
                Ok(tags::ERROR_RESPONSE_TAG) => reply::error(&mut self.wire),
                Ok(tags::COMMAND_COMPLETE_TAG) => {
                    let tag = reply::tag(&self.wire);
                    done = Some(sql.starts_with(tag.split(' ').next().unwrap_or_default()));
                    continue;
                }
                Ok(tags::READY_FOR_QUERY_TAG) => {
                    return refused.map_or(Ok(done.unwrap_or(false)), Err);
                }
                Ok(_) => continue,
                Err(error) => error,
            };
            match &error {
                Error::Server(server) if !server.is_fatal() => refused = Some(error),
                _ => {
                    self.wire.end();
                    return done.ok_or(error);
                }
            }
        }
    }
}

/// Whether a text certainly relies on a session of its own, or changes one for longer than its
/// transaction. What is not known to do so does not: a function may do anything.
fn needs_session(sql: &str) -> bool {
    let tokens: Vec<Token> = Tokens::words(sql).collect();
    let mut statements = statements(&tokens).filter_map(|statement| statement.split_first());
    statements.any(|(first, rest)| {
        let second = |words: &[&str]| rest.first().is_some_and(|token| token.is_one_of(words));
        let verb = match first {
            Token::Word(verb) => verb.as_str(),
            Token::Symbol('(') => "select",
            _ => return false,
        };
        match verb {
            "set" => !ends_with_transaction(rest),
            "prepare" => !second(&["transaction"]),
            "listen" | "load" => true,
            "declare" => rest.iter().any(|token| token.is("hold")),
            "create" => {
                let qualified = |token: &Token| matches!(token, Token::Word(name) if name.starts_with("pg_temp"));
                rest.iter().take(3).any(is_temporary_word) || rest.iter().any(qualified)
            }
            "copy" | "delete" | "explain" | "insert" | "merge" | "select" | "update" | "values" | "with" => {
                let into = |pair: &[Token]| pair[0].is("into") && is_temporary_word(&pair[1]);
                let parentheses = OnceCell::new();
                let parentheses = || parentheses.get_or_init(|| Parentheses::of(rest));
                rest.windows(2).any(|pair| into(pair) || lasts(pair))
                    || (0..rest.len()).any(|at| sets(rest, at, parentheses))
            }
            _ => false,
        }
    })
}

fn is_temporary_word(token: &Token) -> bool {
    matches!(token, Token::Word(name) if is_temporary(name))
}

/// Whether this calls a function of PostgreSQL's own that takes a lock for as long as the session is
/// there, or does something else that lasts as long: `f(x)` or `(x).f`.
fn lasts(pair: &[Token]) -> bool {
    let names = |token: &Token| {
        let names = [
            "pg_advisory_lock",
            "pg_advisory_lock_shared",
            "pg_try_advisory_lock",
            "pg_try_advisory_lock_shared",
            "setseed",
        ];
        token.name().is_some_and(|name| names.contains(&name))
    };
    (names(&pair[0]) && pair[1] == Token::Symbol('('))
        || (pair[0] == Token::Symbol('.') && names(&pair[1]))
}

/// Whether there is a call of `set_config` at this place that does not say, as a plain `true`, that it
/// is for its transaction only.
fn sets<'a>(tokens: &[Token], at: usize, parentheses: impl FnOnce() -> &'a Parentheses) -> bool {
    let begin = at + 1;
    if tokens[at].name() != Some("set_config") || tokens.get(begin) != Some(&Token::Symbol('(')) {
        return false;
    }
    // Its strings are not among the words.
    let end = parentheses().partner(begin).unwrap_or(tokens.len());
    let arguments = &tokens[begin..end];
    let [.., before, last] = arguments else {
        return true;
    };
    !(matches!(before, Token::Symbol(',' | '>')) && last.is("true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_a_session_of_its_own_is_told_from_what_may() {
        for sql in [
            "set search_path = x",
            "select 1; SET SESSION work_mem = '1MB'",
            "listen news",
            "create temp table t (a int)",
            "create table pg_temp.t (a int)",
            "select 1 as a into temporary t",
            "set local.x = 'y'",
            "select pg_advisory_lock(1)",
            "select \"pg_advisory_lock\"(1)",
            "select (5::bigint).pg_advisory_lock",
            "select pg_catalog.pg_try_advisory_lock_shared(1)",
            "prepare p as select 1",
            "declare c cursor with hold for select 1",
            "(select pg_advisory_lock(1))",
            "insert into t values (pg_advisory_lock(1))",
            "copy (select pg_advisory_lock(1)) to stdout",
            "select setseed(0.5)",
            "select set_config('a.b', 'c', false)",
            "select set_config('a.b', 'true', is_local => false)",
            "select pg_catalog.\"set_config\"($1, $2, $3)",
            "with c as (select set_config('a.b', 'c', 'f')) select * from c",
            "update t set a = set_config('a.b', coalesce(a, true), not true)",
            "select set_config('a.b', 'c', true), set_config('a.b', 'c', false)",
        ] {
            assert!(needs_session(sql), "{sql}");
        }
        for sql in [
            "select temp, temporary from weather",
            "insert into t (temp) values (1)",
            "set local work_mem = '1MB'",
            "set transaction read only",
            "select my_function(), nextval('s')",
            "select pg_advisory_xact_lock(1)",
            "select set_config('a.b', coalesce($1, 'c'), true)",
            "select set_config('a.b', 'c', is_local => true)",
            "select set_config from t",
            "comment on function pg_advisory_lock(bigint) is 'locks'",
            "call p()",
            "do $$ begin end $$",
            "copy t from stdin",
            "create table t (a int)",
            "select 'set x = 1; listen y'",
            "",
        ] {
            assert!(!needs_session(sql), "{sql}");
        }
    }
}
