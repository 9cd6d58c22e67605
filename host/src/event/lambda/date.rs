//! A question to the Runtime API that has a date for an answer.
//!
//! Promises: it takes no longer than [`limits::API_CLOCK_TIMEOUT`], and touches neither an event nor the connection
//! on which events come.

use tokio::time::timeout;

use super::asks;
use super::endpoint::Endpoint;
use super::http1::Connection;
use super::received::date_ms;
use crate::invocation::unix_ms_now;
use crate::limits;

/// AWS's own Runtime API says `pong` to this, others that there is no such thing. Either has a date.
const PING: &str = "/2018-06-01/ping";

/// Asks the other side what its clock shows, and takes note of that, if there is a reply that says it.
pub(super) async fn ask(endpoint: &Endpoint) {
    let asking = async {
        let mut connection = Connection::new(endpoint.open().await.ok()?);
        let request = asks(PING, &|_| limits::API_CLOCK_TIMEOUT);
        let asked_ms = unix_ms_now();
        let exchange = connection.exchange(endpoint.default_headers(), &request);
        let date_ms = date_ms(&exchange.await.ok()?.headers)?;
        endpoint.clock().shown(date_ms, asked_ms, unix_ms_now());
        Some(())
    };
    if let Ok(Some(())) = timeout(limits::API_CLOCK_TIMEOUT, asking).await {
        return;
    }
    tracing::debug!("the Runtime API did not show its clock when it was asked for it");
}
