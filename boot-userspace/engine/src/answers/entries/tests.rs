use zerocopy::FromZeros as _;

use super::*;

fn host(last: u8) -> Host {
    Host { address: [10, 0, 0, last], ..Host::new_zeroed() }
}

#[test]
fn places_are_used_again_and_each_machine_finds_its_own() {
    let [a, b, c] = [1, 2, 3].map(|last| HostKey::from(Mac([2, 0, 0, 0, 0, last])));
    let mut hosts = Hosts::default();
    assert_eq!(hosts.insert(a, host(1)), None);
    assert_eq!(hosts.insert(b, host(2)), None);
    assert_eq!(hosts.insert(a, host(9)), Some(host(1)));
    hosts.remove(&a);
    assert!(hosts.get(&a).is_none());
    hosts.remove(&a);
    assert_eq!(hosts.insert(c, host(3)), None);
    assert_eq!(hosts.insert(a, host(4)), None);
    assert_eq!([a, b, c].map(|key| hosts.get(&key).copied()), [Some(host(4)), Some(host(2)), Some(host(3))]);
    assert_eq!(hosts.hosts.len(), 3);
}

#[test]
fn who_carries_the_commands_out_has_the_same_entries() {
    let mut entries = Entries::default();
    let mut commands = Vec::new();
    let [a, b] = [1, 2].map(|last| Mac([2, 0, 0, 0, 0, last]));
    entries.put_host(a, host(1), &mut commands);
    entries.put_host(b, host(2), &mut commands);
    entries.put_host(a, host(1), &mut commands);
    assert_eq!(commands.len(), 2, "what is as it was is not written");
    entries.put_host(a, host(3), &mut commands);
    entries.remove_host(b, &mut commands);
    entries.remove_host(b, &mut commands);
    let mut kernel = HashMap::default();
    for command in commands {
        match command {
            Command::PutHost(key, host) => drop(kernel.insert(key.mac, host)),
            Command::DeleteHost(key) => drop(kernel.remove(&key.mac)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(kernel, entries.hosts().map(|(mac, host)| (mac, *host)).collect());
    assert_eq!(entries.host_with(a, [10, 0, 0, 3]), Some(&host(3)));
    assert_eq!((entries.host_with(a, [10, 0, 0, 1]), entries.host(b)), (None, None));
}
