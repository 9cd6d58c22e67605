//! Hearth beside a native Rust function, doing the same work behind the same Runtime API.
//!
//! For each runtime, a process is started and handed events one after another. Timed is what a
//! caller of Lambda would wait for: from handing the event out to having received the answer. The
//! runtimes take turns, round by round, so that whatever else the machine does falls on both.
//! Compare within one run only; what is printed last are ratios.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

/// Events per runtime and round. A round is short against the machine's own swings.
const EVENTS: usize = 2_000;
const ROUNDS: usize = 7;
/// Events before the first round, for connections, caches and plans.
const WARM_UP: usize = 500;

const WORK: [(&str, &str); 2] = [
    ("echo", r#"{"message":"hello","numbers":[1,2,3]}"#),
    ("one-row query", r#"{"id":42}"#),
];

/// A runtime under test, with its connections to this Runtime API.
struct Runtime {
    name: &'static str,
    child: Child,
    listener: TcpListener,
    connection: BufReader<TcpStream>,
    started: Duration,
}

/// What one round took.
struct Round {
    median: Duration,
    p99: Duration,
    cpu: Duration,
}

fn main() -> Result<()> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [bootstrap, task_root, native] = arguments.as_slice() else {
        bail!(
            "usage: hearth-bench BOOTSTRAP TASK_ROOT NATIVE, with DATABASE_URL set; see scripts/bench"
        );
    };
    prepare_database()?;
    let mut runtimes = [
        Runtime::start("native", &mut Command::new(native), task_root)?,
        Runtime::start(
            "native, one thread",
            Command::new(native).arg("one-thread"),
            task_root,
        )?,
        Runtime::start("hearth", &mut Command::new(bootstrap), task_root)?,
    ];
    for runtime in &runtimes {
        println!(
            "{:20} first event asked for {:6.1} ms after its start",
            runtime.name,
            runtime.started.as_secs_f64() * 1e3
        );
    }
    for (work, event) in WORK {
        compare(&mut runtimes, work, event)?;
    }
    for runtime in &mut runtimes {
        runtime.child.kill()?;
        runtime.child.wait()?;
    }
    Ok(())
}

fn compare(runtimes: &mut [Runtime; 3], work: &str, event: &str) -> Result<()> {
    for runtime in runtimes.iter_mut() {
        runtime.round(event, WARM_UP)?;
    }
    let mut rounds: [Vec<Round>; 3] = Default::default();
    for number in 0..ROUNDS {
        // Who goes first changes too.
        for turn in 0..runtimes.len() {
            let index = (number + turn) % runtimes.len();
            rounds[index].push(runtimes[index].round(event, EVENTS)?);
        }
    }
    println!("\n{work}: {ROUNDS} rounds of {EVENTS} events each, medians over the rounds");
    let figures = rounds.each_ref().map(|rounds| figures(rounds));
    for (runtime, [median, p99, cpu]) in runtimes.iter().zip(&figures) {
        println!(
            "{:20} median {median:7.1} us   p99 {p99:7.1} us   CPU {cpu:6.1} us/event",
            runtime.name
        );
    }
    let [natives @ .., hearth] = &figures;
    for (runtime, native) in runtimes.iter().zip(natives) {
        let [median, p99, cpu] = [0, 1, 2].map(|figure| hearth[figure] / native[figure]);
        println!(
            "hearth / {:20} median {median:.2}   p99 {p99:.2}   CPU {cpu:.2}",
            runtime.name
        );
    }
    Ok(())
}

/// The medians over all rounds, in microseconds: median, 99th percentile, CPU per event.
fn figures(rounds: &[Round]) -> [f64; 3] {
    let middle = |value: fn(&Round) -> Duration| {
        let mut values: Vec<Duration> = rounds.iter().map(value).collect();
        values.sort();
        values[values.len() / 2].as_secs_f64() * 1e6
    };
    [
        middle(|round| round.median),
        middle(|round| round.p99),
        middle(|round| round.cpu),
    ]
}

impl Runtime {
    fn start(name: &'static str, command: &mut Command, task_root: &Path) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let begun = Instant::now();
        let child = command
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")
            .env("LAMBDA_TASK_ROOT", task_root)
            .env("_HANDLER", "bench")
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let connection = accept(&listener)?;
        let mut runtime = Self {
            name,
            child,
            listener,
            connection,
            started: Duration::ZERO,
        };
        let path = runtime.request()?;
        if !path.ends_with("/next") {
            bail!("{name} did not start: its first request was for {path}");
        }
        runtime.started = begun.elapsed();
        Ok(runtime)
    }

    /// Hands out so many events, one after another. Begins and ends with the runtime waiting for one.
    fn round(&mut self, event: &str, events: usize) -> Result<Round> {
        let cpu_before = self.cpu()?;
        let mut times = Vec::with_capacity(events);
        for number in 0..events {
            let deadline = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() + 30_000;
            let reply = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
                 Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-{number:012}\r\n\
                 Lambda-Runtime-Deadline-Ms: {deadline}\r\n\
                 Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n\
                 Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-2:123456789012:function:bench\r\n\r\n{event}",
                event.len()
            );
            let handed_out = Instant::now();
            self.connection.get_mut().write_all(reply.as_bytes())?;
            let path = self.request()?;
            times.push(handed_out.elapsed());
            if !path.ends_with("/response") {
                bail!("{} answered with {path}", self.name);
            }
            self.connection
                .get_mut()
                .write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n")?;
            self.request()?;
        }
        times.sort();
        Ok(Round {
            median: times[events / 2],
            p99: times[events * 99 / 100],
            cpu: (self.cpu()? - cpu_before) / events as u32,
        })
    }

    /// Reads one request and returns its path.
    fn request(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.connection.read_line(&mut line)? == 0 {
            // It opened another connection.
            self.connection = accept(&self.listener)?;
            self.connection.read_line(&mut line)?;
        }
        let path = line
            .split(' ')
            .nth(1)
            .context("no request line")?
            .to_owned();
        let (mut length, mut chunked) = (0, false);
        loop {
            line.clear();
            self.connection.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        }
        if chunked {
            self.read_chunks()?;
        } else {
            self.connection.read_exact(&mut vec![0; length])?;
        }
        Ok(path)
    }

    fn read_chunks(&mut self) -> Result<()> {
        loop {
            let mut line = String::new();
            self.connection.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16)?;
            self.connection.read_exact(&mut vec![0; length + 2])?;
            if length == 0 {
                return Ok(());
            }
        }
    }

    /// The processor time that the runtime has used, user and system.
    fn cpu(&self) -> Result<Duration> {
        let mut total = 0;
        for thread in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // The first figure: nanoseconds on a processor.
            let figures = std::fs::read_to_string(thread?.path().join("schedstat"))?;
            total += figures
                .split(' ')
                .next()
                .context("empty schedstat")?
                .parse::<u64>()?;
        }
        Ok(Duration::from_nanos(total))
    }
}

fn accept(listener: &TcpListener) -> Result<BufReader<TcpStream>> {
    let (stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    Ok(BufReader::new(stream))
}

fn prepare_database() -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL is not set")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        client
            .batch_execute(
                "drop table if exists bench_item;
                 create table bench_item (id bigint primary key, name text not null);
                 insert into bench_item select n, 'item ' || n from generate_series(1, 1000) n;
                 analyze bench_item",
            )
            .await?;
        Ok(())
    })
}
