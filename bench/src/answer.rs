//! What one answer costs, on the host and at each hook, with few machines and with many.
//!
//! Every request comes from another machine, so that the caches are as they are in a storm. In the kernel an
//! answer replaces its request, so BPF_PROG_TEST_RUN's own repetition would time something else from the second
//! round on: each request is run once, and the kernel's run-time statistics say what the program took. What
//! taking those statistics costs is measured with a foreign frame, which no program changes, and subtracted.

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use aya::Ebpf;
use aya::programs::{ProgramInfo, SchedClassifier, TestRun, TestRunOptions, TestRunResult, Xdp};
use aya::sys::{Stats, enable_stats};
use boot_common::class::{Class, Firmware};
use boot_common::frame::Bytes;
use boot_common::memory::Memory;
use boot_common::respond::respond;
use boot_common::scratch::Scratch;
use boot_common::tables::{Hook, Host};
use boot_common::{Mac, Reason};
use boot_engine::command::Command;
use boot_engine::config::{self, DhcpRole};
use boot_tests::engine::{engine, now, served_link};
use boot_tests::packet::{Client, foreign};
use boot_tests::sandbox::Sandbox;
use boot_userspace::fastpath::{FastPath, Sizes, Temporary, load};

const CONFIG: &str = r#"
[[interface]]
name = "bench"
[[subnet]]
cidr = "10.0.0.0/8"
pool = ["10.255.0.1-10.255.0.9"]
router = "10.0.0.1"
dns = ["10.0.0.1"]
domain = "rack.example"
[[machine]]
mac = "52:54:00:00:00:00"
name = "rack1-node1"
ip = "10.1.0.0"
"#;

/// `lo`: what the kernel takes for the interface of a test packet unless told another.
const IFINDEX: u32 = 1;
const FEW: u32 = 10;
const MANY: u32 = 100_000;
/// Requests to send in turn.
const DIFFERENT: u32 = 5_000;
/// Requests of one measurement.
const REQUESTS: u32 = 60_000;
/// Measurements, of which the median counts.
const ROUNDS: usize = 5;
/// Repetitions of a frame that comes out as it went in.
const REPEAT: u32 = 2_000_000;

/// Measures, and prints what was measured.
pub(crate) fn run() -> Result<()> {
    println!(
        "answers to DISCOVER, ns each (median of {ROUNDS} times {REQUESTS}, every request from another machine)\n"
    );
    println!("{:<22} {:>12} {:>14}   ratio", "", "10 machines", "100,000");
    let few = Bench::new(FEW)?;
    let many = Bench::new(MANY)?;
    for client in [Client::Edk2Pxe, Client::IpxeBios, Client::Dhclient] {
        row(&format!("host   {client:?}"), few.on_host(client)?, many.on_host(client)?);
    }
    if !is_root()? {
        println!("\nThe kernel half can be measured by root only: run this as root, or `cargo xtask bench`.");
        return Ok(());
    }
    let sandbox = Sandbox::enter()?;
    let mut few = Kernel::new(&sandbox, few)?;
    let mut many = Kernel::new(&sandbox, many)?;
    for hook in Hook::KERNEL {
        for client in [Client::Edk2Pxe, Client::IpxeBios, Client::Dhclient] {
            let name = format!("{:<6} {client:?}", hook.name());
            row(&name, few.answering(hook, client)?, many.answering(hook, client)?);
        }
    }
    println!("\npassing a foreign frame on, ns (mean of {REPEAT}) and what the statistics add to it:\n");
    for hook in Hook::KERNEL {
        let (passing, statistics) = many.passing(hook)?;
        println!("{:<22} {passing:>12.1} {statistics:>+14.1}", hook.name());
    }
    Ok(())
}

fn row(name: &str, few: f64, many: f64) {
    println!("{name:<22} {few:>12.0} {many:>14.0} {:>7.2}", many / few);
}

/// From the process's status, so that no further dependency is needed.
fn is_root() -> Result<bool> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let user = status.lines().find_map(|line| line.strip_prefix("Uid:")).context("no Uid")?;
    Ok(user.split_whitespace().nth(1) == Some("0"))
}

/// Tables as the engine fills them, with one machine multiplied.
struct Bench(Memory);

impl Bench {
    fn new(machines: u32) -> Result<Self> {
        let config = config::parse(CONFIG, "bench.toml")?;
        let link = served_link("bench", IFINDEX, Mac([2, 0, 0, 0, 0, 1]), "10.0.0.1/8", DhcpRole::Server)?;
        let loader = |firmware: Firmware| Ok(format!("ipxe-{}.efi", firmware.name()));
        let mut engine = engine(config, vec![link], loader, &[], now())?;
        let mut bench = Memory { links: engine.link_entries().collect(), ..Memory::default() };
        for command in engine.take_commands() {
            match command {
                Command::PutAnswer(key, answer) => {
                    bench.answers.insert(key, *answer);
                }
                Command::PutHost(_, host) => {
                    for number in 0..machines {
                        let address = Ipv4Addr::from(0x0a01_0000 + number).octets();
                        bench.hosts.insert(mac(number).into(), Host { address, ..host });
                    }
                }
                _ => {}
            }
        }
        ensure!(
            bench.hosts.len() == usize::try_from(machines)? && bench.answers.len() > Class::all().count()
        );
        Ok(Self(bench))
    }

    /// DISCOVERs of machines all over the table.
    fn requests(&self, client: Client) -> Result<Vec<Vec<u8>>> {
        let machines = u32::try_from(self.0.hosts.len())?;
        // 48,271 and the numbers of machines have no common divisor.
        let number = |turn: u32| u64::from(turn) * 48_271 % u64::from(machines);
        (0..DIFFERENT.min(machines))
            .map(|turn| Ok(client.discover(mac(u32::try_from(number(turn))?)).frame()))
            .collect()
    }

    fn on_host(&self, client: Client) -> Result<f64> {
        let requests = self.requests(client)?;
        let mut scratch = Scratch::new();
        let mut frame = Bytes(Vec::with_capacity(2048));
        median(|| {
            // Copying the request in is counted: a socket would do it too.
            let start = Instant::now();
            for request in requests.iter().cycle().take(usize::try_from(REQUESTS)?) {
                frame.0.clear();
                frame.0.extend_from_slice(request);
                let answered = black_box(respond(&mut frame, &mut scratch, &self.0, IFINDEX, || 0));
                ensure!(answered.is_ok_and(|answered| answered.reason == Reason::Offered));
            }
            Ok(nanoseconds(start.elapsed()) / f64::from(REQUESTS))
        })
    }
}

fn mac(number: u32) -> Mac {
    let [_, a, b, c] = number.to_be_bytes();
    Mac([0x52, 0x54, 0, a, b, c])
}

/// The kernel half with the tables of a [`Bench`].
struct Kernel {
    bench: Bench,
    ebpf: Ebpf,
    tables: boot_userspace::fastpath::Tables,
    _pins: Temporary,
}

impl Kernel {
    fn new(sandbox: &Sandbox, bench: Bench) -> Result<Self> {
        let pins = Temporary::new(&sandbox.pin_dir())?;
        let (_, mut tables, _) = FastPath::start(pins.path(), false, Sizes::of(0))?;
        for (ifindex, link) in &bench.0.links {
            tables.put_link(*ifindex, link)?;
        }
        for (key, host) in &bench.0.hosts {
            tables.put_host(key, host)?;
        }
        for (key, answer) in &bench.0.answers {
            tables.put_answer(key, answer)?;
        }
        Ok(Self { bench, ebpf: load(pins.path(), false, Sizes::of(0))?, tables, _pins: pins })
    }

    fn answering(&mut self, hook: Hook, client: Client) -> Result<f64> {
        let requests = self.bench.requests(client)?;
        let (_, statistics) = self.passing(hook)?;
        let _on = enable_stats(Stats::RunTime)?;
        let answered = self.tables.counter(hook, Reason::Offered)?;
        let spent = median(|| {
            let before = self.info(hook)?;
            for request in requests.iter().cycle().take(usize::try_from(REQUESTS)?) {
                self.run(hook, request, 1)?;
            }
            let after = self.info(hook)?;
            let runs = after.run_count() - before.run_count();
            ensure!(runs == u64::from(REQUESTS), "{runs} runs were counted");
            Ok(nanoseconds(after.run_time() - before.run_time()) / f64::from(REQUESTS))
        })?;
        let answered = self.tables.counter(hook, Reason::Offered)? - answered;
        ensure!(answered == u64::from(REQUESTS) * ROUNDS as u64, "only {answered} were answered");
        Ok(spent - statistics)
    }

    /// What a frame that is not ours costs, by the kernel's own repetition, and how much more the statistics
    /// say it costs.
    fn passing(&self, hook: Hook) -> Result<(f64, f64)> {
        let frame = foreign(mac(0));
        // Whole nanoseconds, as the kernel rounds it, and with the loop around the program in it.
        let alone = nanoseconds(self.run(hook, &frame, REPEAT)?.duration);
        let _on = enable_stats(Stats::RunTime)?;
        let before = self.info(hook)?;
        self.run(hook, &frame, REPEAT)?;
        let after = self.info(hook)?;
        let counted = nanoseconds(after.run_time() - before.run_time()) / f64::from(REPEAT);
        Ok((alone, counted - alone))
    }

    fn run(&self, hook: Hook, frame: &[u8], repeat: u32) -> Result<TestRunResult> {
        let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::default() };
        Ok(match hook {
            Hook::Xdp => {
                let program: &Xdp = self.ebpf.program("xpxe_xdp").context("no XDP program")?.try_into()?;
                program.test_run(options)?
            }
            _ => {
                let program: &SchedClassifier =
                    self.ebpf.program("xpxe_tc").context("no TC program")?.try_into()?;
                program.test_run(options)?
            }
        })
    }

    fn info(&self, hook: Hook) -> Result<ProgramInfo> {
        let name = if hook == Hook::Xdp { "xpxe_xdp" } else { "xpxe_tc" };
        Ok(match self.ebpf.program(name).context("no such program")? {
            aya::programs::Program::Xdp(program) => program.info()?,
            aya::programs::Program::SchedClassifier(program) => program.info()?,
            _ => bail!("{name} is of a kind that xpxe does not have"),
        })
    }
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

fn median(mut measure: impl FnMut() -> Result<f64>) -> Result<f64> {
    let mut values = (0..ROUNDS).map(|_| measure()).collect::<Result<Vec<f64>>>()?;
    values.sort_by(f64::total_cmp);
    Ok(values[ROUNDS / 2])
}
