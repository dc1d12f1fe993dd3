//! A rack: one server, one switch, and the machines plugged into it.
//!
//! ```text
//!   server namespace            segment namespace                 stations, machines
//!   eth0 10.77.0.1/24 ───────── port0 (XDP_PASS) ┐
//!                                                br0 ── portN ──── eth0 of a client or neighbour namespace
//!                                                 └──── tapN ───── network card of a machine in QEMU
//! ```
//!
//! - The switch forwards at once (no STP, no delay, no snooping), touches no frame (no netfilter) and speaks
//!   no IPv6 itself.
//! - The server's far end carries a native XDP_PASS program: without one, `XDP_TX` on a veth delivers
//!   nothing.
//! - Stations finish their checksums themselves (`tx off`), as real network cards do: an answer built in XDP
//!   on an unfinished one is dropped.
//! - IPv6 is on in the server and the stations, link-local addresses are usable at once (no duplicate address
//!   detection).
//! - A frame answered by `XDP_TX` never shows on the server's interface: capture on the segment's port or
//!   tap.
//!
//! The whole rack is in anonymous namespaces and vanishes with the process.

use std::fs;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::net::if_::if_nametoindex;

use crate::netns::{Namespace, Process};
use crate::sandbox::Sandbox;
use crate::sys;
use crate::wait::eventually;

/// The server's address on the segment.
pub const SERVER_ADDRESS: &str = "10.77.0.1";
/// The segment's network.
pub const SUBNET: &str = "10.77.0.0/24";
/// The server's MAC on the segment.
pub const SERVER_MAC: &str = "02:77:00:00:00:01";

/// How long a port takes at most to forward once there is a carrier.
const FORWARDS: Duration = Duration::from_secs(20);

/// The switch's port that the server is plugged into.
pub const SERVER_PORT: &str = "port0";

/// A server and its segment; a rack has all methods of a [`Segment`].
#[derive(Debug)]
pub struct Rack {
    /// The server's namespace, with `eth0` on the segment.
    pub server: Namespace,
    segment: Segment,
    // Detaches when dropped.
    _xdp_pass: OwnedFd,
}

impl Rack {
    /// A server with `eth0` (10.77.0.1/24) on an otherwise empty segment.
    pub fn build(sandbox: &Sandbox) -> Result<Self> {
        let segment = Segment::new("segment", sandbox.new_rack_dir()?)?;
        let server = Namespace::new("server")?;
        let port = segment.plug(&server, "eth0", SERVER_MAC)?;
        ensure!(port == SERVER_PORT, "the first port is {port}");
        server.output("ip", &["address", "add", &format!("{SERVER_ADDRESS}/24"), "dev", "eth0"])?;
        let xdp_pass = segment
            .namespace
            .run(|| Ok::<_, anyhow::Error>(sys::attach_xdp_pass(if_nametoindex(port.as_str())?)?))?
            .context("attach XDP_PASS to the server's port")?;
        Ok(Self { server, segment, _xdp_pass: xdp_pass })
    }

    /// The segment itself.
    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// A second segment (10.78.0.0/24) behind a router at 10.77.0.2, to which the server has a route.
    pub fn segment_behind_router(&self, sandbox: &Sandbox) -> Result<RoutedSegment> {
        let segment = Segment::new("far segment", sandbox.new_rack_dir()?)?;
        let router = Namespace::new("router")?;
        self.plug(&router, "eth0", "02:77:00:00:00:02")?;
        segment.plug(&router, "eth1", "02:78:00:00:00:02")?;
        router.output("ip", &["address", "add", "10.77.0.2/24", "dev", "eth0"])?;
        router.output("ip", &["address", "add", "10.78.0.1/24", "dev", "eth1"])?;
        router.output("ethtool", &["-K", "eth0", "tx", "off"])?;
        router.run(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1"))??;
        self.server.output("ip", &["route", "add", "10.78.0.0/24", "via", "10.77.0.2"])?;
        Ok(RoutedSegment { router, segment })
    }
}

impl Deref for Rack {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.segment
    }
}

/// A segment whose DHCP reaches the server only through a relay.
#[derive(Debug)]
pub struct RoutedSegment {
    /// The router: `eth0` 10.77.0.2 on the server's segment, `eth1` 10.78.0.1 on this one. Relays run here.
    pub router: Namespace,
    segment: Segment,
}

impl RoutedSegment {
    /// Relays DHCP with dnsmasq (giaddr, no option 82).
    pub fn start_relay(&self) -> Result<Process> {
        let mut dnsmasq = self.router.command("dnsmasq");
        dnsmasq.args([
            "--conf-file=/dev/null",
            "--keep-in-foreground",
            "--log-facility=-",
            "--log-dhcp",
            "--user=root",
        ]);
        dnsmasq.args(["--port=0", "--pid-file=", &format!("--dhcp-relay=10.78.0.1,{SERVER_ADDRESS}")]);
        let process = self.router.spawn(dnsmasq)?;
        process.wait_for_line("DHCP relay from", Duration::from_secs(5))?;
        Ok(process)
    }
}

impl Deref for RoutedSegment {
    type Target = Segment;

    fn deref(&self) -> &Segment {
        &self.segment
    }
}

/// A switch and the stations plugged into it.
#[derive(Debug)]
pub struct Segment {
    /// The switch's namespace: bridge `br0`, ports and taps.
    pub namespace: Namespace,
    dir: PathBuf,
    next_port: AtomicU32,
}

impl Segment {
    /// A switch without stations.
    pub fn alone(name: &str, sandbox: &Sandbox) -> Result<Self> {
        Self::new(name, sandbox.new_rack_dir()?)
    }

    fn new(name: &str, dir: PathBuf) -> Result<Self> {
        let namespace = Namespace::new(name)?;
        namespace.run(|| -> Result<()> {
            for family in ["default", "all"] {
                fs::write(format!("/proc/sys/net/ipv6/conf/{family}/disable_ipv6"), "1")?;
            }
            // Exists only with br_netfilter, which would trim the padding off short frames.
            let netfilter = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
            if netfilter.exists() {
                fs::write(netfilter, "0")?;
            }
            Ok(())
        })??;
        let bridge = [
            "link",
            "add",
            "br0",
            "type",
            "bridge",
            "stp_state",
            "0",
            "forward_delay",
            "0",
            "mcast_snooping",
            "0",
        ];
        namespace.output("ip", &bridge)?;
        namespace.output("ip", &["link", "set", "br0", "up"])?;
        Ok(Self { namespace, dir, next_port: AtomicU32::new(0) })
    }

    /// A directory for the files of the programs on this segment.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Gives `namespace` an interface on this segment, up and without an address; returns the switch's port.
    pub fn plug(&self, namespace: &Namespace, interface: &str, mac: &str) -> Result<String> {
        let port = self.next_name("port");
        let (switch, there) = (&self.namespace, namespace.path());
        let veth = [
            "link", "add", &port, "type", "veth", "peer", "name", interface, "address", mac, "netns", &there,
        ];
        switch.output("ip", &veth)?;
        let accept_dad = format!("/proc/sys/net/ipv6/conf/{interface}/accept_dad");
        namespace.run(|| fs::write(&accept_dad, "0"))?.with_context(|| accept_dad.clone())?;
        switch.output("ip", &["link", "set", &port, "master", "br0", "up"])?;
        namespace.output("ip", &["link", "set", interface, "up"])?;
        // The switch hears of the carrier a moment later, and drops until then what the station sends.
        eventually(FORWARDS, "the switch's port to forward", || {
            let shown = switch.output("bridge", &["link", "show", "dev", &port]);
            shown.is_ok_and(|shown| shown.contains("state forwarding"))
        })?;
        Ok(port)
    }

    /// Switches one of the switch's ports `up` or `down`: the station plugged in there has a carrier, or none.
    pub fn set_port(&self, port: &str, state: &str) -> Result<()> {
        self.namespace.output("ip", &["link", "set", port, state]).map(drop)
    }

    /// A tap on the switch, for a machine's network card.
    pub fn tap(&self) -> Result<String> {
        let tap = self.next_name("tap");
        self.namespace.output("ip", &["tuntap", "add", "dev", &tap, "mode", "tap"])?;
        self.namespace.output("ip", &["link", "set", &tap, "master", "br0", "up"])?;
        Ok(tap)
    }

    /// A host with `eth0` and no address, for real DHCP and TFTP clients.
    pub fn client(&self, name: &str, mac: &str) -> Result<Station> {
        let namespace = Namespace::new(name)?;
        let port = self.plug(&namespace, "eth0", mac)?;
        namespace.output("ethtool", &["-K", "eth0", "tx", "off"])?;
        Ok(Station { namespace, mac: mac.to_owned(), port })
    }

    /// A host with a fixed address (`10.77.0.9/24`), for other servers.
    pub fn neighbour(&self, name: &str, mac: &str, address: &str) -> Result<Station> {
        let station = self.client(name, mac)?;
        station.output("ip", &["address", "add", address, "dev", "eth0"])?;
        Ok(station)
    }

    /// Records the frames on one of the switch's interfaces into a pcap file, until the process is dropped: of each frame
    /// the first 2048 bytes, which is a whole Ethernet frame.
    pub fn capture(&self, interface: &str, file: &Path) -> Result<Process> {
        let mut tcpdump = self.namespace.command("tcpdump");
        // -Z root: a process that changes its user would not die with this one.
        tcpdump.args(["-Z", "root", "--immediate-mode", "-U", "-n"]);
        // Room for many frames: machines leave tcpdump little time.
        tcpdump.args(["-s", "2048", "-B", "32768", "-i", interface, "-w"]).arg(file);
        let process = self.namespace.spawn(tcpdump)?;
        process.wait_for_line("listening on", Duration::from_secs(5))?;
        Ok(process)
    }

    fn next_name(&self, kind: &str) -> String {
        format!("{kind}{}", self.next_port.fetch_add(1, Ordering::Relaxed))
    }
}

/// A host on a segment that is not booted by firmware: a namespace with `eth0`.
#[derive(Debug)]
pub struct Station {
    namespace: Namespace,
    /// The MAC of `eth0`.
    pub mac: String,
    /// The switch's port at the other end of the cable.
    pub port: String,
}

impl Deref for Station {
    type Target = Namespace;

    fn deref(&self) -> &Namespace {
        &self.namespace
    }
}
