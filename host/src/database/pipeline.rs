//! Several statements in one round trip.
//!
//! Promises: they are sent in one flush and run in their order, all or none of them, unless a
//! transaction is open, to which they then belong; the error of one says which it was.

use std::sync::Arc;

use postgres_protocol::message::backend as tags;

use super::connection::Connection;
use super::cursor::Batch;
use super::error::{Error, Result};
use super::exchange::check;
use super::residue::Residue;
use super::statement::{Call, Description, Effects, Prepared};
use super::wire::{reply, request};
use crate::limits;

/// What one statement of a pipeline has answered.
pub struct Outcome {
    /// What the server says of the statement.
    pub description: Arc<Description>,
    /// All of its rows, and how many it affected.
    pub rows: Batch,
}

impl Connection {
    /// Executes statements. Each that is not prepared yet is prepared first, which takes a round
    /// trip of its own.
    pub async fn pipeline(&mut self, calls: &[Call]) -> Result<Vec<Outcome>> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        let mut statements = Vec::with_capacity(calls.len());
        for (index, call) in calls.iter().enumerate() {
            let given = request::count(&call.arguments).ok_or_else(request::not_whole);
            let prepared = match given {
                Ok(given) => self.prepare(&call.key).await.and_then(|prepared| {
                    check(call, &prepared.description, given).map(|()| prepared)
                }),
                Err(error) => Err(error),
            };
            statements.push(prepared.map_err(|error| error.of_call(index))?);
        }
        if calls.len() > self.statements.cap().get() {
            // Preparing the last ones may have pushed out the first: all are parsed on the way.
            statements
                .iter_mut()
                .for_each(|prepared| prepared.name.clear());
        }
        // One for all: each of them has so much time, counted from its own beginning.
        self.call_timeout = calls.iter().filter_map(|call| call.timeout).min();
        self.send_all(calls, &statements)?;
        let mut outcomes = Vec::with_capacity(calls.len());
        let mut bytes = 0;
        for (index, prepared) in statements.into_iter().enumerate() {
            let rows = self.all_rows(&mut bytes).await;
            outcomes.push(Outcome {
                description: prepared.description,
                rows: rows.map_err(|error| error.of_call(index))?,
            });
        }
        // What fails now, fails at the end of them all: a constraint that was deferred.
        while self.reply().await? != tags::READY_FOR_QUERY_TAG {}
        Ok(outcomes)
    }

    fn send_all(&mut self, calls: &[Call], statements: &[Prepared]) -> Result<()> {
        let mut effects = Effects {
            residue: Residue::Nothing,
            reads_sequence_state: false,
        };
        for prepared in statements {
            effects.residue = effects.residue.max(prepared.effects.residue);
            effects.reads_sequence_state |= prepared.effects.reads_sequence_state;
        }
        self.send(effects, |out| {
            for (call, prepared) in calls.iter().zip(statements) {
                let description = &prepared.description;
                if prepared.name.is_empty() {
                    request::parse("", &call.key.sql, &description.parameter_oids(), out)?;
                }
                request::bind(
                    "",
                    &prepared.name,
                    &description.argument_formats,
                    &call.arguments,
                    &description.column_formats,
                    out,
                )?;
                request::execute("", 0, out)?;
            }
            Ok(())
        })
    }

    /// The rows of one of several statements; `bytes` counts those of all.
    async fn all_rows(&mut self, bytes: &mut usize) -> Result<Batch> {
        let mut batch = Batch {
            last: true,
            ..Batch::default()
        };
        loop {
            match self.reply().await? {
                tags::DATA_ROW_TAG => {
                    let cells = reply::cells(&self.wire);
                    *bytes += cells.len();
                    if *bytes > limits::PIPELINE_BYTES_MAX {
                        return Err(Error::TooLarge(limits::PIPELINE_BYTES_MAX));
                    }
                    batch.cells.extend_from_slice(cells);
                    batch.rows += 1;
                }
                tags::COMMAND_COMPLETE_TAG => {
                    batch.affected = reply::affected(&self.wire);
                    return Ok(batch);
                }
                tags::EMPTY_QUERY_RESPONSE_TAG => return Ok(batch),
                tag @ (tags::COPY_IN_RESPONSE_TAG | tags::COPY_OUT_RESPONSE_TAG) => {
                    return Err(self.misused_copy(tag).await);
                }
                tags::READY_FOR_QUERY_TAG => return Err(self.wire.garbage("an early end")),
                _ => {}
            }
        }
    }
}
