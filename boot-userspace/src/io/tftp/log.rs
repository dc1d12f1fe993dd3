//! What the log says of transfers.

use std::collections::HashSet;

use tracing::field::display;
use tracing::{debug, info, warn};

use crate::engine::roster::Roster;
use crate::engine::tftp::{Outcome, Peer, Told};
use crate::files::{BootFiles, OpenError, OpenFile, Version, human_size};

/// How many contents are remembered as told about.
const MOST_INSPECTED: usize = 1024;

/// Writes the log lines of one interface's transfers.
pub(super) struct Teller {
    roster: Roster,
    /// What has been said what it is.
    inspected: HashSet<Version>,
}

impl Teller {
    pub(super) fn new(roster: Roster) -> Self {
        Self { roster, inspected: HashSet::new() }
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
        let says = inspection.with_article();
        match inspection.problem {
            None => info!(step = "tftp", by = "daemon", file = name, "{name} is {says}"),
            Some(problem) => {
                warn!(step = "tftp", by = "daemon", file = name, "{name} is {says}; {problem}");
            }
        }
    }

    pub(super) fn tell_miss(&self, peer: Peer, file: &str, why: &OpenError) {
        let (mac, name) = self.who(peer);
        let mac = mac.map(display);
        let client = peer.client;
        if matches!(why, OpenError::NotFound { .. }) && is_customary_probe(file) {
            return debug!(step = "tftp", by = "daemon", mac, name, %client, file, "asked for {file}, which is not there");
        }
        info!(step = "tftp", by = "daemon", mac, name, %client, file, "asked for {file}: {why}");
    }

    pub(super) fn tell(&self, told: Told) {
        let Told { peer, name: file, outcome } = told;
        let (mac, name) = self.who(peer);
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
                    step = "tftp", by, mac, name, %client, file, bytes, seconds, blksize = block_size,
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
            // Both were told where the reason was known.
            Outcome::Missing(_) | Outcome::Unreadable => {}
            Outcome::StartedOver => {
                debug!(step = "tftp", by = "daemon", mac, name, %client, file, "the client started over");
            }
            Outcome::CrowdedOut => info!(
                step = "tftp", by = "daemon", mac, name, %client, file, "an idle transfer of {file} made room for others"
            ),
        }
    }

    fn who(&self, peer: Peer) -> (Option<boot_common::Mac>, Option<String>) {
        self.roster.client(*peer.client.ip()).map_or((None, None), |client| (Some(client.mac), client.name))
    }
}

/// Names that loaders try on every boot, so that not having them says nothing.
fn is_customary_probe(file: &str) -> bool {
    let name = file.rsplit(['/', '\\']).next().unwrap_or(file).to_ascii_lowercase();
    let file = file.to_ascii_lowercase();
    name == "autoexec.ipxe"
        || file.contains("pxelinux.cfg/")
        || name.ends_with(".lst")
        || (name.ends_with(".efi")
            && (name.starts_with("revocations") || name.starts_with("shim_certificate")))
}
