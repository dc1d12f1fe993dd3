//! Starting the kernel half, and putting its programs on interfaces.

use std::path::Path;

use anyhow::{Error, Result};
use tracing::{info, warn};

use crate::fastpath::{
    self, AsyncEvents, Attached, Detached, Events, FastPath, Found, NoPermission, NotInBpffs, PinsDenied,
    PinsInUse, Sizes, Tables, Transfers, Wanted,
};
use crate::host::clock::now;
use crate::host::link::{self, Link};
use crate::host::vlan;
use crate::io::tftp::InKernel;
use boot_engine::Engine;
use boot_engine::config::{Config, FastPath as Hook, Interface};

/// The kernel half, as far as there is one.
#[derive(Default)]
pub(super) struct Started {
    pub(super) tables: Option<Tables>,
    pub(super) events: Option<AsyncEvents>,
    pub(super) hooks: Option<FastPath>,
    pub(super) transfers: InKernel,
}

/// Loads the kernel half and takes over what an earlier daemon left, where any interface wants it.
pub(super) fn start_fast_path(config: &Config, engine: &mut Engine, kernel_log: bool) -> Result<Started> {
    if config.interfaces.iter().all(|interface| interface.fast_path == Hook::Off) {
        let _pins = fastpath::lock(&config.pin_dir)?;
        let (left, events) = (Transfers::inherit(&config.pin_dir)?, Events::inherit(&config.pin_dir));
        // Where there is no bpffs, nothing can have been left.
        let detached = fastpath::detach(&config.pin_dir)
            .or_else(|error| if error.is::<NotInBpffs>() { Ok(Detached::default()) } else { Err(error) })?;
        if !detached.links.is_empty() {
            info!("fast_path is off: removed the programs that an earlier daemon left");
        }
        if let Some(mut events) = events {
            hear_missed(&mut events, engine);
        }
        let transfers = InKernel { left, ..InKernel::default() };
        return Ok(Started { transfers, ..Started::default() });
    }
    let sizes = Sizes::of(config.fast_path_memory);
    let (mut fast_path, mut tables, transfers) = match FastPath::start(&config.pin_dir, kernel_log, sizes) {
        Ok(started) => started,
        // An optimisation, never a dependency, where nobody insists on it.
        Err(error) if is_optional(config) && !is_mistake(&error) => {
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
                "adopted the kernel's tables: {hosts} machines, {adopted} of them not in the store; the last daemon ran {silent} s ago"
            );
        }
        Found::OtherVersion { abi_version } => {
            let which = abi_version.map_or_else(String::new, |version| format!(" ({version})"));
            warn!("replaced the kernel's tables, which were of another version{which}");
        }
    }
    if kernel_log {
        fast_path.follow_log()?;
    }
    let mut events = tables.take_events();
    if let Some(events) = &mut events {
        hear_missed(events, engine);
    }
    let events = events.map(fastpath::Events::into_async).transpose()?;
    Ok(Started {
        tables: Some(tables),
        events,
        hooks: Some(fast_path),
        transfers: InKernel { live: Some(transfers), left: None },
    })
}

/// Reads what the kernel half has answered since the last daemon ended.
fn hear_missed(events: &mut Events, engine: &mut Engine) {
    let mut missed = 0;
    while let Some(event) = events.next_now() {
        engine.kernel_answered(&event, now());
        missed += 1;
    }
    if missed > 0 {
        info!("the kernel half answered {missed} packets while no daemon was running");
    }
}

/// Whoever set xpxe up can mend it, and has to.
fn is_mistake(error: &Error) -> bool {
    error.is::<NoPermission>()
        || error.is::<NotInBpffs>()
        || error.is::<PinsInUse>()
        || error.is::<PinsDenied>()
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
        warn!(interface = name, "{name}: no TC: {why}");
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
    let instead = if tc { "TC" } else { "the daemon" };
    if interface.fast_path == Hook::Xdp && is_deaf {
        warn!(
            interface = name,
            "{name}: {instead} instead of XDP, because the other end of this veth runs no native XDP program, and answers by \
             XDP would be lost there: give it one before xpxe starts, or set fast_path = \"tc\""
        );
    } else if wanted == Wanted::AutoTc {
        info!(
            interface = name,
            "{name}: {instead} only, because on a veth answers by XDP arrive only if the other end of {name} runs a \
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
