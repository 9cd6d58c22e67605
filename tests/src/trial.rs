//! One function that runs behind one front door: how a test calls it, and reads what came back.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde_json::Value;

use crate::answer::{Answer, map};
use crate::lambda::{Event, Lambda, What};
use crate::{Clock, Host, Middlebox, local};

/// The name of the function in each test's configuration.
pub const FUNCTION: &str = "tested";

/// The two ways in which a function is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// `bootstrap`, on a fake of Lambda's Runtime API.
    Lambda,
    /// `hearth serve`, over HTTP.
    Local,
}

/// How it is reached.
pub(crate) enum Way {
    Lambda(Lambda),
    /// The address.
    Local(String),
}

/// A function that runs.
pub struct Trial {
    /// The process.
    pub host: Host,
    /// Where its configuration is.
    pub directory: PathBuf,
    pub(crate) middlebox: Option<Middlebox>,
    pub(crate) clock: Option<Clock>,
    pub(crate) way: Way,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: usize,
}

impl Trial {
    /// Sends an event, and waits for its answer.
    pub async fn invoke(&self, event: Value) -> Answer {
        self.invoke_for(None, event).await
    }

    /// An event for Lambda's door, with the time that the setup gives each.
    pub fn event(&self, payload: impl Into<Bytes>) -> Event {
        let event = Event::new(payload, self.timeout);
        match &self.clock {
            None => event,
            Some(clock) => {
                let deadline_ms = clock.unix_ms_in(self.timeout);
                event.header("Lambda-Runtime-Deadline-Ms", &deadline_ms.to_string())
            }
        }
    }

    /// Sends an event with so much time, where the door takes that from each event: Lambda's.
    pub async fn invoke_within(&self, timeout: Duration, event: Value) -> Answer {
        let start = Instant::now();
        let event = Event::new(event.to_string(), timeout);
        self.through_lambda(self.lambda(), event, start).await
    }

    async fn through_lambda(&self, lambda: &Lambda, event: Event, start: Instant) -> Answer {
        let id = event.id.clone();
        lambda.send(event);
        let call = lambda.answer(&id).await;
        Answer {
            request_id: id,
            failed: call.what == What::Error,
            headers: map(&call.headers),
            body: call.body,
            took: start.elapsed(),
        }
    }

    /// Sends an event for a tenant, if one is named, and waits for its answer.
    pub async fn invoke_for(&self, tenant: Option<&str>, event: Value) -> Answer {
        let payload = Bytes::from(event.to_string());
        let start = Instant::now();
        match &self.way {
            Way::Lambda(lambda) => {
                let mut event = self.event(payload);
                if let Some(tenant) = tenant {
                    let header = ("Lambda-Runtime-Aws-Tenant-Id", tenant);
                    event
                        .headers
                        .push((header.0.to_owned(), header.1.to_owned()));
                }
                self.through_lambda(lambda, event, start).await
            }
            Way::Local(address) => {
                let tenant = tenant.map(|tenant| ("x-amz-tenant-id", tenant));
                let headers: Vec<_> = tenant.into_iter().collect();
                let response = local::invoke(address, FUNCTION, &headers, payload).await;
                let took = start.elapsed();
                assert_eq!(response.status(), 200, "{:?}", response.body());
                let headers = map(response.headers());
                let request_id = headers.get("x-amzn-requestid").cloned().unwrap_or_default();
                let failed = headers.contains_key("x-amz-function-error");
                Answer {
                    request_id,
                    failed,
                    headers,
                    body: response.into_body(),
                    took,
                }
            }
        }
    }

    /// Sends an event that must be answered well, and returns the answer.
    pub async fn value(&self, event: Value) -> Value {
        self.invoke(event).await.value()
    }

    /// Sends an event that must fail, and returns the type and the message of its error.
    pub async fn error(&self, event: Value) -> (String, String) {
        self.invoke(event).await.error()
    }

    /// The fake Lambda, behind that door.
    pub fn lambda(&self) -> &Lambda {
        match &self.way {
            Way::Lambda(lambda) => lambda,
            Way::Local(_) => panic!("this trial is behind the local door"),
        }
    }

    /// The middlebox between the host and the Runtime API, if there is to be one.
    pub fn middlebox(&self) -> &Middlebox {
        let middlebox = self.middlebox.as_ref();
        middlebox.expect("the setup asked for one")
    }

    /// The local host's address, behind that door.
    pub fn address(&self) -> &str {
        match &self.way {
            Way::Local(address) => address,
            Way::Lambda(_) => panic!("this trial is behind Lambda's door"),
        }
    }
}
