//! The end-to-end tests, one module for each thing that Hearth promises.

#![allow(
    clippy::unwrap_used,
    reason = "a test that finds something else than it should is to fail"
)]

/// Makes a test of a scenario for each of the two front doors: whatever is promised holds behind
/// both. The scenario is an `async fn` that takes the [`e2e::Door`].
macro_rules! behind_both_doors {
    ($($(#[doc = $doc:literal])* async fn $name:ident($door:ident) $body:block)*) => {
        $(
            mod $name {
                use super::*;

                $(#[doc = $doc])*
                async fn scenario($door: e2e::Door) $body

                #[tokio::test]
                async fn lambda() {
                    scenario(e2e::Door::Lambda).await;
                }

                #[tokio::test]
                async fn local() {
                    scenario(e2e::Door::Local).await;
                }
            }
        )*
    };
}

mod after_answer;
mod aws_clients;
mod broken_wire;
mod cancellation;
mod caps;
mod configuration;
mod connecting;
mod crates;
mod credentials;
mod deadlines;
mod declared;
mod disguises;
mod doubted;
mod drain;
mod emulators;
mod endings;
mod endurance;
mod failover;
mod faults;
mod freeze;
mod given_up;
mod iam;
mod in_force;
mod isolation;
mod library;
mod lifecycle;
mod lifetimes;
mod local_api;
mod local_refusals;
mod local_streaming;
mod log_levels;
mod log_readers;
mod logs;
mod long_errors;
mod managed;
mod metrics;
mod neighbours;
mod odd_replies;
mod orders;
mod outages;
mod overlapping;
mod own_database;
mod permissions;
mod poolers;
mod property;
mod queries;
mod receipts;
mod results;
mod retiring;
mod reuse;
mod round_trips;
mod runtime_api;
mod runtime_api_connection;
mod sessions;
mod silence;
mod snapshots;
mod streaming;
mod temporary;
mod tenancy;
mod tidy;
mod tls;
mod traces;
mod transactions;
mod type_samples;
mod types;
mod varying;
mod wide_rows;
