//! A runtime under test behind a Runtime API of this program's own: it hands events out, takes the
//! answers, and looks at the clock in between.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};

/// A runtime under test, with its connections to this Runtime API.
pub struct Runtime {
    pub name: &'static str,
    pub child: Child,
    listener: TcpListener,
    /// All that it has open; it chooses on which it asks and answers.
    connections: Vec<BufReader<TcpStream>>,
    /// The one of the last request.
    current: usize,
    pub started: Duration,
}

/// What one round took.
pub struct Round {
    pub median: Duration,
    pub p99: Duration,
    pub cpu: Duration,
}

impl Runtime {
    pub fn start(name: &'static str, command: &mut Command, task_root: &Path) -> Result<Self> {
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
        let mut runtime = Self {
            name,
            child,
            listener,
            connections: Vec::new(),
            current: 0,
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
    pub fn round(&mut self, event: &str, events: usize) -> Result<Round> {
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
            self.connection().get_mut().write_all(reply.as_bytes())?;
            let path = self.request()?;
            times.push(handed_out.elapsed());
            if !path.ends_with("/response") {
                bail!("{} answered with {path}", self.name);
            }
            self.connection()
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

    fn connection(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.connections[self.current]
    }

    /// Waits until a request comes on any of the connections, and makes that the current one.
    fn wait(&mut self) -> Result<()> {
        loop {
            let mut watched = vec![PollFd::new(&self.listener, PollFlags::IN)];
            let streams = self.connections.iter().map(BufReader::get_ref);
            watched.extend(streams.map(|stream| PollFd::new(stream, PollFlags::IN)));
            rustix::event::poll(&mut watched, None)?;
            let ready: Vec<bool> = watched.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[0] {
                let (stream, _) = self.listener.accept()?;
                stream.set_nodelay(true)?;
                self.connections.push(BufReader::new(stream));
            }
            if let Some(index) = ready[1..].iter().position(|ready| *ready) {
                if self.connections[index].fill_buf()?.is_empty() {
                    self.connections.remove(index);
                    continue;
                }
                self.current = index;
                return Ok(());
            }
        }
    }

    /// Reads one request and returns its path.
    fn request(&mut self) -> Result<String> {
        self.wait()?;
        let mut line = String::new();
        self.connection().read_line(&mut line)?;
        let path = line
            .split(' ')
            .nth(1)
            .context("no request line")?
            .to_owned();
        let (mut length, mut chunked) = (0, false);
        loop {
            line.clear();
            self.connection().read_line(&mut line)?;
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
            self.connection().read_exact(&mut vec![0; length])?;
        }
        Ok(path)
    }

    fn read_chunks(&mut self) -> Result<()> {
        loop {
            let mut line = String::new();
            self.connection().read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim_end(), 16)?;
            self.connection().read_exact(&mut vec![0; length + 2])?;
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
