//! Answers that go on until the client leaves: as what they are written, how many there may be, and when they end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::ACCEPT;
use axum::http::request::Parts;
use tokio::time::interval;

use super::Ends;
use super::api::Pass;

/// How often a client gets an empty line.
pub(super) const ALIVE: Duration = Duration::from_secs(5);
/// How many bytes wait for a client that reads slowly.
pub(super) const WAITING: usize = 256 << 10;
/// The type of server-sent events.
const SERVER_SENT: &str = "text/event-stream";

/// Who asks for such an answer, and as what.
pub(super) struct Follower {
    /// Where; none on the Unix socket.
    pub(super) address: Option<IpAddr>,
    /// With which token, if with one.
    pub(super) pass: Option<Pass>,
    pub(super) form: Form,
}

impl<S: Send + Sync> FromRequestParts<S> for Follower {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let ends = parts.extensions.get::<ConnectInfo<Ends>>();
        let accepts = parts.headers.get(ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
        Ok(Self {
            address: ends.map(|ConnectInfo(ends)| ends.client.ip()),
            pass: parts.extensions.get::<Pass>().cloned(),
            form: if accepts.contains(SERVER_SENT) { Form::ServerSent } else { Form::Lines },
        })
    }
}

/// As what it is written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    /// One JSON object a line.
    Lines,
    /// The events of HTML.
    ServerSent,
}

impl Form {
    pub(super) fn kind(self) -> &'static str {
        match self {
            Self::Lines => "application/x-ndjson",
            Self::ServerSent => SERVER_SENT,
        }
    }

    pub(super) fn write(self, line: &str) -> String {
        match self {
            Self::Lines => format!("{line}\n"),
            Self::ServerSent => format!("data: {line}\n\n"),
        }
    }
}

/// Waits until somebody may no longer read; for ever where no token says when that is.
pub(super) async fn ended(pass: Option<Pass>) {
    let mut alive = interval(ALIVE);
    while pass.as_ref().is_none_or(Pass::holds) {
        alive.tick().await;
    }
}

/// How many may follow at once.
pub(super) struct Places {
    most: usize,
    /// Over the network: the others are for the command line.
    by_network: usize,
    of_address: usize,
    /// By the address; those of the Unix socket have none.
    taken: Mutex<Option<HashMap<Option<IpAddr>, usize>>>,
}

impl Places {
    pub(super) const fn new(most: usize, by_network: usize, of_address: usize) -> Self {
        Self { most, by_network, of_address, taken: Mutex::new(None) }
    }

    /// A place.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    pub(super) fn take(&'static self, address: Option<IpAddr>) -> Result<Place, String> {
        let mut taken = self.lock();
        let taken = taken.get_or_insert_default();
        let most = if address.is_some() { self.by_network } else { self.most };
        if taken.values().sum::<usize>() >= most {
            return Err(format!("{most} clients follow this already: end one of them"));
        }
        let own = taken.get(&address).copied().unwrap_or(0);
        if let Some(address) = address
            && own >= self.of_address
        {
            return Err(format!("{own} clients at {address} follow this already: end one of them"));
        }
        taken.insert(address, own + 1);
        Ok(Place { of: self, address })
    }

    /// How many are taken.
    pub(super) fn count(&self) -> usize {
        self.lock().iter().flat_map(HashMap::values).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<Option<IpAddr>, usize>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One of the places of those who follow.
pub(super) struct Place {
    of: &'static Places,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.of.lock();
        let taken = taken.get_or_insert_default();
        if let Some(own) = taken.get_mut(&self.address) {
            *own -= 1;
        }
        taken.retain(|_, own| *own > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_in_all_over_the_network_and_of_an_address() {
        static PLACES: Places = Places::new(6, 5, 3);
        let address = |last: u8| Some(IpAddr::from([10, 0, 0, last]));
        let of_one: Vec<_> = (0..9).filter_map(|_| PLACES.take(address(1)).ok()).collect();
        assert_eq!(of_one.len(), 3);
        let of_others: Vec<_> = (2..9).filter_map(|last| PLACES.take(address(last)).ok()).collect();
        assert_eq!(of_others.len(), 2);
        let local = PLACES.take(None).unwrap();
        assert!(PLACES.take(None).is_err_and(|why| why.starts_with("6 clients")));
        assert_eq!(PLACES.count(), 6, "who is refused has no place");
        drop((of_one, of_others, local));
        assert_eq!(PLACES.count(), 0);
        assert!(PLACES.take(address(1)).is_ok());
    }
}
