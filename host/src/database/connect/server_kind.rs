//! Whether a server is of the kind that `target_session_attrs` asks for.
//!
//! Promises: it costs no round trip where the server reports its kind at login, as PostgreSQL 14 and later do, and
//! there is no reason to doubt that; else it is asked, which costs one. A server whose answer agrees with its report is
//! believed again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;

use super::failure::Failure;
use super::login::{Exchange, out_of_turn};
use crate::config::address::Target;

/// What a server is, as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ServerKind {
    standby: bool,
    /// Whether transactions are read-only by default.
    read_only: bool,
}

/// Whether what a server reports of itself at login is believed.
#[derive(Debug)]
pub(super) struct Belief {
    /// Whether it may be a pooler, which repeats what it was told by whichever server was the first.
    is_pooled: AtomicBool,
    /// How often there was reason for doubt.
    doubts: AtomicU64,
    /// How many of those doubts a server has settled since, by being what it reported.
    answered: AtomicU64,
}

impl Belief {
    pub(super) fn new(is_pooled: bool) -> Self {
        Self {
            is_pooled: AtomicBool::new(is_pooled),
            doubts: AtomicU64::new(0),
            answered: AtomicU64::new(0),
        }
    }

    /// A server may have become a standby: what servers report is not believed until one was asked and had told the
    /// truth.
    pub(super) fn suspect_demotion(&self) {
        self.doubts.fetch_add(1, Ordering::Relaxed);
    }

    /// Fails with the reason if the server is of another kind. `told` is what it said of itself.
    pub(super) async fn check(
        &self,
        exchange: &mut Exchange,
        target: Target,
        told: &BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        if matches!(target, Target::Any | Target::PreferStandby) {
            return Ok(());
        }
        let doubts = self.doubts.load(Ordering::Relaxed);
        let is_pooled = self.is_pooled.load(Ordering::Relaxed);
        let is_doubted = is_pooled || doubts != self.answered.load(Ordering::Relaxed);
        let kind = match ServerKind::told(told) {
            Some(told) if !is_doubted => told,
            told => {
                let found = ask(exchange).await?;
                match told {
                    Some(told) if told.agrees(found) => {
                        self.answered.store(doubts, Ordering::Relaxed);
                    }
                    // No server says of itself what is not so.
                    Some(_) => self.is_pooled.store(true, Ordering::Relaxed),
                    None => {}
                }
                found
            }
        };
        kind.suits(target).map_err(Failure::Unsuitable)
    }
}

impl ServerKind {
    fn told(parameters: &BTreeMap<String, String>) -> Option<Self> {
        let is_on = |name: &str| parameters.get(name).map(|value| value == "on");
        Some(Self {
            standby: is_on("in_hot_standby")?,
            read_only: is_on("default_transaction_read_only")?,
        })
    }

    fn takes_writes(self) -> bool {
        !self.standby && !self.read_only
    }

    /// Whether a report and an answer are of the same kind. A standby may report that transactions are not read-only:
    /// that is the setting, which counts once it is no standby any more.
    fn agrees(self, other: Self) -> bool {
        (self.standby, self.takes_writes()) == (other.standby, other.takes_writes())
    }

    fn suits(self, target: Target) -> Result<(), &'static str> {
        let takes_writes = self.takes_writes();
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

async fn ask(exchange: &mut Exchange) -> Result<ServerKind, Failure> {
    const QUESTION: &str = "SELECT pg_catalog.pg_is_in_recovery()::text, \
         pg_catalog.current_setting('transaction_read_only')";
    exchange
        .send(|buffer| frontend::query(QUESTION, buffer))
        .await?;
    let mut kind = None;
    loop {
        match exchange.message().await? {
            Message::DataRow(row) => {
                let ranges: Vec<_> = row.ranges().collect().map_err(|_| out_of_turn())?;
                let is = |column: usize, word: &[u8]| {
                    let range = ranges.get(column).cloned().flatten();
                    range.and_then(|range| row.buffer().get(range)) == Some(word)
                };
                kind = Some(ServerKind {
                    standby: is(0, b"true"),
                    read_only: is(1, b"on"),
                });
            }
            Message::ReadyForQuery(_) => return kind.ok_or_else(out_of_turn),
            Message::RowDescription(_)
            | Message::CommandComplete(_)
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
        let kind = |standby, read_only| ServerKind { standby, read_only };
        // A primary, a primary that is read-only by default, a standby (whatever it says).
        let kinds = [
            kind(false, false),
            kind(false, true),
            kind(true, false),
            kind(true, true),
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
            let suits = kinds.map(|kind| kind.suits(target).is_ok());
            assert_eq!(suits, expected, "{target:?}");
        }
    }

    #[test]
    fn a_server_that_does_not_say_what_it_is_is_asked() {
        let told = |pairs: &[(&str, &str)]| {
            let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
            ServerKind::told(&pairs.iter().map(own).collect())
        };
        assert_eq!(told(&[("server_version", "13.1")]), None);
        assert_eq!(told(&[("in_hot_standby", "on")]), None);
        assert_eq!(
            told(&[
                ("in_hot_standby", "on"),
                ("default_transaction_read_only", "off")
            ]),
            Some(ServerKind {
                standby: true,
                read_only: false
            })
        );
    }
}
