//! Which word was meant by one that is not known.
//!
//! Promises: what has nothing in common with any of those that are is taken for none of them.

/// What two names must have in common at least to be taken for one another.
const SHARED_BYTES_MIN: usize = 4;

/// The known word that a mistyped one was probably meant to be. A word of several parts is also known by one
/// of them, in whatever order they stand, but not where that is part of several words.
pub(super) fn nearest<'k>(given: &str, known: &[&'k str]) -> Option<&'k str> {
    let given = given.to_lowercase();
    let mut near: Vec<(usize, bool, &str)> = Vec::new();
    for word in known {
        let lower = word.to_lowercase();
        if resembles(&given, &lower) {
            near.push((strsim::damerau_levenshtein(&given, &lower), false, word));
        }
        if let Some(distance) = distance_of_parts(&given, &lower) {
            near.push((distance, true, word));
        }
    }
    near.sort_unstable();
    let (distance, by_parts, word) = *near.first()?;
    let is_of = |other: &(usize, bool, &str)| other.0 == distance && other.2 != word;
    (!by_parts || !near.iter().any(is_of)).then_some(word)
}

fn resembles(given: &str, word: &str) -> bool {
    let begun = given.len() >= 3 && (word.starts_with(given) || given.starts_with(word));
    begun || strsim::damerau_levenshtein(given, word) * 3 <= word.len().max(3)
}

/// How far the parts of a name are from those of a word, one of which they share. Units and the like, which
/// are short, are part of too many.
fn distance_of_parts(given: &str, word: &str) -> Option<usize> {
    let [given, words]: [Vec<&str>; 2] = [given, word].map(|name| name.split('_').collect());
    let (mut sum, mut shared) = (given.len().abs_diff(words.len()), false);
    for part in given {
        let near = words.iter().map(|word| {
            let distance = strsim::damerau_levenshtein(part, word);
            (!resembles(part, word), distance, part.len().min(word.len()))
        });
        let (is_foreign, distance, bytes) = near.min()?;
        sum += distance;
        shared |= !is_foreign && bytes >= SHARED_BYTES_MIN;
    }
    shared.then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_mistyped_name_is_found_by_its_letters_or_by_one_of_its_parts() {
        let function = [
            "component",
            "isolation",
            "instances_max",
            "memory_mib",
            "temporary_mib",
            "timeout_ms",
            "databases",
            "database",
        ];
        let database = [
            "url",
            "pool_max",
            "statements_max",
            "lifetime_s",
            "connect_timeout_ms",
        ];
        let lambda = ["drain_timeout_ms", "init_timeout_ms"];
        for (given, known, expected) in [
            ("memroy", &function[..], Some("memory_mib")),
            ("memory", &function, Some("memory_mib")),
            ("Memory_MiB", &function, Some("memory_mib")),
            ("max_instances", &function, Some("instances_max")),
            ("temp_mib", &function, Some("temporary_mib")),
            ("timeout_s", &function, Some("timeout_ms")),
            ("datbase", &function, Some("database")),
            ("retries_max", &function, None),
            ("age_mib", &function, None),
            ("URL", &database, Some("url")),
            ("pool_size", &database, Some("pool_max")),
            ("max_pool", &database, Some("pool_max")),
            ("timeout_ms", &database, Some("connect_timeout_ms")),
            // That may be either.
            ("timeout_ms", &lambda, None),
            ("drain", &lambda, Some("drain_timeout_ms")),
            ("zebra", &lambda, None),
        ] {
            assert_eq!(nearest(given, known), expected, "{given}");
        }
    }
}
