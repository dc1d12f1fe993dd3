//! Whose lease the kernel half has confirmed a moment ago.

use boot_common::Mac;

/// How many machines of a second are remembered; with more, every machine may be one of them.
const MOST: usize = 65_536;

/// The machines of the last two seconds. They are written down one behind the other, which costs next to nothing at
/// half a million a second, and searched only for a RELEASE.
#[derive(Debug, Default)]
pub(crate) struct Confirmed {
    this_second: Vec<Mac>,
    last_second: Vec<Mac>,
}

impl Confirmed {
    /// Takes one down.
    pub(crate) fn add(&mut self, mac: Mac) {
        if self.this_second.len() < MOST {
            self.this_second.push(mac);
        }
    }

    /// Whether it may be one of them.
    pub(crate) fn has(&self, mac: Mac) -> bool {
        [&self.this_second, &self.last_second].iter().any(|macs| macs.len() == MOST || macs.contains(&mac))
    }

    /// Begins a new second.
    pub(crate) fn next_second(&mut self) {
        std::mem::swap(&mut self.this_second, &mut self.last_second);
        self.this_second.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_is_remembered_for_two_seconds_and_with_too_many_all_are() {
        let machine = |last| Mac([2, 0, 0, 0, 0, last]);
        let mut confirmed = Confirmed::default();
        confirmed.add(machine(1));
        confirmed.next_second();
        confirmed.add(machine(2));
        assert_eq!([1, 2, 3].map(|last| confirmed.has(machine(last))), [true, true, false]);
        confirmed.next_second();
        assert_eq!([1, 2, 3].map(|last| confirmed.has(machine(last))), [false, true, false]);
        for _ in 0..=MOST {
            confirmed.add(machine(2));
        }
        assert!(confirmed.this_second.len() == MOST && confirmed.has(machine(3)));
    }
}
