//! The two halves agree: whatever frame arrives, `respond` on the host, the XDP program and the TC program end
//! with the same [`Reason`], the same verdict, the same bytes, the same event.
//!
//! The tables are what the real engine puts in them for the configuration below; the frames are those of real
//! clients with random damage, most of them with lengths and checksums repaired so that the damage gets past
//! the first checks. `XPXE_AGREE_FRAMES` sets how many (default 20,000 per hook), `XPXE_AGREE_SEED` which ones.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use aya::programs::{ProgramError, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp};
use boot_common::frame::{Bytes, Copies, Frame};
use boot_common::memory::Memory;
use boot_common::respond::{Answered, respond};
use boot_common::scratch::Scratch;
use boot_common::tables::{Event, Hook, Host, HostKey};
use boot_common::{Mac, Reason};
use boot_engine::Engine;
use boot_engine::command::{Command, Incoming};
use boot_engine::config::{self, DhcpRole};
use boot_tests::engine as fixture;
use boot_tests::netns::Namespace;
use boot_tests::packet::{Client, Packet, fix_checksums, fix_lengths, foreign, tftp_read};
use boot_tests::random::{Random, number};
use boot_tests::sandbox::Sandbox;
use boot_userspace::fastpath::{Events, FastPath, Sizes, Temporary, load};
use boot_userspace::host::clock;

const CONFIG: &str = r#"
[[interface]]
name = "server"
dhcp = "server"
[[interface]]
name = "proxy"
dhcp = "proxy"
[[interface]]
name = "off"
dhcp = "off"
[[subnet]]
cidr = "10.77.0.0/24"
pool = ["10.77.0.100-10.77.0.199"]
router = "10.77.0.1"
dns = ["10.77.0.1", "10.77.0.2"]
domain = "rack.example"
lease = "1h"
[[profile]]
name = "linux"
kernel = "vmlinuz"
[default]
profile = "linux"
[[machine]]
mac = "52:54:00:77:00:01"
name = "leased-before"
ip = "10.77.0.11"
[[machine]]
mac = "52:54:00:77:00:02"
name = "never-leased"
ip = "10.77.0.12"
"#;

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const PROXY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);
const LEASED: Machine = Machine { mac: Mac([0x52, 0x54, 0, 0x77, 0, 1]), ip: Ipv4Addr::new(10, 77, 0, 11) };
const NEVER_LEASED: Machine =
    Machine { mac: Mac([0x52, 0x54, 0, 0x77, 0, 2]), ip: Ipv4Addr::new(10, 77, 0, 12) };
const POOLED: Machine = Machine { mac: Mac([0x52, 0x54, 0, 0x77, 0, 3]), ip: Ipv4Addr::new(10, 77, 0, 100) };
const UNKNOWN: Machine = Machine { mac: Mac([0x52, 0x54, 0, 0x77, 0, 4]), ip: Ipv4Addr::new(10, 77, 0, 150) };

const RASPBERRY_PI: Mac = Mac([0xb8, 0x27, 0xeb, 0, 0, 1]);

#[derive(Clone, Copy)]
struct Machine {
    mac: Mac,
    ip: Ipv4Addr,
}

#[test]
fn the_halves_agree_on_every_frame() -> Result<()> {
    let sandbox = Sandbox::enter()?;
    let pins = Temporary::new(&sandbox.pin_dir())?;
    let namespace = Namespace::new("agree")?;
    let ifindexes = interfaces(&namespace)?;
    let seed = number("XPXE_AGREE_SEED").unwrap_or(0x7870_7865);
    let frames = number("XPXE_AGREE_FRAMES").unwrap_or(20_000);
    // The kernel looks the contexts' interfaces up in the caller's namespace.
    namespace.run(|| Rig::new(pins.path(), ifindexes)?.compare(seed, frames))?.with_context(|| {
        format!("seed {seed}, {frames} frames: again with XPXE_AGREE_SEED={seed} XPXE_AGREE_FRAMES={frames}")
    })
}

/// Interfaces by what is configured for them.
#[derive(Clone, Copy)]
struct Interfaces {
    server: u32,
    proxy: u32,
    off: u32,
    unconfigured: u32,
}

fn interfaces(namespace: &Namespace) -> Result<Interfaces> {
    for (one, other) in [("server", "proxy"), ("off", "none")] {
        namespace.output("ip", &["link", "add", one, "type", "veth", "peer", "name", other])?;
    }
    let index = |name: &str| -> Result<u32> {
        let line = namespace.output("ip", &["-o", "link", "show", name])?;
        Ok(line.split(':').next().unwrap_or_default().parse()?)
    };
    Ok(Interfaces {
        server: index("server")?,
        proxy: index("proxy")?,
        off: index("off")?,
        unconfigured: index("none")?,
    })
}

/// What a half made of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outcome {
    reason: Reason,
    frame: Vec<u8>,
    event: Option<Event>,
}

/// Both halves with the same tables.
struct Rig {
    interfaces: Interfaces,
    tables: Memory,
    kernel: boot_userspace::fastpath::Tables,
    events: Events,
    ebpf: aya::Ebpf,
    /// Every counter as it has to stand.
    counted: BTreeMap<(&'static str, Reason), u64>,
}

impl Rig {
    fn new(pins: &Path, interfaces: Interfaces) -> Result<Self> {
        let (_, mut kernel, _) = FastPath::start(pins, false, Sizes::of(0))?;
        let events = kernel.take_events().context("the events were taken")?;
        let ebpf = load(pins, false, Sizes::of(0))?;
        let mut tables = Memory::default();
        let mut engine = engine(interfaces)?;
        lease(&mut engine, interfaces.server, LEASED)?;
        lease(&mut engine, interfaces.server, POOLED)?;
        for (ifindex, link) in engine.links() {
            tables.links.insert(ifindex, link);
            kernel.put_link(ifindex, &link)?;
        }
        for command in engine.take_commands() {
            match command {
                Command::PutHost(key, host) => {
                    // As if some machines were known by their switch ports.
                    let host = Host { port_decides: u8::from(key.mac == POOLED.mac), ..host };
                    tables.hosts.insert(key, host);
                    kernel.put_host(&key, &host)?;
                }
                Command::DeleteHost(key) => {
                    tables.hosts.remove(&key);
                    kernel.delete_host(&key)?;
                }
                Command::PutAnswer(key, answer) => {
                    tables.answers.insert(key, *answer);
                    kernel.put_answer(&key, &answer)?;
                }
                Command::Persist(_) | Command::Probe { .. } | Command::Send { .. } => {}
            }
        }
        ensure!(tables.links.len() == 3 && tables.hosts.len() == 3 && tables.answers.len() > 50);
        Ok(Self { interfaces, tables, kernel, events, ebpf, counted: BTreeMap::new() })
    }

    fn compare(mut self, seed: u64, frames: u64) -> Result<()> {
        let originals = originals();
        let mut random = Random(seed);
        let mut host_alone = 0;
        for number in 0..frames {
            let original = random.of(&originals);
            // One in eight as it was sent.
            let (frame, damage) = match random.below(8) {
                0 => (original.frame.clone(), Vec::new()),
                _ => damaged(&original.frame, &originals, &mut random),
            };
            let ifindex = self.interface(original.on, &mut random);
            for hook in Hook::KERNEL {
                let expected = match hook {
                    Hook::Xdp => self.host(Bytes(frame.clone()), ifindex, &mut random)?,
                    _ => self.host(
                        Copies { frame: Bytes(frame.clone()), sent: Vec::new() },
                        ifindex,
                        &mut random,
                    )?,
                };
                let what = || format!("frame {number}, \"{}\" {damage:?}, at {}", original.name, hook.name());
                let Some(found) = self.kernel(hook, &frame, ifindex, &expected).with_context(what)? else {
                    host_alone += 1;
                    continue;
                };
                if found != expected {
                    bail!("{}\nrequest {frame:02x?}\nhost   {expected:02x?}\nkernel {found:02x?}", what());
                }
                *self.counted.entry((hook.name(), expected.reason)).or_default() += 1;
            }
        }
        self.check_counters()?;
        self.check_spread(frames, host_alone)
    }

    fn interface(&self, on: On, random: &mut Random) -> u32 {
        let Interfaces { server, proxy, off, unconfigured } = self.interfaces;
        match (random.below(32), on) {
            (0, _) => off,
            (1, _) => unconfigured,
            (2, On::Server) | (_, On::Proxy) => proxy,
            (_, On::Server) => server,
        }
    }

    fn host<F: Frame + AsBytes>(&self, mut frame: F, ifindex: u32, random: &mut Random) -> Result<Outcome> {
        let before = frame.bytes().to_vec();
        // Left-overs of earlier frames must not matter, so there are always other ones.
        let mut scratch = Scratch::new();
        let fill = random.byte();
        zerocopy::IntoBytes::as_mut_bytes(&mut scratch).fill(fill);
        let now = u64::try_from(clock::boot().as_nanos())?;
        Ok(match respond(&mut frame, &mut scratch, &self.tables, ifindex, || now) {
            Ok(answered) => {
                let Answered { reason, .. } = answered;
                let event = answered.event(&scratch, Hook::Daemon, ifindex, 0);
                Outcome { reason, frame: frame.bytes().to_vec(), event: Some(event) }
            }
            Err(reason) => {
                ensure!(frame.bytes() == before, "{reason:?} changed the frame on the host");
                Outcome { reason, frame: before, event: None }
            }
        })
    }

    /// `None` when the kernel does not take such a frame for a test.
    fn kernel(
        &mut self,
        hook: Hook,
        frame: &[u8],
        ifindex: u32,
        expected: &Outcome,
    ) -> Result<Option<Outcome>> {
        let mut out = vec![0; 4096];
        let run = match hook {
            Hook::Xdp => self.run_xdp(frame, ifindex, &mut out),
            _ => self.run_tc(frame, ifindex, &mut out),
        };
        let result = match run {
            Ok(result) => result,
            // Shorter than the Ethernet, IPv4 or IPv6 header that it claims to begin with.
            Err(_) if frame.len() < 54 => {
                ensure!(expected.reason == Reason::NotOurs, "{expected:?}");
                return Ok(None);
            }
            Err(error) => return Err(error).context("BPF_PROG_TEST_RUN"),
        };
        out.truncate(usize::try_from(result.data_size_out)?);
        let event = self.events.next_now();
        if let Some(event) = &event {
            ensure!(event.hook == hook as u8, "an event of another hook: {event:?}");
            ensure!(self.events.next_now().is_none(), "two events for one packet");
        }
        let event = event.map(|event| Event { hook: Hook::Daemon as u8, at: 0, ..event });
        let reason = self.reason(hook, expected.reason)?;
        let verdict = Verdict::read(hook, result.return_value)?;
        ensure!(verdict == Verdict::of(reason, event.is_some()), "{verdict:?} after {reason:?}");
        Ok(Some(Outcome { reason, frame: out, event }))
    }

    fn run_xdp(&self, frame: &[u8], ifindex: u32, out: &mut [u8]) -> Result<TestRunResult, ProgramError> {
        let program: &Xdp = self.ebpf.program("xpxe_xdp").expect("loaded").try_into()?;
        // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
        let length = u32::try_from(frame.len()).expect("a frame");
        let context = [0, length, 0, ifindex, 0, 0].map(u32::to_ne_bytes).concat();
        program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })
    }

    fn run_tc(&self, frame: &[u8], ifindex: u32, out: &mut [u8]) -> Result<TestRunResult, ProgramError> {
        let program: &SchedClassifier = self.ebpf.program("xpxe_tc").expect("loaded").try_into()?;
        // struct __sk_buff: ten numbers before ifindex.
        let mut context = vec![0; 192];
        context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
        program.test_run(TestRunOptions {
            data_in: Some(frame),
            data_out: Some(out),
            ctx_in: Some(&context),
            ..TestRunOptions::default()
        })
    }

    /// Which counter has moved since all of them were as in `counted`; `guess` is looked at first.
    fn reason(&self, hook: Hook, guess: Reason) -> Result<Reason> {
        let moved = |reason: &Reason| -> Result<bool> {
            let before = self.counted.get(&(hook.name(), *reason)).copied().unwrap_or(0);
            Ok(self.kernel.counter(hook, *reason)? != before)
        };
        for reason in std::iter::once(&guess).chain(Reason::ALL) {
            if moved(reason)? {
                return Ok(*reason);
            }
        }
        bail!("no counter has moved")
    }

    /// Each packet moved one counter by one.
    fn check_counters(&self) -> Result<()> {
        for hook in Hook::KERNEL {
            for reason in Reason::ALL {
                let expected = self.counted.get(&(hook.name(), *reason)).copied().unwrap_or(0);
                let found = self.kernel.counter(hook, *reason)?;
                ensure!(found == expected, "{} {reason:?}: {found}, not {expected}", hook.name());
            }
        }
        Ok(())
    }

    /// The frames were a fair trial.
    fn check_spread(&self, frames: u64, host_alone: u64) -> Result<()> {
        for hook in Hook::KERNEL {
            let share = |reason| {
                let count = self.counted.get(&(hook.name(), reason)).copied().unwrap_or(0);
                100.0 * count as f64 / frames as f64
            };
            let met: Vec<String> = Reason::ALL
                .iter()
                .filter(|reason| share(**reason) > 0.0)
                .map(|reason| format!("{} {:.1} %", reason.name(), share(*reason)))
                .collect();
            println!("{}: {frames} frames, {} reasons: {}", hook.name(), met.len(), met.join(", "));
            for answered in [Reason::Offered, Reason::Acked, Reason::BootServer] {
                ensure!(share(answered) > 1.0, "only {:.2} % were {}", share(answered), answered.name());
            }
            ensure!(share(Reason::SwitchPort) > 0.0, "no machine was asked for its switch port");
            ensure!(met.len() >= 25, "only {} different reasons were met", met.len());
            for never in [Reason::NoTailRoom, Reason::StoreFailed] {
                ensure!(share(never) == 0.0, "{} happened, for which there was no reason", never.name());
            }
        }
        ensure!(host_alone * 20 < frames, "{host_alone} runs were refused by the kernel");
        println!("{host_alone} runs were too short a frame for the kernel");
        Ok(())
    }
}

/// What a program told the kernel to do.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Pass,
    Drop,
    SendBack,
}

impl Verdict {
    fn read(hook: Hook, value: u32) -> Result<Self> {
        // XDP_DROP, XDP_PASS, XDP_TX; TC_ACT_SHOT, TCX_NEXT, TC_ACT_REDIRECT.
        Ok(match (hook, value.cast_signed()) {
            (Hook::Xdp, 1) | (Hook::Tc, 2) => Self::Drop,
            (Hook::Xdp, 2) | (Hook::Tc, -1) => Self::Pass,
            (Hook::Xdp, 3) | (Hook::Tc, 7) => Self::SendBack,
            _ => bail!("verdict {value} at {}", hook.name()),
        })
    }

    fn of(reason: Reason, told: bool) -> Self {
        match reason {
            Reason::StoreFailed => Self::Drop,
            Reason::Offered | Reason::Acked | Reason::Informed | Reason::BootServer if told => Self::SendBack,
            _ => Self::Pass,
        }
    }
}

/// An engine as the daemon makes it, whose machines have every loader but one.
fn engine(interfaces: Interfaces) -> Result<Engine> {
    use boot_common::class::Firmware;

    let config = config::parse(CONFIG, "agree.toml")?;
    let port = |name: &str, ifindex: u32, last: u8, address: Ipv4Addr, role: DhcpRole| {
        fixture::port(name, ifindex, Mac([2, 0, 0, 0, 1, last]), &format!("{address}/24"), role)
    };
    let off = Ipv4Addr::new(10, 79, 0, 1);
    let ports = vec![
        port("server", interfaces.server, 1, SERVER, DhcpRole::Server)?,
        port("proxy", interfaces.proxy, 2, PROXY, DhcpRole::Proxy)?,
        port("off", interfaces.off, 3, off, DhcpRole::Off)?,
    ];
    let loader = |firmware| match firmware {
        Firmware::EfiArm64 => Err("none for arm64".to_owned()),
        firmware => Ok(format!("ipxe-{}.efi", firmware.name())),
    };
    Ok(fixture::engine(config, ports, loader, &[], fixture::now()))
}

/// Lets the engine give a machine its lease, so that the kernel may promise it again.
fn lease(engine: &mut Engine, ifindex: u32, machine: Machine) -> Result<()> {
    let discover = Client::Edk2Pxe.discover(machine.mac);
    let request = Client::Edk2Pxe.request(machine.mac, machine.ip, SERVER);
    // The operating systems' lists are what the engine prepares answers for when it first sees them.
    let systems = [Client::Dhclient, Client::Udhcpc].into_iter().flat_map(|client| {
        let Machine { mac, ip } = machine;
        [client.discover(mac), client.request(mac, ip, SERVER), client.inform(mac, ip, SERVER)]
    });
    for packet in [discover, request].into_iter().chain(systems) {
        let now = fixture::now();
        let incoming = Incoming {
            ifindex,
            port: 67,
            from: packet.source,
            to: *packet.destination.ip(),
            payload: &packet.payload(),
        };
        engine.handle(&incoming, now);
        // Nobody has the address.
        engine.probed(machine.mac, machine.ip, None, now);
    }
    let promised = engine.host_of(&HostKey::from(machine.mac)).map_or(0, |host| host.durable_until);
    ensure!(promised > 0, "the engine does not lease {}", machine.ip);
    Ok(())
}

/// Which interface a frame arrives on, mostly.
#[derive(Clone, Copy)]
enum On {
    Server,
    Proxy,
}

/// A frame as a client sent it.
struct Original {
    name: String,
    on: On,
    frame: Vec<u8>,
}

fn originals() -> Vec<Original> {
    let mut all = Vec::new();
    let mut add = |name: String, on: On, packet: &Packet| {
        all.push(Original { name, on, frame: packet.frame() });
    };
    let relay = Ipv4Addr::new(10, 77, 0, 254);
    let foreign_server = Ipv4Addr::new(10, 77, 0, 9);
    for client in Client::ALL {
        for (what, machine) in [("leased", LEASED), ("pooled", POOLED)] {
            let Machine { mac, ip } = machine;
            add(format!("{client:?} discover, {what}"), On::Server, &client.discover(mac));
            add(format!("{client:?} request, {what}"), On::Server, &client.request(mac, ip, SERVER));
            add(
                format!("{client:?} asks on 4011, {what}"),
                On::Server,
                &client.ask_boot_server(mac, ip, SERVER),
            );
        }
        let Machine { mac, ip } = LEASED;
        add(format!("{client:?} reboots"), On::Server, &client.reboot(mac, ip));
        add(format!("{client:?} renews"), On::Server, &client.renew(mac, ip, SERVER));
        add(format!("{client:?} informs"), On::Server, &client.inform(mac, ip, SERVER));
        add(format!("{client:?} relayed"), On::Server, &client.discover(mac).relayed(relay, SERVER));
        let elsewhere = Ipv4Addr::new(10, 79, 0, 254);
        add(
            format!("{client:?} relayed from elsewhere"),
            On::Server,
            &client.discover(mac).relayed(elsewhere, SERVER),
        );
        for (what, sub_options) in [
            ("link selection", &[5, 4, 10, 77, 0, 0][..]),
            ("another link selected", &[5, 4, 10, 79, 0, 0]),
            ("server override", &[1, 2, 7, 7, 11, 4, 10, 77, 0, 254]),
            ("source port", &[19, 0, 1, 2, 7, 7]),
            ("source port in the wrong form", &[1, 2, 7, 7, 19, 1, 0]),
            ("sub-options past the end", &[1, 2, 7, 7, 5, 9, 10]),
        ] {
            let mut packet = client.discover(mac).relayed(relay, SERVER);
            packet.options.retain(|(code, _)| *code != 82);
            packet.source.set_port(40_067);
            add(format!("{client:?} relayed, {what}"), On::Server, &packet.clone().with(82, sub_options));
            let mut packet = client.request(mac, ip, relay).relayed(relay, SERVER);
            packet.options.retain(|(code, _)| *code != 82);
            add(format!("{client:?} request relayed, {what}"), On::Server, &packet.with(82, sub_options));
        }
        add(format!("{client:?} chose another"), On::Server, &client.request(mac, ip, foreign_server));
        add(format!("{client:?} wants another"), On::Server, &client.request(mac, UNKNOWN.ip, SERVER));
        let pooled = client.discover(POOLED.mac).relayed(relay, SERVER);
        add(format!("{client:?} relayed, port decides"), On::Server, &pooled);
        let Machine { mac, ip } = NEVER_LEASED;
        add(format!("{client:?} discover, not durable"), On::Server, &client.discover(mac));
        add(format!("{client:?} request, not durable"), On::Server, &client.request(mac, ip, SERVER));
        let Machine { mac, ip } = UNKNOWN;
        add(format!("{client:?} discover, unknown"), On::Server, &client.discover(mac));
        let behind_proxy = Ipv4Addr::from(u32::from(ip) + (1 << 16));
        add(format!("{client:?} discover, proxy"), On::Proxy, &client.discover(mac));
        add(
            format!("{client:?} request, proxy"),
            On::Proxy,
            &client.request(mac, behind_proxy, foreign_server),
        );
        add(
            format!("{client:?} asks on 4011, proxy"),
            On::Proxy,
            &client.ask_boot_server(mac, behind_proxy, PROXY),
        );
    }
    let with_arch = |mac: Mac, vendor: &[u8], arch: u16| {
        let mut packet = Client::Edk2Pxe.discover(mac);
        packet.options.retain(|(code, _)| !matches!(code, 60 | 93));
        packet.with(60, vendor).with(93, &arch.to_be_bytes())
    };
    for arch in (0..45).chain([99, 0x1000]) {
        add(format!("PXE {arch}"), On::Server, &with_arch(LEASED.mac, b"PXEClient", arch));
    }
    for arch in [0, 7, 20, 24, 41, 99] {
        add(format!("HTTP {arch}"), On::Server, &with_arch(LEASED.mac, b"HTTPClient", arch));
        add(format!("Raspberry Pi {arch}"), On::Proxy, &with_arch(RASPBERRY_PI, b"PXEClient", arch));
    }
    let mut nameless = Client::Edk2Pxe.discover(LEASED.mac);
    nameless.options.retain(|(code, _)| *code != 55);
    add("no list".to_owned(), On::Server, &nameless);
    add("a list without the name".to_owned(), On::Server, &nameless.with(55, &[1, 3, 66, 67]));
    let Machine { mac, ip } = LEASED;
    let big = Client::IpxeEfi.discover(mac).with(57, &[2, 64]);
    add("big identifiers".to_owned(), On::Server, &big.clone().with(82, &[7; 250]));
    let mut long_identifier = Client::Dhclient.discover(mac).with(61, &[9; 255]);
    add("long client identifier".to_owned(), On::Server, &long_identifier);
    long_identifier.options.insert(1, (57, vec![5, 220]));
    add("long client identifier, large packets".to_owned(), On::Server, &long_identifier);
    for (name, frame) in [("TFTP", tftp_read(mac, ip, SERVER, "snponly.efi")), ("foreign", foreign(mac))] {
        all.push(Original { name: name.to_owned(), on: On::Server, frame });
    }
    all
}

/// A frame on the host, as bytes.
trait AsBytes {
    fn bytes(&self) -> &[u8];
}

impl AsBytes for Bytes {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl AsBytes for Copies {
    fn bytes(&self) -> &[u8] {
        &self.frame.0
    }
}

/// One way to damage a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Damage {
    Bytes,
    OptionBytes,
    Field,
    Truncate,
    Pad,
    ManyPads,
    ManyOptions,
    Lengths,
    Shuffle,
    Duplicate,
    Delete,
    Insert,
    Graft,
    /// Lengths were made right again.
    FixLengths,
    /// Checksums were made right again.
    FixChecksums,
    /// The UDP checksum was left to an offload.
    Unfinished,
}

const DAMAGES: [Damage; 13] = [
    Damage::Bytes,
    Damage::OptionBytes,
    Damage::Field,
    Damage::Truncate,
    Damage::Pad,
    Damage::ManyPads,
    Damage::ManyOptions,
    Damage::Lengths,
    Damage::Shuffle,
    Damage::Duplicate,
    Damage::Delete,
    Damage::Insert,
    Damage::Graft,
];

/// By how much a frame may grow: BPF_PROG_TEST_RUN takes what one page holds, twice what a cable carries.
fn room(frame: &[u8]) -> usize {
    3000_usize.saturating_sub(frame.len())
}

/// Offset of the options in a frame.
const OPTIONS: usize = 282;

fn damaged(original: &[u8], all: &[Original], random: &mut Random) -> (Vec<u8>, Vec<Damage>) {
    let mut frame = original.to_vec();
    let mut done = Vec::new();
    for _ in 0..=random.below(3) {
        let damage = *random.of(&DAMAGES);
        damage.apply(&mut frame, all, random);
        done.push(damage);
    }
    let lied: BTreeSet<Damage> = done.iter().copied().collect();
    // A lie about lengths, or padding behind the packet, is the point of some damages.
    let about_lengths = lied.contains(&Damage::Lengths) || lied.contains(&Damage::Pad);
    if random.below(10) < if about_lengths { 3 } else { 9 } {
        fix_lengths(&mut frame);
        done.push(Damage::FixLengths);
    }
    if random.below(10) < 9 {
        fix_checksums(&mut frame);
        done.push(Damage::FixChecksums);
        if random.below(8) == 0 && frame.len() >= 42 {
            let length = u16::from_be_bytes([frame[38], frame[39]]);
            let word = |at: usize| frame[at..at + 4].try_into().unwrap_or_default();
            let pseudo = boot_common::wire::Sum::pseudo(word(26), word(30), length).folded();
            frame[40..42].copy_from_slice(&pseudo.to_be_bytes());
            done.push(Damage::Unfinished);
        }
    }
    (frame, done)
}

impl Damage {
    fn apply(self, frame: &mut Vec<u8>, all: &[Original], random: &mut Random) {
        match self {
            Self::Bytes => change(frame, 0, random),
            Self::OptionBytes => change(frame, OPTIONS, random),
            Self::Field => field(frame, random),
            Self::Truncate => {
                let from = if random.below(4) == 0 { 0 } else { OPTIONS.min(frame.len()) };
                frame.truncate(from + random.below(frame.len() - from + 1));
            }
            Self::Pad => {
                let most = if random.below(8) == 0 { 2000 } else { 120 };
                let length = (frame.len() + random.below(most)).min(3000);
                frame.resize(length, random.byte());
            }
            Self::ManyPads => {
                let pads = random.below(1100).min(room(frame));
                insert(frame, &vec![0; pads], random);
            }
            Self::ManyOptions => {
                let options = random.below(500).min(room(frame) / 2);
                insert(frame, &[224, 0].repeat(options), random);
            }
            Self::Lengths => {
                let at = *random.of(&[16, 38]);
                if let Some(bytes) = frame.get_mut(at..at + 2) {
                    let length = i64::from(u16::from_be_bytes([bytes[0], bytes[1]]));
                    let other =
                        *random.of(&[length - 1, length + 1, length - 20, length + 8, 0, 7, 28, 1500, 65535]);
                    bytes.copy_from_slice(&u16::try_from(other.clamp(0, 65535)).unwrap_or(0).to_be_bytes());
                }
            }
            Self::Shuffle => with_options(frame, |options| {
                for last in (1..options.len()).rev() {
                    options.swap(last, random.below(last + 1));
                }
            }),
            Self::Duplicate => with_options(frame, |options| {
                let copy = options.get(random.below(options.len())).cloned();
                let at = random.below(options.len() + 1);
                options.splice(at..at, copy);
            }),
            Self::Delete => with_options(frame, |options| {
                let at = random.below(options.len());
                options.splice(at..(at + 1).min(options.len()), None);
            }),
            Self::Insert => {
                let code = *random.of(&[12, 43, 50, 52, 53, 54, 57, 60, 61, 77, 82, 93, 97, 116, 175, 224]);
                let most = if random.below(6) == 0 { 256 } else { 20 };
                let data: Vec<u8> = (0..random.below(most)).map(|_| random.byte() & 0x1f).collect();
                let length = u8::try_from(data.len()).unwrap_or(0);
                insert(frame, &[&[code, length][..], &data].concat(), random);
            }
            // Another client's option among these.
            Self::Graft => {
                let (_, others) = split_options(&random.of(all).frame);
                if !others.is_empty() {
                    let option = random.of(&others).clone();
                    insert(frame, &option, random);
                }
            }
            Self::FixLengths | Self::FixChecksums | Self::Unfinished => {}
        }
    }
}

/// Changes one to eight bytes from `from` on.
fn change(frame: &mut [u8], from: usize, random: &mut Random) {
    let Some(bytes) = frame.get_mut(from..).filter(|bytes| !bytes.is_empty()) else { return };
    for _ in 0..=random.below(8) {
        let at = random.below(bytes.len());
        bytes[at] = match random.below(4) {
            0 => bytes[at] ^ (1 << random.below(8)),
            1 => *random.of(&[0, 1, 4, 6, 52, 82, 255]),
            2 => bytes[at].wrapping_add(1),
            _ => random.byte(),
        };
    }
}

/// Gives a header field a value that means something.
fn field(frame: &mut [u8], random: &mut Random) {
    const FIELDS: [(usize, &[u8]); 24] = [
        (0, &[2, 0, 0, 0, 1, 1]),
        (0, &[0x33, 0x33, 0, 0, 0, 1]),
        (6, &[1, 0, 0, 0, 0, 0]),
        (12, &[0x81, 0]),
        (12, &[0x86, 0xdd]),
        (14, &[0x46]),
        (14, &[0x65]),
        (20, &[0x20, 0]),
        (20, &[0x40, 0]),
        (20, &[0, 9]),
        (23, &[6]),
        (26, &[127, 0, 0, 1]),
        (26, &[10, 77, 0, 11]),
        (30, &[10, 77, 0, 1]),
        (30, &[10, 77, 0, 99]),
        (36, &[0, 67]),
        (36, &[0x0f, 0xab]),
        (34, &[0, 0]),
        (40, &[0, 0]),
        (42, &[2]),
        (44, &[16]),
        (52, &[0x80, 0]),
        (54, &[10, 77, 0, 11]),
        (66, &[10, 77, 0, 254]),
    ];
    let (at, value) = *random.of(&FIELDS);
    if let Some(bytes) = frame.get_mut(at..at + value.len()) {
        bytes.copy_from_slice(value);
    }
}

/// The frame up to its options, and the options up to END, each whole.
fn split_options(frame: &[u8]) -> (usize, Vec<Vec<u8>>) {
    let mut options = Vec::new();
    let mut at = OPTIONS;
    while let Some([code, length]) = frame.get(at..at + 2)
        && *code != 255
    {
        let next = if *code == 0 { at + 1 } else { at + 2 + usize::from(*length) };
        let Some(option) = frame.get(at..next) else { break };
        options.push(option.to_vec());
        at = next;
    }
    (at, options)
}

fn with_options(frame: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let (end, mut options) = split_options(frame);
    if end <= OPTIONS || frame.len() < OPTIONS {
        return;
    }
    change(&mut options);
    let rest = frame.split_off(end);
    frame.truncate(OPTIONS);
    frame.extend(options.concat());
    frame.extend(rest);
}

fn insert(frame: &mut Vec<u8>, option: &[u8], random: &mut Random) {
    with_options(frame, |options| {
        let at = random.below(options.len() + 1);
        options.insert(at, option.to_vec());
    });
}
