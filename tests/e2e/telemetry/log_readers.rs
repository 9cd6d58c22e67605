//! The log reaches whoever reads it line by line, and whoever does not read it stops nothing else.

use std::io::{BufRead as _, BufReader, PipeReader};
use std::os::unix::net::UnixDatagram as Datagrams;

use e2e::guests::MISBEHAVE;
use e2e::{Door, PATIENCE, Setup, Trial};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::net::UnixDatagram;

/// A function whose log is not read, with as much in it as there is room for.
async fn unread(concurrency: usize) -> (Trial, PipeReader) {
    let (reader, writer) = std::io::pipe().unwrap();
    let setup = Setup::of(&MISBEHAVE).stdout(writer);
    let trial = setup.concurrency(concurrency).start(Door::Lambda).await;
    let answer = trial.invoke(json!({ "act": "flood" })).await;
    assert!(!answer.failed, "{answer:?}");
    (trial, reader)
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_no_event_and_no_end() {
    for concurrency in [1, 4] {
        let (mut trial, reader) = unread(concurrency).await;
        let floods = (0..concurrency).map(|_| trial.invoke(json!({ "act": "flood" })));
        assert!(join_all(floods).await.iter().all(|answer| !answer.failed));
        trial.lambda().parked(concurrency).await;
        trial.host.terminate();
        let status = trial.host.end(PATIENCE).await;
        assert!(status.success(), "{status}");
        drop(reader);
    }
}

/// The signal comes while a line waits for its reader.
#[tokio::test]
async fn an_environment_ends_in_the_midst_of_a_line_that_nobody_reads() {
    let (reader, writer) = std::io::pipe().unwrap();
    let setup = Setup::of(&MISBEHAVE).stdout(writer);
    let mut trial = setup.start(Door::Lambda).await;
    trial
        .lambda()
        .send(trial.event(json!({ "act": "flood" }).to_string()));
    // A pipe has room for 64 KiB, or less where pages are not full.
    e2e::eventually("a pipe that is all but full", async || {
        let bytes = rustix::io::ioctl_fionread(&reader).unwrap();
        (bytes > 40 * 1024).then_some(())
    })
    .await;
    trial.host.terminate();
    let status = trial.host.end(PATIENCE).await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn lines_that_were_lost_are_counted_once_the_log_is_read_again() {
    let (mut trial, reader) = unread(1).await;
    let (heard, hearing) = std::sync::mpsc::channel();
    let log = std::thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map_while(Result::ok);
        lines
            .inspect(|line| {
                let _ = heard.send(line.contains("the last"));
            })
            .collect::<Vec<String>>()
    });
    let mut printed = 0;
    e2e::eventually("a log that is read to its end", async || {
        printed += 1;
        trial
            .invoke(json!({ "act": "print", "text": "the last" }))
            .await;
        hearing.try_iter().any(|is_last| is_last).then_some(())
    })
    .await;
    trial.lambda().parked(1).await;
    trial.host.terminate();
    trial.host.end(PATIENCE).await;
    let log = log.join().unwrap();
    let lost = log
        .iter()
        .find_map(|line| line.split_once(" lines of the log were lost"));
    let (before, _) = lost.unwrap_or_else(|| panic!("{log:?}"));
    let lost: usize = before.rsplit(' ').next().unwrap().parse().unwrap();
    let kept = log.iter().filter(|line| line.contains("xxx")).count();
    // The guest wrote 3,000 lines, of which a mebibyte is taken.
    assert!(
        kept > 0 && (1000..1100 + printed).contains(&(kept + lost)),
        "{kept} {lost}"
    );
    assert!(
        log.last().is_some_and(|line| line.contains("stopping")),
        "{log:?}"
    );
}

/// Each write to such a socket arrives as one message.
#[tokio::test]
async fn each_line_is_one_write() {
    let (reader, writer) = Datagrams::pair().unwrap();
    reader.set_nonblocking(true).unwrap();
    let reader = UnixDatagram::from_std(reader).unwrap();
    let setup = Setup::of(&MISBEHAVE)
        .isolation("{ concurrent = 4 }")
        .concurrency(4);
    let setup = setup
        .toml("[log]\nformat = \"json\"\nmetrics = \"emf\"\n")
        .stdout(writer);
    let trial = setup.start(Door::Lambda).await;
    let print = |n: usize| {
        let lines = (0..20).map(|line| format!("mark-{n}-{line}.{}", "x".repeat(line * 5000)));
        json!({ "act": "print", "text": lines.collect::<Vec<_>>().join("\n") })
    };
    let answering = join_all((0..4).map(|n| trial.invoke(print(n))));
    let reading = async {
        let (mut marks, mut figures) = (Vec::new(), 0);
        let mut message = vec![0; 256 * 1024];
        while marks.len() < 80 || figures < 4 {
            let read = tokio::time::timeout(PATIENCE, reader.recv(&mut message)).await;
            let bytes = read.expect("there is more to come").unwrap();
            let line = message[..bytes]
                .strip_suffix(b"\n")
                .expect("it is a whole line");
            let line: Value = serde_json::from_slice(line).expect("it is a line alone");
            figures += usize::from(line["_aws"].is_object());
            let text = line["message"].as_str().unwrap_or_default();
            marks.extend(
                text.split_once('.')
                    .filter(|(mark, _)| mark.starts_with("mark-"))
                    .map(|(mark, _)| mark.to_owned()),
            );
        }
        marks
    };
    let (answers, mut marks) = tokio::join!(answering, reading);
    assert!(answers.iter().all(|answer| !answer.failed));
    marks.sort_unstable();
    marks.dedup();
    assert_eq!(marks.len(), 80);
}
