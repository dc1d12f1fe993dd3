//! SIGKILL in a storm (requirement S11): what a client was told in an ACK is in the store when xpxe is back, and no
//! address is ever held by two clients; ACKs by the kernel half while no daemon runs count like all others.
//!
//! `XPXE_KILLS` says how often it is killed (default 10), `XPXE_SEED` repeats a run's decisions.

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, Mac, Reply, Wire, broadcast};
use boot_tests::rack::{Rack, SUBNET};
use boot_tests::random::{Random, number};
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::settings::Settings;
use boot_userspace::store::{Lease, LeaseState, Store};
use dhcproto::v4::{DhcpOption, Message, MessageType, OptionCode};

/// More machines than addresses, so that what is given back is given to others.
const MACHINES: u16 = 320;
const POOL: &str = "10.77.1.1-10.77.1.250";
/// Shorter leases than in the field (the least there may be): so that promises run out within a run.
const LEASE: &str = "60s";
const RETRY: Duration = Duration::from_millis(250);
/// How many machines ask at the same time.
const AT_ONCE: usize = 64;

#[test]
fn no_acknowledged_lease_is_lost_or_given_twice_by_kills() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let kills = number("XPXE_KILLS").unwrap_or(10);
    let seed = number("XPXE_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("XPXE_KILLS={kills} XPXE_SEED={seed}");
    let mut random = Random(seed);

    let sandbox = Sandbox::enter()?;
    let rack = Rack::build(&sandbox)?;
    // On a disk: a commit in memory takes no time in which to be killed.
    let state = tempfile::tempdir()?;
    let config = |fast_path| -> Result<String> {
        let text = Settings { fast_path, ..Settings::default() }.write(&sandbox, &rack)?;
        let in_memory = format!("{:?}", rack.dir().join("state"));
        Ok(text
            .replace(&in_memory, &format!("{:?}", state.path()))
            .replace(SUBNET, "10.77.0.0/16")
            .replace("10.77.0.100-10.77.0.199", POOL)
            .replace("lease = \"10m\"", &format!("lease = \"{LEASE}\"\nprobe = false")))
    };
    let station = rack.client("storm", "02:77:00:00:00:f0")?;
    let wire = Wire::open(&station, "eth0")?;
    let storm = Storm::new(!seed);
    let ended = AtomicBool::new(false);

    std::thread::scope(|scope| {
        let clients = scope.spawn(|| storm.run(&wire, &ended));
        let result = kill_often(&rack, &config, state.path(), kills, &mut random, &storm);
        ended.store(true, Ordering::Relaxed);
        let storm_result = clients.join().map_err(|_| anyhow::anyhow!("the clients panicked"))?;
        result.and(storm_result)
    })?;

    let books = storm.books();
    println!("{kills} kills: {}", books.figures);
    ensure!(books.wrongs.is_empty(), "{} wrongs: {:#?}", books.wrongs.len(), first(&books.wrongs));
    ensure!(books.figures.acks > 50 * kills, "hardly a storm: {}", books.figures);
    ensure!(books.figures.acks_without_daemon > 0, "the kernel half acknowledged nothing");
    Ok(())
}

/// The kills, and after each the comparison of what the clients have with what is stored.
fn kill_often(
    rack: &Rack,
    config: &impl Fn(&'static str) -> Result<String>,
    state: &Path,
    kills: u64,
    random: &mut Random,
    storm: &Storm,
) -> Result<()> {
    let mut xpxe = Xpxe::start(rack, &config("xdp")?, &[])?;
    for kill in 0..kills {
        storm.daemon_runs(true);
        std::thread::sleep(pause(random, 900));
        xpxe.kill9()?;
        storm.daemon_runs(false);
        // Long enough for whole exchanges with the kernel half.
        std::thread::sleep(pause(random, 150));
        xpxe.write_config(&config(if kill % 2 == 0 { "off" } else { "xdp" })?)?;
        xpxe.start_again()?;
        if random.below(5) == 0 {
            // Also while it starts.
            std::thread::sleep(pause(random, 120));
            xpxe.kill9()?;
            xpxe.start_again()?;
            storm.books().figures.kills_while_starting += 1;
        }
        xpxe.wait_until_ready().with_context(|| xpxe.last_lines(20))?;
        storm.compare(stored(state), &format!("after kill {}", kill + 1));
        storm.compare(stored(state), &format!("after kill {}, again", kill + 1));
    }
    storm.daemon_runs(true);
    std::thread::sleep(Duration::from_secs(1));
    xpxe.stop()
}

fn stored(state: &Path) -> impl FnOnce() -> Result<Vec<Lease>> {
    let state = state.to_owned();
    move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = Store::open(&state).await?;
            let leases = store.leases().await?;
            store.close().await;
            Ok(leases)
        })
    }
}

/// Less than so many milliseconds.
fn pause(random: &mut Random, end: usize) -> Duration {
    Duration::from_millis(random.below(end) as u64)
}

fn first(wrongs: &[String]) -> &[String] {
    &wrongs[..wrongs.len().min(20)]
}

/// What a client may do for as long as it likes: an ACK's lease, counted from when it asked (RFC 2131 section 4.4.1).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Held {
    address: Ipv4Addr,
    until: SystemTime,
    without_daemon: bool,
}

/// Machines that ask, and the books about what they were told.
struct Storm {
    books: Mutex<Books>,
    seed: u64,
}

#[derive(Default)]
struct Books {
    held: BTreeMap<Mac, Held>,
    holders: HashMap<Ipv4Addr, Mac>,
    wrongs: Vec<String>,
    figures: Figures,
    daemon_runs: bool,
}

#[derive(Default)]
struct Figures {
    offers: u64,
    acks: u64,
    acks_without_daemon: u64,
    naks: u64,
    released: u64,
    moved: u64,
    compared: u64,
    kills_while_starting: u64,
    /// How much less than an ACK's lease was stored, at worst, in milliseconds.
    worst_missing: u128,
}

impl std::fmt::Display for Figures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { offers, acks, acks_without_daemon, naks, released, moved, compared, .. } = self;
        write!(
            f,
            "{} more while starting, {offers} offers, {acks} ACKs ({acks_without_daemon} while no daemon ran), {naks} \
             NAKs, {released} releases, {moved} addresses went to another machine, {compared} leases compared with \
             the store, at worst {} ms missing there",
            self.kills_while_starting, self.worst_missing
        )
    }
}

/// Where a machine is.
enum Phase {
    Rests { until: Instant },
    Asks { message: Message, asked: SystemTime, again: Instant, tries: u8, selecting: Option<Ipv4Addr> },
}

struct Machine {
    client: Client,
    phase: Phase,
    /// Address and lease as it believes to have them.
    lease: Option<(Ipv4Addr, SystemTime)>,
}

impl Storm {
    fn new(seed: u64) -> Self {
        Self { books: Mutex::default(), seed }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn daemon_runs(&self, runs: bool) {
        self.books().daemon_runs = runs;
    }

    /// What clients held before the store was read and still hold after, in the very same way, is in it.
    fn compare(&self, read: impl FnOnce() -> Result<Vec<Lease>>, when: &str) {
        let before = self.books().held.clone();
        let leases = read();
        let mut books = self.books();
        let leases: BTreeMap<Mac, Lease> = match leases {
            Ok(leases) => leases.into_iter().map(|lease| (lease.mac.0, lease)).collect(),
            Err(failure) => return books.wrongs.push(format!("{when}: the store cannot be read: {failure}")),
        };
        let now = SystemTime::now();
        for (mac, held) in before {
            if books.held.get(&mac) != Some(&held) || held.until <= now {
                continue;
            }
            books.figures.compared += 1;
            let lease = leases.get(&mac);
            let fits =
                lease.filter(|lease| lease.address == held.address && lease.state == LeaseState::Leased);
            let expires = fits.map(|lease| UNIX_EPOCH + Duration::from_secs(lease.expires.unsigned_abs()));
            let missing = expires.map(|expires| held.until.duration_since(expires).unwrap_or_default());
            if let Some(missing) = missing {
                books.figures.worst_missing = books.figures.worst_missing.max(missing.as_millis());
            }
            if missing != Some(Duration::ZERO) {
                let mac = boot_common::Mac(mac);
                books.wrongs.push(format!("{when}: {mac} was promised {held:?}, and stored is {lease:?}"));
            }
        }
    }

    fn run(&self, wire: &Wire, ended: &AtomicBool) -> Result<()> {
        let mut random = Random(self.seed);
        let mut machines: HashMap<Mac, Machine> = (0..MACHINES)
            .map(|number| {
                let [high, low] = number.to_be_bytes();
                let mac = [0x02, 0x5a, 0, 0, high, low];
                let until = Instant::now() + pause(&mut random, 1000);
                (mac, Machine { client: Client::new(mac), phase: Phase::Rests { until }, lease: None })
            })
            .collect();
        while !ended.load(Ordering::Relaxed) {
            let now = Instant::now();
            let mut asking =
                machines.values().filter(|machine| matches!(machine.phase, Phase::Asks { .. })).count();
            for machine in machines.values_mut() {
                match &mut machine.phase {
                    Phase::Rests { until } if *until <= now && asking < AT_ONCE => {
                        asking += 1;
                        self.begin(machine, wire, &mut random)?;
                    }
                    Phase::Asks { message, again, tries, .. } if *again <= now => {
                        // There is not an address for everybody.
                        let hopeless =
                            message.opts().msg_type() == Some(MessageType::Discover) && *tries == 2;
                        if hopeless || *tries == 8 {
                            let until = now + pause(&mut random, 3000);
                            machine.phase = Phase::Rests { until };
                        } else {
                            *tries += 1;
                            *again = now + RETRY;
                            wire.send(&broadcast(message)?)?;
                        }
                    }
                    _ => {}
                }
            }
            for _ in 0..AT_ONCE {
                let Some(reply) = wire.hear(Duration::from_millis(2), Reply::parse)? else { break };
                let mac: Option<Mac> = reply.message.chaddr().get(..6).and_then(|mac| mac.try_into().ok());
                if let Some(machine) = mac.and_then(|mac| machines.get_mut(&mac)) {
                    self.answered(machine, &reply, wire, &mut random)?;
                }
            }
        }
        Ok(())
    }

    /// A machine does what machines do.
    fn begin(&self, machine: &mut Machine, wire: &Wire, random: &mut Random) -> Result<()> {
        machine.lease = machine.lease.filter(|(_, until)| *until > SystemTime::now());
        let message = match (machine.lease, random.below(100)) {
            (Some((address, _)), 0..45) => {
                let mut message = machine.client.message();
                message.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
                message.set_ciaddr(address);
                message
            }
            (Some((address, _)), 45..65) => {
                let mut message = machine.client.message();
                message.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
                message.opts_mut().insert(DhcpOption::RequestedIpAddress(address));
                message
            }
            (Some((address, _)), 65..75) => {
                let mut message = machine.client.message();
                message.opts_mut().insert(DhcpOption::MessageType(MessageType::Release));
                message.set_ciaddr(address);
                self.gave_back(machine.client.mac());
                wire.send(&broadcast(&message)?)?;
                machine.lease = None;
                let until = Instant::now() + Duration::from_secs(1) + pause(random, 1000);
                machine.phase = Phase::Rests { until };
                return Ok(());
            }
            _ => machine.client.discover(),
        };
        Self::ask(machine, message, None, wire)
    }

    fn ask(machine: &mut Machine, message: Message, selecting: Option<Ipv4Addr>, wire: &Wire) -> Result<()> {
        wire.send(&broadcast(&message)?)?;
        let (asked, again) = (SystemTime::now(), Instant::now() + RETRY);
        machine.phase = Phase::Asks { message, asked, again, tries: 0, selecting };
        Ok(())
    }

    fn answered(&self, machine: &mut Machine, reply: &Reply, wire: &Wire, random: &mut Random) -> Result<()> {
        let Phase::Asks { message, asked, selecting, .. } = &machine.phase else { return Ok(()) };
        if message.xid() != reply.message.xid() {
            return Ok(());
        }
        let (asked, selecting) = (*asked, *selecting);
        let discovering = message.opts().msg_type() == Some(MessageType::Discover);
        let mac = boot_common::Mac(machine.client.mac());
        let valid = machine.lease.filter(|(_, until)| *until > SystemTime::now());
        match reply.kind() {
            Some(MessageType::Offer) if discovering => {
                let mut books = self.books();
                books.figures.offers += 1;
                if let Some((address, _)) = valid
                    && address != reply.address()
                {
                    books.wrongs.push(format!("{mac} has {address} and is offered {}", reply.address()));
                }
                drop(books);
                let request = machine.client.request(reply);
                Self::ask(machine, request, Some(reply.address()), wire)?;
            }
            Some(MessageType::Ack) if !discovering => {
                let lease = match reply.message.opts().get(OptionCode::AddressLeaseTime) {
                    Some(DhcpOption::AddressLeaseTime(lease)) => Duration::from_secs((*lease).into()),
                    _ => anyhow::bail!("an ACK without a lease: {reply:?}"),
                };
                ensure!(reply.checksums_are_right, "{reply:?}");
                self.acknowledged(machine.client.mac(), reply.address(), asked + lease);
                machine.lease = Some((reply.address(), asked + lease));
                // Most come back soon; some are switched off for longer than their lease.
                let rest = if random.below(1000) < 2 { Duration::from_secs(70) } else { pause(random, 250) };
                machine.phase = Phase::Rests { until: Instant::now() + rest };
            }
            Some(MessageType::Nak) => {
                let mut books = self.books();
                books.figures.naks += 1;
                // A mere offer may be lost by a kill, a lease may not.
                if let Some((address, _)) = valid
                    && selecting.is_none_or(|selected| selected == address)
                {
                    books.wrongs.push(format!("{mac} has {address} and is refused: {selecting:?}"));
                }
                drop(books);
                self.gave_back(machine.client.mac());
                machine.lease = None;
                machine.phase = Phase::Rests { until: Instant::now() };
            }
            _ => {}
        }
        Ok(())
    }

    fn acknowledged(&self, mac: Mac, address: Ipv4Addr, until: SystemTime) {
        let mut books = self.books();
        books.figures.acks += 1;
        let without_daemon = !books.daemon_runs;
        books.figures.acks_without_daemon += u64::from(without_daemon);
        if let Some(old) = books.held.insert(mac, Held { address, until, without_daemon })
            && old.address != address
        {
            books.holders.remove(&old.address);
        }
        if let Some(other) = books.holders.insert(address, mac)
            && other != mac
        {
            books.figures.moved += 1;
            if let Some(theirs) = books.held.get(&other).copied()
                && theirs.address == address
                && theirs.until > SystemTime::now()
            {
                let [mac, other] = [mac, other].map(boot_common::Mac);
                books.wrongs.push(format!("{mac} is given {address}, which {other} still has: {theirs:?}"));
            }
        }
    }

    fn gave_back(&self, mac: Mac) {
        let mut books = self.books();
        books.figures.released += 1;
        books.held.remove(&mac);
    }
}
