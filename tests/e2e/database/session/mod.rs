//! What the calls of an invocation do, and what they leave behind.

mod cancellation;
mod copies;
mod doubted;
mod given_up;
mod healing;
mod isolation;
mod isolation_in_disguise;
mod lost;
mod notifications;
mod overlapping;
mod own_changes;
mod pipelines;
mod queries;
mod results;
mod round_trips;
mod sessions;
mod time_limits;
mod transactions;
mod type_samples;
mod types;
mod varying;
mod wide_rows;
