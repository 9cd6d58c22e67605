//! Does what it is told to files, and says how that went.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

/// What an invocation has left open.
static KEPT: Mutex<Option<File>> = Mutex::new(None);
/// How many have met.
static MET: AtomicU32 = AtomicU32::new(0);

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    acts: Vec<Act>,
    /// What to do after the answer, and to print; who has done so comes to the meeting.
    #[serde(default)]
    after: Vec<Act>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Act {
    Write(String, String),
    Append(String, String),
    Read(String),
    /// Writes so many bytes, 64 KiB at a time.
    Fill(String, usize),
    /// Gives a file another length.
    Length(String, u64),
    /// Writes a text to this place in a file.
    Patch(String, u64, String),
    /// Makes empty files until there is no room for one.
    Many(String),
    List(String),
    Make(String),
    Remove(String),
    RemoveAll(String),
    Rename(String, String),
    Link(String, String),
    /// Opens a new file, and removes its name.
    KeepUnnamed(String),
    /// Writes to what was left open.
    WriteKept(String),
    /// Closes it.
    CloseKept,
    /// Goes on when so many have come to a meeting, since the instance began.
    Meet(u32),
}

#[hearth::function(init = look)]
async fn handle(event: Event) -> Result<Value, hearth::Error> {
    let results = all(event.acts).await;
    if !event.after.is_empty() {
        hearth::wait_until(async {
            // The answer goes first.
            hearth::sleep(Duration::from_millis(5)).await;
            let results = all(event.after).await;
            println!("after the answer: {results}");
            MET.fetch_add(1, SeqCst);
        });
    }
    Ok(results)
}

/// There is no invocation yet, and so no directory.
async fn look() -> Result<(), hearth::Error> {
    println!("at first: {:?}", fs::read_dir("/tmp").is_ok());
    Ok(())
}

async fn all(acts: Vec<Act>) -> Value {
    let mut results = Vec::new();
    for act in acts {
        if let Act::Meet(count) = act {
            MET.fetch_add(1, SeqCst);
            while MET.load(SeqCst) < count {
                hearth::sleep(Duration::from_millis(1)).await;
            }
            results.push(Value::Null);
            continue;
        }
        let error = |error: io::Error| json!({ "error": error.raw_os_error().unwrap_or(-1) });
        results.push(perform(act).unwrap_or_else(error));
    }
    Value::Array(results)
}

fn perform(act: Act) -> io::Result<Value> {
    let mut kept = KEPT.lock().expect("nobody panics");
    match act {
        Act::Write(path, text) => fs::write(path, text)?,
        Act::Append(path, text) => OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)?
            .write_all(text.as_bytes())?,
        Act::Read(path) => return Ok(json!(fs::read_to_string(path)?)),
        Act::Fill(path, bytes) => {
            let mut file = File::create(path)?;
            let piece = vec![b'x'; 64 * 1024];
            for begun in (0..bytes).step_by(piece.len()) {
                file.write_all(&piece[..piece.len().min(bytes - begun)])?;
            }
        }
        Act::Length(path, bytes) => OpenOptions::new().write(true).open(path)?.set_len(bytes)?,
        Act::Patch(path, at, text) => {
            let mut file = OpenOptions::new().write(true).open(path)?;
            file.seek(SeekFrom::Start(at))?;
            file.write_all(text.as_bytes())?;
        }
        Act::Many(directory) => {
            let made = |number: &u32| File::create(format!("{directory}/{number}")).is_ok();
            return Ok(json!((0..1_000_000).take_while(made).count()));
        }
        Act::List(directory) => return Ok(json!(list(Path::new(&directory))?)),
        Act::Make(directory) => fs::create_dir_all(directory)?,
        Act::Remove(path) => fs::remove_file(path)?,
        Act::RemoveAll(path) => fs::remove_dir_all(path)?,
        Act::Rename(path, new) => fs::rename(path, new)?,
        Act::Link(path, new) => fs::hard_link(path, new)?,
        Act::KeepUnnamed(path) => {
            *kept = Some(File::create(&path)?);
            fs::remove_file(path)?;
        }
        Act::WriteKept(text) => {
            let file = kept.as_mut().ok_or(io::ErrorKind::NotFound)?;
            file.write_all(text.as_bytes())?;
        }
        Act::CloseKept => *kept = None,
        Act::Meet(_) => {}
    }
    Ok(Value::Null)
}

/// The names in a directory, each with the length of a file.
fn list(directory: &Path) -> io::Result<Vec<(String, u64)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let data = entry.metadata()?;
        let bytes = if data.is_dir() { 0 } else { data.len() };
        names.push((entry.file_name().to_string_lossy().into_owned(), bytes));
    }
    names.sort();
    Ok(names)
}
