//! The bindings of each machine: one in each subnet that it was heard in.

use boot_common::Mac;

use crate::leases::binding::Binding;
use crate::maps::HashMap;

/// Bindings by machine and subnet. Of a million machines nearly all are in one subnet only, so the bindings in further
/// subnets lie apart, and cost memory only where there are some.
#[derive(Debug, Default)]
pub(crate) struct ByMachine {
    first: HashMap<Mac, Binding>,
    /// Never an empty list, and only of machines that are in `first`.
    further: HashMap<Mac, Vec<Binding>>,
}

impl ByMachine {
    /// Every binding of the machine, in no particular order.
    pub(crate) fn of(&self, mac: Mac) -> impl Iterator<Item = Binding> {
        let further = self.further.get(&mac).into_iter().flatten();
        self.first.get(&mac).into_iter().chain(further).copied()
    }

    /// Every binding of every machine.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Mac, Binding)> {
        let further = self.further.iter().flat_map(|(mac, list)| list.iter().map(move |of| (*mac, *of)));
        self.first.iter().map(|(mac, binding)| (*mac, *binding)).chain(further)
    }

    /// Gives subnets other indices. The bindings in subnets that have none any more are removed.
    pub(crate) fn renumber(&mut self, new: impl Fn(usize) -> Option<usize>) -> Vec<(Mac, Binding)> {
        let all: Vec<(Mac, Binding)> = self.iter().collect();
        *self = Self::default();
        let mut removed = Vec::new();
        for (mac, binding) in all {
            match new(binding.subnet) {
                Some(subnet) => drop(self.insert(mac, Binding { subnet, ..binding })),
                None => removed.push((mac, binding)),
            }
        }
        removed
    }

    /// How many machines have a binding.
    pub(crate) fn len(&self) -> usize {
        self.first.len()
    }

    /// Writes the machine's binding in a subnet, and gives the one that it had there.
    pub(crate) fn insert(&mut self, mac: Mac, binding: Binding) -> Option<Binding> {
        let further = self.further.get_mut(&mac).into_iter().flatten();
        let mut known = self.first.get_mut(&mac).into_iter().chain(further);
        if let Some(known) = known.find(|known| known.subnet == binding.subnet) {
            return Some(std::mem::replace(known, binding));
        }
        match self.first.get(&mac) {
            None => drop(self.first.insert(mac, binding)),
            Some(_) => self.further.entry(mac).or_default().push(binding),
        }
        None
    }

    /// Removes the machine's binding in a subnet.
    pub(crate) fn remove(&mut self, mac: Mac, subnet: usize) -> Option<Binding> {
        let is_it = |binding: &Binding| binding.subnet == subnet;
        let mut further = self.further.remove(&mac).unwrap_or_default();
        let removed = match self.first.get(&mac).is_some_and(is_it) {
            true => {
                let removed = self.first.remove(&mac);
                self.first.extend(further.pop().map(|next| (mac, next)));
                removed
            }
            false => further.iter().position(is_it).map(|position| further.swap_remove(position)),
        };
        if !further.is_empty() {
            self.further.insert(mac, further);
        }
        removed
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::leases::binding::State;

    #[test]
    fn a_machine_has_one_binding_in_each_subnet_whatever_is_removed() {
        let (one, two) = (Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2]));
        let binding = |subnet: usize, last: u8| Binding {
            address: Ipv4Addr::new(10, u8::try_from(subnet).unwrap(), 0, last),
            subnet,
            state: State::Idle,
        };
        let mut all = ByMachine::default();
        assert_eq!([0, 1, 2].map(|subnet| all.insert(one, binding(subnet, 1))), [None; 3]);
        assert_eq!(all.insert(two, binding(1, 2)), None);
        assert_eq!(all.insert(one, binding(0, 7)), Some(binding(0, 1)));
        assert_eq!(all.insert(one, binding(2, 7)), Some(binding(2, 1)));
        assert_eq!((all.len(), all.iter().count(), all.of(one).count()), (2, 4, 3));
        assert_eq!(all.remove(one, 9), None);
        assert_eq!(all.remove(one, 0), Some(binding(0, 7)));
        assert_eq!(all.remove(one, 1), Some(binding(1, 1)));
        assert_eq!(all.of(one).collect::<Vec<_>>(), [binding(2, 7)]);
        assert!(all.further.is_empty(), "no memory for a machine with one binding");
        assert_eq!(all.remove(one, 2), Some(binding(2, 7)));
        assert_eq!((all.remove(one, 2), all.len()), (None, 1));
        assert_eq!(all.insert(two, binding(0, 3)), None);
        // The first subnet is gone, and another one has come before the second.
        let removed = all.renumber(|subnet| (subnet == 1).then_some(2));
        assert_eq!(removed, [(two, binding(0, 3))]);
        let moved = Binding { subnet: 2, ..binding(1, 2) };
        assert_eq!(all.of(two).collect::<Vec<_>>(), [moved]);
    }
}
