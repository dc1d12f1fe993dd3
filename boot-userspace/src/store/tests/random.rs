//! Random changes, and what the store makes of them beside a model.

use std::collections::HashMap;

use boot_engine::machines::Identity;
use ipnet::Ipv4Net;
use proptest::prelude::*;

use super::super::places::Place;
use super::*;

fn any_lease() -> impl Strategy<Value = Lease> {
    let state = LeaseState::ALL.into_iter().filter(|state| *state != LeaseState::Reserved);
    let state = prop::sample::select(state.collect::<Vec<_>>());
    let times = (any::<i64>(), any::<i64>());
    // Few machines and addresses, so that they meet.
    let uuid = prop::option::of(prop::array::uniform16(1..=254u8).prop_map(Identity::Uuid));
    (0..6u8, 0..6u8, 0..3u32, 0..=2u8, state, times, prop::option::of("[^\\x00]*"), uuid).prop_map(
        |(machine, address, net, prefix, state, (expires, updated), hostname, recognised_by)| Lease {
            subnet: Ipv4Net::new(Ipv4Addr::from(net), prefix).unwrap(),
            state,
            expires,
            updated,
            hostname,
            recognised_by,
            ..lease(machine, address)
        },
    )
}

fn any_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => any_lease().prop_map(Change::Put),
        1 => (0..6u8, 0..6u8).prop_map(|(machine, address)| {
            Change::Delete(lease(machine, 0).mac, lease(0, address).address)
        }),
        1 => (0..6u8).prop_map(|address| Change::Lift(lease(0, address).address)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_committed_is_what_loads(
        batches in prop::collection::vec(prop::collection::vec(any_change(), 0..8), 1..4),
        on_postgres in prop::bool::weighted(0.3),
    ) {
        let place = if on_postgres { Place::database() } else { None };
        let place = place.unwrap_or_else(Place::file);
        let (loaded, expected) = run(async {
            let mut model: HashMap<Ipv4Addr, Lease> = HashMap::new();
            let store = place.open().await;
            for batch in &batches {
                store.commit(batch).await.unwrap();
                for change in batch {
                    match change {
                        Change::Put(lease) => {
                            let rests = |lease: &Lease| lease.state.is_on_hold();
                            let is_elsewhere =
                                |other: &Lease| (other.mac, other.subnet) != (lease.mac, lease.subnet);
                            model.retain(|_, other| is_elsewhere(other) || rests(lease) || rests(other));
                            model.insert(lease.address, lease.clone());
                        }
                        Change::Delete(mac, address) => model.retain(|_, other| {
                            (other.mac, other.address) != (*mac, *address) || other.state.is_on_hold()
                        }),
                        Change::Lift(address) => model.retain(|_, other| {
                            other.address != *address || !other.state.is_on_hold()
                        }),
                    }
                }
            }
            let mut expected: Vec<Lease> = model.into_values().collect();
            expected.sort_by_key(|lease| (lease.mac, lease.address));
            let loaded = place.sorted(&store).await;
            store.close().await;
            (loaded, expected)
        });
        prop_assert_eq!(loaded, expected);
    }
}
