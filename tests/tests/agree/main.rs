//! The two halves agree: whatever frame arrives, `respond` on the host, the XDP program and the TC program end
//! with the same [`Reason`], the same verdict, the same bytes, the same event.
//!
//! The tables are what the real engine puts in them for the configuration below; the frames are those of real
//! clients with random damage, most of them with lengths and checksums repaired so that the damage gets past
//! the first checks. `XPXE_AGREE_FRAMES` sets how many (default 20,000 per hook), `XPXE_AGREE_SEED` which ones.

mod damage;

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
use boot_engine::lifecycle::State;
use boot_engine::machines::Life;
use boot_tests::engine as fixture;
use boot_tests::netns::Namespace;
use boot_tests::packet::{Client, Packet, fix_checksums, fix_lengths, foreign, tftp_read};
use boot_tests::random::{Random, number};
use boot_tests::sandbox::Sandbox;
use boot_userspace::fastpath::{Events, FastPath, Sizes, Temporary, load};
use boot_userspace::host::clock;
use damage::{damaged, originals};

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

/// Of the registry, and to be ignored.
const IGNORED: Machine = Machine { mac: Mac([0x52, 0x54, 0, 0x77, 0, 5]), ip: Ipv4Addr::new(10, 77, 0, 151) };

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
        ignore(&mut engine, IGNORED)?;
        for (ifindex, link) in engine.link_entries() {
            tables.links.insert(ifindex, link);
            kernel.put_link(ifindex, &link)?;
        }
        for command in engine.take_commands() {
            match command {
                Command::PutHost(key, host) => {
                    // As if some machines were known by their switch ports.
                    let host = Host { port_decides: u8::from(key.mac == POOLED.mac), ..host };
                    tables.hosts.insert(key, host);
                }
                Command::DeleteHost(key) => {
                    tables.hosts.remove(&key);
                    kernel.delete_host(&key)?;
                }
                Command::PutAnswer(key, answer) => {
                    tables.answers.insert(key, *answer);
                    kernel.put_answer(&key, &answer)?;
                }
                Command::DeleteAnswer(_)
                | Command::Persist(_)
                | Command::Probe { .. }
                | Command::Send { .. } => {}
            }
        }
        let (keys, hosts): (Vec<HostKey>, Vec<Host>) =
            tables.hosts.iter().map(|(key, host)| (*key, *host)).unzip();
        let mut refused = Vec::new();
        kernel.put_hosts(&keys, &hosts, |failure| refused.push(failure));
        ensure!(refused.is_empty(), "{refused:?}");
        ensure!(tables.links.len() == 3 && tables.hosts.len() == 4 && tables.answers.len() > 50);
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
            ensure!(share(Reason::Ignored) > 0.0, "no machine was ignored");
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
            Reason::StoreFailed | Reason::Ignored => Self::Drop,
            Reason::Offered | Reason::Acked | Reason::Informed | Reason::BootServer if told => Self::SendBack,
            _ => Self::Pass,
        }
    }
}

/// An engine as the daemon makes it, whose machines have every loader but one.
fn engine(interfaces: Interfaces) -> Result<Engine> {
    use boot_common::class::Firmware;

    let config = config::parse(CONFIG, "agree.toml")?;
    let link = |name: &str, ifindex: u32, last: u8, address: Ipv4Addr, role: DhcpRole| {
        fixture::served_link(name, ifindex, Mac([2, 0, 0, 0, 1, last]), &format!("{address}/24"), role)
    };
    let off = Ipv4Addr::new(10, 79, 0, 1);
    let links = vec![
        link("server", interfaces.server, 1, SERVER, DhcpRole::Server)?,
        link("proxy", interfaces.proxy, 2, PROXY, DhcpRole::Proxy)?,
        link("off", interfaces.off, 3, off, DhcpRole::Off)?,
    ];
    let loader = |firmware| match firmware {
        Firmware::EfiArm64 => Err("none for arm64".to_owned()),
        firmware => Ok(format!("ipxe-{}.efi", firmware.name())),
    };
    fixture::engine(config, links, loader, &[], fixture::now())
}

/// Has the registry ignore a machine.
fn ignore(engine: &mut Engine, machine: Machine) -> Result<()> {
    let life = Life {
        record: 1,
        state: State::Ignored,
        says: "a test".into(),
        is_written: false,
        since: 0,
        is_overdue: false,
        run: 0,
        is_unserved: false,
        is_chosen: true,
        heard: 0,
    };
    let ignored = config::Machine { macs: vec![machine.mac], ..config::Machine::default() };
    engine.put_machine(None, ignored.into(), life, fixture::now())?;
    Ok(())
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
