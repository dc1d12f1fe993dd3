//! Puts TFTP together: memory for images and transfers, what an earlier daemon left of them, a server per interface.
//!
//! Transfers that the kernel half knows stand in its tables, the others in a file: so both survive the daemon.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use boot_common::tftp::{Flight, MAX_FLIGHTS, NAME, TransferKey};
use tracing::{debug, info, warn};

use crate::fastpath::{Published, Sizes, Transfers};
use crate::files::{BootFiles, OpenError};
use crate::host::clock;
use crate::host::link::Link;
use crate::host::mapping::Mapping;
use crate::host::size::human_size;
use crate::io::image_cache::{ImageCache, fingerprint};
use crate::io::udp::BindError;
use boot_engine::config::{Config, FastPath as Hook};
use boot_engine::events::Events;
use boot_engine::machines::Machines;
use boot_engine::tftp::{Flights, Image, Mode, Place, Slots};

use super::adopted::{Lost, name_of};
use super::clients::Clients;
use super::{Common, TftpServer, Writer, bind};

/// A transfer that stood still for longer is over: its client has given up.
const RECENT: Duration = Duration::from_secs(30);

type Adopted = (TransferKey, u32, Image);

/// What the kernel half has of transfers.
#[derive(Default)]
pub struct InKernel {
    /// The tables of programs that run.
    pub live: Option<Transfers>,
    /// What is left of programs that do not any more.
    pub left: Option<Transfers>,
}

/// What all servers share, and the transfers that go on.
pub struct Prepared {
    common: Common,
    published: Option<Arc<Published>>,
    adopted: Vec<Adopted>,
    lost: Vec<Lost>,
}

/// Does what takes time: reads the files of transfers that go on.
///
/// # Errors
/// When there is no memory for what servers share, or the file with the daemon's own transfers cannot be used.
pub fn prepare(
    config: &Config,
    files: Arc<BootFiles>,
    machines: Machines,
    events: Events,
    writer: Writer,
    kernel: InKernel,
) -> Result<Prepared> {
    let path = config.state_dir.join("transfers");
    let own = Arc::new(daemons_own(&path, kernel.live.is_some())?);

    let sizes = Sizes::of(config.fast_path_memory);
    let mut left = None;
    let (published, flights, images, sums) = match (kernel.live, kernel.left) {
        (Some(Transfers { published, flights, images, sums }), _) => {
            (Some(Arc::new(published)), Arc::new(flights), images, sums)
        }
        (None, Some(Transfers { published, flights, images, sums })) => {
            left = Some((published, flights));
            (None, Arc::clone(&own), images, sums)
        }
        (None, None) => {
            let (images, sums) = (Mapping::own(sizes.chunks as usize), Mapping::own(sizes.sums as usize));
            (None, Arc::clone(&own), images?, sums?)
        }
    };
    let images = ImageCache::new(images, sums);
    let mut lost = Vec::new();
    let mut adopted = standing_in(&flights, published.as_deref(), &files, &images, &mut lost);
    let taken: HashSet<u32> = adopted.iter().map(|(_, slot, _)| *slot).collect();
    let slots = Slots::new(flights, |slot| taken.contains(&slot));
    let mut move_from = |flights: &Mapping<Flight>, published: Option<&Published>| {
        for (key, slot, image) in standing_in(flights, published, &files, &images, &mut lost) {
            let new = flights.all().get(slot as usize).and_then(|flight| move_to(flight, &slots, image));
            adopted.extend(new.map(|slot| (key, slot, image)));
        }
    };
    if let Some((published, flights)) = left {
        move_from(&flights, Some(&published));
    }
    if published.is_some() {
        move_from(&own, None);
        drop(own);
        fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
    }

    let common = Common {
        files,
        machines,
        events,
        images: Arc::new(images),
        slots,
        window: config.tftp.windowsize,
        single_port: config.tftp.single_port,
        clients: Clients::of(config),
        writer,
    };
    Ok(Prepared { common, published, adopted, lost })
}

impl Prepared {
    /// Who gets files.
    #[must_use]
    pub fn clients(&self) -> Clients {
        self.common.clients.clone()
    }

    /// Opens port 69 of the interfaces. What arrives from now on waits for [`TftpServer::run`].
    ///
    /// # Errors
    /// When a port cannot be had; one sentence that says what to do.
    pub fn open(self, config: &Config, links: &[Link]) -> Result<Vec<TftpServer>, BindError> {
        let Self { common, published, adopted, lost } = self;
        let mut servers = Vec::new();
        for link in links {
            let interface = config.interfaces.iter().find(|interface| interface.name == link.name);
            let has_kernel = interface.is_some_and(|interface| interface.fast_path != Hook::Off);
            let kernel = published.as_ref().filter(|_| has_kernel).cloned();
            servers.push(TftpServer::new(bind(link)?, link.clone(), common.clone(), kernel));
        }
        let mut found = 0;
        for (key, slot, image) in adopted {
            if servers.iter_mut().any(|server| server.adopt(&key, slot, image)) {
                found += 1;
            } else {
                // Its interface is not served any more, or its client is not one of port 69.
                if let Some(published) = &published {
                    drop(published.remove(&key).inspect_err(|error| debug!(%error, "an earlier transfer")));
                }
                common.slots.give_back(slot, clock::boot());
                common.images.close(image.id);
            }
        }
        for lost in lost {
            if let Some(server) = servers.iter_mut().find(|server| server.has(&lost.key)) {
                server.lose(lost);
            }
        }
        if found > 0 {
            info!("continuing {found} TFTP transfers of an earlier daemon");
        }
        Ok(servers)
    }
}

/// Memory for the transfers of a daemon alone: in a file, where there is room for one. `passing` if it is only read.
fn daemons_own(path: &Path, passing: bool) -> Result<Mapping<Flight>> {
    let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
    let file = file.with_context(|| format!("opening {}", path.display()))?;
    let count = MAX_FLIGHTS as usize;
    match Mapping::of_file(&file, count) {
        Ok(mapping) => return Ok(mapping),
        Err(error) if passing => debug!(%error, "transfers of an earlier daemon"),
        Err(error) => {
            let (size, path) = (human_size((count * size_of::<Flight>()) as u64), path.display());
            let remedy = match error.kind() {
                io::ErrorKind::Unsupported => {
                    format!("set state_dir to a directory of another one than {path} is on")
                }
                _ => format!("make room for {size} on the disk of {path} and restart it"),
            };
            warn!("TFTP transfers will not outlive this daemon: {error}; {remedy}");
        }
    }
    Ok(Mapping::own(count)?)
}

/// All transfers in this memory that can go on, where they stand. Those that were not published are of files that did
/// not fit into the kernel's memory, or there was no kernel half. Those whose clients wait in vain are `lost`.
fn standing_in(
    flights: &Mapping<Flight>,
    published: Option<&Published>,
    files: &BootFiles,
    images: &ImageCache,
    lost: &mut Vec<Lost>,
) -> Vec<Adopted> {
    let mut adopted = published.map_or_else(Vec::new, |published| adopt(published, flights, images));
    let known: HashSet<u32> = adopted.iter().map(|(_, slot, _)| *slot).collect();
    adopted.extend(reopened(flights, &known, files, images, clock::boot(), lost));
    adopted
}

/// Transfers in the kernel's tables that can go on; the others are taken out.
fn adopt(published: &Published, flights: &Mapping<Flight>, images: &ImageCache) -> Vec<Adopted> {
    let mut adopted = Vec::new();
    for (key, slot) in published.all() {
        let image = flights.all().get(slot as usize).and_then(|flight| {
            let shape = flight.shape();
            let place = Place { chunk: shape.chunk, sums: shape.sums };
            can_go_on(flight, clock::boot())
                .then(|| images.adopt(place, shape.size, shape.block_size))
                .flatten()
        });
        match image {
            Some(image) => adopted.push((key, slot, image)),
            None => drop(published.remove(&key).inspect_err(|error| debug!(%error, "an earlier transfer"))),
        }
    }
    adopted
}

/// Whether there is a client that waits, or a transfer that only has to be told of as finished.
///
/// A client that has the OACK repeats its acknowledgement of it and never its request, so it waits even if no daemon has
/// heard that acknowledgement.
fn can_go_on(flight: &Flight, now: Duration) -> bool {
    let acked = flight.state().acked;
    // The kernel half goes on meanwhile, so the stamp may be later than `now`.
    let lately = now.saturating_sub(Duration::from_nanos(flight.progressed.get())) < RECENT;
    // A daemon that is killed may have ended a transfer and not yet taken it out of the kernel's table.
    (lately && flight.key().is_some()) || (acked > 0 && acked == flight.shape().last)
}

/// Transfers that no kernel half answers and that can go on: the clients wait still, and the boot files are what they
/// were. The others are ended, and are `lost` if somebody waits for them.
fn reopened(
    flights: &Mapping<Flight>,
    known: &HashSet<u32>,
    files: &BootFiles,
    images: &ImageCache,
    now: Duration,
    lost: &mut Vec<Lost>,
) -> Vec<Adopted> {
    let mut adopted = Vec::new();
    for (flight, slot) in flights.all().iter().zip(0..).filter(|(_, slot)| !known.contains(slot)) {
        let Some(key) = flight.key() else { continue };
        let progressed = Duration::from_nanos(flight.progressed.get());
        // After a reboot the stamps are of another clock.
        let waits = progressed <= now && now < progressed + RECENT;
        match waits.then(|| reopen(flight, files, images)) {
            Some(Ok(image)) => {
                begin_again(flight, flight, &key, image);
                adopted.push((key, slot, image));
            }
            Some(Err(why)) => {
                lost.extend(Lost::of(flight, key, why));
                flight.end();
            }
            None => flight.end(),
        }
    }
    adopted
}

/// The file of a transfer once more, or why not, for the log and for the client.
fn reopen(flight: &Flight, files: &BootFiles, images: &ImageCache) -> Result<Image, &'static str> {
    if flight.has_own_port() {
        // From port 69, whoever has not heard of the other port could have blocks sent to somebody else.
        return Err("xpxe was restarted, and the port of this transfer went with it");
    }
    let content = flight.content.get();
    if content == 0 {
        return Err("xpxe was restarted, and the text was written for this transfer only");
    }
    let name = name_of(flight);
    let file = files.open(&name).map_err(|error| {
        debug!(%error, file = name, "an earlier transfer");
        match error {
            OpenError::NotFound { .. } if name.len() >= NAME => {
                "xpxe was restarted, and the file's name was too long to be kept"
            }
            OpenError::NotFound { .. } => "xpxe was restarted, and the file is gone",
            _ => "xpxe was restarted, and the file cannot be opened",
        }
    })?;
    let mut modes = [Mode::Octet, Mode::Netascii].into_iter();
    let mode = modes.find(|mode| fingerprint(&(file.version(), *mode)) == content);
    let mode = mode.ok_or("xpxe was restarted, and the file has changed meanwhile")?;
    images.fetch(file, mode, flight.shape().block_size).map_err(|error| {
        debug!(%error, file = name, "an earlier transfer");
        "xpxe was restarted, and the file cannot be read"
    })
}

/// Makes a transfer that a daemon alone began one that the kernel half may know.
fn move_to(before: &Flight, slots: &Slots, image: Image) -> Option<u32> {
    let key = before.key()?;
    let slot = slots.take_for_adoption()?;
    begin_again(before, slots.flight(slot)?, &key, image);
    Some(slot)
}

/// The same transfer with its image where that is now.
fn begin_again(before: &Flight, flight: &Flight, key: &TransferKey, image: Image) {
    let (state, mut shape, name) = (before.state(), before.shape(), name_of(before));
    // Both may be the same flight.
    let kept = Flight::default();
    kept.inherit(before);
    let progressed = before.progressed.get();
    (shape.chunk, shape.sums) = image.place.map_or((0, 0), |place| (place.chunk, place.sums));
    flight.begin(key, &shape, state, &name, progressed);
    flight.inherit(&kept);
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use boot_common::tftp::{Shape, State};

    use super::*;

    #[test]
    fn only_transfers_that_somebody_waits_for_go_on() {
        let key =
            TransferKey { client: [10, 9, 0, 2], local: [10, 9, 0, 1], ifindex: 2, port: 2000, reserved: 0 };
        let shape = Shape { size: 5000, block_size: 1432, window: 1, last: 5, chunk: 0, sums: 0 };
        let progressed = Duration::from_secs(100);
        let flight = Flight::default();
        for (acked, later, goes_on) in
            [(2, 0, true), (2, 29, true), (2, 30, false), (0, 29, true), (0, 30, false), (5, 3000, true)]
        {
            let state = State { sent: 5, acked };
            flight.begin(&key, &shape, state, "f", progressed.as_nanos().try_into().unwrap());
            let now = progressed + Duration::from_secs(later);
            assert_eq!(can_go_on(&flight, now), goes_on, "{acked} acknowledged, {later} s later");
        }
        flight.begin(&key, &shape, State { sent: 5, acked: 4 }, "f", 101_000_000_000);
        assert!(can_go_on(&flight, progressed), "it went on while the clock was read");
        flight.end();
        assert!(!can_go_on(&flight, progressed), "it has ended");
    }

    #[test]
    fn transfers_of_a_daemon_alone_go_on_if_they_stood_still_for_less_than_half_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), vec![7; 5000]).unwrap();
        let files = BootFiles::new(dir.path().to_path_buf(), BTreeMap::new());
        let images = ImageCache::new(Mapping::own(1).unwrap(), Mapping::own(1).unwrap());
        let content = fingerprint(&(files.open("f").unwrap().version(), Mode::Octet));
        let shape = Shape { size: 5000, block_size: 1432, window: 1, last: 5, chunk: 0, sums: 0 };
        let now = Duration::from_secs(10_000);
        let ages = [0, 29, 30, 3000];
        let flights = Mapping::<Flight>::own(8).unwrap();
        for (flight, (port, age)) in flights.all().iter().zip((2000..).zip(ages)) {
            let key =
                TransferKey { client: [10, 9, 0, 2], local: [10, 9, 0, 1], ifindex: 2, port, reserved: 0 };
            let progressed = (now - Duration::from_secs(age)).as_nanos().try_into().unwrap();
            flight.begin(&key, &shape, State { sent: 3, acked: 2 }, "f", progressed);
            flight.content.set(content);
        }
        // Of another clock, as after a reboot; of a file that has changed; that nobody has acknowledged the OACK of.
        let all = flights.all();
        let (moving, begun) = (State { sent: 3, acked: 2 }, State { sent: 1, acked: 0 });
        for (slot, later, content, state) in
            [(4, 1, content, moving), (5, 0, content ^ 1, moving), (6, 0, content, begun)]
        {
            let key = all[0].key().unwrap();
            let stamp = (now + Duration::from_secs(later)).as_nanos().try_into().unwrap();
            all[slot].begin(&key, &shape, state, "f", stamp);
            all[slot].content.set(content);
        }
        let mut lost = Vec::new();
        let adopted = reopened(&flights, &HashSet::new(), &files, &images, now, &mut lost);
        assert_eq!(
            adopted.iter().map(|(key, slot, _)| (key.port, *slot)).collect::<Vec<_>>(),
            [(2000, 0), (2001, 1), (2000, 6)]
        );
        assert_eq!([0, 1, 6].map(|slot| all[slot].state()), [moving, moving, begun], "where they stood");
        assert!([2, 3, 4, 5, 7].iter().all(|slot| all[*slot].key().is_none()), "the others are over");
        let why = "xpxe was restarted, and the file has changed meanwhile";
        assert_eq!(lost.iter().map(|lost| (lost.why, lost.hears)).collect::<Vec<_>>(), [(why, true)]);
    }

    #[test]
    fn what_cannot_go_on_has_a_reason_and_is_told_to_clients_that_hear_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "line\n".repeat(1000)).unwrap();
        let files = BootFiles::new(dir.path().to_path_buf(), BTreeMap::new());
        let images = ImageCache::new(Mapping::own(1).unwrap(), Mapping::own(1).unwrap());
        let version = files.open("f").unwrap().version();
        let [octet, netascii] = [Mode::Octet, Mode::Netascii].map(|mode| fingerprint(&(version, mode)));
        let (now, long) = (Duration::from_secs(10_000), "x".repeat(200));
        let rows = [
            ("f", octet, 2, false, None),
            ("f", netascii, 2, false, None),
            ("f", octet, 2, true, Some(("went with it", false))),
            ("f", octet, 0, true, Some(("went with it", false))),
            ("gone", octet, 2, false, Some(("is gone", true))),
            ("gone", octet, 0, false, Some(("is gone", false))),
            (long.as_str(), octet, 2, false, Some(("too long", true))),
            ("grub.cfg", 0, 2, false, Some(("written for this transfer", true))),
            ("f", octet ^ 2, 1, false, Some(("has changed", true))),
            ("gone", octet, 5, false, None),
        ];
        let flights = Mapping::<Flight>::own(rows.len()).unwrap();
        let shape = Shape { size: 5000, block_size: 1432, window: 1, last: 5, chunk: 0, sums: 0 };
        for (flight, (port, (name, content, acked, own, _))) in flights.all().iter().zip((0_u16..).zip(rows))
        {
            let key =
                TransferKey { client: [10, 9, 0, 2], local: [10, 9, 0, 1], ifindex: 2, port, reserved: 0 };
            let stamp = now.as_nanos().try_into().unwrap();
            flight.begin(&key, &shape, State { sent: acked + 1, acked }, name, stamp);
            flight.content.set(content);
            if own {
                flight.set_own_port();
            }
        }
        let mut lost = Vec::new();
        let adopted = reopened(&flights, &HashSet::new(), &files, &images, now, &mut lost);
        assert_eq!(
            adopted.iter().map(|(_, slot, image)| (*slot, image.size)).collect::<Vec<_>>(),
            [(0, 5000), (1, 6000)]
        );
        assert!(flights.all()[2..].iter().all(|flight| flight.key().is_none()), "they are over");
        let told: Vec<_> = lost.iter().map(|lost| (lost.key.port, lost.why, lost.hears)).collect();
        let expected = (0_u16..).zip(rows).filter_map(|(port, row)| Some((port, row.4?)));
        for ((port, why, hears), (of, (part, heard))) in told.iter().zip(expected.clone()) {
            assert_eq!((*port, *hears), (of, heard), "{why}");
            assert!(why.contains(part) && why.len() < 100, "{why}");
        }
        assert_eq!(told.len(), expected.count());
    }

    #[test]
    fn without_room_on_the_disk_transfers_are_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("transfers");
        assert_eq!(daemons_own(&path, false).unwrap().count(), MAX_FLIGHTS as usize);
        assert!(fs::metadata(&path).unwrap().len() > 0);
        fs::remove_file(&path).unwrap();
        // Opens for writing as a file does, and has no length.
        std::os::unix::fs::symlink("/dev/full", &path).unwrap();
        let own = daemons_own(&path, false).unwrap();
        assert_eq!(own.all().iter().filter(|flight| flight.key().is_some()).count(), 0);
        assert_eq!(own.count(), MAX_FLIGHTS as usize);
    }
}
