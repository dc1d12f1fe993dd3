//! The index beside a list: random machines come, change and go, and both say the same of them.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// Machines as a list, and what cards showed.
#[derive(Default)]
struct Model {
    machines: Vec<(MachineId, Machine)>,
    /// The machine, whether by its port, and whether it has been at another one since.
    recognised: HashMap<Mac, (MachineId, bool, bool)>,
}

fn is_one_uuid(a: [u8; 16], b: [u8; 16]) -> bool {
    let mut swapped = b;
    for field in [0..4, 4..6, 6..8] {
        swapped[field].reverse();
    }
    a == b || a == swapped
}

fn is_one_port(a: &RelayPort, b: &RelayPort) -> bool {
    a.circuit_id == b.circuit_id
        && (a.remote_id == b.remote_id || a.remote_id.is_none() || b.remote_id.is_none())
}

fn has_in_common(a: &Machine, b: &Machine) -> bool {
    a.macs.iter().any(|mac| b.macs.contains(mac))
        || a.uuid.zip(b.uuid).is_some_and(|(a, b)| is_one_uuid(a, b))
        || a.relay_port.as_ref().zip(b.relay_port.as_ref()).is_some_and(|(a, b)| is_one_port(a, b))
        || a.ip.is_some() && a.ip == b.ip
}

impl Model {
    fn conflicts(&self, machine: &Machine, own: Option<MachineId>) -> Vec<MachineId> {
        let others =
            self.machines.iter().filter(|(id, other)| Some(*id) != own && has_in_common(machine, other));
        others.map(|(id, _)| *id).collect()
    }

    fn named(&self, mac: Mac) -> Option<&(MachineId, Machine)> {
        self.machines.iter().find(|(_, machine)| machine.macs.contains(&mac))
    }

    fn by_mac(&self, mac: Mac) -> Option<(MachineId, Machine)> {
        let recognised = || {
            let (id, ..) = self.recognised.get(&mac)?;
            self.machines.iter().find(|(other, _)| other == id)
        };
        self.named(mac).or_else(recognised).cloned()
    }

    fn show(&mut self, mac: Mac, uuid: Option<[u8; 16]>, port: Option<&RelayPort>) {
        if self.named(mac).is_some() {
            return;
        }
        let shows = |(_, machine): &&(MachineId, Machine)| {
            let by_uuid = uuid.zip(machine.uuid).is_some_and(|(a, b)| is_one_uuid(a, b));
            let by_port = machine.relay_port.as_ref().zip(port).is_some_and(|(own, said)| {
                own.circuit_id == said.circuit_id
                    && (own.remote_id.is_none() || own.remote_id == said.remote_id)
            });
            by_uuid || by_port
        };
        // In the order in which they were added.
        let found = self.machines.iter().find(shows);
        let found =
            found.map(|(id, machine)| (*id, !uuid.zip(machine.uuid).is_some_and(|(a, b)| is_one_uuid(a, b))));
        // A day lies between two messages, so that each port counts.
        let now = match (found, self.recognised.get(&mac).copied()) {
            (Some((id, false)), _) => Some((id, false, false)),
            (_, Some(board @ (_, false, _))) => Some(board),
            (Some((id, true)), _) => Some((id, true, false)),
            // A second relay may have said it the first time.
            (None, Some((id, true, false))) if port.is_some() => Some((id, true, true)),
            (None, Some((_, true, true))) if port.is_some() => None,
            (None, before) => before,
        };
        match now {
            Some(now) => self.recognised.insert(mac, now),
            None => self.recognised.remove(&mac),
        };
    }

    fn claim(&mut self, machine: &Machine) {
        self.recognised.retain(|mac, _| !machine.macs.contains(mac));
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add(Machine),
    /// One of those that are there, by its position.
    Change(usize, Machine),
    Remove(usize),
    Show(Mac, Option<[u8; 16]>, Option<RelayPort>),
    Forget(Mac),
}

const MACS: u8 = 6;

fn mac(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, last])
}

// Few of each, so that they meet.
fn any_uuid() -> impl Strategy<Value = [u8; 16]> {
    (0..2u8, 0..3u8).prop_map(|(order, last)| {
        let mut uuid = [1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, last];
        if order == 1 {
            uuid[..4].reverse();
            uuid[4..6].reverse();
            uuid[6..8].reverse();
        }
        uuid
    })
}

fn any_port() -> impl Strategy<Value = RelayPort> {
    (0..3u8, prop::option::of(0..2u8)).prop_map(|(circuit, remote)| RelayPort {
        circuit_id: vec![circuit],
        remote_id: remote.map(|remote| vec![remote]),
    })
}

fn any_machine() -> impl Strategy<Value = Machine> {
    let macs = prop::collection::vec((0..MACS).prop_map(mac), 0..3);
    let (uuid, port, ip) =
        (prop::option::of(any_uuid()), prop::option::of(any_port()), prop::option::of(0..4u8));
    (macs, uuid, port, ip, "[a-c]").prop_map(|(macs, uuid, relay_port, ip, name)| Machine {
        macs,
        uuid,
        relay_port,
        ip: ip.map(|last| Ipv4Addr::new(10, 0, 0, last)),
        ..machine(&name)
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let show = ((0..MACS).prop_map(mac), prop::option::of(any_uuid()), prop::option::of(any_port()));
    prop_oneof![
        4 => any_machine().prop_map(Step::Add),
        3 => (any::<usize>(), any_machine()).prop_map(|(at, machine)| Step::Change(at, machine)),
        2 => any::<usize>().prop_map(Step::Remove),
        4 => show.prop_map(|(mac, uuid, port)| Step::Show(mac, uuid, port)),
        1 => (0..MACS).prop_map(|last| Step::Forget(mac(last))),
    ]
}

/// Does the same to both, and compares what they say about it.
fn step(machines: &Machines, model: &mut Model, step: Step, now: u64) -> Result<(), TestCaseError> {
    let before: Vec<_> = (0..MACS).map(|last| model.by_mac(mac(last))).collect();
    let touched = match step {
        Step::Add(machine) => {
            let conflicts = model.conflicts(&machine, None);
            match machines.add(Arc::new(machine.clone())) {
                Ok(id) => {
                    prop_assert!(conflicts.is_empty() && model.machines.iter().all(|(other, _)| *other < id));
                    model.claim(&machine);
                    let touched = machine.macs.clone();
                    model.machines.push((id, machine));
                    touched
                }
                Err(conflict) => {
                    prop_assert!(conflicts.contains(&conflict.other_id));
                    Vec::new()
                }
            }
        }
        Step::Change(at, machine) if !model.machines.is_empty() => {
            let at = at % model.machines.len();
            let (id, old) = model.machines[at].clone();
            let conflicts = model.conflicts(&machine, Some(id));
            match machines.change(id, Arc::new(machine.clone())) {
                Ok(touched) => {
                    prop_assert!(conflicts.is_empty());
                    model.recognised.retain(|_, (other, by_port, _)| {
                        *other != id
                            || if *by_port {
                                old.relay_port == machine.relay_port
                            } else {
                                old.uuid == machine.uuid
                            }
                    });
                    model.claim(&machine);
                    model.machines[at].1 = machine;
                    touched
                }
                Err(ChangeError::Conflict(conflict)) => {
                    prop_assert!(conflicts.contains(&conflict.other_id));
                    Vec::new()
                }
                Err(ChangeError::Gone) => return Err(TestCaseError::fail("it is there")),
            }
        }
        Step::Remove(at) if !model.machines.is_empty() => {
            let (id, _) = model.machines.remove(at % model.machines.len());
            model.recognised.retain(|_, (other, ..)| *other != id);
            let touched = machines.remove(id);
            prop_assert!(touched.is_some());
            touched.unwrap_or_default()
        }
        Step::Show(mac, uuid, port) => {
            let switch_port = port.as_ref().map(|port| (&port.circuit_id[..], port.remote_id.as_deref()));
            let changed = machines.recognise(mac, Identities { uuid, switch_port }, now);
            model.show(mac, uuid, port.as_ref());
            prop_assert_eq!(changed, model.by_mac(mac) != before[usize::from(mac.0[5])]);
            vec![mac]
        }
        Step::Forget(mac) => {
            machines.forget_recognised(|other| other != mac);
            model.recognised.remove(&mac);
            vec![mac]
        }
        Step::Change(..) | Step::Remove(_) => Vec::new(),
    };
    for (last, before) in (0..MACS).zip(before) {
        let is_same = model.by_mac(mac(last)) == before;
        prop_assert!(is_same || touched.contains(&mac(last)), "{} is not told of", mac(last));
    }
    Ok(())
}

fn compare(machines: &Machines, model: &Model) -> Result<(), TestCaseError> {
    let all: Vec<_> =
        machines.all().into_iter().map(|known| (known.id, Machine::clone(&known.machine))).collect();
    prop_assert_eq!(&all, &model.machines);
    for mac in (0..MACS).map(mac) {
        let known = machines.by_mac(mac).map(|known| (known.id, Machine::clone(&known.machine)));
        prop_assert_eq!(known, model.by_mac(mac));
        let recognised = model.recognised.get(&mac).map(|(id, ..)| *id);
        prop_assert_eq!(machines.recognised(mac), recognised);
        let identity = machines.recognised_by(mac);
        prop_assert_eq!(identity.is_some(), recognised.is_some());
        prop_assert_eq!(machines.is_named(mac), model.named(mac).is_some());
    }
    prop_assert_eq!(machines.count_recognised(), model.recognised.len());
    for address in (0..4).map(|last| Ipv4Addr::new(10, 0, 0, last)) {
        let reserved = model.machines.iter().find(|(_, machine)| machine.ip == Some(address));
        prop_assert_eq!(machines.by_reserved(address).map(|known| known.id), reserved.map(|(id, _)| *id));
    }
    let any = |is: fn(&Machine) -> bool| model.machines.iter().any(|(_, machine)| is(machine));
    prop_assert_eq!(machines.has_ports(), any(|machine| machine.relay_port.is_some()));
    prop_assert_eq!(machines.has_without_mac(), any(has_unknown_mac));
    prop_assert_eq!(
        machines.shares_addresses(),
        any(|machine| machine.ip.is_some() && (machine.macs.len() > 1 || has_unknown_mac(machine)))
    );
    Ok(())
}

fn has_unknown_mac(machine: &Machine) -> bool {
    machine.macs.is_empty() && (machine.uuid.is_some() || machine.relay_port.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_index_is_what_a_list_is(steps in prop::collection::vec(any_step(), 1..40)) {
        let (machines, mut model) = (Machines::default(), Model::default());
        for (day, each) in (1..).zip(steps) {
            step(&machines, &mut model, each, day * 86_400)?;
            compare(&machines, &model)?;
        }
    }
}
