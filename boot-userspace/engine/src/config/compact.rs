//! Puts what machines have on the heap side by side.
//!
//! While a file is checked, every text that stays is allocated among others that go: with a million machines the
//! few that stay would keep half a gigabyte of pages.

use boot_common::Mac;

use super::checked::Machine;

/// What one machine has, in bytes and addresses; no bytes at all: there is no such text.
struct Sizes {
    texts: [Option<usize>; 4],
    macs: usize,
}

/// Takes the texts and MACs of all machines off the heap, and puts them there again.
pub(super) fn compact(machines: &mut [Machine]) {
    let (mut texts, mut macs) = (String::new(), Vec::<Mac>::new());
    let mut sizes = Vec::with_capacity(machines.len());
    for machine in machines.iter_mut() {
        let Machine { name, profile, boot_file, args, .. } = machine;
        let taken = [name.take(), profile.take(), boot_file.take(), Some(std::mem::take(args))];
        let taken = taken.map(|text| {
            let text = text?;
            texts.push_str(&text);
            Some(text.len())
        });
        sizes.push(Sizes { texts: taken, macs: machine.macs.len() });
        macs.append(&mut std::mem::take(&mut machine.macs));
    }
    let (mut texts, mut macs) = (texts.as_str(), macs.as_slice());
    for (machine, Sizes { texts: lengths, macs: count }) in machines.iter_mut().zip(sizes) {
        let [name, profile, boot_file, args] = lengths.map(|length| {
            let (text, rest) = texts.split_at(length?);
            texts = rest;
            Some(text.to_owned())
        });
        (machine.name, machine.profile, machine.boot_file) = (name, profile, boot_file);
        machine.args = args.unwrap_or_default();
        let (own, rest) = macs.split_at(count);
        macs = rest;
        machine.macs = own.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_changes() {
        let text = r#"
            [[interface]]
            name = "eth1"
            dhcp = "proxy"
            [[profile]]
            name = "linux"
            kernel = "vmlinuz"
            [[machine]]
            mac = ["52:54:00:00:00:01", "52:54:00:00:00:02"]
            name = "node1"
            args = "a=1"
            [[machine]]
            uuid = "4c4c4544-0042-3510-8052-b4c04f4e3132"
            profile = "linux"
            [[machine]]
            mac = "52:54:00:00:00:03"
            boot_file = "other.efi"
            labels = { role = "worker" }
        "#;
        let machines = super::super::parse(text, "test").unwrap().machines;
        let machines: Vec<Machine> = machines.iter().map(|machine| Machine::clone(machine)).collect();
        let mut again = machines.clone();
        compact(&mut again);
        assert_eq!(again, machines);
        assert_eq!(machines[0].macs.len() + machines[2].macs.len(), 3);
        assert_eq!(machines[1].profile.as_deref(), Some("linux"));
        assert_eq!((machines[0].name.as_deref(), &*machines[0].args), (Some("node1"), "a=1"));
    }
}
