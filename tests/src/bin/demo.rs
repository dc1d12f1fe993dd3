//! `xpxe-demo`: one rack, two machines with real firmware, booted by xpxe and then by dnsmasq.
//!
//! Prints each step of both boots with the hook or server that answered, the guest kernels' command lines with their
//! machine's argument, and both servers' times. Everything is in anonymous namespaces and private mounts: the
//! demo leaves nothing behind, however it ends. The exit code is 0 only when every machine booted.

use std::fs;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::guest;
use boot_tests::machine::{Firmware, Machine};
use boot_tests::netns::{Line, tail};
use boot_tests::rack::Rack;
use boot_tests::reference::Reference;
use boot_tests::sandbox::Sandbox;
use boot_tests::settings::{Settings, boot_dir};
use boot_tests::sys::restore_default_signals;

const USAGE: &str = "usage: xpxe-demo [--no-reference]

Boots two machines with xpxe, then the same two with dnsmasq and a plain HTTP server (unless --no-reference).";

const BOOT: Duration = Duration::from_secs(120);

/// A machine of the demo.
struct Plan {
    name: &'static str,
    what: &'static str,
    mac: &'static str,
    address: &'static str,
    firmware: Firmware,
}

const PLANS: [Plan; 2] = [
    Plan {
        name: "bios-1",
        what: "legacy BIOS, iPXE in the card",
        mac: "52:54:00:77:00:0a",
        address: "10.77.0.10",
        firmware: Firmware::BiosIpxe,
    },
    Plan {
        name: "uefi-1",
        what: "UEFI's own PXE",
        mac: "52:54:00:77:00:0b",
        address: "10.77.0.11",
        firmware: Firmware::OvmfPxe,
    },
];

/// The facts about a boot from the machine's serial port.
struct Boot {
    kernel: Line,
    cmdline: Line,
    address: Line,
    off: Duration,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("\nFAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    restore_default_signals()?;
    let mut compare = true;
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--no-reference" => compare = false,
            "--help" | "-h" => {
                println!("{USAGE}");
                return Ok(());
            }
            other => bail!("unknown argument {other:?}\n{USAGE}"),
        }
    }
    let sandbox = Sandbox::enter()?;
    let proof = format!("xpxe.proof={}", random()?);
    let ours = boot_with_xpxe(&sandbox, &proof)?;
    if compare {
        let theirs = boot_with_reference(&sandbox, &proof)?;
        print_comparison(&ours, &theirs);
    }
    Ok(())
}

fn boot_with_xpxe(sandbox: &Sandbox, proof: &str) -> Result<Vec<Boot>> {
    let rack = Rack::build(sandbox)?;
    let config = configuration(sandbox, &rack, proof)?;
    let xpxe = Xpxe::start(&rack, &config, &[])?;
    println!(
        "xpxe is ready ({}); two machines without a disk are powered on at once.",
        xpxe.binary().display()
    );
    println!("The argument to arrive in their kernels: {proof}");
    let machines = power_on(&rack)?;
    let boots: Vec<_> = machines.iter().map(|machine| follow(machine, proof)).collect();
    let log = xpxe.log();
    for ((plan, machine), boot) in PLANS.iter().zip(&machines).zip(&boots) {
        print_account(plan, machine, boot.as_ref().ok(), &log);
    }
    all_or_evidence(boots, &machines, || xpxe.last_lines(40))
}

fn boot_with_reference(sandbox: &Sandbox, proof: &str) -> Result<Vec<Boot>> {
    let rack = Rack::build(sandbox)?;
    let reference = Reference::start(&rack, &format!("console=ttyS0 {proof}"))?;
    println!("\nThe same two machines again, served by dnsmasq and a plain HTTP server ...");
    let machines = power_on(&rack)?;
    let boots = machines.iter().map(|machine| follow(machine, proof)).collect();
    let log = || tail(&reference.dnsmasq_log(), 40) + &tail(&reference.http_log(), 10);
    all_or_evidence(boots, &machines, log)
}

fn power_on(rack: &Rack) -> Result<Vec<Machine>> {
    PLANS.iter().map(|plan| Machine::power_on(rack, plan.name, plan.mac, plan.firmware)).collect()
}

fn follow(machine: &Machine, proof: &str) -> Result<Boot> {
    let left = || BOOT.saturating_sub(machine.powered_on().elapsed());
    let kernel = machine.wait_for(guest::KERNEL_FIRST_LINE, left())?;
    let cmdline = machine.wait_for(guest::CMDLINE, left())?;
    ensure!(cmdline.text.contains(proof), "{proof} did not arrive: {}", cmdline.text);
    let address = machine.wait_for(guest::ADDRESS, left())?;
    let off = machine.wait_for_power_off(left())?;
    Ok(Boot { kernel, cmdline, address, off })
}

/// All boots; if one failed, prints the last lines of its machine and of the server and returns an error.
fn all_or_evidence(
    boots: Vec<Result<Boot>>,
    machines: &[Machine],
    server_log: impl Fn() -> String,
) -> Result<Vec<Boot>> {
    for (machine, boot) in machines.iter().zip(&boots) {
        if let Err(error) = boot {
            let why = error.root_cause().to_string();
            println!("\n{} did not boot: {}", machine.name, why.lines().next().unwrap_or_default());
            println!("the last lines of its serial port:\n{}", tail(&machine.serial(), 25));
        }
    }
    if boots.iter().any(Result::is_err) {
        println!("the last lines of the server's log:\n{}", server_log());
        bail!("not every machine booted");
    }
    boots.into_iter().collect()
}

fn configuration(sandbox: &Sandbox, rack: &Rack, proof: &str) -> Result<String> {
    let machine = |Plan { name, mac, address, .. }: &Plan| {
        format!("\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nip = \"{address}\"\nargs = \"{proof}\"\n")
    };
    let more = PLANS.iter().map(machine).collect();
    let config = Settings { more, ..Settings::default() }.write(sandbox, rack)?;
    guest::install(&boot_dir(rack))?;
    Ok(config)
}

/// One step of a machine's boot, as printed.
struct Step {
    at: Duration,
    by: String,
    step: String,
    what: String,
}

fn print_account(plan: &Plan, machine: &Machine, boot: Option<&Boot>, log: &[Event]) {
    println!("\n{} ({}, {})", plan.name, plan.what, plan.mac);
    println!("  {:>9}  {:<8} {:<10} what", "seconds", "by", "step");
    let mut steps: Vec<_> = log.iter().filter_map(|event| server_step(plan, machine, event)).collect();
    steps.extend(boot.into_iter().flat_map(guest_steps));
    steps.sort_by_key(|step| step.at);
    for Step { at, by, step, what } in &steps {
        println!("  {:9.3}  {by:<8} {step:<10} {what}", at.as_secs_f64());
    }
    if let Some(boot) = boot {
        println!("  the guest's own words:");
        println!("    {}\n    {}", boot.cmdline.text, boot.address.text);
    }
}

fn server_step(plan: &Plan, machine: &Machine, event: &Event) -> Option<Step> {
    let step = event.field("step");
    let concerns = event.field("mac").eq_ignore_ascii_case(plan.mac) || event.field("name") == plan.name;
    if step.is_empty() || !concerns {
        return None;
    }
    let by = match event.field("by").as_str() {
        "xdp" => "XDP".to_owned(),
        "tc" => "TC".to_owned(),
        other => other.to_owned(),
    };
    Some(Step { at: since(machine, event.at), by, step, what: event.message() })
}

fn guest_steps(boot: &Boot) -> impl Iterator<Item = Step> {
    let step = |at, step: &str, what: &str| Step {
        at,
        by: "machine".to_owned(),
        step: step.to_owned(),
        what: what.to_owned(),
    };
    [
        step(boot.kernel.at, "kernel", "the kernel's first line"),
        step(boot.cmdline.at, "init", "the initrd runs"),
        step(boot.address.at, "address", "the operating system has asked for its address"),
        step(boot.off, "off", "powered off by its operating system"),
    ]
    .into_iter()
}

fn since(machine: &Machine, at: Instant) -> Duration {
    at.saturating_duration_since(machine.powered_on())
}

fn print_comparison(ours: &[Boot], theirs: &[Boot]) {
    println!("\nFrom power-on to the kernel's first line, in seconds:");
    println!("  {:<8} {:<32} {:>6} {:>9} {:>7}", "", "", "xpxe", "dnsmasq", "ratio");
    for (plan, (ours, theirs)) in PLANS.iter().zip(ours.iter().zip(theirs)) {
        let [ours, theirs] = [ours, theirs].map(|boot| boot.kernel.at.as_secs_f64());
        let ratio = theirs / ours;
        println!("  {:<8} {:<32} {ours:6.1} {theirs:9.1} {ratio:6.1}x", plan.name, plan.what);
    }
}

fn random() -> Result<String> {
    let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").context("read a random number")?;
    Ok(uuid.split('-').next().unwrap_or(&uuid).to_owned())
}
