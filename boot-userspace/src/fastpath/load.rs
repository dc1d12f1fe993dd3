//! Loading the programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use boot_common::tables::{ABI_VERSION, Host, HostKey, Settings, name};

use crate::fastpath::{Found, Sizes, pins};

/// The kernel half, as boot-ebpf builds it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/xpxe-kernel"));

/// Name of the XDP program.
pub(super) const XDP: &str = "xpxe_xdp";
/// Name of the TC program.
pub(super) const TC: &str = "xpxe_tc";

/// `pin_dir` is where nothing can be pinned: a mistake in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "pin_dir {} is not in a bpffs: mount one there (mount -t bpf bpf DIR) or leave pin_dir at {}/xpxe",
    .0.display(), pins::USUAL
)]
pub struct NotInBpffs(pub(super) PathBuf);

/// aya-log's number for its debug level.
const AYA_LOG_DEBUG: u8 = 4;

/// Loads both programs over the tables pinned in `pin_dir`, creating those that are missing.
///
/// # Errors
/// No permission, or the kernel refuses: the text has the verifier's last words and what to do.
pub fn load(pin_dir: &Path, with_log: bool, sizes: Sizes) -> Result<Ebpf> {
    let level = if with_log { AYA_LOG_DEBUG } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .default_map_pin_directory(pin_dir)
        .override_global("AYA_LOG_LEVEL", &level, false)
        .map_max_entries(name::IMAGES, sizes.chunks.max(1))
        .map_max_entries(name::SUMS, sizes.sums.max(1));
    let mut ebpf = loader.load(OBJECT).map_err(explain)?;
    let xdp: &mut Xdp = ebpf.program_mut(XDP).context("no XDP program in the object")?.try_into()?;
    xdp.load().map_err(refused)?;
    let tc: &mut SchedClassifier = ebpf.program_mut(TC).context("no TC program in the object")?.try_into()?;
    tc.load().map_err(refused)?;
    Ok(ebpf)
}

/// Looks at what an earlier daemon left, and removes it when it is of another version.
pub(super) fn look(pin_dir: &Path) -> Result<Found> {
    let settings = pin_dir.join(name::SETTINGS);
    if !settings.exists() {
        return Ok(Found::Nothing);
    }
    let read = || -> Result<Settings> {
        let map = Array::<_, Settings>::try_from(Map::Array(MapData::from_pin(&settings)?))?;
        Ok(map.get(&0, 0)?)
    };
    // Settings of another size are of another version too.
    let found = read().unwrap_or(Settings { abi_version: 0, daemon_pid: 0, heartbeat: 0 });
    if found.abi_version != ABI_VERSION {
        pins::detach(pin_dir).context("removing the tables of another version of xpxe")?;
        return Ok(Found::OtherVersion { abi_version: found.abi_version });
    }
    let hosts =
        HashMap::<_, HostKey, Host>::try_from(Map::HashMap(MapData::from_pin(pin_dir.join(name::HOSTS))?))?;
    let silent = crate::io::clock::boot().saturating_sub(Duration::from_nanos(found.heartbeat));
    Ok(Found::Tables { hosts: hosts.keys().count(), silent: silent.as_secs() })
}

/// The version of the tables that are pinned there.
pub(super) fn look_only(pin_dir: &Path) -> Option<u32> {
    let map = Map::Array(MapData::from_pin(pin_dir.join(name::SETTINGS)).ok()?);
    let settings = Array::<_, Settings>::try_from(map).ok()?.get(&0, 0).ok()?;
    Some(settings.abi_version)
}

fn explain(error: EbpfError) -> anyhow::Error {
    if permission(&error) { anyhow!(NoPermission) } else { anyhow!(error).context("loading the kernel half") }
}

fn refused(error: ProgramError) -> anyhow::Error {
    if permission(&error) {
        return anyhow!(NoPermission);
    }
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            let tail: Vec<&str> = log.lines().rev().take(12).collect();
            let tail: Vec<&str> = tail.into_iter().rev().collect();
            anyhow!(
                "this kernel refuses the fast path ({io_error}); set fast_path = \"off\" to go without it. The verifier's last words:\n{}",
                tail.join("\n")
            )
        }
        other => anyhow!(other).context("loading the kernel half"),
    }
}

/// The process may not load BPF programs: a mistake in how it was started, unlike a kernel that cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "loading the fast path needs the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: \
     run xpxe as root or through its systemd unit, or set fast_path = \"off\""
)]
pub struct NoPermission;

/// Whether EPERM or EACCES is anywhere in the chain. The verifier answers EACCES too, but with a log.
fn permission(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error() == Some(libc::EPERM);
        }
        next = error.source();
    }
    false
}
