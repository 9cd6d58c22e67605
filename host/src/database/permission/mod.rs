//! What a function may do with a database: asked before each call, and what is put in force on the
//! server before each statement.
//!
//! Promises:
//! - a text that may undo a role, a setting or read-only, or that is of a kind the function may not
//!   execute, never reaches the server; the error names the setting of `hearth.toml` that says so;
//! - no text changes how the server reads the next one, whatever else it may change;
//! - a setting whose value the event does not bring is an error. It is never empty, which a policy
//!   might take for a match.
//!
//! Left to others: asking ([`crate::database::session::grants`]), sending the [`Prelude`]
//! (`composing` of [`crate::database::connection`]), and what the text of a statement does not show
//! ([`crate::database::sql::guard`]).

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use lru::LruCache;
use serde_json::Value;

use crate::config::{PermissionConfig, Setting, StatementKind, StatementKinds, Statements};
use crate::database::error::{Error, Result};
use crate::database::sql::guard::{self, Risk};
use crate::database::sql::kinds::kinds;
use crate::invocation::Invocation;
use crate::limits;
use crate::lock::lock;

pub mod prelude;

use prelude::Prelude;

/// What one function may do with one database.
#[derive(Debug)]
pub struct Permission {
    /// Where it is said: a section of `hearth.toml`.
    section: Arc<str>,
    config: PermissionConfig,
    /// The statements that the component declares, where it may execute no others.
    declared: HashSet<String>,
    /// The names of its settings.
    protected: Vec<String>,
    /// Texts that it has been found to allow: each is read once.
    judged: Mutex<LruCache<String, ()>>,
}

/// How much of one result a function may read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cap {
    /// In rows.
    pub rows: Option<u64>,
    /// In bytes of cells.
    pub bytes: Option<u64>,
}

/// The permissions of one function, by the names of its databases; none where all is allowed.
pub type Permissions = BTreeMap<String, Arc<Permission>>;

impl Permission {
    /// What the configuration of this function says of this database. `declared` are the
    /// statements that its component declares for it.
    pub fn new(
        function: &str,
        database: &str,
        config: &PermissionConfig,
        declared: impl IntoIterator<Item = String>,
    ) -> Self {
        let judged_max = NonZeroUsize::new(limits::JUDGED_MAX).unwrap_or(NonZeroUsize::MIN);
        Self {
            section: format!("[function.{function}.database.{database}]").into(),
            declared: declared.into_iter().collect(),
            protected: config.settings.keys().cloned().collect(),
            judged: Mutex::new(LruCache::new(judged_max)),
            config: config.clone(),
        }
    }

    /// How much of one result may be read.
    pub fn cap(&self) -> Cap {
        Cap {
            rows: self.config.rows_max,
            bytes: self.config.bytes_max,
        }
    }

    /// Whether it may only read.
    pub fn is_read_only(&self) -> bool {
        self.config.read_only
    }

    /// Where it is said.
    pub fn section(&self) -> &Arc<str> {
        &self.section
    }

    /// Refuses a text that may not be executed.
    pub fn judge(&self, sql: &str) -> Result<()> {
        let has_state = self.config.has_state();
        let allowed = match self.config.statements {
            Statements::Declared if !self.declared.contains(sql) => return Err(self.undeclared()),
            Statements::Declared | Statements::Any if !has_state => return Ok(()),
            Statements::Declared | Statements::Any => None,
            Statements::Kinds(kinds) => Some(kinds),
        };
        if lock(&self.judged).get(sql).is_some() {
            return Ok(());
        }
        self.read(sql, allowed)?;
        if sql.len() <= limits::JUDGED_BYTES_MAX {
            lock(&self.judged).put(sql.to_owned(), ());
        }
        Ok(())
    }

    /// Refuses what a text is found to do.
    fn read(&self, sql: &str, allowed: Option<StatementKinds>) -> Result<()> {
        let may = |kind| allowed.is_some_and(|kinds| kinds.has(kind));
        let writes = |kinds: StatementKinds| {
            use StatementKind as K;
            let rest = [K::Select, K::Set, K::Transaction, K::Listen];
            kinds.without(rest.into_iter().collect()) != StatementKinds::NONE
        };
        let read_only = self.config.read_only || allowed.is_some_and(|kinds| !writes(kinds));
        let may_set = !self.config.has_state() && may(StatementKind::Set);
        for risk in guard::risks(sql, &self.protected, read_only) {
            match risk {
                Risk::Code(_) if may(StatementKind::Code) => {}
                // That is a kind of statement like others where no setting is relied on.
                Risk::Keeper(_) if !self.config.has_state() => {}
                Risk::Setting(name) if may_set && !guard::decides_reading(&name) => {}
                risk => return Err(self.risky(risk)),
            }
        }
        let refused = kinds(sql).without(allowed.unwrap_or(self.by_default()));
        match refused == StatementKinds::NONE {
            true => Ok(()),
            false => Err(self.kind_refused(refused, allowed)),
        }
    }

    /// What is put in force before each statement of an invocation.
    pub fn prelude(&self, subject: &Subject) -> Result<Option<Arc<Prelude>>> {
        let mut settings = Vec::new();
        if self.config.role.is_some() && !self.config.settings.is_empty() {
            // The login may be allowed to make settings that the role is not, which is in force from the
            // second statement of a transaction on.
            settings.push(("role".to_owned(), "none".to_owned()));
        }
        for (name, setting) in &self.config.settings {
            let value = subject.value(setting).map_err(|problem| {
                Error::Denied(format!(
                    "the setting {name} of {} cannot be made: {problem}; nothing was executed",
                    self.section
                ))
            })?;
            settings.push((name.clone(), value));
        }
        // The role last, for the same reason.
        settings.extend(self.without_event());
        Ok(Prelude::of(&self.section, &settings))
    }

    /// What is put in force whatever the event brings.
    pub fn without_event(&self) -> Vec<(String, String)> {
        let read_only = self
            .config
            .read_only
            .then_some(("transaction_read_only", "on"));
        let role = self.config.role.as_deref().map(|role| ("role", role));
        let settings = read_only.into_iter().chain(role);
        settings
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    /// What is allowed beside a restriction when no kinds are listed.
    fn by_default(&self) -> StatementKinds {
        use StatementKind as K;
        [
            K::Select,
            K::Insert,
            K::Update,
            K::Delete,
            K::Merge,
            K::Set,
            K::Copy,
            K::Listen,
        ]
        .into_iter()
        .collect()
    }

    fn undeclared(&self) -> Error {
        Error::Denied(format!(
            "{} allows only the statements that the component declares, and this is none of its {} word for word; \
             declare it with `hearth::declare!`, and build and compile the component again",
            self.section,
            self.declared.len()
        ))
    }

    fn kind_refused(&self, refused: StatementKinds, allowed: Option<StatementKinds>) -> Error {
        let (section, allowed) = match allowed {
            Some(allowed) => (&self.section, allowed),
            None => (&self.section, self.by_default()),
        };
        Error::Denied(format!(
            "{section} does not allow this kind of statement: {refused} (allowed: {allowed}); {}",
            self.advice(refused)
        ))
    }

    /// What to do about a kind of statement that is refused, if anything.
    fn advice(&self, refused: StatementKinds) -> &'static str {
        let undoes = |(kind, _): &(StatementKind, _)| refused.has(*kind);
        match self.config.has_state() && PermissionConfig::UNDOING.iter().any(undoes) {
            true => {
                "it could undo the role, read_only or settings there, beside which it cannot be listed"
            }
            false => "if it is meant to, list it in `statements` there",
        }
    }

    fn risky(&self, risk: Risk) -> Error {
        let section = &self.section;
        Error::Denied(match risk {
            Risk::Ambiguous(what) => {
                format!(
                    "{section} restricts this function, so its statements must be plain to read; this has {what}"
                )
            }
            Risk::Setting(name) | Risk::Keeper(name) => format!(
                "the statement changes {name}, on which {section} rests; leave that to the host"
            ),
            Risk::UnknownSetting => format!(
                "the statement changes a setting that its text does not name, which {section} cannot allow; \
                 write set_config('name', …) with the name as a plain string"
            ),
            Risk::Code(name) => format!(
                "the statement runs SQL that is not in its text, by {name}, which {section} does not allow; {}",
                self.advice(StatementKind::Code.into())
            ),
            Risk::Write(name) => {
                format!("the statement writes by {name}, but {section} allows only to read")
            }
        })
    }
}

/// What is known of the event that a setting can be made from.
#[derive(Debug, Clone, Default)]
pub struct Subject {
    request_id: String,
    function_name: String,
    tenant_id: Option<String>,
    identity: Option<String>,
}

impl From<&Invocation> for Subject {
    fn from(invocation: &Invocation) -> Self {
        Self {
            request_id: invocation.request_id.clone(),
            function_name: invocation.function_name.clone(),
            tenant_id: invocation.tenant_id.clone(),
            identity: invocation.identity.clone(),
        }
    }
}

impl Subject {
    fn value(&self, setting: &Setting) -> std::result::Result<String, String> {
        let value = match setting {
            Setting::Text(text) => text.clone(),
            Setting::RequestId => self.request_id.clone(),
            Setting::FunctionName => self.function_name.clone(),
            Setting::Tenant => self.tenant_id.clone().ok_or(
                "the event came for no tenant; invoke the function with a tenant id (X-Amz-Tenant-Id)",
            )?,
            Setting::Identity(pointer) => self.identity(pointer)?,
        };
        if value.is_empty() {
            return Err("the event's value for it is empty".to_owned());
        }
        if value.len() > limits::SETTING_BYTES_MAX || value.contains('\0') {
            return Err(format!(
                "the event's value for it is longer than {} bytes, or has a zero byte in it",
                limits::SETTING_BYTES_MAX
            ));
        }
        Ok(value)
    }

    fn identity(&self, pointer: &str) -> std::result::Result<String, String> {
        let Some(identity) = &self.identity else {
            return Err("the event came without a Cognito identity".to_owned());
        };
        let identity: Value = serde_json::from_str(identity)
            .map_err(|_| "the event's Cognito identity is not JSON".to_owned())?;
        match identity.pointer(pointer) {
            Some(Value::String(text)) => Ok(text.clone()),
            Some(Value::Number(number)) => Ok(number.to_string()),
            Some(Value::Bool(truth)) => Ok(truth.to_string()),
            _ => Err(format!(
                "the event's Cognito identity has no text, number or truth at {pointer}"
            )),
        }
    }
}

#[cfg(test)]
mod tests;
