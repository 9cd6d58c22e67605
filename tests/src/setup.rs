//! What a test wants to run: a function with its settings, its database, and what stands around the host.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::lambda::{Lambda, Mode, What};
use crate::trial::{Door, FUNCTION, Trial, Way};
use crate::{Clock, Database, Guest, Host, Middlebox, Proxy, run};

/// What a test wants to run. The defaults are Hearth's own.
pub struct Setup {
    component: PathBuf,
    function: Vec<(&'static str, String)>,
    database: Vec<(&'static str, String)>,
    rest: String,
    timeout: Duration,
    concurrency: usize,
    environment: Vec<(String, String)>,
    /// If there is one, how long bytes are on their way through it, in each direction.
    behind_middlebox: Option<Duration>,
    under_path: &'static str,
    clock: Option<Clock>,
    replies: Vec<(What, u16)>,
    stdout: Option<OwnedFd>,
    lost: Vec<What>,
}

impl Setup {
    /// This guest, compiled.
    pub fn of(guest: &Guest) -> Self {
        Self::component(guest.compiled())
    }

    /// This file, whatever it is.
    pub fn component(path: &Path) -> Self {
        Self {
            component: path.to_owned(),
            function: Vec::new(),
            database: Vec::new(),
            rest: String::new(),
            timeout: Duration::from_secs(30),
            concurrency: 1,
            environment: Vec::new(),
            behind_middlebox: None,
            under_path: "",
            clock: None,
            replies: Vec::new(),
            stdout: None,
            lost: Vec::new(),
        }
    }

    /// With a setting of the function, in TOML.
    pub fn function(mut self, key: &'static str, value: &str) -> Self {
        self.function.push((key, value.to_owned()));
        self
    }

    /// With an isolation, in TOML: `"fresh"`, `"serial"`, `{ concurrent = 8 }`.
    pub fn isolation(self, value: &str) -> Self {
        self.function("isolation", value)
    }

    /// With this database, as `default`.
    pub fn with(self, database: &Database) -> Self {
        self.url(&database.url())
    }

    /// With the database behind this proxy, as `default`.
    pub fn through(self, proxy: &Proxy) -> Self {
        self.url(proxy.url())
    }

    /// With a database at this address, as `default`.
    pub fn url(self, url: &str) -> Self {
        self.database("url", &format!("{url:?}"))
    }

    /// With a setting of the database, in TOML.
    pub fn database(mut self, key: &'static str, value: &str) -> Self {
        self.database.retain(|(known, _)| *known != key);
        self.database.push((key, value.to_owned()));
        self
    }

    /// With more TOML at the end.
    pub fn toml(mut self, text: &str) -> Self {
        self.rest += text;
        self
    }

    /// With so much time for each invocation.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// With so many invocations at a time; Lambda has a mode for that.
    pub fn concurrency(mut self, invocations: usize) -> Self {
        self.concurrency = invocations;
        self
    }

    /// With this variable in the host's environment.
    pub fn variable(self, name: &str, value: &str) -> Self {
        self.variables(&[(name.to_owned(), value.to_owned())])
    }

    /// With these variables in the host's environment.
    pub fn variables(mut self, variables: &[(String, String)]) -> Self {
        self.environment.extend_from_slice(variables);
        self
    }

    /// With this clock on the wall, which is Lambda's as well.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = Some(clock.clone());
        self.variables(&clock.variables())
    }

    /// With a middlebox between the host and the Runtime API.
    pub fn behind_middlebox(self) -> Self {
        self.behind_slow_middlebox(Duration::ZERO)
    }

    /// With a middlebox there through which bytes take so long, in each direction, from the start.
    pub fn behind_slow_middlebox(mut self, delay: Duration) -> Self {
        self.behind_middlebox = Some(delay);
        self
    }

    /// With an output of the test's own, which is then not in the log. Behind Lambda's door alone.
    pub fn stdout(mut self, descriptor: impl Into<OwnedFd>) -> Self {
        self.stdout = Some(descriptor.into());
        self
    }

    /// With a Lambda that answers a call of this kind with this status, once.
    pub fn reply(mut self, what: What, status: u16) -> Self {
        self.replies.push((what, status));
        self
    }

    /// With a Lambda that such a call does not reach, so many times.
    pub fn lose(mut self, what: What, times: usize) -> Self {
        self.lost.extend(vec![what; times]);
        self
    }

    /// With a Runtime API whose address is a URL with this path: `/.rt/tested`.
    pub fn under_path(mut self, path: &'static str) -> Self {
        self.under_path = path;
        self
    }

    /// Writes the configuration into a directory of its own, and returns that.
    pub fn write(&self) -> PathBuf {
        let mut text = format!(
            "[function.{FUNCTION}]\ncomponent = {:?}\n",
            self.component.display().to_string()
        );
        text += &format!("timeout_ms = {}\n", self.timeout.as_millis());
        if !self.database.is_empty() && !self.function.iter().any(|(key, _)| *key == "databases") {
            text += "databases = [\"default\"]\n";
        }
        self.function
            .iter()
            .for_each(|(key, value)| text += &format!("{key} = {value}\n"));
        if !self.database.is_empty() {
            text += "\n[database.default]\n";
        }
        self.database
            .iter()
            .for_each(|(key, value)| text += &format!("{key} = {value}\n"));
        let directory = run::fresh_directory();
        std::fs::write(directory.join("hearth.toml"), text + "\n" + &self.rest)
            .expect("the directory is new");
        directory
    }

    /// Starts it, without waiting until it is ready.
    pub async fn launch(self, door: Door) -> Trial {
        let directory = self.write();
        let mut middlebox = None;
        let (host, way) = match door {
            Door::Lambda => {
                let mode = Mode::of(self.concurrency);
                let lambda = Lambda::start_in(mode, self.clock.clone()).await;
                for (what, status) in &self.replies {
                    lambda.reply(*what, *status);
                }
                self.lost.iter().for_each(|what| lambda.lose(*what));
                let mut address = lambda.address();
                if let Some(delay) = self.behind_middlebox {
                    let between = Middlebox::before(&address).await;
                    between.delay(delay);
                    address = between.address();
                    middlebox = Some(between);
                }
                if !self.under_path.is_empty() {
                    address = format!("http://{address}{}", self.under_path);
                }
                let mut environment = Vec::new();
                // Managed Instances have JSON where nobody says otherwise; most tests read text.
                if self.concurrency > 1 && !self.rest.contains("format = ") {
                    environment.push(("AWS_LAMBDA_LOG_FORMAT".to_owned(), "Text".to_owned()));
                }
                environment.extend(self.environment.iter().cloned());
                if self.concurrency > 1 {
                    environment.push((
                        "AWS_LAMBDA_MAX_CONCURRENCY".to_owned(),
                        self.concurrency.to_string(),
                    ));
                }
                let host = Host::bootstrap_writing_to(
                    &directory,
                    FUNCTION,
                    &address,
                    &environment,
                    self.stdout,
                );
                (host, Way::Lambda(lambda))
            }
            Door::Local => {
                let arguments = ["serve", "--port", "0"];
                (
                    Host::hearth(&directory, &arguments, &self.environment),
                    Way::Local(String::new()),
                )
            }
        };
        Trial {
            host,
            middlebox,
            clock: self.clock,
            way,
            directory,
            timeout: self.timeout,
            concurrency: self.concurrency,
        }
    }

    /// Starts it, and waits until it takes events.
    pub async fn start(self, door: Door) -> Trial {
        let mut trial = self.launch(door).await;
        match &mut trial.way {
            Way::Lambda(lambda) => tokio::select! {
                () = lambda.parked(trial.concurrency) => {}
                status = trial.host.end(crate::PATIENCE) => panic!("the host ended at its start: {status}"),
            },
            Way::Local(address) => {
                let line = trial.host.line("listening on http://").await;
                let (_, rest) = line.split_once("http://").expect("it is part of the line");
                *address = rest
                    .chars()
                    .take_while(|c| c.is_ascii_digit() || ".:".contains(*c))
                    .collect();
            }
        }
        trial
    }
}
