//! Requests that the kernel half saw and the daemon did not: what lies between them is this host's firewall.
//!
//! The hooks see packets before netfilter does, the daemon's sockets behind it. Where the firewall drops requests, all
//! looks well at the hooks, and machines hear nothing.

use std::sync::Arc;
use std::time::Duration;

use boot_common::Reason;
use boot_common::tables::Hook;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use super::request::Ask;
use crate::host::clock;
use boot_engine::events::{BootEvent, Events, Step, Unheard};
use boot_engine::tftp::TftpStats;

/// How often the counts are compared. Firmware repeats a request several times in so long.
const EVERY: Duration = Duration::from_secs(10);
/// How long what has been seen at a hook may take to the daemon.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// So many requests missing are no accident: wrong checksums, or a count that was read a moment too early.
const FEW: u64 = 3;
/// What the hooks pass on of DHCP that is whole, for us, and the daemon's to answer.
const DHCP: [Reason; 4] = [Reason::UnknownHost, Reason::NotDurable, Reason::NoAnswer, Reason::OtherMessage];
/// The sockets of this network namespace (proc_net(5)).
const SOCKETS: &str = "/proc/self/net/udp";

/// What has been counted by now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Counts {
    /// TFTP requests that the kernel half passed on.
    tftp: u64,
    /// Those that the daemon heard, by interface.
    heard: Vec<u64>,
    /// Packets to port 69 that found no room in a socket's buffer.
    no_room: u64,
    /// DHCP that the kernel half passed on, and what the daemon heard of it.
    dhcp: (u64, u64),
}

/// What never arrived since an earlier count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Missing {
    /// TFTP requests, and the interfaces that the daemon heard none of.
    tftp: Option<(u64, Vec<usize>)>,
    dhcp: Option<u64>,
}

/// Compares for as long as the daemon runs. `stats` are those of the interfaces with a kernel half.
pub(super) async fn watch(asks: mpsc::Sender<Ask>, stats: Vec<(String, Arc<TftpStats>)>, events: Events) {
    let Some(mut before) = count(&asks, &stats).await else { return };
    let mut told = Missing::default();
    loop {
        sleep(EVERY).await;
        let Some(mut now) = count(&asks, &stats).await else { return };
        let mut missing = since(&before, &now);
        if missing != Missing::default() {
            sleep(ON_ITS_WAY).await;
            let Some(later) = count(&asks, &stats).await else { return };
            missing = since(&before, &Counts { tftp: now.tftp, dhcp: (now.dhcp.0, later.dhcp.1), ..later });
            now = Counts { dhcp: (now.dhcp.0, later.dhcp.1), ..now };
        }
        tell(&missing, &mut told, &before, &now, &stats, &events);
        before = now;
    }
}

/// Tells what is missing, once until something is heard again.
fn tell(
    missing: &Missing,
    told: &mut Missing,
    before: &Counts,
    now: &Counts,
    stats: &[(String, Arc<TftpStats>)],
    events: &Events,
) {
    let is_heard = |nth: usize| before.heard.get(nth) != now.heard.get(nth);
    if told.tftp.as_ref().is_some_and(|(_, silent)| silent.iter().any(|nth| is_heard(*nth))) {
        told.tftp = None;
    }
    if before.dhcp.1 != now.dhcp.1 {
        told.dhcp = None;
    }
    if let (None, Some((requests, silent))) = (&told.tftp, &missing.tftp) {
        let names: Vec<&str> =
            silent.iter().filter_map(|nth| stats.get(*nth)).map(|(name, _)| name.as_str()).collect();
        let step = Step::Unheard(Unheard::Tftp { links: names.join(", "), requests: *requests });
        events.emit(BootEvent::new(clock::boot(), step));
        told.tftp.clone_from(&missing.tftp);
    }
    if let (None, Some(requests)) = (told.dhcp, missing.dhcp) {
        let step = Step::Unheard(Unheard::Dhcp { requests });
        events.emit(BootEvent::new(clock::boot(), step));
        told.dhcp = missing.dhcp;
    }
}

fn since(before: &Counts, now: &Counts) -> Missing {
    let more = |now: u64, before: u64| now.saturating_sub(before);
    let heard = now.heard.iter().zip(&before.heard).map(|(now, before)| more(*now, *before));
    let silent: Vec<usize> =
        heard.clone().enumerate().filter(|(_, heard)| *heard == 0).map(|(nth, _)| nth).collect();
    let arrived = heard.sum::<u64>() + more(now.no_room, before.no_room);
    let tftp = more(now.tftp, before.tftp).saturating_sub(arrived);
    let dhcp = more(now.dhcp.0, before.dhcp.0);
    Missing {
        tftp: (tftp >= FEW && !silent.is_empty()).then_some((tftp, silent)),
        dhcp: (dhcp >= FEW && now.dhcp.1 == before.dhcp.1).then_some(dhcp),
    }
}

/// `None` when the daemon has ended. The kernel's counts are read first, so that what it saw can have arrived.
async fn count(asks: &mpsc::Sender<Ask>, stats: &[(String, Arc<TftpStats>)]) -> Option<Counts> {
    let (reply, packets) = oneshot::channel();
    asks.send(Ask::Packets(reply)).await.ok()?;
    let packets = packets.await.ok()?;
    let at = |hook: Hook, wanted: &[Reason]| -> u64 {
        let of = packets.iter().filter(|(at, reason, _)| *at == hook && wanted.contains(reason));
        of.map(|(_, _, count)| count).sum()
    };
    // What XDP passes on TC sees too, where it is.
    let kernel = |wanted: &[Reason]| Hook::KERNEL.map(|hook| at(hook, wanted)).into_iter().max().unwrap_or(0);
    let dhcp = (kernel(&DHCP), at(Hook::Daemon, Reason::ALL));
    let heard = stats.iter().map(|(_, stats)| stats.requests()).collect();
    let sockets = std::fs::read_to_string(SOCKETS).unwrap_or_default();
    Some(Counts { tftp: kernel(&[Reason::TftpRequest]), heard, no_room: no_room(&sockets, 69), dhcp })
}

/// Packets to a port that found no room.
fn no_room(table: &str, port: u16) -> u64 {
    let port = format!(":{port:04X}");
    let drops = |line: &str| -> Option<u64> {
        let mut words = line.split_ascii_whitespace();
        words.nth(1)?.ends_with(&port).then(|| words.last()?.parse().ok()).flatten()
    };
    table.lines().skip(1).filter_map(drops).sum()
}

/// Tells everything that there is to tell.
#[cfg(test)]
pub(super) fn golden(events: &Events) {
    let stats = [("eth1".to_owned(), Arc::default()), ("eth2".to_owned(), Arc::default())];
    let missing = Missing { tftp: Some((5, vec![0, 1])), dhcp: Some(7) };
    let (mut told, counts) = (Missing::default(), Counts::default());
    tell(&missing, &mut told, &counts, &counts, &stats, events);
    tell(&missing, &mut told, &counts, &counts, &stats, events);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tftp: u64, heard: &[u64], dhcp: (u64, u64)) -> Counts {
        Counts { tftp, heard: heard.to_vec(), no_room: 0, dhcp }
    }

    #[test]
    fn what_an_interface_never_hears_is_missing() {
        let before = counts(100, &[60, 40], (10, 10));
        for (now, tftp) in [
            (counts(100, &[60, 40], (10, 10)), None),
            // All arrived; or so few are missing that they may be on their way, or spoilt.
            (counts(105, &[65, 40], (10, 10)), None),
            (counts(102, &[60, 40], (10, 10)), None),
            (counts(200, &[160, 38], (10, 10)), None),
            // Some are missing, but all interfaces hear.
            (counts(200, &[70, 50], (10, 10)), None),
            (counts(105, &[60, 40], (10, 10)), Some((5, vec![0, 1]))),
            (counts(205, &[160, 40], (10, 10)), Some((5, vec![1]))),
            // Tables that were made anew.
            (counts(3, &[60, 40], (10, 10)), None),
        ] {
            assert_eq!(since(&before, &now).tftp, tftp, "{now:?}");
        }
        let no_room = Counts { no_room: 5, ..counts(205, &[160, 40], (10, 10)) };
        assert_eq!(since(&before, &no_room).tftp, None, "a storm at another interface");
        assert_eq!(since(&before, &counts(100, &[60, 40], (15, 10))).dhcp, Some(5));
        assert_eq!(since(&before, &counts(100, &[60, 40], (15, 11))).dhcp, None);
    }

    #[test]
    fn drops_are_those_of_the_port() {
        let table = "\
   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 00000000:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 11 2 0 7
  101: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 12 2 0 9
  102: 0100000A:0045 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 13 2 0 4
";
        assert_eq!((no_room(table, 69), no_room(table, 67), no_room("", 69)), (11, 9, 0));
    }
}
