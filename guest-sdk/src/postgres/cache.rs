//! The statements that an instance has used, with what the server said of them.
//!
//! Promises: never more than [`STATEMENTS_MAX`], nor than [`BYTES_MAX`] but for one that is larger alone, the least
//! recently used going first. Left to
//! others: whether an entry is still true (the host says, when it is used).

use postgres_types::Oid;

use super::statement::Statement;

/// How many statements are remembered for each database.
pub(super) const STATEMENTS_MAX: usize = 256;
/// SQL longer than this, in bytes, is not remembered: it was put together by a program and will
/// hardly come again.
const SQL_BYTES_MAX: usize = 64 * 1024;
/// What all of them may take together, in bytes.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most recently used first. A function has a handful of statements, and a search from the front
/// finds them at once; it needs no hashing and no allocation.
#[derive(Default)]
pub struct StatementCache(Vec<Statement>);

impl StatementCache {
    /// The newest description of this SQL text with these named types, which may be doubted.
    pub(super) fn get(&mut self, sql: &str, named: &[Oid]) -> Option<Statement> {
        let index = self.find(sql, named)?;
        self.0[..=index].rotate_right(1);
        Some(self.0[0].clone())
    }

    /// Remembers a statement, in place of an older description of the same.
    pub(super) fn put(&mut self, statement: &Statement) {
        let (sql, named) = statement.source();
        if sql.len() > SQL_BYTES_MAX {
            return;
        }
        if let Some(index) = self.find(sql, named) {
            self.0.remove(index);
        }
        let mut room = BYTES_MAX.saturating_sub(statement.bytes());
        let fits = |kept: &&Statement| {
            let left = room.checked_sub(kept.bytes());
            room = left.unwrap_or_default();
            left.is_some()
        };
        let kept = self.0.iter().take(STATEMENTS_MAX - 1).take_while(fits);
        let kept = kept.count();
        self.0.truncate(kept);
        self.0.insert(0, statement.clone());
    }

    fn find(&self, sql: &str, named: &[Oid]) -> Option<usize> {
        self.0
            .iter()
            .position(|statement| statement.source() == (sql, named))
    }
}

#[cfg(test)]
mod tests {
    use postgres_types::Type;

    use super::super::call::tests::described;
    use super::*;

    fn statement(sql: &str, named: &[Oid], version: u64) -> Statement {
        Statement::described(sql, named, described(version, &[], &[])).expect("it has no types")
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut cache = StatementCache::default();
        for number in 0..STATEMENTS_MAX {
            cache.put(&statement(&format!("SELECT {number}"), &[], 1));
        }
        assert!(cache.get("SELECT 0", &[]).is_some());
        cache.put(&statement("SELECT 'one more'", &[], 1));
        assert_eq!(cache.0.len(), STATEMENTS_MAX);
        assert!(cache.get("SELECT 0", &[]).is_some(), "it was just used");
        assert!(cache.get("SELECT 1", &[]).is_none(), "it was the oldest");
        assert!(cache.get("SELECT 2", &[]).is_some());
    }

    #[test]
    fn large_ones_make_room_for_one_another() {
        let mut cache = StatementCache::default();
        let columns = vec![("n", Type::INT4); 1_664];
        let wide = |sql: &str| {
            Statement::described(sql, &[], described(1, &[], &columns)).expect("it is well formed")
        };
        cache.put(&statement("SELECT 1", &[], 1));
        for number in 0..100 {
            cache.put(&wide(&format!("SELECT {number}")));
        }
        assert!(cache.get("SELECT 1", &[]).is_none());
        assert!(cache.get("SELECT 99", &[]).is_some() && cache.get("SELECT 80", &[]).is_some());
        assert_eq!(cache.0.len(), BYTES_MAX / wide("SELECT 99").bytes());
    }

    #[test]
    fn a_newer_description_replaces_the_older() {
        let mut cache = StatementCache::default();
        cache.put(&statement("SELECT 1", &[], 1));
        cache.put(&statement("SELECT 1", &[23], 2));
        cache.put(&statement("SELECT 1", &[], 3));
        assert_eq!(cache.0.len(), 2);
        let version = |cache: &mut StatementCache, named: &[Oid]| {
            cache.get("SELECT 1", named).map(|found| found.version())
        };
        assert_eq!(version(&mut cache, &[]), Some(3));
        assert_eq!(version(&mut cache, &[23]), Some(2));
        assert_eq!(version(&mut cache, &[25]), None);
    }

    #[test]
    fn very_long_sql_is_not_remembered() {
        let sql = " ".repeat(SQL_BYTES_MAX + 1);
        let mut cache = StatementCache::default();
        cache.put(&statement(&sql, &[], 1));
        assert!(cache.get(&sql, &[]).is_none());
    }
}
