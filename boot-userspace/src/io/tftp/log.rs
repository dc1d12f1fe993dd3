//! What the log says of transfers.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use boot_common::Mac;
use tracing::field::display;
use tracing::{debug, info, warn};

use crate::files::{BootFiles, OpenError, OpenFile, Version};
use crate::host::size::human_size;
use crate::io::neighbours;
use crate::io::tftp::clients::Refusals;
use boot_engine::STEP;
use boot_engine::machines::{Client, Machines};
use boot_engine::tftp::{Outcome, Peer, Told};

/// How many contents are remembered as told about.
const MOST_INSPECTED: usize = 1024;
/// How many machines are remembered that have their address from elsewhere.
const MOST_UNKNOWN: usize = 4096;

/// Writes the log lines of one interface's transfers.
pub(super) struct Teller {
    machines: Machines,
    /// What has been said what it is.
    inspected: HashSet<Version>,
    /// Machines that have their address from elsewhere, where it is known which they are.
    unknown: HashMap<Ipv4Addr, Option<Mac>>,
    refusals: Refusals,
}

impl Teller {
    pub(super) fn new(machines: Machines) -> Self {
        Self { machines, inspected: HashSet::new(), unknown: HashMap::new(), refusals: Refusals::default() }
    }

    /// Says what is going to be sent, once for each content.
    pub(super) fn inspect(&mut self, files: &BootFiles, name: &str, file: &OpenFile) {
        if self.inspected.len() >= MOST_INSPECTED {
            self.inspected.clear();
        }
        if !self.inspected.insert(file.version()) {
            return;
        }
        let inspection = files.inspect_open(name, file);
        let says = inspection.sentence(name, file.size);
        match inspection.problem {
            None => info!(step = "tftp", by = "daemon", file = name, "{says}"),
            Some(_) => warn!(step = "tftp", by = "daemon", file = name, "{says}"),
        }
    }

    pub(super) fn tell_miss(&mut self, peer: Peer, file: &str, why: &OpenError) {
        let (mac, name) = self.who(peer, file);
        let mac = mac.map(display);
        let client = peer.client;
        if matches!(why, OpenError::NotFound { .. }) && is_customary_probe(file) {
            return debug!(step = "tftp", by = "daemon", mac, name, %client, file, "asked for {file}, which is not there");
        }
        info!(step = "tftp", by = "daemon", mac, name, %client, file, "asked for {file}: {why}");
    }

    /// Says which key would have a client answered, once for each network.
    pub(super) fn tell_refused(&mut self, interface: &str, client: Ipv4Addr) {
        if let Some(net) = self.refusals.new_of(client) {
            warn!(
                step = "tftp", by = "daemon", interface, %client,
                "a TFTP request from {client} gets no answer: it is of no network of {interface} and of no [[subnet]]; \
                 if machines are there, write clients = [\"{net}\"] in [tftp]"
            );
        }
    }

    pub(super) fn tell(&mut self, told: Told) {
        let Told { peer, name: file, outcome } = told;
        let (mac, name) = self.who(peer, &file);
        let mac = mac.map(display);
        let client = peer.client;
        match outcome {
            Outcome::Finished { bytes, block_size, window, resent, by_xdp, by_tc, took, confirmed } => {
                let end = if confirmed { "" } else { " (the last acknowledgement did not come)" };
                let (size, seconds) = (human_size(bytes), took.as_secs_f64());
                let blocks = bytes / u64::from(block_size) + 1;
                let by = match (by_xdp + by_tc) * 2 > blocks {
                    false => "daemon",
                    true if by_xdp >= by_tc => "xdp",
                    true => "tc",
                };
                info!(
                    name: STEP, step = "tftp", by, mac, name, %client, file, bytes, seconds, blksize = block_size,
                    windowsize = window, blocks, resent, by_xdp, by_tc, "sent {file}, {size} in {seconds:.1} s{end}"
                );
            }
            Outcome::Probed => {
                debug!(step = "tftp", by = "daemon", mac, name, %client, file, "asked for the size of {file}");
            }
            Outcome::Aborted { code, message, bytes } => info!(
                step = "tftp", by = "daemon", mac, name, %client, file, bytes, code,
                "the client gave up {file} after {}: {message}", human_size(bytes)
            ),
            Outcome::Stalled { bytes, size, block } => info!(
                step = "tftp", by = "daemon", mac, name, %client, file, bytes, block,
                "the client fell silent at block {block}, after {} of {} of {file}", human_size(bytes), human_size(size)
            ),
            Outcome::Refused(why) => {
                info!(step = "tftp", by = "daemon", mac, name, %client, file, "request refused: {why}");
            }
            // It was told where the reason was known.
            Outcome::Missing(_) => {}
            Outcome::Unreadable(why) => {
                warn!(step = "tftp", by = "daemon", mac, name, %client, file, "sending {file} ended: {why}");
            }
            Outcome::StartedOver => {
                debug!(step = "tftp", by = "daemon", mac, name, %client, file, "the client started over");
            }
            Outcome::CrowdedOut => info!(
                step = "tftp", by = "daemon", mac, name, %client, file, "an idle transfer of {file} made room for others"
            ),
        }
    }

    fn who(&mut self, peer: Peer, file: &str) -> (Option<Mac>, Option<String>) {
        let address = *peer.client.ip();
        let client = self.machines.client_at(address).or_else(|| self.unknown(address, file));
        client.map_or((None, None), |client| (Some(client.mac), client.name))
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

/// Names that loaders try on every boot before their last one, so that not having them says nothing.
fn is_customary_probe(file: &str) -> bool {
    let file = file.to_ascii_lowercase();
    let name = last_part(&file);
    name == "autoexec.ipxe"
        || (file.contains("pxelinux.cfg/") && name != "default")
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

/// Says everything that there is to say.
#[cfg(test)]
pub(crate) fn golden() {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use boot_engine::tftp::OpenError as Refused;

    let dir = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    put("grub.cfg", b"set timeout=1\n");
    put("snponly.efi", b"0123456789");
    std::fs::create_dir(dir.path().join("directory")).unwrap();
    let files = BootFiles::new(dir.path().to_path_buf(), BTreeMap::new()).with_system_dirs(Vec::new());
    let roster = Roster::default();
    let mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    roster.put(Ipv4Addr::new(10, 1, 1, 50), Client { mac, name: Some("node1".to_owned()) });
    let mut teller = Teller::new(roster);
    for name in ["grub.cfg", "grub.cfg", "snponly.efi"] {
        let file = files.open(name).unwrap();
        teller.inspect(&files, name, &file);
    }
    let local = Ipv4Addr::new(10, 1, 0, 2);
    let node1 = Peer { client: "10.1.1.50:2000".parse().unwrap(), local };
    let unknown = Peer { client: "192.0.2.7:2001".parse().unwrap(), local };
    let no_file = || OpenError::NotFound { boot_dir: "/boot".into(), instead: None };
    let instead = OpenError::NotFound { boot_dir: "/boot".into(), instead: Some("x64/grub.cfg".to_owned()) };
    teller.tell_miss(node1, "menu.lst", &instead);
    teller.tell_miss(unknown, "menu.lst", &no_file());
    teller.tell_miss(unknown, "../x", &files.open("../x").err().unwrap());
    teller.tell_miss(node1, "directory", &OpenError::NotAFile("/boot/directory".into()));
    let denied = std::io::Error::from_raw_os_error(13);
    teller.tell_miss(node1, "secret", &OpenError::Io { path: "/boot/secret".into(), error: denied });
    teller.tell_miss(node1, "autoexec.ipxe", &no_file());
    teller.tell_refused("eth1", Ipv4Addr::new(203, 0, 113, 9));
    teller.tell_refused("eth1", Ipv4Addr::new(203, 0, 113, 10));
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
    for peer in [node1, unknown] {
        for outcome in outcomes.clone() {
            teller.tell(Told { peer, name: "snponly.efi".to_owned(), outcome });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_name_that_a_loader_tries_is_told() {
        for silent in [
            "pxelinux.cfg/01-52-54-00-00-00-01",
            "/tftp/pxelinux.cfg/0A4D",
            "grub/grub.cfg-01-52-54-00-00-00-01",
            "boot/grub/x86_64-efi/command.lst",
            "autoexec.ipxe",
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
        let config = "[[interface]]\nname = \"eth1\"\ndhcp = \"off\"\n[[machine]]\nmac = \"52:54:00:00:00:01\"\nname = \"node1\"\n";
        let config = boot_engine::config::parse(config, "test").unwrap();
        let mut teller = Teller::new(Machines::new(config.machines).unwrap());
        let peer = Peer { client: "192.0.2.7:2000".parse().unwrap(), local: Ipv4Addr::new(192, 0, 2, 1) };
        assert_eq!(teller.who(peer, "pxelinux.0"), (None, None));
        let node1 = (Some(mac), Some("node1".to_owned()));
        assert_eq!(teller.who(peer, "pxelinux.cfg/01-52-54-00-00-00-01"), node1);
        assert_eq!(teller.who(peer, "pxelinux.cfg/default"), node1);
    }
}
