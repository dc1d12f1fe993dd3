//! The settings as the rest of the daemon sees them: typed, checked, with the defaults filled in.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use boot_common::Mac;
use ipnet::Ipv4Net;

/// How long an address is leased when the subnet does not say: 10 minutes.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(600);

/// Everything `xpxe.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `state_dir`: store and cache. Absolute; default `/var/lib/xpxe`.
    pub state_dir: PathBuf,
    /// `boot_dir`: what TFTP and HTTP may serve. Absolute; default `boot` in `state_dir`.
    pub boot_dir: PathBuf,
    /// `pin_dir`: where programs and tables are pinned, in a bpffs. Absolute; default `/sys/fs/bpf/xpxe`.
    pub pin_dir: PathBuf,
    /// `[http]`
    pub http: Http,
    /// `[ipxe]`: the iPXE binary for a kind of firmware, by `bios`, `ia32`, `x64`, `arm32`, `arm64`,
    /// `riscv64` or `loongarch64`; absolute paths. Default: none, the binaries found on the system are used.
    pub ipxe: BTreeMap<String, PathBuf>,
    /// `[[interface]]`, in file order; their names differ. At least one, unless made by [`Config::empty`].
    pub interfaces: Vec<Interface>,
    /// `[[subnet]]`, in file order; they do not overlap. Default: none.
    pub subnets: Vec<Subnet>,
    /// `[[profile]]` by name. Default: none.
    pub profiles: BTreeMap<String, Profile>,
    /// `[default]`
    pub default: Default,
    /// `[[machine]]`, in file order; no two share a MAC, a name or an address. Default: none.
    pub machines: Vec<Machine>,
}

impl Config {
    /// The settings of an empty file: every default, and no interface, subnet, profile or machine.
    ///
    /// [`parse`](super::parse) does not accept such a file, because it serves nobody; the command line starts
    /// from this when it has no file.
    #[must_use]
    pub fn empty() -> Self {
        let state_dir = PathBuf::from("/var/lib/xpxe");
        Self {
            boot_dir: state_dir.join("boot"),
            state_dir,
            pin_dir: PathBuf::from("/sys/fs/bpf/xpxe"),
            http: Http { listen: SocketAddr::from(([0, 0, 0, 0], 8080)), advertise: None },
            ipxe: BTreeMap::new(),
            interfaces: Vec::new(),
            subnets: Vec::new(),
            profiles: BTreeMap::new(),
            default: Default { profile: None, unknown: Unknown::Boot },
            machines: Vec::new(),
        }
    }
}

/// `[http]`: the server of boot scripts and images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http {
    /// `listen`: where it listens. Default `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// `advertise`: the address in the URLs that machines are given. Neither the address nor the port is zero;
    /// without a port in the file it is the one of `listen`. Default: the address the client's interface has.
    pub advertise: Option<SocketAddr>,
}

/// `[[interface]]`: a network card that machines boot from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// `name`: 1 to 15 bytes, as `ip link` shows it.
    pub name: String,
    /// `dhcp`. Default `server`.
    pub dhcp: DhcpRole,
    /// `fast_path`. Default `auto`.
    pub fast_path: FastPath,
    /// `router_advertisement`: answer the router solicitations of machines that boot with an empty
    /// advertisement, so that iPXE does not wait for IPv6. Default true.
    pub router_advertisement: bool,
}

/// What xpxe is to DHCP on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhcpRole {
    /// `server`: hands out addresses and boot files.
    Server,
    /// `proxy`: adds boot files to the offers of another server.
    Proxy,
    /// `off`: does not speak DHCP.
    Off,
}

/// Which kernel hook answers on one interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// `auto`: XDP, or else TC, or else none.
    Auto,
    /// `xdp`: XDP.
    Xdp,
    /// `tc`: TC.
    Tc,
    /// `off`: none; the daemon answers everything.
    Off,
}

/// `[[subnet]]`: addresses to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subnet {
    /// `cidr`: prefix length 8 to 31, no host bits.
    pub cidr: Ipv4Net,
    /// `pool`: first and last address of each range, both included, in file order. The ranges lie in `cidr`, leave
    /// out its network and broadcast address, and do not overlap; they may contain the router and addresses
    /// reserved for machines. Default: none, only machines with an `ip` get one.
    pub pool: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// `router`: the default gateway, in `cidr`. Default: none is told.
    pub router: Option<Ipv4Addr>,
    /// `dns`: name servers, best first. Default: none.
    pub dns: Vec<Ipv4Addr>,
    /// `domain`: a DNS name without the dot at the end. Default: none.
    pub domain: Option<String>,
    /// `lease`: whole seconds, 60 s to 365 days. Default [`DEFAULT_LEASE`].
    pub lease: Duration,
}

/// `[[profile]]`: what to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// `kernel`: a path relative to `boot_dir` without `..`, or an `http://` or `https://` URL.
    pub kernel: String,
    /// `initrd`: like `kernel`, in the order they are loaded. Default: none.
    pub initrd: Vec<String>,
    /// `args`: the kernel command line; one line, at most 2000 bytes. Default: empty.
    pub args: String,
}

/// `[default]`: for machines that the file does not say it for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Default {
    /// `profile`: for machines without one; it exists. Default: none.
    pub profile: Option<String>,
    /// `unknown`. Default `boot`.
    pub unknown: Unknown,
}

/// What happens to machines that are not in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// `boot`: they boot the default profile.
    Boot,
    /// `discover`: they are recorded and wait.
    Discover,
    /// `ignore`: they get no answer.
    Ignore,
}

/// `[[machine]]`: a machine that is known beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// `mac`: one or more addresses, in file order.
    pub macs: Vec<Mac>,
    /// `name`: a host name without dots, at most 63 bytes, as written; unique without regard to case, and not
    /// something that could be read as a MAC address. Default: none.
    pub name: Option<String>,
    /// `ip`: its address. In one of the subnets if there are any, but not their router, network or broadcast
    /// address. Default: one from a pool.
    pub ip: Option<Ipv4Addr>,
    /// `profile`: it exists. Default: the one in `[default]`.
    pub profile: Option<String>,
    /// `args`: appended to those of the profile; one line, at most 2000 bytes with them. Default: empty.
    pub args: String,
    /// `labels`: free text for boot scripts and people. Default: none.
    pub labels: BTreeMap<String, String>,
}
