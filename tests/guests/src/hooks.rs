//! Hooks that count themselves, and do what the function's environment says: `RESTORED = "fail"`.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::program::crash::{grow, spin, trap};

static INITS: AtomicU32 = AtomicU32::new(0);
static SNAPSHOTS: AtomicU32 = AtomicU32::new(0);
static RESTORES: AtomicU32 = AtomicU32::new(0);
static SERVED: AtomicU32 = AtomicU32::new(0);
/// What a hook was told that asked a database.
static TOLD: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// For `init`.
pub async fn warm_up() -> Result<(), hearth::Error> {
    INITS.fetch_add(1, SeqCst);
    act("INIT").await
}

/// For `snapshot`.
pub async fn forget() -> Result<(), hearth::Error> {
    SNAPSHOTS.fetch_add(1, SeqCst);
    act("SNAPSHOT").await
}

/// For `restored`.
pub async fn renew() -> Result<(), hearth::Error> {
    RESTORES.fetch_add(1, SeqCst);
    act("RESTORED").await
}

/// What has happened in this instance, this invocation included.
pub fn account(first: bool) -> Value {
    json!({
        "inits": INITS.load(SeqCst),
        "snapshots": SNAPSHOTS.load(SeqCst),
        "restores": RESTORES.load(SeqCst),
        "served": SERVED.fetch_add(1, SeqCst) + 1,
        "first": first,
        "told": *TOLD.lock().expect("nobody panics"),
    })
}

async fn act(hook: &str) -> Result<(), hearth::Error> {
    println!("{hook} runs");
    let told = std::env::var(hook).unwrap_or_default();
    if let Some(time) = told.strip_prefix("fail after ") {
        let seconds = time.parse().expect("it is a time on the wall");
        return match is_past(seconds) {
            true => Err("as it was told".into()),
            false => Ok(()),
        };
    }
    match told.as_str() {
        "" => {}
        "fail" => return Err("as it was told".into()),
        "trap" => trap(),
        "spin" => spin(),
        "grow" => grow(),
        "exit" => std::process::exit(3),
        "wait" => hearth::sleep(Duration::from_secs(3600)).await,
        "block" => std::thread::sleep(Duration::from_secs(3600)),
        "query" => {
            let asked = match hearth::postgres::default() {
                Ok(database) => {
                    database
                        .execute("create table made_by_a_hook ()", &[])
                        .await
                }
                Err(error) => Err(error),
            };
            let told = format!("{:?}", asked.map_err(|error| error.to_string()));
            TOLD.lock().expect("nobody panics").push(told);
        }
        // A time on the wall, after which it never returns.
        time => match time.parse() {
            Ok(seconds) if is_past(seconds) => spin(),
            Ok(_) => {}
            Err(_) => panic!("as it was told"),
        },
    }
    Ok(())
}

fn is_past(seconds: u64) -> bool {
    SystemTime::now() > UNIX_EPOCH + Duration::from_secs(seconds)
}
