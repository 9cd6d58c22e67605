//! `[function.NAME.database.NAME]`: what one function may do with one database, and the settings
//! under which it does it.
//!
//! Promises: what a permission says fits together, so that no part of it can undo another. Left to
//! others: keeping it ([`crate::database::permission`]).

use std::collections::BTreeMap;
use std::fmt;

use super::ConfigError;
use super::source::Entry;
use super::spelling::nearest;
use crate::limits;

const KEYS: &[&str] = &[
    "role",
    "read_only",
    "rows_max",
    "bytes_max",
    "statements",
    "settings",
];

/// What one function may do with one database. The default restricts nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PermissionConfig {
    /// The role as which everything is executed; the login's own if none is named.
    pub role: Option<String>,
    /// Whether it may only read.
    pub read_only: bool,
    /// The most rows of one result.
    pub rows_max: Option<u64>,
    /// The most bytes of one result.
    pub bytes_max: Option<u64>,
    /// Which statements it may execute.
    pub statements: Statements,
    /// Settings that hold while it executes anything, by their names in lower case.
    pub settings: BTreeMap<String, Setting>,
}

/// Which statements a function may execute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Statements {
    /// All, except that beside any other restriction those that could get around it are left out.
    #[default]
    Any,
    /// Those of these kinds.
    Kinds(StatementKinds),
    /// Those that its component declares, word for word.
    Declared,
}

/// Where the value of a setting comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// The configuration.
    Text(String),
    /// The tenant for which the function is invoked.
    Tenant,
    /// A value within the caller's Amazon Cognito identity, by its JSON pointer.
    Identity(String),
    /// The invocation's request id.
    RequestId,
    /// The function's name.
    FunctionName,
}

/// A kind of statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatementKind {
    /// Reads: `SELECT`, `VALUES`, `TABLE`, `SHOW`, cursors.
    Select,
    /// `INSERT`, also within another statement.
    Insert,
    /// `UPDATE`, `ON CONFLICT DO UPDATE`, and locks on rows (`FOR UPDATE`, `FOR SHARE`).
    Update,
    /// `DELETE`.
    Delete,
    /// `MERGE`; it needs those of its actions as well.
    Merge,
    /// Definitions: `CREATE`, `ALTER`, `DROP`, `GRANT`, `TRUNCATE`, `SELECT INTO` and the like.
    Ddl,
    /// `SET`, `RESET`, `DISCARD`, `set_config`.
    Set,
    /// `BEGIN`, `COMMIT`, `ROLLBACK` as text. The SDK's transactions and savepoints are no text.
    Transaction,
    /// `COPY`.
    Copy,
    /// What runs code that is not in the text: `DO`, `CALL`, `EXECUTE`, definitions of functions
    /// and triggers, functions that are given SQL (`query_to_xml`).
    Code,
    /// `LISTEN`, `UNLISTEN`, `NOTIFY`, `pg_notify`.
    Listen,
    /// Everything else, such as `VACUUM` and `LOCK`.
    Other,
}

impl StatementKind {
    /// All of them, by their names in a configuration.
    const NAMED: [(&str, Self); 12] = [
        ("select", Self::Select),
        ("insert", Self::Insert),
        ("update", Self::Update),
        ("delete", Self::Delete),
        ("merge", Self::Merge),
        ("ddl", Self::Ddl),
        ("set", Self::Set),
        ("transaction", Self::Transaction),
        ("copy", Self::Copy),
        ("code", Self::Code),
        ("listen", Self::Listen),
        ("other", Self::Other),
    ];
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementKinds(u16);

impl StatementKinds {
    /// None at all.
    pub const NONE: Self = Self(0);

    /// These and those.
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These without those.
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether this kind is among them.
    pub fn has(self, kind: StatementKind) -> bool {
        self.0 & Self::from(kind).0 != 0
    }
}

impl From<StatementKind> for StatementKinds {
    fn from(kind: StatementKind) -> Self {
        Self(1 << kind as u16)
    }
}

impl FromIterator<StatementKind> for StatementKinds {
    fn from_iter<I: IntoIterator<Item = StatementKind>>(kinds: I) -> Self {
        let kinds = kinds.into_iter().map(Self::from);
        kinds.fold(Self::NONE, Self::and)
    }
}

/// Their names, as a configuration has them.
impl fmt::Display for StatementKinds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (name, _) in StatementKind::NAMED
            .iter()
            .filter(|(_, kind)| self.has(*kind))
        {
            write!(formatter, "{separator}{name}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl PermissionConfig {
    pub(super) fn read(entry: &Entry<'_>) -> Result<Self, ConfigError> {
        let section = entry.section(KEYS)?;
        let mut permission = Self::default();
        if let Some(entry) = section.get("role") {
            permission.role = Some(role(&entry)?);
        }
        if let Some(entry) = section.get("read_only") {
            permission.read_only = entry.truth()?;
        }
        if let Some(entry) = section.get("rows_max") {
            permission.rows_max = Some(entry.number(1..=u64::MAX)?);
        }
        if let Some(entry) = section.get("bytes_max") {
            permission.bytes_max = Some(entry.number(1..=u64::MAX)?);
        }
        if let Some(entry) = section.get("settings") {
            permission.settings = settings(&entry)?;
        }
        if let Some(entry) = section.get("statements") {
            permission.statements = statements(&entry)?;
            permission.check_undoing(&entry)?;
        }
        Ok(permission)
    }

    /// Whether something is in force on the server that holds until the end of a transaction.
    pub fn has_state(&self) -> bool {
        self.role.is_some() || self.read_only || !self.settings.is_empty()
    }

    /// Kinds of statement that can undo what is in force on the server, and why.
    pub const UNDOING: [(StatementKind, &str); 2] = [
        (
            StatementKind::Transaction,
            "a COMMIT in a text would end what they put in force; leave it out, the SDK's transactions work without it",
        ),
        (
            StatementKind::Code,
            "what runs there is in no text, and could undo what they put in force; leave it out, and give the function \
             a function of the database to call instead",
        ),
    ];

    fn check_undoing(&self, entry: &Entry<'_>) -> Result<(), ConfigError> {
        let Statements::Kinds(kinds) = self.statements else {
            return Ok(());
        };
        let mut undoing = Self::UNDOING.iter().filter(|(kind, _)| kinds.has(*kind));
        match undoing.next().filter(|_| self.has_state()) {
            Some((kind, why)) => Err(entry.problem(format!(
                "\"{}\" cannot stand beside role, read_only or settings: {why}",
                StatementKinds::from(*kind)
            ))),
            None => Ok(()),
        }
    }
}

fn role(entry: &Entry<'_>) -> Result<String, ConfigError> {
    let role = entry.text()?;
    // PostgreSQL takes this word for the absence of a role.
    if role.eq_ignore_ascii_case("none") || !is_identifier(role) {
        return Err(entry.unexpected("the name of a role"));
    }
    Ok(role.to_owned())
}

fn statements(entry: &Entry<'_>) -> Result<Statements, ConfigError> {
    if entry.as_text() == Some("declared") {
        return Ok(Statements::Declared);
    }
    let known = StatementKind::NAMED.map(|(name, _)| name);
    if entry.as_text().is_some() {
        return Err(entry.unexpected("\"declared\" or a list like [\"select\", \"insert\"]"));
    }
    let mut kinds = StatementKinds::NONE;
    for given in entry.texts()? {
        let named = StatementKind::NAMED.iter().find(|(name, _)| *name == given);
        let Some((_, kind)) = named else {
            let advice = match nearest(given, &known) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", known.join(", ")),
            };
            return Err(entry.problem(format!("there is no kind of statement {given:?}; {advice}")));
        };
        kinds = kinds.and((*kind).into());
    }
    Ok(Statements::Kinds(kinds))
}

fn settings(entry: &Entry<'_>) -> Result<BTreeMap<String, Setting>, ConfigError> {
    let mut settings = BTreeMap::new();
    for setting in entry.children()? {
        let name = setting.key();
        if !is_identifier(name) {
            return Err(setting.problem("expected the name of a setting, like \"app.tenant\""));
        }
        if let Some((_, instead)) = OTHERWISE
            .iter()
            .find(|(own, _)| name.eq_ignore_ascii_case(own))
        {
            return Err(setting.problem(format!("this is no setting to give here: {instead}")));
        }
        // PostgreSQL has them without regard to case, and one value of each.
        if settings
            .insert(name.to_ascii_lowercase(), value(&setting)?)
            .is_some()
        {
            let problem = "given twice, but for upper and lower case; leave one out";
            return Err(setting.problem(problem));
        }
    }
    Ok(settings)
}

/// Settings that are said otherwise.
const OTHERWISE: [(&str, &str); 6] = [
    ("role", "use `role`"),
    (
        "session_authorization",
        "use `role`, or log in as that user",
    ),
    ("transaction_read_only", "use `read_only`"),
    ("default_transaction_read_only", "use `read_only`"),
    ("client_encoding", "it is always UTF8"),
    (
        "standard_conforming_strings",
        "it is on, or what `options` of the address says",
    ),
];

fn value(entry: &Entry<'_>) -> Result<Setting, ConfigError> {
    if let Some(text) = entry.as_text() {
        return match text.len() {
            1..=limits::SETTING_BYTES_MAX if !text.contains('\0') => {
                Ok(Setting::Text(text.to_owned()))
            }
            _ => Err(entry.unexpected("a text that is not empty, nor very long")),
        };
    }
    if !entry.is_table() {
        return Err(entry.unexpected("a text or { context = \"tenant-id\" }"));
    }
    let section = entry.section(&["context", "pointer"])?;
    let Some(context) = section.get("context") else {
        return Err(entry.problem(format!(
            "context is missing: one of {}",
            CONTEXTS.join(", ")
        )));
    };
    let pointer = section.get("pointer");
    if let Some(pointer) = &pointer
        && context.as_text() != Some("identity")
    {
        return Err(pointer.problem("only context = \"identity\" has parts to point into"));
    }
    match context.text()? {
        "tenant-id" => Ok(Setting::Tenant),
        "request-id" => Ok(Setting::RequestId),
        "function-name" => Ok(Setting::FunctionName),
        "identity" => match pointer {
            Some(pointer) if pointer.text()?.starts_with('/') => {
                Ok(Setting::Identity(pointer.text()?.to_owned()))
            }
            Some(pointer) => Err(pointer.unexpected("a JSON pointer, like \"/cognitoIdentityId\"")),
            None => Err(entry.problem(
                "pointer is missing: which part of the identity, like \"/cognitoIdentityId\"",
            )),
        },
        other => {
            let advice = match nearest(other, &CONTEXTS) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", CONTEXTS.join(", ")),
            };
            Err(context.problem(format!("an event has no {other:?}; {advice}")))
        }
    }
}

const CONTEXTS: [&str; 4] = ["tenant-id", "identity", "request-id", "function-name"];

/// Whether PostgreSQL can have something of this name.
fn is_identifier(name: &str) -> bool {
    (1..=limits::IDENTIFIER_BYTES_MAX).contains(&name.len()) && !name.contains('\0')
}
