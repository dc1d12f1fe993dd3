//! A rack whose server has files to fetch by TFTP, and whose switch loses packets on request.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::daemon::{Event, Xpxe};
use crate::machine::{Firmware, Hardware, Machine};
use crate::netns::Process;
use crate::rack::{Rack, Station};
use crate::random::Random;
use crate::sandbox::{Sandbox, root_or_skip};
use crate::settings::{Settings, boot_dir};
use crate::tftp_capture::Fetches;
use crate::tftp_client::{Caller, Padding, introduce};

/// The fast paths to test: the daemon alone, the kernel half in TC, the kernel half in XDP and TC.
pub const FAST_PATHS: [&str; 3] = ["off", "tc", "xdp"];
/// The MAC of the station of the [`Caller`]s.
pub const CALLERS_CARD: &str = "02:77:00:00:00:c0";

/// The addresses of [`Caller`]s: 10.77.0.16 to 10.77.0.99 and 10.77.0.200 to 10.77.0.253, outside of the pool.
pub fn callers_addresses() -> impl Iterator<Item = Ipv4Addr> + Clone {
    (16..=99).chain(200..=253).map(|host| Ipv4Addr::new(10, 77, 0, host))
}

/// The rack, its configuration, and a station for callers.
pub struct TftpRack {
    /// The rack.
    pub rack: Rack,
    /// The station of the callers.
    pub callers: Station,
    settings: Settings,
    sandbox: Sandbox,
}

impl TftpRack {
    /// `None` without root.
    pub fn build(fast_path: &'static str) -> Result<Option<Self>> {
        Self::build_with(Settings { fast_path, ..Settings::default() })
    }

    /// A rack with more settings than the fast path.
    pub fn build_with(settings: Settings) -> Result<Option<Self>> {
        if !root_or_skip() {
            return Ok(None);
        }
        let sandbox = Sandbox::enter()?;
        let rack = Rack::build(&sandbox)?;
        // Otherwise the daemon's UDP checksums would be left to a card that does not exist, and could not be checked.
        rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
        let callers = rack.client("callers", CALLERS_CARD)?;
        introduce(&rack, callers_addresses(), CALLERS_CARD)?;
        Ok(Some(Self { rack, callers, settings, sandbox }))
    }

    /// For machines that fetch files of 100 MiB: `tables` are theirs in the configuration. The directories are there.
    pub fn build_for(fast_path: &'static str, tables: String) -> Result<Option<Self>> {
        let settings = Settings { fast_path, fast_path_memory: "256M", more: tables, ..Settings::default() };
        let place = Self::build_with(settings)?;
        place.iter().try_for_each(|place| place.config(fast_path).map(drop))?;
        Ok(place)
    }

    /// Presses a machine's power button.
    pub fn power_on(&self, plan: &Plan) -> Result<Machine> {
        self.power_on_at(self.rack.tap()?, plan)
    }

    /// Begins to record the frames at a machine's switch port, then presses its power button. The recording ends when the
    /// process is dropped.
    pub fn power_on_recorded(&self, plan: &Plan) -> Result<(Machine, Fetches, Process)> {
        let (tap, file) = (self.rack.tap()?, self.rack.dir().join(format!("{}.pcap", plan.name())));
        let tcpdump = self.rack.capture(&tap, &file)?;
        let fetches = Fetches::follow(&file, plan.address())?;
        Ok((self.power_on_at(tap, plan)?, fetches, tcpdump))
    }

    fn power_on_at(&self, tap: String, plan: &Plan) -> Result<Machine> {
        let Plan { firmware, memory, .. } = *plan;
        let (name, mac) = (plan.name(), plan.mac());
        Machine::power_on_at(&self.rack, tap, &Hardware { name: &name, mac: &mac, firmware, memory })
    }

    /// Starts xpxe.
    pub fn serve(&self) -> Result<Xpxe<'_>> {
        Xpxe::start(&self.rack, &self.config(self.settings.fast_path)?, &[])
    }

    /// The configuration with another fast path.
    pub fn config(&self, fast_path: &'static str) -> Result<String> {
        Settings { fast_path, ..self.settings.clone() }.write(&self.sandbox, &self.rack)
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> PathBuf {
        boot_dir(&self.rack).join(name)
    }

    /// Makes a file of random bytes and returns the bytes.
    pub fn file(&self, name: &str, size: usize) -> Result<Vec<u8>> {
        let bytes = random_bytes(name, size);
        let path = self.path(name);
        fs::create_dir_all(path.parent().context("a file has a directory")?)?;
        fs::write(&path, &bytes).with_context(|| format!("write {}", path.display()))?;
        Ok(bytes)
    }

    /// The caller number `number`: another address and another port for each.
    pub fn caller(&self, number: u16, padding: Padding) -> Result<Caller> {
        Caller::open(&self.callers, caller_address(number), padding)
    }

    /// Loses this percentage of TFTP's packets in each direction, until the next call.
    pub fn lose(&self, percent: u32) -> Result<()> {
        let random = format!("numgen random mod 100 < {percent} counter name lost drop");
        self.switch_rules(&[&format!("udp dport 69 {random}"), &format!("udp sport 69 {random}")])
    }

    /// Loses the first packet that each of these nftables expressions matches.
    pub fn lose_first(&self, which: &[&str]) -> Result<()> {
        let rule = |which: &&str| format!("{which} numgen inc mod 1000000000 < 1 counter name lost drop");
        let rules: Vec<String> = which.iter().map(rule).collect();
        self.switch_rules(&rules.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The packets that the switch saw and lost since then.
    pub fn seen(&self) -> Result<Seen> {
        let list =
            self.rack.namespace.output("nft", &["-j", "list", "counters", "table", "bridge", "faults"])?;
        let list: Value = serde_json::from_str(&list)?;
        let count = |name: &str| {
            let counters = list["nftables"].as_array().into_iter().flatten().map(|entry| &entry["counter"]);
            let found = counters.into_iter().find(|counter| counter["name"] == name);
            found
                .and_then(|counter| counter["packets"].as_u64())
                .with_context(|| format!("no counter {name}: {list}"))
        };
        Ok(Seen { packets: count("seen")?, lost: count("lost")? })
    }

    fn switch_rules(&self, rules: &[&str]) -> Result<()> {
        let file = self.rack.dir().join("faults.nft");
        let text = format!(
            "table bridge faults\ndelete table bridge faults\ntable bridge faults {{\n\
             counter seen {{ }}\ncounter lost {{ }}\n\
             chain forward {{\ntype filter hook forward priority 0;\n\
             udp dport 69 counter name seen\nudp sport 69 counter name seen\n{}\n}}\n}}\n",
            rules.join("\n")
        );
        fs::write(&file, text)?;
        self.rack.namespace.output("nft", &["-f", &file.display().to_string()]).map(drop)
    }
}

/// A machine to power on, whose address is reserved.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Its firmware.
    pub firmware: Firmware,
    /// The last byte of its IP and MAC addresses: 2 to 15, because [`Caller`]s have the others.
    pub host: u8,
    /// Memory in MB.
    pub memory: u32,
}

impl Plan {
    /// A machine with the memory that its firmware needs.
    pub const fn new(firmware: Firmware, host: u8) -> Self {
        Self { firmware, host, memory: firmware.memory() }
    }

    /// Its name.
    pub fn name(&self) -> String {
        format!("machine-{}", self.host)
    }

    /// Its reserved address.
    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.host)
    }

    /// Its MAC.
    pub fn mac(&self) -> String {
        format!("52:54:00:77:00:{:02x}", self.host)
    }

    /// Its table in the configuration, with one more line.
    pub fn table(&self, line: &str) -> String {
        let (mac, name, address) = (self.mac(), self.name(), self.address());
        format!("\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{address}\"\n{line}\n")
    }

    /// Its tables if iPXE gets a script instead of a kernel, and fetches everything after it by TFTP.
    pub fn scripted(&self) -> String {
        let (name, script) = (self.name(), self.script());
        let profile = format!("\n[[profile]]\nname = \"{name}\"\nkernel = \"{script}\"\n");
        profile + &self.table(&format!("profile = \"{name}\""))
    }

    /// That script's path.
    pub fn script(&self) -> String {
        format!("{}/script.ipxe", self.name())
    }

    /// Waits until the log says that the machine has a file.
    pub fn wait_until_sent(&self, xpxe: &Xpxe<'_>, file: &str, within: Duration) -> Result<Event> {
        let (what, client) = (format!("{file} sent to {}", self.address()), format!("{}:", self.address()));
        xpxe.wait_for_event(&what, within, |event| {
            event.field("client").starts_with(&client)
                && event.field("file") == file
                && event.message().starts_with("sent ")
        })
    }
}

/// Packets at the switch.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// TFTP packets of both directions, the lost ones too.
    pub packets: u64,
    /// The lost ones.
    pub lost: u64,
}

/// Checks the sender of a file, by the log line of its end: if the kernel half is on, it sends most of a large file.
pub fn ensure_sent_by(fast_path: &str, sent: &Event) -> Result<()> {
    let field = |name| sent.field(name).parse::<u64>().with_context(|| format!("{name}: {:?}", sent.json));
    let (blocks, by_kernel) = (field("blocks")?, field("by_xdp")? + field("by_tc")?);
    let right = if fast_path == "off" { by_kernel == 0 } else { blocks < 100 || by_kernel * 2 > blocks };
    ensure!(right, "{by_kernel} blocks of {blocks} came from the kernel half: {:?}", sent.json);
    Ok(())
}

/// The address and port of caller number `number`; no two of 30,000 share a port.
pub fn caller_address(number: u16) -> SocketAddrV4 {
    let addresses = callers_addresses();
    let count = addresses.clone().count();
    let address = addresses.into_iter().nth(usize::from(number) % count).unwrap_or(Ipv4Addr::UNSPECIFIED);
    SocketAddrV4::new(address, 2000 + number)
}

/// Pseudorandom bytes, the same for the same name.
pub fn random_bytes(name: &str, size: usize) -> Vec<u8> {
    let seed =
        name.bytes().fold(size as u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    let mut random = Random(seed);
    let mut bytes: Vec<u8> = Vec::with_capacity(size + 4);
    while bytes.len() < size {
        bytes.extend([(); 4].map(|()| random.byte()));
    }
    bytes.truncate(size);
    bytes
}

/// Checks that two contents are the same; the error has the first difference.
pub fn same(got: &[u8], expected: &[u8]) -> Result<()> {
    let differs = got.iter().zip(expected).position(|(got, expected)| got != expected);
    ensure!(differs.is_none(), "the content differs from byte {}", differs.unwrap_or_default());
    ensure!(got.len() == expected.len(), "{} bytes arrived of {}", got.len(), expected.len());
    Ok(())
}

/// Runs a test with every fast path at once, each on a thread, and so in a sandbox, of its own.
pub fn each_fast_path(test: impl Fn(&'static str) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let running = FAST_PATHS.map(|fast_path| {
            (
                fast_path,
                scope.spawn({
                    let test = &test;
                    move || test(fast_path)
                }),
            )
        });
        for (fast_path, thread) in running {
            let result = thread.join().unwrap_or_else(|panic| resume_unwind(panic));
            result.with_context(|| format!("fast_path = {fast_path:?}"))?;
        }
        Ok(())
    })
}
