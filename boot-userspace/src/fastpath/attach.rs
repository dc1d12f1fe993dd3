//! Putting the programs on interfaces.

use std::path::Path;

use anyhow::{Context as _, Result, anyhow, bail};
use aya::Ebpf;
use aya::pin::PinError;
use aya::programs::links::{FdLink, LinkOrder, PinnedLink};
use aya::programs::tc::{SchedClassifierLink, TcAttachOptions};
use aya::programs::xdp::{XdpLink, XdpMode};
use aya::programs::{SchedClassifier, TcAttachType, Xdp};

use crate::fastpath::load::{TC, XDP};
use crate::fastpath::refusal::kernel_release;
use crate::fastpath::{pins, present, sys};

/// Which hooks an interface is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Both where they can be had, either where not.
    Auto,
    /// TC where it can be had.
    AutoTc,
    /// XDP in the driver, or fail.
    Xdp,
    /// TC only.
    Tc,
}

/// Which hooks an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attached {
    /// XDP in the driver.
    pub xdp: bool,
    /// TC ingress.
    pub tc: bool,
    /// An earlier daemon's programs were exchanged for ours.
    pub adopted: bool,
    /// Why there is no XDP, when it was wanted: a clause.
    pub no_xdp: Option<String>,
    /// Why there is no TC.
    pub no_tc: Option<String>,
}

pub(super) fn attach(
    ebpf: &mut Ebpf,
    pin_dir: &Path,
    (interface, ifindex): (&str, u32),
    wanted: Wanted,
) -> Result<Attached> {
    let mut attached = Attached { xdp: false, tc: false, adopted: false, no_xdp: None, no_tc: None };
    let xdp_pin = pins::link(pin_dir, "xdp", interface);
    let tc_pin = pins::link(pin_dir, "tc", interface);
    for pin in [&xdp_pin, &tc_pin] {
        // The interface it was on is gone, or has another name now.
        if sys::ifindex_of(pin).is_some_and(|other| other != ifindex) {
            drop_pin(pin)?;
        }
    }
    if matches!(wanted, Wanted::Tc | Wanted::AutoTc) {
        drop_pin(&xdp_pin)?;
    } else {
        match attach_xdp(ebpf, pin_dir, (interface, ifindex)) {
            Ok(adopted) => {
                attached.xdp = true;
                attached.adopted |= adopted;
            }
            Err(error) if wanted == Wanted::Xdp => {
                bail!("{interface} gets no XDP: {error:#}; set fast_path = \"auto\" or \"tc\" for it")
            }
            Err(error) => attached.no_xdp = Some(format!("{error:#}")),
        }
    }
    // Beside XDP too: a frame that XDP cannot make longer is answered here.
    match attach_tc(ebpf, &tc_pin, interface) {
        Ok(adopted) => {
            attached.tc = true;
            attached.adopted |= adopted;
        }
        Err(error) if wanted == Wanted::Tc => {
            bail!("{interface} gets no TC: {error:#}; set fast_path = \"auto\" or \"off\" for it")
        }
        Err(error) => attached.no_tc = Some(format!("{error:#}")),
    }
    Ok(attached)
}

pub(super) fn release(pin_dir: &Path, interface: &str) -> Result<()> {
    drop_pin(&pins::link(pin_dir, "xdp", interface))?;
    drop_pin(&pins::link(pin_dir, "tc", interface))
}

/// True when an earlier daemon's link was taken over.
fn attach_xdp(ebpf: &mut Ebpf, pin_dir: &Path, (interface, ifindex): (&str, u32)) -> Result<bool> {
    let pin = &pins::link(pin_dir, "xdp", interface);
    let program: &mut Xdp = ebpf.program_mut(XDP).context("no XDP program in the object")?.try_into()?;
    if let Some(link) = pinned(pin) {
        let id = XdpLink::try_from(link)
            .map_err(anyhow::Error::from)
            .and_then(|link| Ok(program.attach_to_link(link)?));
        if let Ok(id) = id {
            let _still_pinned = FdLink::try_from(program.take_link(id)?)?;
            return Ok(true);
        }
        // The interface it was on is gone.
        drop_pin(pin)?;
    }
    if let Some(foreign) = present::foreign_xdp(pin_dir, (interface, ifindex)) {
        bail!(
            "another XDP program is there ({foreign}), and there can be one only: take it away \
             (ip link set dev {interface} xdp off, or its own program's way)"
        );
    }
    let id = program
        .attach(interface, XdpMode::Driver)
        .map_err(|error| anyhow!("its driver has no native XDP ({})", reason(error)))?;
    let link = FdLink::try_from(program.take_link(id)?)
        .map_err(|_| anyhow!("this kernel has no XDP links (5.9 has)"))?;
    pin_link(link, pin)?;
    Ok(false)
}

/// True when an earlier daemon's link was taken over.
fn attach_tc(ebpf: &mut Ebpf, pin: &Path, interface: &str) -> Result<bool> {
    let program: &mut SchedClassifier =
        ebpf.program_mut(TC).context("no TC program in the object")?.try_into()?;
    if let Some(link) = pinned(pin) {
        let id = SchedClassifierLink::try_from(link)
            .map_err(anyhow::Error::from)
            .and_then(|link| Ok(program.attach_to_link(link)?));
        if let Ok(id) = id {
            let _still_pinned = FdLink::try_from(program.take_link(id)?)?;
            return Ok(true);
        }
        drop_pin(pin)?;
    }
    let options = TcAttachOptions::TcxOrder(LinkOrder::default());
    let id = program.attach_with_options(interface, TcAttachType::Ingress, options).map_err(|error| {
        let (error, release) = (reason(error), kernel_release());
        if has_tcx(&release) {
            anyhow!("the kernel does not put the program there ({error})")
        } else {
            anyhow!("it needs Linux 6.6, and this is {release} ({error})")
        }
    })?;
    let link = FdLink::try_from(program.take_link(id)?)?;
    pin_link(link, pin)?;
    Ok(false)
}

/// Without its pin a link ends with the process, and its program leaves the interface.
fn pin_link(link: FdLink, pin: &Path) -> Result<()> {
    match link.pin(pin) {
        Ok(_pinned) => Ok(()),
        Err(PinError::SyscallError(error)) => Err(pins::failed("pinning", pin, error.io_error)),
        Err(error) => Err(error).with_context(|| format!("pinning {}", pin.display())),
    }
}

/// Whether a kernel of this release has tcx links, as "6.1.0-49-amd64" has not.
fn has_tcx(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (6, 6),
        // Of unknown release: what it says itself has to do.
        _ => true,
    }
}

fn pinned(pin: &Path) -> Option<FdLink> {
    // The FdLink of a PinnedLink keeps the pin: only `unpin` removes it.
    PinnedLink::from_pin(pin).ok().map(FdLink::from)
}

fn drop_pin(pin: &Path) -> Result<()> {
    pins::stop(pin);
    match std::fs::remove_file(pin) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(pins::failed("removing", pin, error)),
    }
}

/// The system's words for it, without the library's wrapping.
fn reason(error: aya::programs::ProgramError) -> anyhow::Error {
    let mut source: &dyn std::error::Error = &error;
    while let Some(next) = source.source() {
        source = next;
    }
    anyhow!("{source}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_kernel_before_6_6_is_said_to_lack_the_tc_hook() {
        for (release, has) in [
            ("6.1.0-49-amd64", false),
            ("5.18.0", false),
            ("6.5.13", false),
            ("6.6.0-rc1", true),
            ("6.12.1", true),
            ("7.0-arch1", true),
            ("of unknown version", true),
        ] {
            assert_eq!(has_tcx(release), has, "{release}");
        }
    }
}
