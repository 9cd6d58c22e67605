//! `[lambda]`: what concerns the environment on Lambda alone.

use std::time::Duration;

use super::source::Entry;
use super::{ConfigError, Variables};
use crate::limits;

/// Set on Lambda Managed Instances, and nowhere else.
pub const MAX_CONCURRENCY: &str = "AWS_LAMBDA_MAX_CONCURRENCY";
/// What the environment is started as.
pub const INITIALIZATION_TYPE: &str = "AWS_LAMBDA_INITIALIZATION_TYPE";

/// Whether this is Lambda Managed Instances: nothing is frozen there, and an event that finds nobody
/// asking is refused, however many there may be at a time.
pub fn is_managed(variable: Variables<'_>) -> bool {
    let kind = variable(INITIALIZATION_TYPE);
    variable(MAX_CONCURRENCY).is_some() || kind.as_deref() == Some("lambda-managed-instances")
}

/// How the environment behaves on Lambda.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LambdaConfig {
    /// How long an environment that is to end may take for it, from the signal to its exit.
    pub drain_timeout: Duration,
    /// How long a start that is not for an event may take.
    pub init_timeout: Duration,
    /// How long the function's hook, or the building of an instance, may take after a restore.
    pub restore_timeout: Duration,
}

impl Default for LambdaConfig {
    fn default() -> Self {
        Self {
            drain_timeout: limits::DRAIN_TIMEOUT,
            init_timeout: limits::INIT_TIMEOUT,
            restore_timeout: limits::RESTORE_TIMEOUT,
        }
    }
}

impl LambdaConfig {
    pub(super) fn read(entry: Option<Entry<'_>>) -> Result<Self, ConfigError> {
        let mut lambda = Self::default();
        let Some(entry) = entry else {
            return Ok(lambda);
        };
        let known = ["drain_timeout_ms", "init_timeout_ms", "restore_timeout_ms"];
        let section = entry.section(&known)?;
        if let Some(entry) = section.get("drain_timeout_ms") {
            let timeout_ms_max = limits::DRAIN_TIMEOUT_MAX.as_millis() as u64;
            lambda.drain_timeout = Duration::from_millis(entry.number(1..=timeout_ms_max)?);
        }
        if let Some(entry) = section.get("init_timeout_ms") {
            let timeout_ms_max = limits::INIT_TIMEOUT_MAX.as_millis() as u64;
            lambda.init_timeout = Duration::from_millis(entry.number(1..=timeout_ms_max)?);
        }
        if let Some(entry) = section.get("restore_timeout_ms") {
            let timeout_ms_max = limits::RESTORE_TIMEOUT_MAX.as_millis() as u64;
            lambda.restore_timeout = Duration::from_millis(entry.number(1..=timeout_ms_max)?);
        }
        Ok(lambda)
    }
}
