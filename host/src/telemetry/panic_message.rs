//! The message of a panic, found in what a Rust guest wrote to standard error.
//!
//! Promises: the last panic counts, since a guest ends at it. Left to others: guests in other
//! languages, whose errors reach the host as values.

/// How much of standard error's end is searched.
pub(super) const STDERR_BYTES: usize = 8 * 1024;

const MARK: &str = " panicked at ";

// What the standard library writes below a message: its own advice, or the frames.
const AFTER: [&str; 2] = ["note: run with `RUST_BACKTRACE", "stack backtrace:"];

/// The message and the place, as `message, at file:line:column`.
///
/// The standard library writes `thread 'name' panicked at file:line:column:` and then the message,
/// which may have several lines.
pub(super) fn find(stderr: &str) -> Option<String> {
    let mut lines = stderr.lines().rev().scan(Vec::new(), |below, line| {
        let found = place(line).map(|place| (place, below.clone()));
        below.push(line);
        Some(found)
    });
    let (place, below) = lines.find_map(|found| found)?;
    let message: Vec<&str> = below
        .into_iter()
        .rev()
        .take_while(|line| !AFTER.iter().any(|after| line.starts_with(after)))
        .collect();
    let message = message.join("\n");
    match message.trim() {
        "" => Some(format!("panicked at {place}")),
        message => Some(format!("{message}, at {place}")),
    }
}

/// Whether a line is the first of such a message; the standard library leaves an empty one before it.
pub(super) fn is_heading(line: &str) -> bool {
    place(line).is_some()
}

fn place(line: &str) -> Option<&str> {
    let at = line.strip_prefix("thread '")?.find(MARK)? + "thread '".len();
    let place = line[at + MARK.len()..].strip_suffix(':')?;
    let numbers = place
        .rsplitn(3, ':')
        .take(2)
        .all(|part| part.parse::<u32>().is_ok());
    (numbers && place.matches(':').count() >= 2).then_some(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_panic_is_found() {
        let cases = [
            ("", None),
            ("panicked at the disco\n", None),
            ("thread 'main' panicked at the disco:\nno\n", None),
            (
                "before\n\nthread 'main' panicked at src/lib.rs:10:5:\nno stock\nnote: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n",
                Some("no stock, at src/lib.rs:10:5"),
            ),
            (
                "thread '<unnamed>' (1) panicked at src/a.rs:1:2:\nassertion `left == right` failed\n  left: 1\n right: 2\nstack backtrace:\n   0: x\n",
                Some("assertion `left == right` failed\n  left: 1\n right: 2, at src/a.rs:1:2"),
            ),
            (
                "thread 'main' panicked at src/a.rs:1:2:\nfirst\nthread 'main' panicked at src/b.rs:3:4:\nsecond",
                Some("second, at src/b.rs:3:4"),
            ),
            (
                "thread 'main' panicked at src/a.rs:1:2:\n\n",
                Some("panicked at src/a.rs:1:2"),
            ),
        ];
        for (stderr, expected) in cases {
            assert_eq!(find(stderr).as_deref(), expected, "{stderr}");
        }
    }
}
