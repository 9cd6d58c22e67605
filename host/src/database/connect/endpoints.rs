//! Where a host is: its socket, its address, or those that its name leads to.
//!
//! Promises: a name is looked up each time, and by one task for all who ask at a time. A resolver that is silent
//! keeps a few threads per host, however many give up waiting for it; one that is slow has answered for those who ask
//! later.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

use super::single_flight::SingleFlight;
use super::stream::Endpoint;
use crate::config::address::{Host, HostName};
use crate::limits;

/// The addresses of a name, without the port.
type Found = Result<Vec<SocketAddr>, String>;

/// The look-ups of the names of an address.
pub(super) struct Endpoints {
    names: BTreeMap<String, SingleFlight<Found>>,
    /// How one is looked up; this may take long, and so is done on a thread of its own.
    look_up: fn(&str) -> io::Result<Vec<SocketAddr>>,
}

impl Endpoints {
    /// Those of these hosts, of which none is looked up yet.
    pub(super) fn of(hosts: &[Host]) -> Self {
        let names = hosts.iter().filter_map(|host| match &host.name {
            HostName::Name(name) => {
                Some((name.clone(), SingleFlight::new(limits::LOOK_UP_PATIENCE)))
            }
            HostName::Folder(_) => None,
        });
        Self {
            names: names.collect(),
            look_up,
        }
    }

    /// Every endpoint of a host, as its name resolves now.
    pub(super) async fn find(&self, host: &Host) -> Result<Vec<Endpoint>, String> {
        let addresses = match (&host.name, host.address) {
            (HostName::Folder(folder), _) => {
                return Ok(vec![Endpoint::in_folder(folder, host.port)]);
            }
            (HostName::Name(_), Some(address)) => vec![(address, 0).into()],
            (HostName::Name(name), None) => self.look_up(name).await?,
        };
        let endpoint = |mut address: SocketAddr| {
            address.set_port(host.port);
            Endpoint::Tcp(address)
        };
        Ok(addresses.into_iter().map(endpoint).collect())
    }

    async fn look_up(&self, name: &str) -> Found {
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![(address, 0).into()]);
        }
        let broken_off = || "its name was not resolved".to_owned();
        let flight = self.names.get(name).ok_or_else(broken_off)?;
        let looking = flight.join(|| {
            let (name, look_up) = (name.to_owned(), self.look_up);
            async move {
                let found = tokio::task::spawn_blocking(move || look_up(&name)).await;
                let found = found.unwrap_or_else(|broken| Err(io::Error::other(broken)));
                found.map_err(|error| error.to_string())
            }
        });
        looking.await.unwrap_or_else(|| Err(broken_off()))
    }
}

fn look_up(name: &str) -> io::Result<Vec<SocketAddr>> {
    Ok((name, 0).to_socket_addrs()?.collect())
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn host(name: HostName, address: Option<IpAddr>) -> Host {
        Host {
            name,
            port: 5432,
            address,
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_once_for_all_who_ask_and_for_who_has_given_up() {
        static LOOKED: AtomicUsize = AtomicUsize::new(0);
        let host = host(HostName::Name("db.test".to_owned()), None);
        let mut endpoints = Endpoints::of(std::slice::from_ref(&host));
        endpoints.look_up = |_| {
            LOOKED.fetch_add(1, Ordering::SeqCst);
            Ok(vec![(Ipv4Addr::LOCALHOST, 0).into()])
        };
        for _ in 0..3 {
            let mut given_up = pin!(endpoints.find(&host));
            assert!(futures_util::poll!(given_up.as_mut()).is_pending());
        }
        let mut waiting = pin!(endpoints.find(&host));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let (one, other) = tokio::join!(waiting, endpoints.find(&host));
        let expected = Endpoint::Tcp((Ipv4Addr::LOCALHOST, 5432).into());
        assert_eq!(one.as_deref(), Ok(&[expected][..]));
        assert_eq!(one, other);
        assert_eq!(LOOKED.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn what_is_no_name_is_not_looked_up() {
        let named = |name: &str| HostName::Name(name.to_owned());
        for (host, expected) in [
            (
                host(named("127.0.0.2"), None),
                Endpoint::Tcp(([127, 0, 0, 2], 5432).into()),
            ),
            (
                host(named("::1"), None),
                Endpoint::Tcp((std::net::Ipv6Addr::LOCALHOST, 5432).into()),
            ),
            (
                host(named("db.test"), Some(Ipv4Addr::LOCALHOST.into())),
                Endpoint::Tcp(([127, 0, 0, 1], 5432).into()),
            ),
            (
                host(HostName::Folder("/run".into()), None),
                Endpoint::in_folder("/run".as_ref(), 5432),
            ),
        ] {
            let mut endpoints = Endpoints::of(std::slice::from_ref(&host));
            endpoints.look_up = |_| panic!("nothing is to be looked up");
            assert_eq!(endpoints.find(&host).await, Ok(vec![expected]));
        }
    }
}
