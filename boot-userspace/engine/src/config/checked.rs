//! The settings as the rest of the daemon sees them: typed, checked, with the defaults filled in.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use boot_agent_protocol::Inventory;
use boot_common::Mac;
use boot_common::class::{Firmware, Stage};
use boot_common::mac::is_raspberry_pi;
use ipnet::Ipv4Net;

use super::agent::Agent;
use super::api::Api;
use super::arch::{Arch, ArchProfile};
use super::bmc::{Bmc, PowerSettings};
use super::boots::{Kind, Menu, mboot};
use super::disk_image::DiskImage;
use super::documents::Documents;
use super::http::Http;
use super::identity::IdentityRules;
use super::images::Images;
use super::lifecycle::Lifecycle;
use super::matching::{Match, PortSeen};
use super::store::Postgres;
use super::traces::Traces;
use super::webhook::Webhook;

/// How long an address is leased when the subnet does not say: 10 minutes.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(600);

/// How long an address is leased to firmware and iPXE when the subnet does not say and its lease is not shorter:
/// 5 minutes.
pub const DEFAULT_BOOT_LEASE: Duration = Duration::from_secs(300);

/// How many bytes of boot files the kernel half holds unless the file says otherwise: 64 MiB.
pub const DEFAULT_FAST_PATH_MEMORY: u64 = 64 << 20;

/// The largest TFTP window that is granted unless the file says otherwise. U-Boot's receive ring holds fewer than 32
/// packets and its network stops when it overruns.
pub const DEFAULT_WINDOWSIZE: u16 = 16;

/// Everything `xpxe.toml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// `state_dir`: store and cache. Absolute; default `/var/lib/xpxe`.
    pub state_dir: PathBuf,
    /// `store`: the database of machines and leases. Default: none, they are in `state_dir` only.
    pub store: Option<Postgres>,
    /// `boot_dir`: what TFTP and HTTP may serve. Absolute; default `boot` in `state_dir`.
    pub boot_dir: PathBuf,
    /// `pin_dir`: where programs and tables are pinned, in a bpffs. Absolute; default `/sys/fs/bpf/xpxe`.
    pub pin_dir: PathBuf,
    /// `fast_path_memory`: bytes of boot files that the kernel half may hold at once, at most 4 GiB; 0: TFTP is not
    /// answered there. Default [`DEFAULT_FAST_PATH_MEMORY`].
    pub fast_path_memory: u64,
    /// `boots`: whether the last boots of every machine are kept, so that xpxe says why one did not boot. Default true.
    pub boots: bool,
    /// `[http]`
    pub http: Http,
    /// `[api]`. Default: none, the API is on the Unix socket only.
    pub api: Option<Api>,
    /// `[traces]`
    pub traces: Traces,
    /// `[images]`
    pub images: Images,
    /// `[tftp]`
    pub tftp: Tftp,
    /// `[ipxe]`: the iPXE binary for a kind of firmware, by `bios`, `ia32`, `x64`, `arm32`, `arm64`,
    /// `riscv64` or `loongarch64`; absolute paths. Default: none, the binaries found on the system are used.
    pub ipxe: BTreeMap<String, PathBuf>,
    /// `[[interface]]`, in file order; their names differ. At least one, unless made by [`Config::empty`].
    pub interfaces: Vec<Interface>,
    /// `[[subnet]]`, in file order; they do not overlap. Default: none.
    pub subnets: Vec<Subnet>,
    /// `[[profile]]` by name. Default: none.
    pub profiles: BTreeMap<String, Profile>,
    /// `[[group]]`, in file order; their names differ. What a later one says goes first. Default: none.
    pub groups: Vec<Group>,
    /// `[[boot_file]]`, in file order: the first rule that fits a machine wins, before the built-in choice. No rule
    /// is hidden by one before it. Default: none.
    pub boot_files: Vec<BootFileRule>,
    /// The text files that the configuration names, by their paths. Each is a template that was tried.
    pub templates: BTreeMap<String, Arc<str>>,
    /// `[default]`
    pub default: Default,
    /// `[lifecycle]`
    pub lifecycle: Lifecycle,
    /// `[identity]`
    pub identity: IdentityRules,
    /// `[bmc]`
    pub bmc: PowerSettings,
    /// `[agent]`
    pub agent: Agent,
    /// `[[webhook]]`, in file order; their names differ. Default: none.
    pub webhooks: Vec<Webhook>,
    /// `[[machine]]`, in file order; no two share a MAC, a UUID, a relay port, a name or an address. Default: none.
    pub machines: Vec<Arc<Machine>>,
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
            store: None,
            pin_dir: PathBuf::from("/sys/fs/bpf/xpxe"),
            fast_path_memory: DEFAULT_FAST_PATH_MEMORY,
            boots: true,
            http: Http::default(),
            api: None,
            traces: Traces::default(),
            images: Images::default(),
            tftp: Tftp {
                windowsize: DEFAULT_WINDOWSIZE,
                single_port: true,
                clients: TftpClients::Served(Vec::new()),
            },
            ipxe: BTreeMap::new(),
            interfaces: Vec::new(),
            subnets: Vec::new(),
            profiles: BTreeMap::new(),
            groups: Vec::new(),
            boot_files: Vec::new(),
            templates: BTreeMap::new(),
            default: Default { profile: None, unknown: Unknown::Boot },
            lifecycle: Lifecycle::default(),
            identity: IdentityRules::default(),
            bmc: PowerSettings::default(),
            agent: Agent::default(),
            webhooks: Vec::new(),
            machines: Vec::new(),
        }
    }
}

impl Config {
    /// The profile of a machine that is in these groups, and its name.
    #[must_use]
    pub fn profile_of<'c>(
        &'c self,
        machine: Option<&Machine>,
        groups: impl DoubleEndedIterator<Item = &'c Group>,
    ) -> Option<(&'c str, &'c Profile)> {
        let own = machine.and_then(|machine| machine.profile.as_ref());
        let of_groups = || groups.rev().find_map(|group| group.profile.as_ref());
        let name = own.or_else(of_groups).or(self.default.profile.as_ref())?;
        self.profiles.get_key_value(name).map(|(name, profile)| (name.as_str(), profile))
    }

    /// Whether a document of any machine is secret.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        let of_profiles = self.profiles.values().map(|profile| &profile.documents);
        let of_groups = self.groups.iter().map(|group| &group.documents);
        let of_machines = self.machines.iter().filter_map(|machine| machine.documents.as_deref());
        let mut all = of_profiles.chain(of_groups).chain(of_machines).flat_map(Documents::all);
        all.any(|document| document.is_secret)
    }
}

/// `[tftp]`: how boot files are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tftp {
    /// `windowsize`: the largest window that is granted (RFC 7440), 1 to 64 blocks; 1: the option is declined. Default
    /// [`DEFAULT_WINDOWSIZE`].
    pub windowsize: u16,
    /// `single_port`: everything comes from port 69; false: each transfer has a port of its own (RFC 1350). Default
    /// true.
    pub single_port: bool,
    /// `clients`: who gets files. Default `served`.
    pub clients: TftpClients,
}

/// Whose addresses TFTP answers. Others may be forged, to have somebody else flooded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TftpClients {
    /// `served`, or a list of networks: those of the interfaces, of `[[subnet]]`, and these.
    Served(Vec<Ipv4Net>),
    /// `any`: those, and all others from a port of each transfer's own.
    Any,
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
    /// `boot_lease`: the lease for firmware and iPXE, which never renew; whole seconds, 60 s to `lease`. Default
    /// [`DEFAULT_BOOT_LEASE`], or `lease` if that is shorter.
    pub boot_lease: Duration,
    /// `probe`: ask by ARP or ICMP whether a pool address is in use before it is offered for the first time.
    /// Default true.
    pub probe: bool,
    /// `authoritative`: refuse who asks for an address of this subnet that nobody gave it from here, instead of leaving
    /// it to another server (RFC 2131 section 4.3.2). Default false.
    pub authoritative: bool,
    /// `options`: see [`CustomOption`]. Default: none.
    pub options: Vec<CustomOption>,
}

/// One of `options`: a DHCP option by its number.
///
/// In one list a code comes once for each `client` and the data has at most 1000 bytes in total. The codes that the server manages
/// itself are never there (0, 1, 50 to 55, 57 to 59, 61, 82, 255, and 12 for a machine that has a name). Where
/// lists of subnet, profile and machine have the same code is the reader's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomOption {
    /// `code`
    pub code: u8,
    /// `ip`, `text`, `hex`, `u8`, `u16`, `u32` (numbers are big-endian) or `bool` (one byte, 0 or 1). May be longer
    /// than the 255 bytes of one option, then it is split (RFC 3396); may be empty.
    pub data: Vec<u8>,
    /// `always`: send it to machines that do not ask for it, too. Default false.
    pub always: bool,
    /// `client`: who gets it: `firmware`, `ipxe` or `os`. Default: all of them, but iPXE gets no option of
    /// [`BOOT_OPTIONS`] that is not there for it: those are what firmware is to boot, and iPXE has its script.
    pub client: Option<Stage>,
}

/// What firmware boots: vendor options (43), vendor class (60), TFTP server (66) and boot file (67).
pub const BOOT_OPTIONS: [u8; 4] = [43, 60, 66, 67];

/// `[[profile]]`: what to boot, with what it inherits: `kernel`, `initrd`, `console`, `boot_file` and each option of the last
/// profile that has them, and the arguments of all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    /// `inherit`: the profiles that it names itself; what they have is in the other fields. Default: none.
    pub inherits: Vec<String>,
    /// `kernel`, or `wimboot` or `iso` in its place: a path relative to `boot_dir` without `..`, an `http://` or `https://`
    /// URL (the scheme in lower case), or what [`ImageRef::read`](super::ImageRef::read) reads without an error. Of `esxi` the
    /// directory in `boot_dir`; empty where there is a menu.
    pub kernel: String,
    /// Which of these keys it is.
    pub kind: Kind,
    /// `menu`: what a person chooses from instead. Default: none.
    pub menu: Option<Menu>,
    /// `initrd`: like `kernel`, in the order they are loaded. Default: none.
    pub initrd: Vec<String>,
    /// `args`: the kernel command line; one line, at most 2000 bytes; a template where it has variables. Default: empty.
    pub args: String,
    /// `documents`: each before that of the same name of a profile that it inherits. Default: none.
    pub documents: Documents,
    /// `template`: the iPXE script, one of [`Config::templates`]. Default: the built-in one.
    pub template: Option<String>,
    /// `console`: what the kernel gets as `console=`, before all arguments. Default: none.
    pub console: Option<String>,
    /// `arch`: what is otherwise on some architectures. Default: nothing.
    pub arch: BTreeMap<Arch, ArchProfile>,
    /// `boot_file`: what firmware gets instead of the built-in choice; like `kernel`, but short enough for a DHCP
    /// answer: a path of at most 127 bytes or a URL of at most 254. Default: none.
    pub boot_file: Option<String>,
    /// `options`: see [`CustomOption`]. Default: none.
    pub options: Vec<CustomOption>,
}

impl Profile {
    /// The file in `boot_dir`, the image or the URL that is fetched first; none where a person chooses.
    #[must_use]
    pub fn first_file(&self, arch: Option<Arch>) -> Option<String> {
        match (self.kind, &self.menu) {
            (_, Some(_)) => None,
            (Kind::Esxi, _) => Some(format!("{}/{}", self.kernel, mboot(arch))),
            _ => Some(self.kernel_of(arch).to_owned()).filter(|kernel| !kernel.is_empty()),
        }
    }

    /// The kernel of an architecture; empty where machines of it boot nothing.
    #[must_use]
    pub fn kernel_of(&self, arch: Option<Arch>) -> &str {
        self.of(arch).and_then(|of| of.kernel.as_ref()).unwrap_or(&self.kernel)
    }

    /// The initrds of an architecture.
    #[must_use]
    pub fn initrd_of(&self, arch: Option<Arch>) -> &[String] {
        self.of(arch).and_then(|of| of.initrd.as_ref()).unwrap_or(&self.initrd)
    }

    /// The whole command line of an architecture: the console, the profile's arguments, the architecture's, then `own` of the
    /// machine.
    #[must_use]
    pub fn args_of(&self, arch: Option<Arch>, own: &str) -> String {
        let of = self.of(arch);
        let console = of.and_then(|of| of.console.as_ref()).or(self.console.as_ref());
        let console = console.map(|console| format!("console={console}")).unwrap_or_default();
        let parts = [console.as_str(), &self.args, of.map_or("", |of| &of.args), own];
        parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
    }

    fn of(&self, arch: Option<Arch>) -> Option<&ArchProfile> {
        self.arch.get(&arch?)
    }
}

/// `[[group]]`: what the machines of a description get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// `name`: for people.
    pub name: String,
    /// `match`: which machines belong to it.
    pub fits: Match,
    /// `profile`: for machines that name none; it exists. Default: that of a group before, or of `[default]`.
    pub profile: Option<String>,
    /// `args`: behind those of the profile and of groups before, and before the machine's. Default: empty.
    pub args: String,
    /// `documents`: each before that of the same name of the profile or a group before. Default: none.
    pub documents: Documents,
    /// `options`: see [`CustomOption`]; before the profile's and those of groups before. Default: none.
    pub options: Vec<CustomOption>,
}

/// `[[boot_file]]`: a file for some kinds of firmware or of cards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootFileRule {
    /// `arch`: client architectures by number (DHCP option 93); empty: all. Those that are not assigned are one kind.
    /// A Raspberry Pi has 41, also if it says 0; where `oui` is one of Raspberry Pi's, 0 means it, too. Default: all.
    pub arch: Vec<u16>,
    /// `oui`: how the MAC address begins. Default: anyhow.
    pub oui: Option<[u8; 3]>,
    /// `file`: like [`Profile::boot_file`].
    pub file: String,
}

impl BootFileRule {
    /// The kinds of firmware it is for; none: all.
    #[must_use]
    pub fn kinds(&self) -> Vec<Firmware> {
        kinds(&self.arch, self.oui)
    }
}

/// The kinds of firmware that machines have whose architectures have these numbers, and whose MAC addresses begin
/// like that.
pub(super) fn kinds(arch: &[u16], oui: Option<[u8; 3]>) -> Vec<Firmware> {
    let kinds = |code: &u16| match Firmware::from_arch(*code) {
        // What is not assigned is not told apart.
        Firmware::Other => vec![Firmware::Other, Firmware::HttpOther],
        Firmware::Bios if oui.is_some_and(is_raspberry_pi) => vec![Firmware::RaspberryPi],
        kind => vec![kind],
    };
    arch.iter().flat_map(kinds).collect()
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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// `mac`: addresses, in file order. Empty only if there is `uuid`, `relay_port` or a serial number.
    pub macs: Vec<Mac>,
    /// `uuid`: in the order of the digits in the text, as RFC 4122 has it. SMBIOS and PXE (options 61 and 97) have
    /// the first three fields little-endian; turning them is up to the reader. No two are the same in either order, and
    /// none is all zeros or all ones. Default: none.
    pub uuid: Option<[u8; 16]>,
    /// The serial number that it is expected by, of a machine of the registry.
    pub serial: Option<String>,
    /// `relay_port`: the switch port it is connected to. Default: none.
    pub relay_port: Option<RelayPort>,
    /// `name`: a host name without dots, at most 63 bytes, as written; unique without regard to case, and not
    /// something that could be read as a MAC address. Default: none.
    pub name: Option<String>,
    /// `ip`: its address. In one of the subnets if there are any, but not their router, network or broadcast
    /// address. Default: one from a pool.
    pub ip: Option<Ipv4Addr>,
    /// `profile`: it exists. Default: that of the last `[[group]]` that has one, or the one in `[default]`.
    pub profile: Option<String>,
    /// `args`: behind those of the profile and of the groups; one line, at most 2000 bytes with them. Default: empty.
    pub args: String,
    /// `documents`: each before that of the same name of a group or the profile. Default: none.
    pub documents: Option<Box<Documents>>,
    /// `labels`: what groups are chosen by, and what templates may say. Default: none.
    pub labels: BTreeMap<String, String>,
    /// `boot_file`: like [`Profile::boot_file`], before it. Default: none.
    pub boot_file: Option<String>,
    /// `options`: see [`CustomOption`]. Default: none.
    pub options: Vec<CustomOption>,
    /// `bmc`: how it is switched on and off. Default: by nobody.
    pub bmc: Option<Box<Bmc>>,
    /// The image that the agent writes to its disk, of a machine of the registry. Default: none.
    pub image: Option<Box<DiskImage>>,
    /// What it consists of, as the agent has reported it, of a machine of the registry. Default: not known.
    pub inventory: Option<Arc<Inventory>>,
}

/// `relay_port`: what a relay adds to the messages of one port (DHCP option 82), each 1 to 253 bytes.
///
/// At most one machine's port fits a message: if one has no `remote_id`, no other has its `circuit_id`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelayPort {
    /// `circuit_id`, or the text itself: sub-option 1.
    pub circuit_id: Vec<u8>,
    /// `remote_id`: sub-option 2. Default: any, or none.
    pub remote_id: Option<Vec<u8>>,
}

impl RelayPort {
    /// As a relay names it.
    #[must_use]
    pub fn seen(&self) -> PortSeen<'_> {
        (&self.circuit_id, self.remote_id.as_deref())
    }
}
