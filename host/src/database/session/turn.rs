//! How a call comes to its turn on a seat.
//!
//! Promises: those of one seat have it in the order in which they asked; who waits no longer than so long has not
//! had it.

use std::time::Duration;

use tokio::sync::MutexGuard;

use super::seat::{Flow, Seat};
use crate::database::error::{Error, Result};
use crate::database::pool::Loan;

/// What a call asks for with its turn.
#[derive(Default)]
pub(in crate::database) struct Claim {
    /// That this flows there and nothing else; the rows of a portal make way.
    pub(in crate::database) flow: Option<Flow>,
    /// That those end.
    pub(in crate::database) ends_rows: bool,
    /// That it comes so soon; else it is waited for.
    pub(in crate::database) within: Option<Duration>,
}

impl Claim {
    /// To go on with what flows.
    pub(in crate::database) fn to_go_on(flow: Option<Flow>) -> Self {
        Self {
            flow,
            ..Self::default()
        }
    }
}

impl Seat {
    /// Waits until nobody else uses its connection.
    pub(in crate::database) async fn turn(
        &self,
        within: Option<Duration>,
    ) -> Result<MutexGuard<'_, Option<Loan>>> {
        let Some(within) = within else {
            return Ok(self.loan.lock().await);
        };
        let waited = tokio::time::timeout(within, self.loan.lock()).await;
        waited.map_err(|_| {
            Error::Busy(format!(
                "the connection to the database {:?} that this invocation keeps did not come free within {:.1} s: an \
                 earlier call uses it",
                self.database().name(),
                within.as_secs_f64()
            ))
        })
    }
}
