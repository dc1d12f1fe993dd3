//! What the leases are by the database and by what has been committed since.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use boot_common::Mac;
use ipnet::Ipv4Net;

use super::{Change, Lease};

/// Makes changes to leases as the database makes them to its rows, in their order. They may have been made before.
pub fn overlay(leases: Vec<Lease>, changes: &[Change]) -> Vec<Lease> {
    if changes.is_empty() {
        return leases;
    }
    let mut rows = Rows::default();
    leases.into_iter().for_each(|lease| rows.put(lease));
    for change in changes {
        match change {
            Change::Put(lease) => rows.put(lease.clone()),
            Change::Delete(mac, address) => {
                rows.remove(*address, |lease| lease.mac == *mac && !is_hold(lease));
            }
            Change::Lift(address) => rows.remove(*address, is_hold),
        }
    }
    rows.by_address.into_values().collect()
}

fn is_hold(lease: &Lease) -> bool {
    lease.state.is_on_hold()
}

#[derive(Default)]
struct Rows {
    by_address: HashMap<Ipv4Addr, Lease>,
    by_place: HashMap<(Mac, Ipv4Net), Ipv4Addr>,
}

impl Rows {
    fn put(&mut self, lease: Lease) {
        self.remove(lease.address, |_| true);
        if !is_hold(&lease)
            && let Some(before) = self.by_place.insert((lease.mac, lease.subnet), lease.address)
        {
            self.by_address.remove(&before);
        }
        self.by_address.insert(lease.address, lease);
    }

    fn remove(&mut self, address: Ipv4Addr, is_it: impl Fn(&Lease) -> bool) {
        if let Some(lease) = self.by_address.get(&address).filter(|lease| is_it(lease)) {
            if !is_hold(lease) {
                self.by_place.remove(&(lease.mac, lease.subnet));
            }
            self.by_address.remove(&address);
        }
    }
}
