//! The network: one card with an address.

use std::fs;
use std::path::Path;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use socket2::{Domain, Socket, Type};

use crate::command_line::CommandLine;
use crate::console::say;
use crate::dhcp::{self, Lease};
use crate::disk::text;
use crate::sys;

/// Where the kernel has its interfaces.
pub(crate) const NET: &str = "/sys/class/net";
/// So long a card may take to appear, and its link to come up.
const CARD: Duration = Duration::from_secs(60);
const LINK: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// A lease is renewed at half of its time, and no more often than this.
const SHORTEST: u64 = 30;

/// Names of the cards: interfaces that have a device.
pub(crate) fn cards(net: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(net)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Switches all cards on, so that switches are heard on each.
pub(crate) fn bring_all_up() -> Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    for name in cards(Path::new(NET)).iter().map(String::as_str).chain(["lo"]) {
        if let Err(error) = sys::bring_up(&socket, name) {
            say!("{name} cannot be switched on: {error}");
        }
    }
    Ok(())
}

/// Gives the card that the machine has booted from its address, and keeps it.
pub(crate) fn start(told: &CommandLine) -> Result<()> {
    let card = wait_for_card(told)?;
    bring_all_up()?;
    let (name, mac) = &card;
    let began = Instant::now();
    let link = Path::new(NET).join(name).join("carrier");
    while text(&link) != "1" && began.elapsed() < LINK {
        sleep(LOOK_AGAIN);
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    if let Some((address, mask, router)) = told.address {
        say!("network: {name} ({}) has {address}, as the kernel's command line says", shown(*mac));
        sys::set_address(&socket, name, address, mask).with_context(|| format!("give {name} its address"))?;
        return router.map_or(Ok(()), |router| sys::set_router(&socket, router).context("set the router"));
    }
    let lease = dhcp::ask(name, *mac)?;
    say!("network: {name} ({}) has {} for {} s", shown(*mac), lease.address, lease.seconds);
    sys::set_address(&socket, name, lease.address, lease.mask)
        .with_context(|| format!("give {name} its address"))?;
    if let Some(router) = lease.router
        && let Err(error) = sys::set_router(&socket, router)
    {
        say!("network: the router {router} cannot be used: {error}");
    }
    let (name, mac) = card;
    spawn(move || keep(&name, mac, lease));
    Ok(())
}

/// Renews the lease: a wipe takes longer than most of them.
fn keep(name: &str, mac: [u8; 6], lease: Lease) {
    let mut lease = lease;
    loop {
        sleep(Duration::from_secs((u64::from(lease.seconds) / 2).max(SHORTEST)));
        match dhcp::renew(name, mac, &lease) {
            Ok(Some(renewed)) if renewed.address == lease.address => lease = renewed,
            Ok(_) => say!("network: the lease of {} was not renewed", lease.address),
            Err(error) => say!("network: the lease of {} was not renewed: {error:#}", lease.address),
        }
    }
}

/// The card with the MAC that the machine has booted from; any card with an address of Ethernet if nobody knows that.
fn wait_for_card(told: &CommandLine) -> Result<(String, [u8; 6])> {
    let began = Instant::now();
    loop {
        let found = cards(Path::new(NET)).into_iter().filter_map(|name| {
            let address = text(&Path::new(NET).join(&name).join("address"));
            (told.card.as_ref().is_none_or(|card| *card == address))
                .then(|| Some((name, read_mac(&address)?)))
                .flatten()
        });
        if let Some(card) = found.into_iter().next() {
            return Ok(card);
        }
        if began.elapsed() > CARD {
            let wanted = told.card.as_deref().unwrap_or("any MAC");
            let names = cards(Path::new(NET)).join(", ");
            bail!(
                "no network card has {wanted}; there are: {names}. Its module may be missing in the initrd"
            );
        }
        sleep(LOOK_AGAIN);
    }
}

/// Six bytes, which are not all zero.
pub(crate) fn read_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    (parts.next().is_none() && mac != [0; 6]).then_some(mac)
}

fn shown(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
