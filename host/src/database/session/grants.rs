//! What one invocation may do with its databases: the permissions of its function, and the values that its event brings
//! for the settings in them.
//!
//! Promises: a value that the event does not bring is an error before anything is sent. The host reads at most one batch
//! more of a result than the function may have.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::database::connection::batch::Batch;
use crate::database::connection::pipeline::Outcome;
use crate::database::error::{Error, Result};
use crate::database::permission::prelude::Prelude;
use crate::database::permission::{Cap, Permission, Permissions, Subject};
use crate::database::session::transaction::Options;
use crate::database::session::work::Work;
use crate::invocation::Invocation;

/// What one invocation may do with its databases.
#[derive(Debug, Default)]
pub struct Grants {
    subject: Subject,
    grants: BTreeMap<String, Grant>,
}

/// What one invocation may do with one database.
#[derive(Debug)]
pub struct Grant {
    /// What its function may.
    pub permission: Arc<Permission>,
    /// What is put in force for it; an error's text if the event does not bring it.
    prelude: OnceLock<std::result::Result<Option<Arc<Prelude>>, String>>,
}

impl Grants {
    /// Those of an invocation of a function with these permissions.
    pub fn new(permissions: &Permissions, invocation: &Invocation) -> Self {
        if permissions.is_empty() {
            return Self::default();
        }
        let grant = |permission: &Arc<Permission>| Grant {
            permission: permission.clone(),
            prelude: OnceLock::new(),
        };
        Self {
            subject: invocation.into(),
            grants: permissions
                .iter()
                .map(|(database, permission)| (database.clone(), grant(permission)))
                .collect(),
        }
    }

    /// Those of a function with these permissions outside of any invocation: the settings that
    /// come from an event are not made.
    pub fn without_event(permissions: &Permissions) -> Self {
        let grant = |permission: &Arc<Permission>| Grant {
            permission: permission.clone(),
            prelude: OnceLock::from(Ok(Prelude::of(
                permission.section(),
                &permission.without_event(),
            ))),
        };
        Self {
            subject: Subject::default(),
            grants: permissions
                .iter()
                .map(|(database, permission)| (database.clone(), grant(permission)))
                .collect(),
        }
    }

    /// Refuses work on this database that the function may not do, or that lacks a value of the
    /// event.
    pub fn permit(&self, database: &str, work: &impl Work) -> Result<()> {
        let Some(grant) = self.grants.get(database) else {
            return Ok(());
        };
        let judge = |sql| grant.permission.judge(sql);
        work.texts().try_for_each(judge)?;
        self.prelude(database).map(|_| ())
    }

    /// Refuses results that are larger than the function may read.
    pub fn count(&self, database: &str, outcomes: &[Outcome]) -> Result<()> {
        outcomes
            .iter()
            .try_for_each(|outcome| self.meter(database).count(&outcome.rows))
    }

    /// What is put in force before a statement on this database, if anything.
    pub fn prelude(&self, database: &str) -> Result<Option<Arc<Prelude>>> {
        let Some(grant) = self.grants.get(database) else {
            return Ok(None);
        };
        let made = grant.prelude.get_or_init(|| {
            let prelude = grant.permission.prelude(&self.subject);
            prelude.map_err(|error| error.to_string())
        });
        made.clone().map_err(Error::Denied)
    }

    /// How a transaction begins that is to run like this.
    pub fn begin(&self, database: &str, options: &Options) -> Result<Options> {
        let grant = self.grants.get(database);
        match grant.filter(|grant| grant.permission.is_read_only()) {
            None => Ok(*options),
            Some(grant) if options.read_only == Some(false) => Err(Error::Denied(format!(
                "{} allows only to read; begin the transaction without saying that it may write",
                grant.permission.section()
            ))),
            Some(_) => Ok(Options {
                read_only: Some(true),
                ..*options
            }),
        }
    }

    /// What counts how much of one result is read from this database.
    pub fn meter(&self, database: &str) -> Meter {
        let grant = self.grants.get(database);
        Meter {
            cap: grant.map_or_else(Cap::default, |grant| grant.permission.cap()),
            section: grant.map_or_else(Arc::default, |grant| grant.permission.section().clone()),
            rows: 0,
            bytes: 0,
        }
    }
}

/// Counts what is read of one result.
#[derive(Debug)]
pub struct Meter {
    cap: Cap,
    /// Where it is said.
    section: Arc<str>,
    rows: u64,
    bytes: u64,
}

impl Meter {
    /// Adds a batch. An error once there is more than the function may read.
    pub fn count(&mut self, batch: &Batch) -> Result<()> {
        self.rows += u64::from(batch.rows);
        self.bytes += batch.cells.len() as u64;
        let is_over = |count: u64, max: Option<u64>| max.is_some_and(|max| count > max);
        match is_over(self.rows, self.cap.rows) || is_over(self.bytes, self.cap.bytes) {
            true => Err(self.capped()),
            false => Ok(()),
        }
    }

    /// The error that there is more than the function may read.
    pub fn capped(&self) -> Error {
        let (max, what) = match (self.cap.rows, self.cap.bytes) {
            (Some(max), _) if self.rows > max => (max, "rows"),
            (_, max) => (max.unwrap_or(0), "bytes"),
        };
        Error::Capped(format!(
            "the result has more than {max} {what}, the most that this function may read; ask for less, or raise \
             `{what}_max` in {}",
            self.section
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::PermissionConfig;

    fn config(read_only: bool) -> PermissionConfig {
        PermissionConfig {
            read_only,
            ..PermissionConfig::default()
        }
    }

    #[test]
    fn a_result_is_counted_over_all_its_batches() {
        let batch = |rows, bytes| Batch {
            rows,
            cells: vec![0; bytes],
            ..Batch::default()
        };
        let meter = |rows, bytes| Meter {
            cap: Cap { rows, bytes },
            section: "[function.orders.database.default]".into(),
            rows: 0,
            bytes: 0,
        };
        let mut free = meter(None, None);
        assert!(free.count(&batch(u32::MAX, 1000)).is_ok());
        let mut rows = meter(Some(10), Some(1000));
        assert!(rows.count(&batch(10, 100)).is_ok());
        let text = rows
            .count(&batch(1, 0))
            .expect_err("one too many")
            .to_string();
        assert!(
            text.contains("10 rows") && text.contains("rows_max"),
            "{text}"
        );
        let mut bytes = meter(Some(10), Some(1000));
        assert!(bytes.count(&batch(1, 1000)).is_ok());
        let text = bytes
            .count(&batch(1, 1))
            .expect_err("one too many")
            .to_string();
        assert!(
            text.contains("1000 bytes") && text.contains("bytes_max"),
            "{text}"
        );
    }

    #[test]
    fn a_transaction_of_who_may_only_read_is_read_only() {
        let grants = |read_only| Grants {
            subject: Subject::default(),
            grants: BTreeMap::from([(
                "default".to_owned(),
                Grant {
                    permission: Arc::new(Permission::new(
                        "orders",
                        "default",
                        &config(read_only),
                        [],
                    )),
                    prelude: OnceLock::new(),
                },
            )]),
        };
        let begun = |grants: Grants, read_only| {
            let asked = Options {
                read_only,
                ..Options::default()
            };
            let options = grants.begin("default", &asked);
            options.map(|options| options.read_only).ok()
        };
        assert_eq!(begun(grants(true), None), Some(Some(true)));
        assert_eq!(begun(grants(true), Some(true)), Some(Some(true)));
        assert_eq!(begun(grants(true), Some(false)), None);
        assert_eq!(begun(grants(false), Some(false)), Some(Some(false)));
        assert_eq!(begun(Grants::default(), None), Some(None));
    }
}
