//! Several statements in one round trip.
//!
//! Promises: they are sent in one flush and run in their order, all or none of them, unless a
//! transaction is open, to which they then belong (a text that ends it half-way is refused before, by
//! [`crate::database::session::work`]); those that must be known first are prepared in
//! one flush before it; the error of one says which it was; what the host puts in force holds anew
//! for each of them, whatever the ones before have done to it.

use std::collections::HashMap;
use std::sync::Arc;

use postgres_protocol::message::backend as tags;

use super::Connection;
use super::exchange::{check, formats};
use super::preparation::{Ground, judged};
use crate::config::Prepare;
use crate::database::connection::batch::Batch;
use crate::database::error::{Error, Result};
use crate::database::sql::outside_transactions::may_commit;
use crate::database::sql::varying_columns::varies;
use crate::database::statement::{Call, Description, Effects, Key};
use crate::database::wire::reply::{self, Shape};
use crate::database::wire::request;
use crate::limits;

/// What one statement of a pipeline has answered.
pub struct Outcome {
    /// What the server says of the statement.
    pub description: Arc<Description>,
    /// All of its rows, and how many it affected.
    pub rows: Batch,
}

/// How one statement of a pipeline is executed.
struct Plan {
    /// The call whose statement is parsed for this one too; itself, or an earlier one.
    same_as: usize,
    /// Whether it is parsed on the way.
    parsed: bool,
    /// The name under which it is bound; none if it is parsed for each execution.
    name: Arc<str>,
    /// What it is, or is assumed to be.
    description: Option<Arc<Description>>,
    /// What executing it does; none if that is said of an earlier call of the same statement.
    effects: Option<Effects>,
}

impl Connection {
    /// Executes statements; `known` is what is believed of them. Those of which nothing is known, nor
    /// what types their arguments have, are prepared first, all in one flush.
    pub async fn pipeline(
        &mut self,
        calls: &[Call],
        known: Vec<Option<Arc<Description>>>,
    ) -> Result<Vec<Outcome>> {
        if calls.is_empty() {
            return Ok(Vec::new());
        }
        self.heed_redefinition(calls.iter().map(|call| &call.key));
        let ground = self.ground();
        let is_known = known.iter().any(Option::is_some);
        let done = match self.pipe(calls, known, Some(&ground)).await {
            Err(error) => {
                let keys: Vec<&Key> = calls.iter().map(|call| &call.key).collect();
                match self.heals(&keys, is_known, &ground, &error).await {
                    true => self.pipe(calls, vec![None; calls.len()], None).await,
                    false => Err(error),
                }
            }
            outcomes => outcomes,
        };
        self.timeouts.end_call();
        done
    }

    async fn pipe(
        &mut self,
        calls: &[Call],
        known: Vec<Option<Arc<Description>>>,
        assuming: Option<&Ground>,
    ) -> Result<Vec<Outcome>> {
        // One for all: each of them has so much time, counted from its own beginning.
        self.per_loan.call_timeout = calls.iter().filter_map(|call| call.timeout).min();
        self.allow(calls.len());
        // Before it is decided how it is executed: what goes first may have statements forgotten.
        if let [call] = calls
            && may_commit(&call.key.sql)
            && self.is_outside()
        {
            Box::pin(self.lead_call(&call.key.sql)).await?;
        }
        let planned = self.plan(calls, known, assuming).await;
        self.securing &= planned.is_ok();
        let plans = planned?;
        let was_outside = self.is_outside();
        self.send_all(calls, &plans)?;
        let first = plans.first().and_then(|plan| plan.effects);
        let behind = Effects::of_all(plans.iter().skip(1).filter_map(|plan| plan.effects));
        let mut answers = Vec::with_capacity(calls.len());
        let mut bytes = 0;
        let between = self.per_loan.terms.prelude.iter().len() as u32;
        for (index, plan) in plans.iter().enumerate() {
            if index > 0 {
                self.in_flight.leading = between;
            }
            let answer = self.answer(plan, &mut bytes).await;
            self.fails_later |= matches!(answer, Err(Error::TooLarge(_)));
            answers.push(answer.map_err(|error| error.of_call(index))?);
        }
        // What fails now, fails at the end of them all: a constraint that was deferred.
        while self.reply().await? != tags::READY_FOR_QUERY_TAG {}
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(calls.len());
        for ((call, plan), (shape, rows)) in calls.iter().zip(plans).zip(answers) {
            let description = match (plan.description, plan.parsed) {
                (Some(known), true) if known.fits(&shape) => known,
                (Some(known), false) if plan.same_as == outcomes.len() => known,
                // What was assumed of the one that is parsed for it too may have turned out to be wrong.
                (_, false) => outcomes[plan.same_as].description.clone(),
                (known, true) => {
                    let sent = formats(known.as_ref()).1;
                    let resolved = Box::pin(self.resolve(&shape, Some(&sent))).await;
                    Arc::new(resolved.map_err(Error::executed)?)
                }
            };
            if let (true, Some(effects)) = (plan.parsed && !plan.name.is_empty(), plan.effects) {
                self.remember(&call.key, plan.name, description.clone(), effects);
            }
            outcomes.push(Outcome { description, rows });
        }
        self.note_redefined_between(first, behind, was_outside);
        Ok(outcomes)
    }

    /// Decides how each statement is executed, and prepares those for which that must be known first.
    async fn plan(
        &mut self,
        calls: &[Call],
        known: Vec<Option<Arc<Description>>>,
        ground: Option<&Ground>,
    ) -> Result<Vec<Plan>> {
        let keys: Vec<&Key> = calls.iter().map(|call| &call.key).collect();
        let mut assuming = None;
        // If there are more than are kept, the last ones would push out the first.
        let named = self.prepare == Prepare::Always && calls.len() <= self.statements.max();
        let mut first: HashMap<&Key, usize> = HashMap::new();
        let mut plans: Vec<Plan> = Vec::with_capacity(calls.len());
        let mut missing = Vec::new();
        for (index, (call, known)) in calls.iter().zip(known).enumerate() {
            let given = request::count(&call.arguments).ok_or_else(request::not_whole);
            let given = given.map_err(|error| error.of_call(index))?;
            let prepared = self.statements.get(&call.key);
            let effects = prepared.map(|own| own.effects);
            let same_as = match prepared.is_none() && varies(&call.key.sql) {
                true => index,
                false => *first.entry(&call.key).or_insert(index),
            };
            let prepared = prepared.filter(|own| own.still_serves(call, known.as_ref()));
            let prepared = prepared.cloned();
            let is_right = |known: &Arc<Description>| known.version == call.version || given == 0;
            let description = match &prepared {
                Some(prepared) => Some(prepared.description.clone()),
                None => known.filter(is_right),
            };
            let own_name = prepared.map(|prepared| prepared.name).unwrap_or_default();
            let parsed = !named || (own_name.is_empty() && same_as == index);
            if same_as == index && description.is_none() {
                let mut may_assume =
                    || *assuming.get_or_insert_with(|| self.may_assume(ground, &keys));
                if !(call.names_all() && may_assume()) {
                    missing.push(index);
                }
            }
            plans.push(Plan {
                same_as,
                parsed,
                name: if named { own_name } else { Arc::default() },
                description,
                effects,
            });
        }
        // It goes before the execution.
        let securing = std::mem::take(&mut self.securing);
        self.prepare_missing(calls, &mut plans, &missing, named)
            .await?;
        judge(calls, &mut plans).await;
        self.heed_in_plans(&mut plans, ground, &keys, named);
        self.securing |= securing;
        for index in 0..plans.len() {
            if named && plans[index].parsed {
                plans[index].name = self.statement_name(&calls[index].key);
            }
            let same_as = plans[index].same_as;
            if same_as != index {
                plans[index].name = plans[same_as].name.clone();
                plans[index].description = plans[same_as].description.clone();
            }
            if let Some(description) = &plans[index].description {
                let given = request::count(&calls[index].arguments).unwrap_or_default();
                check(&calls[index], description, given).map_err(|error| error.of_call(index))?;
            }
        }
        Ok(plans)
    }

    async fn prepare_missing(
        &mut self,
        calls: &[Call],
        plans: &mut [Plan],
        missing: &[usize],
        named: bool,
    ) -> Result<()> {
        if missing.is_empty() {
            return Ok(());
        }
        let keys: Vec<&Key> = missing.iter().map(|index| &calls[*index].key).collect();
        let prepared = Box::pin(self.prepare_all(&keys)).await;
        let prepared = prepared.map_err(|(nth, error)| error.of_call(missing[nth]))?;
        self.go_on().await?;
        for (index, prepared) in missing.iter().zip(prepared) {
            let plan = &mut plans[*index];
            plan.description = Some(prepared.description);
            plan.effects = Some(prepared.effects);
            if named && !prepared.name.is_empty() {
                plan.name = prepared.name;
                plan.parsed = false;
            }
        }
        // What they take may have pushed out others, also of those that are here: these are parsed on the way.
        let own = plans.iter_mut().enumerate();
        for (index, plan) in own.filter(|(index, plan)| plan.same_as == *index) {
            plan.parsed |= !plan.name.is_empty() && !self.statements.contains(&calls[index].key);
        }
        Ok(())
    }

    /// What is assumed of statements may not be so: a transaction has changed that, or they do so themselves.
    fn heed_in_plans(
        &mut self,
        plans: &mut [Plan],
        ground: Option<&Ground>,
        keys: &[&Key],
        named: bool,
    ) {
        let assumes = |plan: &Plan| plan.parsed && plan.description.is_some();
        if plans.iter().any(assumes) {
            self.secure_redefined(ground, keys);
        }
        if named {
            parse_behind_redefinitions(plans);
        }
    }

    fn send_all(&mut self, calls: &[Call], plans: &[Plan]) -> Result<()> {
        let effects = Effects::of_all(plans.iter().filter_map(|plan| plan.effects));
        self.watch(&effects, || calls.len());
        let between = self.per_loan.terms.prelude.clone();
        self.send(effects, |out| {
            for (index, (call, plan)) in calls.iter().zip(plans).enumerate() {
                if let Some(prelude) = between.as_ref().filter(|_| index > 0) {
                    match index > 1 && !plans[index - 1].name.is_empty() {
                        true => prelude.command.write_again(out)?,
                        false => prelude.command.write(out)?,
                    }
                }
                if plan.parsed {
                    let oids = plan
                        .description
                        .as_ref()
                        .map(|known| known.parameter_oids());
                    let types = oids.as_ref().unwrap_or(&call.key.types);
                    request::parse(&plan.name, &call.key.sql, types, out)?;
                    request::describe(&plan.name, out)?;
                }
                let (arguments, columns) = formats(plan.description.as_ref());
                request::bind("", &plan.name, &arguments, &call.arguments, &columns, out)?;
                request::execute("", 0, out)?;
            }
            Ok(())
        })?;
        let parsed = plans.iter().filter(|plan| plan.parsed);
        self.parses(parsed.map(|plan| &plan.name));
        Ok(())
    }

    /// What the server says of a statement that is parsed on the way, and its rows.
    async fn answer(&mut self, plan: &Plan, bytes: &mut usize) -> Result<(Shape, Batch)> {
        let mut shape = Shape::default();
        self.in_flight.bound = false;
        loop {
            match self.reply().await? {
                tags::BIND_COMPLETE_TAG => break,
                tag if plan.parsed => self.describe(tag, &mut shape).await?,
                _ => return Err(self.wire.garbage("no bound statement where one was due")),
            }
        }
        (self.in_flight.executing, self.in_flight.bound) = (true, true);
        Ok((shape, self.all_rows(bytes).await?))
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
                    self.wire.traffic.rows += 1;
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

/// What stands behind a statement that may change what it is about is parsed there, once for all that are alike.
fn parse_behind_redefinitions(plans: &mut [Plan]) {
    let mut behind: Option<HashMap<usize, usize>> = None;
    for index in 0..plans.len() {
        let same_as = plans[index].same_as;
        let effects = plans[same_as].effects;
        if let Some(anew) = &mut behind {
            let first = *anew.entry(same_as).or_insert(index);
            let description = plans[same_as].description.clone();
            let plan = &mut plans[index];
            (plan.same_as, plan.parsed) = (first, first == index);
            if plan.parsed {
                (plan.effects, plan.description) = (effects, description);
            }
        }
        if effects.is_some_and(|effects| effects.redefines()) {
            behind = Some(HashMap::new());
        }
    }
}

/// Judges the texts of which that has not been done.
async fn judge(calls: &[Call], plans: &mut [Plan]) {
    for (index, plan) in plans.iter_mut().enumerate() {
        if plan.effects.is_none() && plan.same_as == index {
            plan.effects = Some(judged(&calls[index].key.sql).await);
        }
    }
}
