//! Statements that are remembered, the least recently used going first.
//!
//! Promises: no more than so many, and no more than [`limits::STATEMENTS_BYTES_MAX`] of their texts and of what
//! is remembered of them, but for one that is larger alone.

use std::num::NonZeroUsize;

use lru::LruCache;

use super::Key;
use crate::limits;

/// What is remembered of statements.
pub struct Kept<V> {
    /// With what each takes, in bytes.
    entries: LruCache<Key, (V, usize)>,
    bytes: usize,
}

impl<V> Kept<V> {
    /// Nothing, of so many statements at most.
    pub fn new(max: NonZeroUsize) -> Self {
        Self {
            entries: LruCache::new(max),
            bytes: 0,
        }
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.entries.cap().get()
    }

    /// What is remembered of a statement, which is used thereby.
    pub fn get(&mut self, key: &Key) -> Option<&V> {
        self.entries.get(key).map(|(value, _)| value)
    }

    /// What is remembered of a statement, which is not used thereby.
    pub fn peek_mut(&mut self, key: &Key) -> Option<&mut V> {
        self.entries.peek_mut(key).map(|(value, _)| value)
    }

    /// What is remembered of each, which is not used thereby.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.iter_mut().map(|(_, (value, _))| value)
    }

    /// Whether anything is remembered of a statement.
    pub fn contains(&self, key: &Key) -> bool {
        self.entries.contains(key)
    }

    /// Remembers this of a statement, which takes so many bytes, and returns what had to go for it.
    pub fn put(&mut self, key: Key, value: V, value_bytes: usize) -> Vec<V> {
        let mut gone: Vec<V> = self.pop(&key).into_iter().collect();
        let bytes = key.sql.len() + size_of_val(key.types.as_slice()) + value_bytes;
        while self.entries.len() == self.max() || self.bytes + bytes > limits::STATEMENTS_BYTES_MAX
        {
            let Some((_, (value, bytes))) = self.entries.pop_lru() else {
                break;
            };
            self.bytes -= bytes;
            gone.push(value);
        }
        self.bytes += bytes;
        self.entries.put(key, (value, bytes));
        gone
    }

    /// Forgets a statement.
    pub fn pop(&mut self, key: &Key) -> Option<V> {
        let (value, bytes) = self.entries.pop(key)?;
        self.bytes -= bytes;
        Some(value)
    }

    /// Forgets those of which this is so.
    pub fn take_if(&mut self, is_so: impl Fn(&V) -> bool) -> Vec<V> {
        let each = self.entries.iter().filter(|(_, (value, _))| is_so(value));
        let keys: Vec<Key> = each.map(|(key, _)| key.clone()).collect();
        keys.iter().filter_map(|key| self.pop(key)).collect()
    }

    /// Forgets all of them.
    pub fn take(&mut self) -> Vec<V> {
        self.bytes = 0;
        let mut gone = Vec::new();
        while let Some((_, (value, _))) = self.entries.pop_lru() {
            gone.push(value);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: char, bytes: usize) -> Key {
        Key {
            sql: name.to_string().repeat(bytes),
            types: Vec::new(),
        }
    }

    fn kept(max: usize) -> Kept<char> {
        Kept::new(NonZeroUsize::new(max).unwrap())
    }

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut kept = kept(2);
        assert!(kept.put(key('a', 1), 'a', 0).is_empty());
        assert!(kept.put(key('b', 1), 'b', 0).is_empty());
        assert_eq!(kept.get(&key('a', 1)), Some(&'a'));
        assert_eq!(kept.put(key('c', 1), 'c', 0), ['b']);
        assert_eq!(
            kept.put(key('c', 1), 'd', 0),
            ['c'],
            "it takes its own place"
        );
        assert!(kept.contains(&key('a', 1)));
        assert_eq!(kept.take_if(|value| *value == 'd'), ['d']);
        assert!(kept.put(key('c', 1), 'd', 0).is_empty());
        assert_eq!(kept.take(), ['a', 'd']);
        assert!(kept.put(key('a', 1), 'a', 0).is_empty());
    }

    #[test]
    fn what_is_remembered_counts_as_texts_do() {
        const HALF: usize = limits::STATEMENTS_BYTES_MAX / 2;
        let mut kept = kept(100);
        assert!(kept.put(key('a', 1), 'a', HALF).is_empty());
        assert!(kept.put(key('b', 1), 'b', HALF - 2).is_empty());
        assert_eq!(kept.put(key('c', 1), 'c', 0), ['a']);
        assert_eq!(kept.put(key('b', 1), 'd', HALF), ['b']);
        assert!(kept.put(key('a', 1), 'a', HALF - 3).is_empty());
    }

    #[test]
    fn long_texts_make_room_for_one_another() {
        const THIRD: usize = limits::STATEMENTS_BYTES_MAX / 3;
        let mut kept = kept(100);
        for name in ['a', 'b', 'c'] {
            assert!(kept.put(key(name, THIRD), name, 0).is_empty());
        }
        assert_eq!(kept.put(key('d', 2 * THIRD), 'd', 0), ['a', 'b']);
        assert_eq!(kept.pop(&key('d', 2 * THIRD)), Some('d'));
        assert!(kept.put(key('e', THIRD), 'e', 0).is_empty());
        let long = key('f', limits::STATEMENTS_BYTES_MAX + 1);
        assert_eq!(kept.put(long.clone(), 'f', 0), ['c', 'e']);
        assert!(kept.contains(&long));
    }
}
