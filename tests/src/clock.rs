//! The wall clock that a host sees, which a test can shift while the host runs.
//!
//! A freeze of an hour takes an hour, or a clock that says so. The clock is a library of a few lines
//! (`clock.c`) that the host is started with, in front of the C library's own: nothing in the host
//! knows of it, and its binary is the one that is deployed.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::HeaderValue;

use crate::run;

/// The library, as `build.rs` made it.
const LIBRARY: &str = concat!(env!("OUT_DIR"), "/libclock.so");

/// A clock for one host, and for the Lambda in front of it, which is on the same machine.
#[derive(Clone)]
pub struct Clock {
    path: PathBuf,
    file: Arc<File>,
    shift_ms: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that shows the true time.
    pub fn new() -> Self {
        let path = run::fresh_directory().join("shift");
        let file = File::create(&path).expect("the directory is new");
        let clock = Self {
            path,
            file: Arc::new(file),
            shift_ms: Arc::default(),
        };
        clock.shift(0);
        clock
    }

    /// What a host needs in its environment to see this clock.
    pub fn variables(&self) -> [(String, String); 2] {
        [
            ("LD_PRELOAD".to_owned(), LIBRARY.to_owned()),
            ("E2E_CLOCK".to_owned(), self.path.display().to_string()),
        ]
    }

    /// Moves it by so many seconds, forwards or backwards.
    pub fn shift(&self, seconds: i64) {
        let shift_ms = self.shift_ms.fetch_add(seconds * 1000, Ordering::SeqCst) + seconds * 1000;
        self.file
            .write_all_at(&shift_ms.to_ne_bytes(), 0)
            .expect("the file is open for it");
    }

    /// The header of a reply that is made now by whoever has this clock.
    pub fn date(&self) -> HeaderValue {
        let now_ms = self.unix_ms_in(Duration::ZERO);
        let now = UNIX_EPOCH + Duration::from_millis(now_ms.max(0) as u64);
        HeaderValue::from_str(&httpdate::fmt_http_date(now)).expect("it is a text")
    }

    /// What it shows in so much time, in milliseconds since the Unix epoch.
    pub fn unix_ms_in(&self, time: Duration) -> i64 {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("it is after 1970");
        (since + time).as_millis() as i64 + self.shift_ms.load(Ordering::SeqCst)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
