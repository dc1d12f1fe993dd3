//! Loading the programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::{SchedClassifier, Xdp};
use aya::{Ebpf, EbpfLoader};
use boot_common::tables::{ABI_VERSION, Host, HostKey, Settings, name};

use crate::fastpath::refusal::{not_loaded, refused};
use crate::fastpath::{Found, Sizes, pins};
use tracing::info;

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
    let mut ebpf = loader.load(OBJECT).map_err(|error| not_loaded(error, sizes))?;
    let xdp: &mut Xdp = ebpf.program_mut(XDP).context("no XDP program in the object")?.try_into()?;
    xdp.load().map_err(|error| refused(XDP, error))?;
    let tc: &mut SchedClassifier = ebpf.program_mut(TC).context("no TC program in the object")?.try_into()?;
    tc.load().map_err(|error| refused(TC, error))?;
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
    let pinned = Pinned::of(read().map(|settings| (settings, settings.abi_version)));
    if let Pinned::Whole(found) = pinned {
        return tables(pin_dir, &found);
    }
    pins::remove(pin_dir).context("removing the tables of another version of xpxe")?;
    match pinned {
        Pinned::Unfinished => {
            info!(
                "created the kernel's tables again: an earlier start was interrupted before it had filled them"
            );
            Ok(Found::Nothing)
        }
        Pinned::Other(abi_version) => Ok(Found::OtherVersion { abi_version }),
        Pinned::Whole(_) => Ok(Found::Nothing),
    }
}

/// What the pinned settings say of the tables beside them.
#[derive(Clone, Copy, Debug)]
enum Pinned<S> {
    /// They are of this version.
    Whole(S),
    /// Nothing: a table begins with zeros, and a daemon writes its settings when it has made all of them.
    Unfinished,
    /// They are of another version; none where not even the settings can be read.
    Other(Option<u32>),
}

impl<S> Pinned<S> {
    fn of(read: Result<(S, u32)>) -> Self {
        match read {
            Ok((settings, ABI_VERSION)) => Self::Whole(settings),
            Ok((_, 0)) => Self::Unfinished,
            Ok((_, other)) => Self::Other(Some(other)),
            // Settings of another size.
            Err(_) => Self::Other(None),
        }
    }
}

fn tables(pin_dir: &Path, found: &Settings) -> Result<Found> {
    let hosts =
        HashMap::<_, HostKey, Host>::try_from(Map::HashMap(MapData::from_pin(pin_dir.join(name::HOSTS))?))?;
    let silent = crate::host::clock::boot().saturating_sub(Duration::from_nanos(found.heartbeat));
    Ok(Found::Tables { hosts: hosts.keys().count(), silent: silent.as_secs() })
}

/// The version of the tables that are pinned there.
pub(super) fn look_only(pin_dir: &Path) -> Option<u32> {
    let map = Map::Array(MapData::from_pin(pin_dir.join(name::SETTINGS)).ok()?);
    let settings = Array::<_, Settings>::try_from(map).ok()?.get(&0, 0).ok()?;
    Some(settings.abi_version)
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn tables_that_nobody_has_filled_yet_are_of_no_other_version() {
        let of = |read: Result<u32>| Pinned::of(read.map(|version| ((), version)));
        assert!(matches!(of(Ok(ABI_VERSION)), Pinned::Whole(())));
        assert!(matches!(of(Ok(0)), Pinned::Unfinished));
        assert!(matches!(of(Ok(ABI_VERSION + 1)), Pinned::Other(Some(other)) if other == ABI_VERSION + 1));
        assert!(matches!(of(Err(anyhow!("of another size"))), Pinned::Other(None)));
    }
}
