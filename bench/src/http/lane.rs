//! A server's namespace and the clients', connected by a veth pair of its own for HTTP, with the offloads that a card
//! has. What arrives at an end is worked on by the core of who is there (RPS), as interrupts of two machines would be;
//! else whoever sends would pay for the other's receiving.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;

use anyhow::{Context, Result};
use boot_tests::netns::Namespace;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Where HTTP is served.
pub(crate) const HTTP: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 168, 7, 1), 8080);
const CLIENTS: &str = "192.168.7.2/24";
const INTERFACE: &str = "http0";

/// Servers run there.
const SERVER_CORE: usize = 0;

/// Where the generators run: the last core, which is the servers' where there is one only.
fn generator_core() -> usize {
    std::thread::available_parallelism().map_or(0, |cores| usize::from(cores) - 1)
}

/// Which core is whose, for people.
pub(crate) fn print_cores() {
    println!(
        "HTTP has veth pairs of its own, with the offloads of a card; what arrives is worked on by the receiver's core\n\
         servers on core {SERVER_CORE}, generators on core {}; one worker, and one HTTP thread, each",
        generator_core()
    );
}

/// A namespace of HTTP clients at the other end of a new cable.
pub(crate) fn clients_of(server: &Namespace) -> Result<Namespace> {
    let clients = Namespace::new("downloads")?;
    let peer = clients.path();
    server.output(
        "ip",
        &["link", "add", INTERFACE, "type", "veth", "peer", "name", INTERFACE, "netns", &peer],
    )?;
    for (namespace, address, core) in
        [(server, format!("{}/24", HTTP.ip()), SERVER_CORE), (&clients, CLIENTS.to_owned(), generator_core())]
    {
        namespace.output("ip", &["address", "add", &address, "dev", INTERFACE])?;
        namespace.output("ip", &["link", "set", INTERFACE, "up"])?;
        // sysfs shows the namespace that it was mounted in.
        let work = format!(
            "mount -t sysfs sysfs /sys && echo {:x} > /sys/class/net/{INTERFACE}/queues/rx-0/rps_cpus",
            1 << core
        );
        namespace.output("unshare", &["--mount", "sh", "-c", &work])?;
    }
    Ok(clients)
}

/// A command whose process stays on the servers' core, and has this niceness.
pub(crate) fn pinned(server: &Namespace, niceness: i8, program: &str) -> Command {
    let mut command = server.command("nice");
    command.args(["--adjustment", &niceness.to_string()]);
    command.args(["taskset", "--cpu-list", &SERVER_CORE.to_string(), program]);
    command
}

/// Keeps this thread on the generators' core.
pub(crate) fn pin_generator() -> Result<()> {
    pin(generator_core())
}

/// Keeps this thread on the servers' core.
pub(crate) fn pin_server() -> Result<()> {
    pin(SERVER_CORE)
}

fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &cores).with_context(|| format!("stay on core {core}"))
}
