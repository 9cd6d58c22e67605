//! What a function may do with its databases: the configuration's word, and what its component
//! declares.

use std::sync::Arc;

use crate::config::{FunctionConfig, Statements};
use crate::database::permission::{Permission, Permissions};
use crate::fault::{Fault, Kind};
use crate::instance::declared;

/// The permissions of a function. A component is read only for a function that is limited to what
/// it declares.
pub(super) fn read(function: &FunctionConfig) -> Result<Permissions, Fault> {
    let limited = |(_, permission): (_, &crate::config::PermissionConfig)| {
        permission.statements == Statements::Declared
    };
    let queries = match function.permissions.iter().any(limited) {
        true => declared::read(&function.component)?,
        false => Vec::new(),
    };
    let mut permissions = Permissions::new();
    for (database, config) in &function.permissions {
        let own = queries.iter().filter(|query| query.database == *database);
        let texts: Vec<String> = own.map(|query| query.sql.clone()).collect();
        if config.statements == Statements::Declared && texts.is_empty() {
            return Err(Fault::new(
                Kind::InvalidConfiguration,
                format!(
                    "[function.{name}.database.{database}] allows only statements that the component declares, and {} \
                     declares none for this database; declare them with `hearth::declare!`, or leave \
                     statements = \"declared\" out",
                    function.component.display(),
                    name = function.name,
                ),
            ));
        }
        let permission = Permission::new(&function.name, database, config, texts);
        permissions.insert(database.clone(), Arc::new(permission));
    }
    Ok(permissions)
}
