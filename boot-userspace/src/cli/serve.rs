//! `xpxe serve`: puts the parts together and runs them.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;
use tokio::time::interval;
use tracing::{info, warn};

use crate::cli::host::{Misfits, misfits};
use crate::cli::keeper::{Keeper, Kept};
use crate::cli::limit::Limit;
use crate::cli::log::{self, LogFormat};
use crate::cli::notify;
use crate::cli::signals::Signals;
use crate::cli::watch::watch;
use crate::config::{self, Config, DhcpRole, FastPath as Hook, Interface, Profile};
use crate::engine::Engine;
use crate::engine::policy::{Policy, Port};
use crate::engine::roster::Roster;
use crate::engine::script::ScriptBook;
use crate::fastpath::{
    self, AsyncEvents, Attached, FastPath, Found, NoPermission, NotInBpffs, Sizes, Tables, Transfers, Wanted,
};
use crate::files::BootFiles;
use crate::host::clock::now;
use crate::host::descriptors;
use crate::host::link::{self, Link};
use crate::host::memory;
use crate::host::vlan;
use crate::http::metrics::Sources;
use crate::http::{self, Site};
use crate::io::daemon::Daemon;
use crate::io::sockets::Sockets;
use crate::io::tftp::{self, InKernel, TftpServer};
use crate::io::unheard;
use crate::store::Store;

/// The flags.
#[derive(Debug, clap::Args)]
pub struct Serve {
    /// The configuration file [default: /etc/xpxe/xpxe.toml, where it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Serve this interface (may be given again); without a configuration file, or instead of its interfaces
    #[arg(long = "interface", value_name = "IF")]
    interfaces: Vec<String>,
    /// DHCP on the interfaces given by --interface [default without a file: proxy]
    #[arg(long, value_enum)]
    dhcp: Option<Role>,
    /// Kernel that machines without a profile boot
    #[arg(long, value_name = "FILE")]
    kernel: Option<PathBuf>,
    /// Initial RAM disk for --kernel (may be given again)
    #[arg(long, value_name = "FILE", requires = "kernel")]
    initrd: Vec<PathBuf>,
    /// The same as --dhcp off
    #[arg(long, conflicts_with = "dhcp")]
    disable_dhcp_proxy: bool,
    /// What log lines look like
    #[arg(long, value_enum, default_value = "text")]
    log_format: LogFormat,
    /// Also log what the kernel half says (for its developers)
    #[arg(long)]
    kernel_log: bool,
    /// Arguments for the kernel, behind `--`
    #[arg(last = true, value_name = "KERNEL ARGS")]
    args: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Role {
    /// Addresses and boot files
    Server,
    /// Boot files beside another DHCP server
    Proxy,
    /// No DHCP
    Off,
}

impl Serve {
    pub(super) fn run(self) -> Result<ExitCode> {
        let limit = log::start(self.log_format);
        descriptors::raise_limit();
        let kernel_log = self.kernel_log;
        let (config, files) = self.settings()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(serve(config, files, kernel_log, limit))?;
        Ok(ExitCode::SUCCESS)
    }

    /// The file's settings with what the flags change.
    fn settings(&self) -> Result<(Config, BootFiles)> {
        let default = Path::new(super::CONFIG);
        let path = self
            .config
            .as_deref()
            .or_else(|| (self.interfaces.is_empty() || default.exists()).then_some(default));
        let mut config = match path {
            Some(path) => config::load(path)?,
            None => Config::empty(),
        };
        let role = match self.dhcp {
            _ if self.disable_dhcp_proxy => Some(DhcpRole::Off),
            Some(Role::Server) => Some(DhcpRole::Server),
            Some(Role::Proxy) => Some(DhcpRole::Proxy),
            Some(Role::Off) => Some(DhcpRole::Off),
            None => None,
        };
        if !self.interfaces.is_empty() {
            let fallback = role.unwrap_or(if path.is_some() { DhcpRole::Server } else { DhcpRole::Proxy });
            let known = std::mem::take(&mut config.interfaces);
            config.interfaces = self
                .interfaces
                .iter()
                .map(|name| {
                    known.iter().find(|interface| &interface.name == name).cloned().unwrap_or_else(|| {
                        Interface {
                            name: name.clone(),
                            dhcp: fallback,
                            fast_path: Hook::Auto,
                            router_advertisement: true,
                        }
                    })
                })
                .collect();
        }
        if let Some(role) = role {
            config.interfaces.iter_mut().for_each(|interface| interface.dhcp = role);
        }
        if config.subnets.is_empty()
            && config.interfaces.iter().any(|interface| interface.dhcp == DhcpRole::Server)
        {
            bail!(
                "dhcp = \"server\" needs at least one [[subnet]] to give addresses from: write a configuration file and name it with --config, or use --dhcp proxy beside another DHCP server"
            );
        }
        let mut files = BootFiles::configured(&config);
        if let Some(kernel) = &self.kernel {
            let mut name = |path: &Path| -> Result<String> {
                let file = path
                    .file_name()
                    .and_then(|name| name.to_str())
                    .ok_or_else(|| anyhow!("{} is not a file", path.display()))?;
                if !path.is_file() {
                    bail!("{} is not a file: name the kernel and initrd to boot", path.display());
                }
                files.put(file, path.to_path_buf());
                Ok(file.to_owned())
            };
            let kernel = name(kernel)?;
            let initrd = self.initrd.iter().map(|path| name(path)).collect::<Result<Vec<_>>>()?;
            let args = self.args.join(" ");
            let profile = Profile { kernel, initrd, args, boot_file: None, options: Vec::new() };
            config.profiles.insert(COMMAND_LINE.to_owned(), profile);
            config.default.profile = Some(COMMAND_LINE.to_owned());
        } else if !self.args.is_empty() {
            for profile in config.profiles.values_mut() {
                profile.args = format!("{} {}", profile.args, self.args.join(" ")).trim().to_owned();
            }
        }
        Ok((config, files))
    }
}

/// Name of the profile that the flags make.
const COMMAND_LINE: &str = "command-line";

async fn serve(config: Config, files: BootFiles, kernel_log: bool, limit: Limit) -> Result<()> {
    // Before anything is started: a signal must never find the daemon unprepared.
    let signals = Signals::listen()?;
    let files = Arc::new(files);
    let links = config
        .interfaces
        .iter()
        .map(|interface| Ok(link::find(&interface.name)?))
        .collect::<Result<Vec<Link>>>()?;
    let Misfits { errors, warnings } = misfits(&config, &link::addresses()?);
    if !errors.is_empty() {
        bail!("{}", errors.join("\n"));
    }
    warnings.iter().for_each(|sentence| warn!("{sentence}"));
    let http_socket = http::reserve(config.http.listen).with_context(|| in_use(config.http.listen))?;
    let http_port = http_socket.local_addr()?.port();
    // Another server is named before anything is changed. The ports themselves are for those who can answer at once.
    let mut beside = HashSet::new();
    for (interface, link) in config.interfaces.iter().zip(&links) {
        if interface.dhcp != DhcpRole::Off && Sockets::open(link, interface.dhcp)?.is_beside() {
            beside.insert(link.index);
        }
        tftp::bind(link)?;
    }
    let config = Arc::new(config);

    let store = Store::open(&config.state_dir).await?;
    let admin = http::admin::listen(&config.state_dir)?;
    let interfaces = config.interfaces.iter().zip(&links);
    let ports = interfaces.map(|(interface, link)| port(&config, interface, link, http_port)).collect();
    let loader =
        |firmware| files.loader_for(firmware).map(str::to_owned).map_err(|missing| missing.to_string());
    let policy = Policy::new(Arc::clone(&config), ports, loader);
    let roster = Roster::default();
    let mut engine = Engine::new(policy, &store.leases().await?, roster.clone(), now());

    for link in &links {
        fastpath::refuse_another(&config.pin_dir, (&link.name, link.index))?;
    }
    let Started { tables, events, mut hooks, transfers } = start_fast_path(&config, &mut engine, kernel_log)?;
    let tftp = tftp::prepare(&config, Arc::clone(&files), roster.clone(), transfers)?;
    let mut daemon = Daemon::new(engine, store, beside, tables);
    let adopted = hooks.as_ref().is_some_and(|fast_path| matches!(fast_path.found, Found::Tables { .. }));
    let stale = daemon.fill_tables(adopted).await?;
    if stale > 0 {
        info!("removed {stale} entries from the kernel's tables that the configuration no longer has");
    }
    if let Some(fast_path) = &mut hooks {
        for (interface, link) in config.interfaces.iter().zip(&links) {
            attach(&config.pin_dir, interface, link, fast_path)?;
        }
    }
    memory::give_back();

    // DHCP last: whom it answers goes on to the others.
    let tftp = tftp.open(&config, &links)?;
    let listener = http::listen(http_socket).with_context(|| in_use(config.http.listen))?;
    let mut sockets = Vec::new();
    for (interface, link) in config.interfaces.iter().zip(&links) {
        if interface.dhcp != DhcpRole::Off {
            let opened = Sockets::open(link, interface.dhcp)?;
            let name = &interface.name;
            opened.say_beside(name);
            if opened.is_beside() && interface.fast_path != Hook::Off {
                info!(
                    interface = name,
                    "{name}: the fast path is for TFTP only: requests that it answered, the other server would not hear"
                );
            }
            sockets.push(opened);
        }
    }

    let readiness = http::Readiness::default();
    if hooks.is_none() && config.interfaces.iter().any(|interface| interface.fast_path != Hook::Off) {
        readiness
            .add_note("there is no fast path, the daemon answers everything; the log says why".to_owned());
    }
    let tallies: Vec<_> = tftp.iter().map(TftpServer::tally).collect();
    if hooks.is_some() {
        let has_kernel = |interface: &&Interface| interface.fast_path != Hook::Off;
        let watched = config.interfaces.iter().zip(&tallies).filter(|(interface, _)| has_kernel(interface));
        tokio::spawn(unheard::watch(daemon.asks(), watched.map(|(_, tally)| tally.clone()).collect()));
    }
    let keeper = Keeper {
        config: Arc::clone(&config),
        http_port,
        kept: links.iter().zip(&tftp).map(|(link, tftp)| Kept::new(link.clone(), tftp.relinks())).collect(),
        roster: roster.clone(),
        dhcp: daemon.relinks(),
        fast_path: hooks,
        readiness: readiness.clone(),
    };
    for (link, server) in links.iter().zip(tftp) {
        let (name, readiness) = (link.name.clone(), readiness.clone());
        tokio::spawn(async move {
            let ended = tokio::spawn(server.run()).await;
            let why = format!("the TFTP server of {name} has ended by itself ({ended:?}): restart xpxe");
            readiness.tell_trouble(&format!("TFTP on {name}"), Some(why));
        });
    }
    let scripts = Arc::new(ScriptBook::new(Arc::clone(&config), roster.clone())?);
    let trusted_proxies = config.http.trusted_proxies.clone().into();
    let site = Site { files, roster, scripts, trusted_proxies, readiness: readiness.clone() };
    let connections = Arc::<http::Tally>::default();
    let sources = Sources { asks: daemon.asks(), http: Arc::clone(&connections), tftp: tallies };
    let routes = http::router(site).merge(http::metrics::router(sources));
    let settings = config.http.clone();
    let http = tokio::spawn(async move { http::serve(listener, routes, &settings, connections).await });
    tokio::spawn(http::admin::serve(admin, http::admin::router(daemon.asks())));
    tokio::spawn(watch(readiness.clone(), daemon.asks(), config.state_dir.clone()));
    let dhcp = tokio::spawn(daemon.run(sockets, events));
    readiness.set_started();

    let names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    info!(interfaces = names.join(","), http = %config.http.listen, "ready");
    notify::ready();
    tokio::spawn(keep_short(limit));
    tokio::spawn(keeper.run());
    tokio::select! {
        () = signals.end() => {}
        // A bug: whoever started us starts us again, and the kernel half goes on meanwhile.
        ended = http => bail!("the HTTP server ended by itself: {ended:?}"),
        ended = dhcp => bail!("the DHCP server ended by itself: {ended:?}"),
    }
    // So that nobody takes it for a daemon that has died; the next one replaces it anyway.
    std::fs::remove_file(http::admin::socket(&config.state_dir)).ok();
    info!("stopped; what the kernel half knows it goes on answering (xpxe detach removes it)");
    Ok(())
}

fn in_use(address: SocketAddr) -> String {
    format!("HTTP cannot listen on {address}: stop what does, or set listen in [http]")
}

/// Keeps the log within its limit from now on.
async fn keep_short(limit: Limit) {
    limit.begin();
    let mut second = interval(Duration::from_secs(1));
    loop {
        second.tick().await;
        limit.next_second();
    }
}

/// The kernel half, as far as there is one.
#[derive(Default)]
struct Started {
    tables: Option<Tables>,
    events: Option<AsyncEvents>,
    hooks: Option<FastPath>,
    transfers: InKernel,
}

/// Loads the kernel half and takes over what an earlier daemon left, where any interface wants it.
fn start_fast_path(config: &Config, engine: &mut Engine, kernel_log: bool) -> Result<Started> {
    if config.interfaces.iter().all(|interface| interface.fast_path == Hook::Off) {
        let left = Transfers::inherit(&config.pin_dir)?;
        let detached = fastpath::detach(&config.pin_dir)?;
        if !detached.links.is_empty() {
            info!("fast_path is off: removed the programs that an earlier daemon left");
        }
        let transfers = InKernel { left, ..InKernel::default() };
        return Ok(Started { transfers, ..Started::default() });
    }
    let sizes = Sizes::of(config.fast_path_memory);
    let (mut fast_path, mut tables, transfers) = match FastPath::start(&config.pin_dir, kernel_log, sizes) {
        Ok(started) => started,
        // An optimisation, never a dependency, where nobody insists on it.
        Err(error) if is_optional(config) && !error.is::<NoPermission>() && !error.is::<NotInBpffs>() => {
            warn!(
                "no fast path on Linux {}: {error:#}. The daemon answers everything: slower, and not while it restarts",
                fastpath::kernel_release()
            );
            return Ok(Started::default());
        }
        Err(error) => return Err(error),
    };
    match fast_path.found {
        Found::Nothing => {}
        Found::Tables { hosts, silent } => {
            let adopted = engine.adopt(&tables.hosts(), now());
            info!(
                hosts,
                silent,
                "adopted the kernel's tables: {hosts} machines, of which {adopted} were new; the last daemon was seen {silent} s ago"
            );
        }
        Found::OtherVersion { abi_version } => {
            let which = abi_version.map_or_else(String::new, |version| format!(" ({version})"));
            warn!("the kernel's tables were of another version{which} and have been replaced");
        }
    }
    if kernel_log {
        fast_path.follow_log()?;
    }
    let mut events = tables.take_events();
    if let Some(events) = &mut events {
        let mut missed = 0;
        while let Some(event) = events.next_now() {
            engine.kernel_answered(&event, now());
            missed += 1;
        }
        if missed > 0 {
            info!("the kernel half answered {missed} packets while no daemon was running");
        }
    }
    let events = events.map(fastpath::Events::into_async).transpose()?;
    Ok(Started {
        tables: Some(tables),
        events,
        hooks: Some(fast_path),
        transfers: InKernel { live: Some(transfers), left: None },
    })
}

/// No interface insists on a hook.
fn is_optional(config: &Config) -> bool {
    config.interfaces.iter().all(|interface| matches!(interface.fast_path, Hook::Auto | Hook::Off))
}

/// Puts the kernel half's programs on an interface, or takes an earlier daemon's off, and says which it has.
pub(super) fn attach(
    pin_dir: &Path,
    interface: &Interface,
    link: &Link,
    fast_path: &mut FastPath,
) -> Result<()> {
    let is_veth = link::is_veth(link).unwrap_or(false);
    // Where the kernel does not tell, who asks for XDP gets it.
    let is_deaf = is_veth && !link::peer_has_native_xdp(link).unwrap_or(true);
    let wanted = match interface.fast_path {
        Hook::Off => {
            fast_path.release(pin_dir, &interface.name)?;
            return Ok(());
        }
        Hook::Auto if is_veth => Wanted::AutoTc,
        Hook::Auto => Wanted::Auto,
        Hook::Xdp if is_deaf => Wanted::AutoTc,
        Hook::Xdp => Wanted::Xdp,
        Hook::Tc => Wanted::Tc,
    };
    let name = &interface.name;
    let attached = fast_path.attach(pin_dir, (name, link.index), wanted)?;
    let Attached { xdp, tc, adopted, no_xdp, no_tc } = attached;
    let how = if adopted { "exchanged the running programs for this version's" } else { "attached" };
    match (xdp, tc) {
        (true, true) => info!(interface = name, xdp, tc, adopted, "{name}: {how} (XDP and TC)"),
        (true, false) => info!(interface = name, xdp, tc, adopted, "{name}: {how} (XDP)"),
        (false, true) => info!(interface = name, xdp, tc, adopted, "{name}: {how} (TC)"),
        (false, false) => {
            warn!(interface = name, xdp, tc, "{name}: no fast path, the daemon answers everything");
        }
    }
    if let Some(why) = no_xdp {
        let instead = if tc { ", so TC answers" } else { "" };
        warn!(interface = name, "{name}: no XDP{instead}: {why}");
    }
    if let Some(why) = no_tc {
        warn!(
            interface = name,
            "{name}: no TC hook, which needs Linux 6.6 (this is {}): {why}",
            fastpath::kernel_release()
        );
    }
    if xdp && vlan::is_stripped(name).unwrap_or(false) {
        let says = format!(
            "{name}: frames with VLAN tags look untagged to XDP and are answered as such: where there are any, run \
             ethtool -K {name} rxvlan off, or set fast_path = \"tc\""
        );
        if vlan::has_interfaces(name) {
            warn!(interface = name, "{says}");
        } else {
            info!(interface = name, "{says}");
        }
    }
    if interface.fast_path == Hook::Xdp && is_deaf {
        warn!(
            interface = name,
            "{name}: TC instead of XDP, because the other end of this veth runs no native XDP program, and answers by \
             XDP would be lost there: give it one before xpxe starts, or set fast_path = \"tc\""
        );
    } else if wanted == Wanted::AutoTc {
        info!(
            interface = name,
            "{name}: TC only, because on a veth answers by XDP arrive only if the other end of {name} runs a \
             native XDP program: where it does, set fast_path = \"xdp\""
        );
    } else if xdp && is_veth {
        warn!(
            interface = name,
            "{name}: answers by XDP arrive only if the other end of {name} runs a native XDP program: \
             if machines hear nothing, set fast_path = \"tc\""
        );
    }
    Ok(())
}

/// An interface as the engine sees it.
pub(super) fn port(config: &Config, interface: &Interface, link: &Link, http_port: u16) -> Port {
    Port {
        ifindex: link.index,
        name: link.name.clone(),
        mac: link.mac,
        addresses: link.addresses.clone(),
        role: interface.dhcp,
        http: advertised(config, link, http_port),
    }
}

/// Where an interface's machines find our HTTP.
fn advertised(config: &Config, link: &Link, port: u16) -> SocketAddrV4 {
    if let Some(SocketAddr::V4(address)) = config.http.advertise {
        return address;
    }
    let own = link.addresses.iter().map(ipnet::Ipv4Net::addr);
    // The address in a subnet of ours is the one its machines can reach.
    let served =
        own.clone().find(|address| config.subnets.iter().any(|subnet| subnet.cidr.contains(address)));
    let address = match config.http.listen {
        SocketAddr::V4(listen) if !listen.ip().is_unspecified() => *listen.ip(),
        _ => served.or_else(|| own.clone().next()).unwrap_or(Ipv4Addr::UNSPECIFIED),
    };
    SocketAddrV4::new(address, port)
}
