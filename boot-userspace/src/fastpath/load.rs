//! Loading the programs.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, HashMap, Map, MapData};
use aya::programs::{ProgramError, SchedClassifier, Xdp};
use aya::{Ebpf, EbpfError, EbpfLoader};
use boot_common::tables::{ABI_VERSION, Host, HostKey, Settings, name};

use crate::fastpath::{Found, Sizes, pins};
use crate::files::human_size;
use crate::io::memory;
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
    let mut ebpf = loader.load(OBJECT).map_err(|error| explain(error, sizes))?;
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
    let pinned = Pinned::of(read().map(|settings| (settings, settings.abi_version)));
    if let Pinned::Whole(found) = pinned {
        return tables(pin_dir, &found);
    }
    pins::detach(pin_dir).context("removing the tables of another version of xpxe")?;
    // That took the directory away, too.
    pins::prepare(pin_dir)?;
    match pinned {
        Pinned::Unfinished => {
            info!(
                "an earlier start ended before its tables in the kernel were filled: they have been made anew"
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
    let silent = crate::io::clock::boot().saturating_sub(Duration::from_nanos(found.heartbeat));
    Ok(Found::Tables { hosts: hosts.keys().count(), silent: silent.as_secs() })
}

/// The version of the tables that are pinned there.
pub(super) fn look_only(pin_dir: &Path) -> Option<u32> {
    let map = Map::Array(MapData::from_pin(pin_dir.join(name::SETTINGS)).ok()?);
    let settings = Array::<_, Settings>::try_from(map).ok()?.get(&0, 0).ok()?;
    Some(settings.abi_version)
}

fn explain(error: EbpfError, sizes: Sizes) -> anyhow::Error {
    match errno(&error) {
        Some(libc::EPERM) => anyhow!(NoPermission),
        Some(libc::ENOMEM) => anyhow!(too_large(sizes.memory(), memory::available())),
        _ => anyhow!(error).context("loading the kernel half"),
    }
}

/// What to do when there is no memory for so many bytes of images, which is nearly all that the tables are.
fn too_large(wanted: u64, available: Option<u64>) -> String {
    const MIB: u64 = 1 << 20;
    // Half of what there is: the daemon needs some, and so does whatever else runs here.
    let less = available.map_or(wanted / 2, |available| (available / 2).min(wanted / 2)).max(MIB);
    let there = available.map_or_else(String::new, |bytes| format!(" ({} are available)", human_size(bytes)));
    format!(
        "there is no memory for boot files in the kernel half, {}{there}; write fast_path_memory = \"{}M\" or \
         less, or give the service more",
        human_size(wanted),
        less / MIB
    )
}

fn refused(error: ProgramError) -> anyhow::Error {
    if errno(&error) == Some(libc::EPERM) {
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

/// The system's error in the chain. The verifier refuses with EACCES, and that with a log.
fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use aya::maps::MapError;

    use super::*;

    #[test]
    fn too_large_a_memory_says_how_much_there_is_and_what_to_write() {
        let says = too_large(4 << 30, Some(1_000_000_000));
        assert!(
            says.contains("4.3 GB (1.0 GB are available); write fast_path_memory = \"476M\" or"),
            "{says}"
        );
        // A limit of the service's own, not of the machine's.
        assert!(too_large(256 << 20, Some(8 << 30)).contains("\"128M\" or less"));
        assert!(too_large(256 << 20, None).contains(", 268.4 MB; write fast_path_memory = \"128M\""));
        assert!(too_large(1 << 20, Some(0)).contains("\"1M\""));
    }

    #[test]
    fn tables_that_nobody_has_filled_yet_are_of_no_other_version() {
        let of = |read: Result<u32>| Pinned::of(read.map(|version| ((), version)));
        assert!(matches!(of(Ok(ABI_VERSION)), Pinned::Whole(())));
        assert!(matches!(of(Ok(0)), Pinned::Unfinished));
        assert!(matches!(of(Ok(ABI_VERSION + 1)), Pinned::Other(Some(other)) if other == ABI_VERSION + 1));
        assert!(matches!(of(Err(anyhow!("of another size"))), Pinned::Other(None)));
    }

    #[test]
    fn what_the_kernel_says_decides_what_we_say() {
        let says = |errno| {
            let io_error = std::io::Error::from_raw_os_error(errno);
            let error = MapError::CreateError { name: name::IMAGES.to_owned(), io_error };
            explain(EbpfError::MapError(error), Sizes::of(64 << 20)).to_string()
        };
        assert!(says(libc::ENOMEM).contains("for boot files in the kernel half, 67.1 MB"));
        assert!(says(libc::EPERM).contains("CAP_BPF"));
        assert_eq!(says(libc::EINVAL), "loading the kernel half");
    }
}
