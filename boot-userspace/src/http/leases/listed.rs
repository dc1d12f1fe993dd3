//! Which leases a list has, and lists that somebody reads page by page.

use std::future::Future;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use boot_common::Mac;
use ipnet::Ipv4Net;
use serde::Deserialize;

use super::Failed;
use boot_engine::leases::{LeaseState, Shown};

/// For how long the pages behind the first one are of the same list: it is made of what the disk has, while machines wait.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// What somebody asks for.
#[derive(Clone, Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(default)]
#[into_params(parameter_in = Query)]
pub(super) struct Wanted {
    /// In these states, with commas between them: `offered`, `leased`, `released`, `reserved`, `resting`.
    state: String,
    /// In this network: `10.1.0.0/16`.
    subnet: Option<String>,
    /// Of this machine: its MAC or its name.
    machine: Option<String>,
    /// Behind this address.
    after: Option<String>,
    /// At most so many, and all of the last address; 0: all.
    #[param(minimum = 0)]
    limit: usize,
}

/// The same as it was read.
#[derive(Clone, Debug, Default)]
pub(super) struct Filter {
    states: Vec<String>,
    subnet: Option<Ipv4Net>,
    machine: Option<Whose>,
    pub(super) after: Option<Ipv4Addr>,
    pub(super) limit: Option<usize>,
}

#[derive(Clone, Debug)]
enum Whose {
    Mac(Mac),
    Name(String),
}

impl Wanted {
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(self) -> Result<Filter, String> {
        let Self { state, subnet, machine, after, limit } = self;
        let states: Vec<String> =
            state.split(',').map(str::trim).filter(|state| !state.is_empty()).map(str::to_owned).collect();
        if let Some(wrong) =
            states.iter().find(|state| LeaseState::ALL.iter().all(|one| one.as_str() != **state))
        {
            return Err(format!(
                "{wrong:?} is no state: write offered, leased, released, reserved or resting"
            ));
        }
        let subnet = subnet.map(|text| {
            text.parse().map_err(|_| format!("{text:?} is no network; write one such as 10.1.0.0/16"))
        });
        let after =
            after.map(|text| text.parse().map_err(|_| format!("{text:?} is no IPv4 address; after is one")));
        let machine = machine.map(|text| text.parse().map_or(Whose::Name(text), Whose::Mac));
        let limit = Some(limit).filter(|limit| *limit > 0);
        Ok(Filter { states, subnet: subnet.transpose()?, machine, after: after.transpose()?, limit })
    }
}

impl Filter {
    fn fits(&self, shown: &Shown) -> bool {
        let is_its = |whose: &Whose| match whose {
            Whose::Mac(mac) => *mac == shown.mac,
            Whose::Name(name) => shown.name.as_ref().is_some_and(|other| other.eq_ignore_ascii_case(name)),
        };
        (self.states.is_empty() || self.states.iter().any(|state| state == shown.state.as_str()))
            && self.subnet.is_none_or(|subnet| subnet.contains(&shown.address))
            && self.machine.as_ref().is_none_or(is_its)
    }

    /// What it asks for of all leases, which are in the order of their addresses.
    pub(super) fn page<'a>(&self, all: &'a [Shown]) -> Vec<&'a Shown> {
        let first = self.after.map_or(0, |after| all.partition_point(|shown| shown.address <= after));
        let mut page: Vec<&Shown> = Vec::new();
        for shown in all.iter().skip(first).filter(|shown| self.fits(shown)) {
            let is_full = self.limit.is_some_and(|limit| page.len() >= limit);
            // The next page begins behind an address.
            if is_full && page.last().is_none_or(|last| last.address != shown.address) {
                break;
            }
            page.push(shown);
        }
        page
    }
}

/// The list that somebody reads page by page. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Kept(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Whoever makes it anew holds it.
    turn: tokio::sync::Mutex<()>,
    list: Mutex<Option<(Instant, Arc<Vec<Shown>>)>>,
}

impl Kept {
    /// The list that the page before was of, or else another one.
    pub(super) async fn again(
        &self,
        make: impl Future<Output = Result<Vec<Shown>, Failed>>,
    ) -> Result<Arc<Vec<Shown>>, Failed> {
        let _turn = self.0.turn.lock().await;
        let kept = self
            .list()
            .as_ref()
            .filter(|(made, _)| made.elapsed() < KEPT_FOR)
            .map(|(_, all)| Arc::clone(all));
        if let Some(all) = kept {
            return Ok(all);
        }
        let all = Arc::new(make.await?);
        self.keep(Arc::clone(&all));
        Ok(all)
    }

    /// Keeps a list for the next page, and no longer than somebody may ask for that.
    pub(super) fn keep(&self, all: Arc<Vec<Shown>>) {
        if self.list().as_ref().is_some_and(|(_, kept)| Arc::ptr_eq(kept, &all)) {
            return;
        }
        let made = Instant::now();
        *self.list() = Some((made, all));
        let kept = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(KEPT_FOR).await;
            let mut list = kept.list();
            if list.as_ref().is_some_and(|(of, _)| *of == made) {
                *list = None;
            }
        });
    }

    fn list(&self) -> MutexGuard<'_, Option<(Instant, Arc<Vec<Shown>>)>> {
        self.0.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(last: u8, mac: u8, state: LeaseState) -> Shown {
        Shown {
            mac: Mac([2, 0, 0, 0, 0, mac]),
            address: Ipv4Addr::new(10, 1, last / 100, last),
            subnet: "10.1.0.0/16".parse().unwrap(),
            state,
            expires: None,
            name: (mac == 7).then(|| "Seven".to_owned()),
        }
    }

    fn macs(all: &[Shown], wanted: Wanted) -> Vec<u8> {
        wanted.read().unwrap().page(all).iter().map(|shown| shown.mac.0[5]).collect()
    }

    #[test]
    fn pages_have_every_lease_once_and_filters_choose() {
        use LeaseState::{Leased, Released};
        let all: Vec<Shown> = [(1, 1), (2, 2), (2, 3), (50, 7), (101, 5)]
            .map(|(last, mac)| shown(last, mac, if mac % 2 == 1 { Leased } else { Released }))
            .to_vec();
        let page =
            |after: Option<&str>| Wanted { after: after.map(str::to_owned), limit: 2, ..Wanted::default() };
        assert_eq!(macs(&all, page(None)), [1, 2, 3], "both of one address");
        assert_eq!(macs(&all, page(Some("10.1.0.2"))), [7, 5]);
        assert_eq!(macs(&all, page(Some("10.1.1.101"))), [0; 0]);
        assert_eq!(macs(&all, Wanted { state: "released, offered".to_owned(), ..Wanted::default() }), [2]);
        assert_eq!(macs(&all, Wanted { subnet: Some("10.1.1.0/24".to_owned()), ..Wanted::default() }), [5]);
        for machine in ["seven", "02:00:00:00:00:07"] {
            assert_eq!(macs(&all, Wanted { machine: Some(machine.to_owned()), ..Wanted::default() }), [7]);
        }
        for wrong in [
            Wanted { state: "gone".to_owned(), ..Wanted::default() },
            Wanted { subnet: Some("here".to_owned()), ..Wanted::default() },
            Wanted { after: Some("1.2.3".to_owned()), ..Wanted::default() },
        ] {
            assert!(wrong.read().is_err());
        }
    }

    #[tokio::test]
    async fn the_next_pages_are_of_the_same_list() {
        let kept = Kept::default();
        let make = async || Ok(vec![shown(1, 1, LeaseState::Leased)]);
        let first = kept.again(make()).await.ok().unwrap();
        let second = kept.again(async { panic!("it is made once") }).await.ok().unwrap();
        assert!(Arc::ptr_eq(&first, &second));
    }
}
