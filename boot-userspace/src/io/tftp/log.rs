//! What is told of transfers.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::Ipv4Addr;

use boot_common::Mac;

use crate::files::{Inspection, OpenFile, Version};
use crate::host::clock;
use crate::host::link::Link;
use crate::io::neighbours;
use crate::io::tftp::clients::Refusals;
use boot_engine::boot::plan::NoScript;
use boot_engine::events::{
    BootEvent, By, Events, LinkName, Machine, NotServed, Script, Step, Tftp, WhyNotServed, shown,
};
use boot_engine::machines::{Client, Machines};
use boot_engine::tftp::{Outcome, Peer, Told};

/// How many contents are remembered as told about.
const MOST_INSPECTED: usize = 1024;
/// How many machines are remembered that have their address from elsewhere.
const MOST_UNKNOWN: usize = 4096;

/// Tells what one interface's transfers do.
pub(super) struct Teller {
    machines: Machines,
    events: Events,
    link: LinkName,
    /// What has been told what it is.
    inspected: HashSet<Version>,
    /// Machines that have their address from elsewhere, where it is known which they are.
    unknown: HashMap<Ipv4Addr, Option<Mac>>,
    refusals: Refusals,
}

impl Teller {
    pub(super) fn new(machines: Machines, events: Events, link: &Link) -> Self {
        let (inspected, unknown, refusals) = (HashSet::new(), HashMap::new(), Refusals::default());
        Self { machines, events, link: link_name(link), inspected, unknown, refusals }
    }

    /// Goes on at what the interface has become.
    pub(super) fn rebind(&mut self, link: &Link) {
        self.link = link_name(link);
    }

    /// Whether somebody records the packets of the machine that has an address.
    pub(super) fn is_watched(&self, client: Ipv4Addr) -> bool {
        self.machines.is_watched(client)
    }

    /// Whether nothing was told of this file yet.
    pub(super) fn is_new(&mut self, file: &OpenFile) -> bool {
        if self.inspected.len() >= MOST_INSPECTED {
            self.inspected.clear();
        }
        self.inspected.insert(file.version())
    }

    /// Tells what a file is.
    pub(super) fn tell_inspection(&self, name: &str, inspection: &Inspection, size: u64) {
        let name = &shown(name);
        let (file, says) = (name.clone(), inspection.sentence(name, size));
        self.emit(None, Tftp::Inspected { file, says, is_wrong: inspection.problem.is_some() });
    }

    pub(super) fn tell_miss(&mut self, peer: Peer, file: &str, why: impl Into<NotServed>) {
        let machine = self.who(peer, file);
        let why = why.into();
        let is_customary = why.why == WhyNotServed::NotFound && is_customary_probe(file);
        let (client, file) = (peer.client, shown(file));
        self.emit(machine, Tftp::NotServed { client, file, why, is_customary });
    }

    /// Tells why a file is not written for a machine, as HTTP does of a script.
    pub(super) fn tell_refusal(&mut self, peer: Peer, file: &str, refusal: NoScript) {
        let machine = self.who(peer, file);
        let (client, path) = ((*peer.client.ip()).into(), shown(file));
        let step = Step::Script { client, path, end: Script::None(refusal) };
        let event = BootEvent::new(clock::boot(), step).of(machine);
        self.events.emit(BootEvent { link: Some(self.link.clone()), ..event });
    }

    pub(super) fn tell_unreadable(&self, file: String, error: &io::Error) {
        self.emit(None, Tftp::Unreadable { file: shown(&file), error: error.to_string() });
    }

    /// Tells which key would have a client answered, once for each network.
    pub(super) fn tell_refused(&mut self, client: Ipv4Addr) {
        if let Some(net) = self.refusals.new_of(client) {
            self.emit(None, Tftp::Stranger { client, net });
        }
    }

    pub(super) fn tell(&mut self, told: Told) {
        let Told { peer, name: file, outcome } = told;
        // Of a file that is not there it was told where the reason was known.
        if matches!(outcome, Outcome::Missing(_)) {
            return;
        }
        let machine = self.who(peer, &file);
        let by = By::Hook(outcome.sent_by());
        let step = Step::Tftp(Tftp::Ended { client: peer.client, file: shown(&file), outcome });
        let event = BootEvent::new(clock::boot(), step).of(machine);
        self.events.emit(BootEvent { by, link: Some(self.link.clone()), ..event });
    }

    fn emit(&self, machine: Option<Machine>, tftp: Tftp) {
        let event = BootEvent::new(clock::boot(), Step::Tftp(tftp)).of(machine);
        self.events.emit(BootEvent { link: Some(self.link.clone()), ..event });
    }

    fn who(&mut self, peer: Peer, file: &str) -> Option<Machine> {
        let address = *peer.client.ip();
        let client = self.machines.client_at(address).or_else(|| self.unknown(address, file));
        client.map(Machine::from)
    }

    /// A machine that has its address from another server: by the name of its own file, or by the system's table.
    fn unknown(&mut self, address: Ipv4Addr, file: &str) -> Option<Client> {
        if self.unknown.len() >= MOST_UNKNOWN {
            self.unknown.clear();
        }
        if let Some(mac) = own_file(file) {
            self.unknown.insert(address, Some(mac));
        }
        let mac = *self.unknown.entry(address).or_insert_with(|| neighbours::station(address));
        mac.map(|mac| self.machines.client(mac))
    }
}

fn link_name(link: &Link) -> LinkName {
    LinkName { index: link.index, name: link.name.as_str().into() }
}

/// Names that loaders try on every boot before their last one, so that not having them says nothing.
fn is_customary_probe(file: &str) -> bool {
    let file = file.to_ascii_lowercase();
    let name = last_part(&file);
    (file.contains("pxelinux.cfg/") && name != "default")
        || name.starts_with("grub.cfg-")
        || GRUB_LISTS.contains(&name)
        || (name.ends_with(".efi")
            && (name.starts_with("revocations") || name.starts_with("shim_certificate")))
}

/// What GRUB 2 reads about its modules, and does without.
const GRUB_LISTS: [&str; 4] = ["command.lst", "crypto.lst", "fs.lst", "terminal.lst"];

/// The machine that a file is for, as PXELINUX and GRUB name it: the hardware type (1), then the address.
fn own_file(file: &str) -> Option<Mac> {
    let file = file.to_ascii_lowercase();
    let name = last_part(&file);
    let is_pxelinux = file.contains("pxelinux.cfg/");
    let own = name.strip_prefix("grub.cfg-").or(is_pxelinux.then_some(name))?;
    own.strip_prefix("01-")?.parse().ok()
}

fn last_part(file: &str) -> &str {
    file.rsplit(['/', '\\']).next().unwrap_or(file)
}

/// Tells everything that there is to tell.
#[cfg(test)]
pub(crate) fn golden(events: Events) {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use crate::files::OpenError;
    use boot_engine::tftp::OpenError as Refused;

    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("grub.cfg", b"set timeout=1\n");
    put("snponly.efi", b"0123456789");
    std::fs::create_dir(dir.path().join("directory")).unwrap();
    let files =
        crate::files::BootFiles::new(dir.path().to_path_buf(), BTreeMap::new()).with_system_dirs(Vec::new());
    let (machines, mac) = node1();
    machines.put(Ipv4Addr::new(10, 1, 1, 50), mac);
    let link = Link { index: 7, name: "eth1".to_owned(), mac, addresses: Vec::new(), mtu: 1500 };
    let mut teller = Teller::new(machines, events, &link);
    for name in ["grub.cfg", "grub.cfg", "snponly.efi"] {
        let file = files.open(name).unwrap();
        if teller.is_new(&file) {
            teller.tell_inspection(name, &files.inspect_open(name, &file), file.size);
        }
    }
    let local = Ipv4Addr::new(10, 1, 0, 2);
    let node1 = Peer { client: "10.1.1.50:2000".parse().unwrap(), local };
    let unknown = Peer { client: "192.0.2.7:2001".parse().unwrap(), local };
    let no_file = || OpenError::NotFound { boot_dir: "/boot".into(), instead: None };
    let instead = OpenError::NotFound { boot_dir: "/boot".into(), instead: Some("x64/grub.cfg".to_owned()) };
    teller.tell_miss(node1, "menu.lst", instead);
    teller.tell_miss(unknown, "menu.lst", no_file());
    teller.tell_miss(unknown, "../x", files.open("../x").err().unwrap());
    teller.tell_miss(node1, "directory", OpenError::NotAFile("/boot/directory".into()));
    let denied = std::io::Error::from_raw_os_error(13);
    teller.tell_miss(node1, "secret", OpenError::Io { path: "/boot/secret".into(), error: denied });
    teller.tell_miss(node1, "grub/fs.lst", no_file());
    teller.tell_miss(node1, "grub\u{202e}gfc.nimda", no_file());
    teller.tell_refused(Ipv4Addr::new(203, 0, 113, 9));
    teller.tell_refused(Ipv4Addr::new(203, 0, 113, 10));
    let finished = |bytes: u64, resent, by_xdp, by_tc, confirmed| Outcome::Finished {
        bytes,
        block_size: 1468,
        window: 4,
        resent,
        by_xdp,
        by_tc,
        took: Duration::from_millis(1250),
        confirmed,
    };
    let outcomes = [
        finished(146_799, 0, 0, 0, true),
        finished(146_799, 3, 60, 10, true),
        finished(146_799, 0, 10, 60, false),
        Outcome::Probed,
        Outcome::Aborted { code: 8, message: "User aborted".to_owned(), bytes: 4096 },
        Outcome::Stalled { bytes: 1_500_000, size: 3_000_000, block: 1023 },
        Outcome::Refused("mail mode is obsolete"),
        Outcome::Missing(Refused::NotFound),
        Outcome::Unreadable("the disk is broken".to_owned()),
        Outcome::StartedOver,
        Outcome::CrowdedOut,
    ];
    let told = Told { peer: node1, name: "a\u{202e}b".to_owned(), outcome: Outcome::CrowdedOut };
    teller.tell(told);
    for peer in [node1, unknown] {
        for outcome in outcomes.clone() {
            teller.tell(Told { peer, name: "snponly.efi".to_owned(), outcome });
        }
    }
}

/// One machine that the configuration names, and its MAC.
#[cfg(test)]
fn node1() -> (Machines, Mac) {
    let config = "[[interface]]\nname = \"eth1\"\ndhcp = \"off\"\n[[machine]]\nmac = \"52:54:00:00:00:01\"\nname = \"node1\"\n";
    let config = boot_engine::config::parse(config, "test").unwrap();
    (Machines::new(config.machines).unwrap(), Mac([0x52, 0x54, 0, 0, 0, 1]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn the_last_name_that_a_loader_tries_is_told() {
        for silent in [
            "pxelinux.cfg/01-52-54-00-00-00-01",
            "/tftp/pxelinux.cfg/0A4D",
            "grub/grub.cfg-01-52-54-00-00-00-01",
            "boot/grub/x86_64-efi/command.lst",
            "revocations_sbat.efi",
        ] {
            assert!(is_customary_probe(silent), "{silent}");
        }
        for told in
            ["pxelinux.cfg/default", "PXELINUX.CFG/default", "grub/grub.cfg", "menu.lst", "grubx64.efi"]
        {
            assert!(!is_customary_probe(told), "{told}");
        }
    }

    #[test]
    fn a_machine_with_an_address_from_elsewhere_is_known_by_its_own_file() {
        let mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
        for own in ["pxelinux.cfg/01-52-54-00-00-00-01", "/x/grub.cfg-01-52-54-00-00-00-01"] {
            assert_eq!(own_file(own), Some(mac), "{own}");
        }
        for other in ["pxelinux.cfg/0A4D", "01-52-54-00-00-00-01", "pxelinux.cfg/01-52-54-00-00-00", ""] {
            assert_eq!(own_file(other), None, "{other}");
        }
        let (machines, _) = super::node1();
        let link = Link { index: 7, name: "eth1".to_owned(), mac, addresses: Vec::new(), mtu: 1500 };
        let mut teller = Teller::new(machines, Arc::new(()), &link);
        let peer = Peer { client: "192.0.2.7:2000".parse().unwrap(), local: Ipv4Addr::new(192, 0, 2, 1) };
        assert_eq!(teller.who(peer, "pxelinux.0"), None);
        let node1 = Some(Machine { mac, name: Some("node1".into()) });
        assert_eq!(teller.who(peer, "pxelinux.cfg/01-52-54-00-00-00-01"), node1);
        assert_eq!(teller.who(peer, "pxelinux.cfg/default"), node1);
    }
}
