//! How many files this process may have open: sockets are some, one for each slot and each connection
//! to a database.
//!
//! Promises: the limit is raised to the most that the system allows. Many machines set it to 1,024 at first,
//! for the sake of programs that use `select`; this one does not.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A generous number for all that does not belong to a slot.
const OTHERS: u64 = 64;
/// A slot's own: its connections to the Runtime API, one for events and one for answers, and one to a
/// database.
const OF_SLOT: u64 = 3;

/// Raises the limit to the highest there can be. Where that is refused, it stays as it is.
pub(super) fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    let highest = Rlimit {
        current: limit.maximum,
        ..limit
    };
    // If there are too few, whatever needs one more reports it.
    let _ = setrlimit(Resource::Nofile, highest);
}

/// For how many slots the limit suffices.
pub(super) fn slots_max() -> u32 {
    slots_of(getrlimit(Resource::Nofile).current)
}

/// For how many slots this limit would suffice; None is no limit.
fn slots_of(files: Option<u64>) -> u32 {
    let slots = files.map_or(u64::MAX, |files| files.saturating_sub(OTHERS) / OF_SLOT);
    u32::try_from(slots).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_has_three_files_open_and_there_is_always_one() {
        let cases = [
            (None, u32::MAX),
            (Some(1_024), 320),
            (Some(65), 1),
            (Some(3), 1),
        ];
        for (files, slots) in cases {
            assert_eq!(slots_of(files), slots, "{files:?}");
        }
    }

    #[test]
    fn a_process_may_have_as_many_files_open_as_the_system_allows() {
        let before = getrlimit(Resource::Nofile);
        let lower = before.maximum.map(|maximum| maximum - 1);
        let lowered = Rlimit {
            current: lower,
            ..before
        };
        setrlimit(Resource::Nofile, lowered).unwrap();
        raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, before.maximum);
    }
}
