//! What a command needs around an environment, and the order in which it begins and ends: the
//! cluster where no database was named, the setup files, the environment, the work; back the same
//! way.
//!
//! Promises: however the start or the work ends, and on the signals that end it, the cluster is stopped;
//! one that ends meanwhile is started again.

use std::fs::File;
use std::future::Future;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::setup;
use crate::cluster::{Cluster, Options};
use crate::config::{Config, DEFAULT_DATABASE, DatabaseConfig};
use crate::database;
use crate::serve::Environment;
use crate::shutdown::Shutdown;

/// What the local host keeps, in the folder of the configuration.
const FOLDER: &str = ".hearth";
/// Where its own cluster lives in there.
const CLUSTER_FOLDER: &str = "postgres";

/// In which databases a command runs the setup files that are named for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setups {
    /// In all of them.
    All,
    /// In the host's own alone, which nobody else makes tables in.
    Own,
}

/// Starts everything, lets `work` have it, and stops what was started.
///
/// `None` when the process was asked to stop before there was an environment. From then on
/// answering the signal is up to `work`.
pub(super) async fn with_environment<T, W>(
    mut config: Config,
    setups: Setups,
    shutdown: Shutdown,
    work: impl FnOnce(Config, Environment, Shutdown) -> W,
) -> anyhow::Result<Option<T>>
where
    W: Future<Output = anyhow::Result<T>>,
{
    let mut cluster = None;
    let started = tokio::select! {
        biased;
        () = shutdown.requested() => None,
        started = start(&mut config, setups, &mut cluster) => Some(started),
    };
    let ending = shutdown.clone();
    let result = match started {
        None => Ok(None),
        Some(Err(error)) => Err(error),
        Some(Ok(environment)) => {
            let work = work(config, environment, shutdown);
            match &mut cluster {
                None => work.await,
                Some(cluster) => tokio::select! {
                    done = work => done,
                    never = cluster.keep() => match never {},
                },
            }
            .map(Some)
        }
    };
    if let Some(cluster) = cluster {
        // One that is not given the time to stop is made to.
        tokio::select! {
            () = cluster.stop() => {}
            () = ending.insisted() => {}
        }
    }
    result
}

async fn start(
    config: &mut Config,
    setups: Setups,
    cluster: &mut Option<Cluster>,
) -> anyhow::Result<Environment> {
    if config.uses_database(DEFAULT_DATABASE)
        && let Some(database) = config.databases.get_mut(DEFAULT_DATABASE)
        && database.url.is_none()
    {
        *cluster = Some(own(database, &config.directory).await?);
    }
    for database in config.databases.values() {
        let is_own = cluster.is_some() && database.name == DEFAULT_DATABASE;
        if is_own || setups == Setups::All {
            setup::apply(database, is_own).await?;
        }
    }
    let databases = database::open(&config.databases)?;
    // A compiler may work for minutes, and the signals are to be heard meanwhile.
    let config = config.clone();
    let loading = move || Environment::start(&config, databases, false, None);
    let loaded = tokio::task::spawn_blocking(loading).await;
    Ok(loaded.context("the functions could not be loaded")??)
}

/// Starts a PostgreSQL of the host's own, and puts its address where there is none.
async fn own(database: &mut DatabaseConfig, directory: &Path) -> anyhow::Result<Cluster> {
    let options = Options {
        directory: directory.join(FOLDER).join(CLUSTER_FOLDER),
        settings: Vec::new(),
    };
    let started = Cluster::start(options).await.context(
        "cannot start a PostgreSQL for the database \"default\", which has no url (DATABASE_URL is not set)",
    )?;
    keep_out_of_repositories(&directory.join(FOLDER));
    database.url = Some(started.url());
    // How to log in is said for the address that there is elsewhere.
    database.password = None;
    database.tls = None;
    tracing::info!(
        url = database.url,
        "the database \"default\" has no url and is in a PostgreSQL of its own"
    );
    Ok(started)
}

/// Tells Git that nothing in this folder is anybody's source, unless something is said there already.
fn keep_out_of_repositories(folder: &Path) {
    if let Ok(mut file) = File::create_new(folder.join(".gitignore")) {
        // Whoever has no repository misses nothing.
        let _ = file.write_all(b"*\n");
    }
}
