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

mod configuration;
mod database;
mod documented;
mod endurance;
mod instance;
mod lambda;
mod local;
mod orders;
mod property;
mod scripts;
mod sdk;
mod telemetry;
mod tidy;
