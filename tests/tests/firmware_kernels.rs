//! The kernel half on other kernels than this one, in a driver with native XDP: does it load, and does it answer?
//!
//! `XPXE_KERNELS` names the kernels; without it they are those of CI. Each is booted once: on `eth0` with
//! `fast_path = "auto"`, on `eth1` with `"tc"` where the kernel has tcx.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_tests::kernel::{BOOT_DIR, Host, Kernel};
use boot_tests::rack::{Segment, Station};
use boot_tests::sandbox::{Sandbox, root_or_skip};
use boot_tests::tftp_rack::random_bytes;
use boot_tests::wait::eventually;

/// From power-on until xpxe is ready; half of it is the verifier's in software emulation.
const START: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);
/// The first kernel with tcx links.
const TCX: (u32, u32) = (6, 6);

#[test]
fn each_kernel_loads_both_programs_and_answers_as_it_can() -> Result<()> {
    if !root_or_skip() {
        return Ok(());
    }
    let names = std::env::var("XPXE_KERNELS").unwrap_or_else(|_| "6.1 6.12".to_owned());
    let mut table = String::new();
    for name in names.split_whitespace() {
        let kernel = Kernel::find(name)?;
        table += &answers(&kernel).with_context(|| format!("Linux {}", kernel.version))?;
    }
    println!("\nkernel                         XDP        TC\n{table}");
    Ok(())
}

/// Gives the kernel's line of the table.
fn answers(kernel: &Kernel) -> Result<String> {
    let has_tcx = kernel.is_at_least(TCX);
    let sandbox = Sandbox::enter()?;
    let segments = [Segment::alone("segment", &sandbox)?, Segment::alone("second segment", &sandbox)?];
    let [first, second] = &segments;
    let file = random_bytes("file", 300_000);
    let host = kernel.boot([first, second], &config(has_tcx), &[("file", &file)])?;
    let ready = host.wait_for_event("xpxe is ready", START, |event| event.message() == "ready")?;
    println!("Linux {}: ready after {:.1} s", kernel.version, (ready.at - host.powered_on()).as_secs_f32());
    let attached = |interface: &str| {
        let of = |event: &boot_tests::daemon::Event| {
            event.field("interface") == interface && event.message().contains(": attached (")
        };
        host.wait_for_event(&format!("the programs are on {interface}"), SOON, of)
    };
    let eth0 = attached("eth0")?;
    ensure!(eth0.field("xdp") == "true", "no XDP: {:?}", eth0.json);
    ensure!(eth0.field("tc") == has_tcx.to_string(), "TC or not: {:?}", eth0.json);
    is_served(&host, first, 77, "xdp", &file)?;
    if has_tcx {
        let eth1 = attached("eth1")?;
        ensure!((eth1.field("xdp"), eth1.field("tc")) == ("false".into(), "true".into()), "{:?}", eth1.json);
        is_served(&host, second, 78, "tc", &file)?;
    }
    let tc = if has_tcx { "answers" } else { "-" };
    Ok(format!("{:<30} {:<10} {tc}\n", kernel.version, "answers"))
}

/// A real client gets OFFER, ACK and blocks from this hook.
fn is_served(host: &Host, segment: &Segment, network: u8, hook: &str, file: &[u8]) -> Result<()> {
    let mac = format!("02:{network}:00:00:00:10");
    let station: Station = segment.client("client", &mac)?;
    let udhcpc = ["udhcpc", "-i", "eth0", "-n", "-q", "-t", "5", "-T", "3", "-s", "/bin/true"];
    // The first lease is the daemon's.
    for _ in 0..2 {
        station.output("busybox", &udhcpc)?;
    }
    for step in ["offer", "ack"] {
        host.wait_for_event(&format!("{step} by {hook}"), SOON, |event| {
            (event.field("mac"), event.field("step"), event.field("by"))
                == (mac.clone(), step.to_owned(), hook.to_owned())
        })?;
    }
    station.output("ip", &["address", "add", &format!("10.{network}.0.10/24"), "dev", "eth0"])?;
    let server = format!("10.{network}.0.1");
    let got = segment.dir().join("got");
    let to = got.display().to_string();
    station.output(
        "curl",
        &["--silent", "--show-error", "--max-time", "60", "--output", &to, &format!("tftp://{server}/file")],
    )?;
    ensure!(std::fs::read(&got)? == file, "the file arrived otherwise");
    let metrics = format!("http://{server}:8080/metrics");
    let label = format!("xpxe_packets_total{{hook=\"{hook}\",reason=\"tftp-block\"}} ");
    // Of 586 blocks the daemon sends some where a repeat comes in between. The figures are of a moment ago.
    eventually(SOON, &format!("{hook} has sent the blocks"), || {
        let metrics = station.output("curl", &["--silent", "--show-error", "--max-time", "30", &metrics]);
        let metrics = metrics.unwrap_or_default();
        let blocks = metrics.lines().find_map(|line| line.strip_prefix(&label)?.parse::<u32>().ok());
        blocks.is_some_and(|blocks| blocks > 400)
    })?;
    Ok(())
}

fn config(has_tcx: bool) -> String {
    let second = if has_tcx { "tc" } else { "off" };
    let mut text = format!(
        r#"
state_dir = "/state"
boot_dir = "{BOOT_DIR}"
pin_dir = "/sys/fs/bpf/xpxe"
fast_path_memory = "8M"
"#
    );
    for (interface, network, fast_path) in [("eth0", 77, "auto"), ("eth1", 78, second)] {
        text += &format!(
            r#"
[[interface]]
name = "{interface}"
dhcp = "server"
fast_path = "{fast_path}"

[[subnet]]
cidr = "10.{network}.0.0/24"
pool = ["10.{network}.0.100-10.{network}.0.199"]
lease = "10m"
probe = false

[[machine]]
mac = "02:{network}:00:00:00:10"
name = "client-{network}"
ip = "10.{network}.0.10"
"#
        );
    }
    text
}
