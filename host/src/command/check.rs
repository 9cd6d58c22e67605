//! `hearth check`: the queries that functions declare, compared with the database as it is.
//!
//! The database prepares each of them, under the function's own role, and executes none. What does
//! not fit is said as a compiler says it: what, where in the guest's source, and which part of the
//! query. The exit status is 0 when everything fits, and 1 otherwise.
//!
//! Promises: no database is changed, but for the host's own, which has its tables by `setup` alone;
//! everything that is wrong is said, not only the first thing; errors and warnings are on standard
//! output, since they are what was asked for.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;

use super::environment::{Setups, with_environment};
use super::{ConfigFile, run, shutdown};
use crate::config::Config;
use crate::database::Error;
use crate::database::session::{Session, work};
use crate::database::statement::Key;
use crate::instance::declared::{self, Query};
use crate::invocation::Deadline;
use crate::limits;
use crate::serve::{Environment, Function};
use crate::shutdown::Shutdown;
use crate::telemetry;

mod compare;
mod report;
mod rust;

use report::{Finding, Location};

#[derive(Debug, Args)]
pub(super) struct Check {
    /// The functions to check [default: all].
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    file: ConfigFile,
}

/// What was looked at, and what was found.
#[derive(Default)]
struct Checked {
    functions: usize,
    queries: usize,
    errors: usize,
    warnings: usize,
    text: String,
}

impl Check {
    pub(super) fn execute(self) -> anyhow::Result<ExitCode> {
        let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
        let config = self.file.load(&names)?;
        telemetry::start_on_stderr(&config.log);
        let checked = run(check(config))?;
        print!("{}", checked.text);
        println!("{}", checked.summary());
        Ok(match checked.errors {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        })
    }
}

async fn check(config: Config) -> anyhow::Result<Checked> {
    let work = async |_, environment: Environment, shutdown: Shutdown| {
        let checked = tokio::select! {
            checked = check_all(&environment) => checked,
            () = shutdown.requested() => bail!("interrupted before everything was checked"),
        };
        environment.drain(limits::SETTLE_ALL_TIMEOUT).await;
        checked
    };
    with_environment(config, Setups::Own, shutdown()?, work)
        .await?
        .context("interrupted before anything was checked")
}

async fn check_all(environment: &Environment) -> anyhow::Result<Checked> {
    let mut checked = Checked::default();
    for name in environment.function_names() {
        let function = environment
            .function(name)
            .with_context(|| format!("the function {name:?} was not loaded"))?;
        checked.functions += 1;
        check_function(function, &mut checked).await?;
    }
    Ok(checked)
}

async fn check_function(function: &Function, checked: &mut Checked) -> anyhow::Result<()> {
    let mut queries = declared::read(&function.config().component)?;
    queries.sort_by(|one, other| (&one.file, one.line).cmp(&(&other.file, other.line)));
    let session = function.session(Deadline::after(function.timeout()));
    for query in &queries {
        checked.queries += 1;
        let at = Location {
            function: function.name(),
            query,
        };
        match findings(&session, query).await {
            Ok(findings) => findings
                .iter()
                .for_each(|finding| checked.add(&at, finding)),
            Err(error) => {
                session.end().await;
                return Err(error);
            }
        }
    }
    session.end().await;
    Ok(())
}

/// What is wrong with a query; an error if the database cannot even be asked.
async fn findings(
    session: &std::sync::Arc<Session>,
    query: &Query,
) -> anyhow::Result<Vec<Finding>> {
    let key = Key {
        sql: query.sql.clone(),
        types: Vec::new(),
    };
    let prepare = work::Prepare {
        keys: &[key],
        doubted: &[],
        timeout: None,
    };
    match session.prepare(&query.database, prepare).await {
        Ok(described) => Ok(described
            .iter()
            .flat_map(|description| compare::compare(query, description))
            .collect()),
        Err(Error::Server(error)) => Ok(vec![Finding::refused(query, &error)]),
        Err(error @ (Error::UnknownDatabase(_) | Error::Denied(_) | Error::Invalid(_))) => {
            Ok(vec![Finding::error(error.to_string())])
        }
        Err(error) => Err(anyhow::Error::new(error)
            .context(format!("the database {:?} cannot be asked", query.database))),
    }
}

impl Checked {
    fn add(&mut self, at: &Location<'_>, finding: &Finding) {
        match finding.is_error {
            true => self.errors += 1,
            false => self.warnings += 1,
        }
        let _ = writeln!(self.text, "{}", finding.display(at));
    }

    fn summary(&self) -> String {
        let count = |number: usize, what: &str| match number {
            1 => format!("1 {what}"),
            _ => format!("{number} {what}s"),
        };
        let queries = match self.queries {
            1 => "1 query".to_owned(),
            number => format!("{number} queries"),
        };
        format!(
            "checked {queries} of {}: {}, {}",
            count(self.functions, "function"),
            count(self.errors, "error"),
            count(self.warnings, "warning"),
        )
    }
}
