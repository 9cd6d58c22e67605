//! A runtime under test behind a Runtime API of this program's own: it hands events out, takes the
//! answers, and looks at the clock in between.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, Signal, kill_process};

/// How long a runtime has to end by itself.
const ENDING: Duration = Duration::from_secs(5);

/// A runtime under test, with its connections to this Runtime API.
pub struct Runtime {
    pub name: &'static str,
    child: Child,
    listener: TcpListener,
    /// All that it has open; it chooses on which it asks and answers. One that it has closed leaves
    /// its place empty.
    connections: Vec<Option<BufReader<TcpStream>>>,
    /// Those on which something has come that was not looked at yet.
    ready: VecDeque<usize>,
    /// Those on which it waits for an event.
    waiting: Vec<usize>,
    begun: Instant,
    /// From its start until it has asked for as many events as it takes.
    pub started: Duration,
    /// From its start until its first answer.
    pub answered: Option<Duration>,
}

/// What one round took.
pub struct Round {
    /// From handing an event out to having received the answer.
    pub median: Duration,
    pub p99: Duration,
    /// Of the whole round, by the number of its events.
    pub each: Duration,
    /// The runtime's processor time, by the number of events.
    pub cpu: Duration,
    /// The last answer.
    pub answer: Vec<u8>,
}

struct Request {
    connection: usize,
    path: String,
    body: Vec<u8>,
}

impl Runtime {
    /// Starts a runtime that takes so many events at a time, and waits until it asks for them.
    pub fn start(
        name: &'static str,
        command: &mut Command,
        task_root: &Path,
        concurrency: usize,
    ) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let begun = Instant::now();
        command
            .env("AWS_LAMBDA_RUNTIME_API", listener.local_addr()?.to_string())
            .env("AWS_LAMBDA_FUNCTION_NAME", "bench")
            .env("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST")
            .env("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "1024")
            // What they say of their end is no result.
            .env("AWS_LAMBDA_LOG_LEVEL", "WARN")
            .env("LAMBDA_TASK_ROOT", task_root);
        if concurrency > 1 {
            // As Lambda Managed Instances do.
            command.env("AWS_LAMBDA_MAX_CONCURRENCY", concurrency.to_string());
        }
        let child = command
            .spawn()
            .with_context(|| format!("{name} cannot be started"))?;
        let mut runtime = Self {
            name,
            child,
            listener,
            connections: Vec::new(),
            ready: VecDeque::new(),
            waiting: Vec::new(),
            begun,
            started: Duration::ZERO,
            answered: None,
        };
        while runtime.waiting.len() < concurrency {
            let request = runtime.request()?;
            if request.path.contains("/extension/") {
                // There are none here, as in some emulators.
                let refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
                runtime.write(request.connection, refusal)?;
                continue;
            }
            if !request.path.ends_with("/next") {
                bail!("{name} did not start: it asked for {}", request.path);
            }
            runtime.waiting.push(request.connection);
        }
        runtime.started = begun.elapsed();
        Ok(runtime)
    }

    /// Hands out so many events, as many at a time as the runtime takes. Begins and ends with the
    /// runtime waiting for all that it can take.
    pub fn round(&mut self, event: &str, events: usize) -> Result<Round> {
        let concurrency = self.waiting.len();
        let cpu_before = self.cpu()?;
        let begun = Instant::now();
        let mut times = Vec::with_capacity(events);
        let mut handed_out = vec![begun; events];
        let mut answer = Vec::new();
        let mut next = 0;
        loop {
            while next < events
                && let Some(connection) = self.waiting.pop()
            {
                handed_out[next] = Instant::now();
                self.hand_out(connection, event, next)?;
                next += 1;
            }
            // Whoever takes several at a time may wait for the next event before the last answer is here.
            if self.waiting.len() == concurrency && times.len() == events {
                break;
            }
            let request = self.request()?;
            if request.path.ends_with("/next") {
                self.waiting.push(request.connection);
                continue;
            }
            let number = answered(&request.path)
                .with_context(|| format!("{} answered with {}", self.name, request.path))?;
            times.push(handed_out[number].elapsed());
            self.answered.get_or_insert_with(|| self.begun.elapsed());
            self.write(
                request.connection,
                b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n",
            )?;
            answer = request.body;
        }
        let each = begun.elapsed() / events as u32;
        times.sort();
        Ok(Round {
            median: times[events / 2],
            p99: times[events * 99 / 100],
            each,
            cpu: (self.cpu()? - cpu_before) / events as u32,
            answer,
        })
    }

    fn hand_out(&mut self, connection: usize, event: &str, number: usize) -> Result<()> {
        let deadline = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() + 30_000;
        let reply = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
             Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-{number:012}\r\n\
             Lambda-Runtime-Deadline-Ms: {deadline}\r\n\
             Lambda-Runtime-Trace-Id: Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1\r\n\
             Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-2:123456789012:function:bench\r\n\r\n{event}",
            event.len()
        );
        self.write(connection, reply.as_bytes())
    }

    fn write(&mut self, connection: usize, bytes: &[u8]) -> Result<()> {
        Ok(self.connection(connection)?.get_mut().write_all(bytes)?)
    }

    fn connection(&mut self, index: usize) -> Result<&mut BufReader<TcpStream>> {
        self.connections[index]
            .as_mut()
            .context("a runtime has closed a connection on which it waits")
    }

    /// Waits until a request comes on any of the connections, and returns which. Each gets its turn before
    /// any gets another.
    fn wait(&mut self) -> Result<usize> {
        loop {
            while let Some(index) = self.ready.pop_front() {
                if !self.connection(index)?.fill_buf()?.is_empty() {
                    return Ok(index);
                }
                self.connections[index] = None;
            }
            let mut watched = vec![PollFd::new(&self.listener, PollFlags::IN)];
            let mut indexes = Vec::with_capacity(self.connections.len());
            for (index, connection) in self.connections.iter().enumerate() {
                if let Some(connection) = connection {
                    indexes.push(index);
                    watched.push(PollFd::new(connection.get_ref(), PollFlags::IN));
                }
            }
            rustix::event::poll(&mut watched, None)?;
            let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
            let has_new = is_ready(&watched[0]);
            let ready = indexes.iter().zip(&watched[1..]);
            let ready = ready.filter(|(_, fd)| is_ready(fd));
            self.ready.extend(ready.map(|(index, _)| *index));
            if has_new {
                let (stream, _) = self.listener.accept()?;
                stream.set_nodelay(true)?;
                self.connections.push(Some(BufReader::new(stream)));
            }
        }
    }

    /// Reads one request.
    fn request(&mut self) -> Result<Request> {
        let connection = self.wait()?;
        let reader = self.connection(connection)?;
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let path = line
            .split(' ')
            .nth(1)
            .context("no request line")?
            .to_owned();
        let (mut length, mut chunked) = (0, false);
        loop {
            line.clear();
            reader.read_line(&mut line)?;
            let header = line.trim_end().to_ascii_lowercase();
            if header.is_empty() {
                break;
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            chunked |= header.starts_with("transfer-encoding:") && header.contains("chunked");
        }
        let mut body = vec![0; length];
        if chunked {
            body = chunks(reader)?;
        } else {
            reader.read_exact(&mut body)?;
        }
        Ok(Request {
            connection,
            path,
            body,
        })
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

impl Drop for Runtime {
    fn drop(&mut self) {
        // As on Lambda: told first, so that it can write down what it wants to, then killed. It may have
        // ended by itself, and nothing else can be wrong.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let until = Instant::now() + ENDING;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(Duration::from_millis(1));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number of the event that this path answers.
fn answered(path: &str) -> Option<usize> {
    let id = path.strip_suffix("/response")?;
    id.rsplit('-').next()?.parse().ok()
}

fn chunks(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim_end(), 16)?;
        let start = body.len();
        body.resize(start + length + 2, 0);
        reader.read_exact(&mut body[start..])?;
        body.truncate(start + length);
        if length == 0 {
            return Ok(body);
        }
    }
}
