//! Puts TFTP together: memory for images and transfers, what an earlier daemon left of them, a server per interface.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;
use boot_common::tftp::{MAX_FLIGHTS, TransferKey};
use tracing::info;

use crate::config::{Config, FastPath as Hook};
use crate::engine::roster::Roster;
use crate::engine::tftp::{Image, Place, Slots};
use crate::fastpath::{Published, Sizes, Transfers};
use crate::files::BootFiles;
use crate::io::library::Library;
use crate::io::link::Link;
use crate::io::tftp::{Common, TftpServer};
use crate::io::udp::UdpSocket;
use crate::mapping::Mapping;

/// Servers for the interfaces' sockets. `transfers` are the kernel half's, or what it left behind.
pub(super) fn servers(
    config: &Config,
    sockets: Vec<(Link, UdpSocket)>,
    files: Arc<BootFiles>,
    roster: Roster,
    transfers: Option<Transfers>,
) -> Result<Vec<TftpServer>> {
    let sizes = Sizes::of(config.fast_path_memory);
    let (published, flights, images, sums) = match transfers {
        Some(Transfers { published, flights, images, sums }) => (Some(published), flights, images, sums),
        None => (
            None,
            Mapping::own(MAX_FLIGHTS as usize)?,
            Mapping::own(sizes.chunks as usize)?,
            Mapping::own(sizes.sums as usize)?,
        ),
    };
    let published = published.map(Arc::new);
    let flights = Arc::new(flights);
    let library = Library::new(images, sums);
    let adopted =
        published.as_ref().map(|published| adopt(published, &flights, &library)).unwrap_or_default();
    let taken: HashSet<u32> = adopted.iter().map(|(_, slot, _)| *slot).collect();
    let slots = Slots::new(flights, |slot| taken.contains(&slot));
    let common = Common { files, roster, library: Arc::new(library), slots, window: config.tftp.windowsize };

    let mut servers = Vec::new();
    for (link, socket) in sockets {
        let interface = config.interfaces.iter().find(|interface| interface.name == link.name);
        let has_kernel = interface.is_some_and(|interface| interface.fast_path != Hook::Off);
        let kernel = published.as_ref().filter(|_| has_kernel).cloned();
        servers.push(TftpServer::new(socket, link, common.clone(), kernel));
    }
    let mut found = 0;
    for (key, slot, image) in adopted {
        if servers.iter_mut().any(|server| server.adopt(&key, slot, image)) {
            found += 1;
        } else {
            common.library.close(image.id);
        }
    }
    if found > 0 {
        info!("{found} TFTP transfers that an earlier daemon began go on");
    }
    Ok(servers)
}

/// Transfers in the kernel's tables that can go on; the others are taken out.
fn adopt(
    published: &Published,
    flights: &Mapping<boot_common::tftp::Flight>,
    library: &Library,
) -> Vec<(TransferKey, u32, Image)> {
    use crate::engine::tftp::Flights as _;
    let mut adopted = Vec::new();
    for (key, slot) in published.all() {
        let image = flights.all().get(slot as usize).and_then(|flight| {
            let shape = flight.shape();
            // The text of an OACK that nobody has acknowledged is lost; the client repeats its request.
            let begun = flight.state().acked > 0;
            let place = Place { chunk: shape.chunk, sums: shape.sums };
            begun.then(|| library.adopt(place, shape.size, shape.block_size)).flatten()
        });
        match image {
            Some(image) => adopted.push((key, slot, image)),
            None => drop(published.remove(&key)),
        }
    }
    adopted
}
