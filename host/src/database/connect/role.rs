//! Whether a server is of the kind that `target_session_attrs` asks for.
//!
//! Promises: no round trip where the server says it by itself, as PostgreSQL 14 and later do, and is
//! believed; one where not.

use std::collections::BTreeMap;

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::failure::Failure;
use super::login::{Exchange, out_of_turn};
use crate::config::address::Target;

/// What a server is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Role {
    standby: bool,
    /// Whether transactions are read-only by default.
    read_only: bool,
}

/// Fails with the reason if the server is of another kind. `told` is what it said of itself, if that
/// is believed.
pub(super) async fn check(
    exchange: &mut Exchange,
    target: Target,
    told: Option<&BTreeMap<String, String>>,
) -> Result<(), Failure> {
    if matches!(target, Target::Any | Target::PreferStandby) {
        return Ok(());
    }
    let role = match told.and_then(Role::told) {
        Some(role) => role,
        None => ask(exchange).await?,
    };
    role.suits(target).map_err(Failure::Unsuitable)
}

impl Role {
    fn told(parameters: &BTreeMap<String, String>) -> Option<Self> {
        let is_on = |name: &str| parameters.get(name).map(|value| value == "on");
        Some(Self {
            standby: is_on("in_hot_standby")?,
            read_only: is_on("default_transaction_read_only")?,
        })
    }

    fn suits(self, target: Target) -> Result<(), &'static str> {
        let takes_writes = !self.standby && !self.read_only;
        match target {
            Target::ReadWrite if !takes_writes => {
                Err("it takes no writes, which target_session_attrs=read-write asks for")
            }
            Target::ReadOnly if takes_writes => Err(
                "it takes writes, and target_session_attrs=read-only asks for one that does not",
            ),
            Target::Primary if self.standby => {
                Err("it is a standby, and target_session_attrs=primary asks for another one")
            }
            Target::Standby if !self.standby => {
                Err("it is no standby, which target_session_attrs asks for")
            }
            _ => Ok(()),
        }
    }
}

async fn ask(exchange: &mut Exchange) -> Result<Role, Failure> {
    const QUESTION: &str = "SELECT pg_catalog.pg_is_in_recovery()::text, \
         pg_catalog.current_setting('transaction_read_only')";
    exchange
        .send(|buffer| frontend::query(QUESTION, buffer))
        .await?;
    let mut role = None;
    loop {
        match exchange.message().await? {
            Message::DataRow(row) => {
                let ranges: Vec<_> = row.ranges().collect().map_err(|_| out_of_turn())?;
                let is = |column: usize, word: &[u8]| {
                    let range = ranges.get(column).cloned().flatten();
                    range.and_then(|range| row.buffer().get(range)) == Some(word)
                };
                role = Some(Role {
                    standby: is(0, b"true"),
                    read_only: is(1, b"on"),
                });
            }
            Message::ReadyForQuery(_) => return role.ok_or_else(out_of_turn),
            Message::RowDescription(_)
            | Message::CommandComplete(_)
            | Message::NoticeResponse(_)
            | Message::ParameterStatus(_) => {}
            _ => return Err(out_of_turn()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_takes_what_libpq_takes() {
        let role = |standby, read_only| Role { standby, read_only };
        // A primary, a primary that is read-only by default, a standby (whatever it says).
        let roles = [
            role(false, false),
            role(false, true),
            role(true, false),
            role(true, true),
        ];
        #[rustfmt::skip]
        let cases = [
            (Target::Any, [true, true, true, true]),
            (Target::PreferStandby, [true, true, true, true]),
            (Target::ReadWrite, [true, false, false, false]),
            (Target::ReadOnly, [false, true, true, true]),
            (Target::Primary, [true, true, false, false]),
            (Target::Standby, [false, false, true, true]),
        ];
        for (target, expected) in cases {
            let suits = roles.map(|role| role.suits(target).is_ok());
            assert_eq!(suits, expected, "{target:?}");
        }
    }

    #[test]
    fn a_server_that_does_not_say_what_it_is_is_asked() {
        let told = |pairs: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            Role::told(&pairs.iter().map(own).collect())
        };
        assert_eq!(told(&[("server_version", "13.1")]), None);
        assert_eq!(told(&[("in_hot_standby", "on")]), None);
        assert_eq!(
            told(&[
                ("in_hot_standby", "on"),
                ("default_transaction_read_only", "off")
            ]),
            Some(Role {
                standby: true,
                read_only: false
            })
        );
    }
}
