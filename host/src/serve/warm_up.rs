//! What is known of a function's use of its databases before its first event: what its component
//! declares, and what its configuration says.

use std::collections::BTreeMap;

use crate::config::FunctionConfig;
use crate::database::statement::Key;
use crate::database::warming::WarmUp;
use crate::instance::declared;

/// What is known of this function. A component that cannot be read is reported when it is
/// loaded.
pub fn read(function: &FunctionConfig) -> WarmUp {
    let mut statements: BTreeMap<String, Vec<Key>> = BTreeMap::new();
    for query in declared::read(&function.component).unwrap_or_default() {
        if function.databases.contains(&query.database) {
            let own = statements.entry(query.database).or_default();
            let types = Vec::new();
            own.push(Key {
                sql: query.sql,
                types,
            });
        }
    }
    WarmUp {
        statements,
        time: Some(function.timeout),
    }
}
