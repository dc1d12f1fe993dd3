//! The tables of TFTP: transfers, and the images that they send.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};
use aya::Ebpf;
use aya::maps::{HashMap, Map, MapData, MapError, MapInfo};
use boot_common::tables::{ABI_VERSION, name};
use boot_common::tftp::{CHUNK, Chunk, Flight, MAX_FLIGHTS, SUMS, Sums, TransferKey};

use crate::fastpath::load;
use crate::host::mapping::Mapping;

/// How large the tables are whose size follows the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Elements of `IMAGES`.
    pub chunks: u32,
    /// Elements of `SUMS`.
    pub sums: u32,
}

impl Sizes {
    /// For this many bytes of images. A sum for every 256 bytes is enough for all their blocks at twice 512.
    #[must_use]
    pub fn of(memory: u64) -> Self {
        let chunks = memory / CHUNK as u64;
        let sums = (memory / 256).div_ceil(SUMS as u64);
        Self {
            chunks: u32::try_from(chunks).unwrap_or(u32::MAX),
            sums: u32::try_from(sums).unwrap_or(u32::MAX),
        }
    }

    /// Bytes of images that they hold.
    pub(super) fn memory(self) -> u64 {
        u64::from(self.chunks) * CHUNK as u64
    }
}

/// What the daemon shares with the kernel half.
pub struct Transfers {
    /// Who may be answered in the kernel.
    pub published: Published,
    /// How far they have come.
    pub flights: Mapping<Flight>,
    /// What they are sent.
    pub images: Mapping<Chunk>,
    /// Sums of its blocks.
    pub sums: Mapping<Sums>,
}

impl Transfers {
    pub(super) fn open(ebpf: &mut Ebpf, sizes: Sizes) -> Result<Self> {
        let mut take =
            |name: &str| ebpf.take_map(name).with_context(|| format!("no table {name} in the object"));
        let published = Published::of(take(name::TRANSFERS)?)?;
        Ok(Self {
            published,
            flights: map(&take(name::FLIGHTS)?, MAX_FLIGHTS as usize)?,
            images: map(&take(name::IMAGES)?, sizes.chunks as usize)?,
            sums: map(&take(name::SUMS)?, sizes.sums as usize)?,
        })
    }
}

impl Transfers {
    /// What an earlier daemon's kernel half left in `pin_dir`. The memory stays when the pins go.
    ///
    /// # Errors
    /// When the tables cannot be mapped.
    pub fn inherit(pin_dir: &Path) -> Result<Option<Self>> {
        if !matches!(load::look_only(pin_dir), Some(ABI_VERSION)) {
            return Ok(None);
        }
        let open = |name: &str| MapData::from_pin(pin_dir.join(name));
        let (Ok(transfers), Ok(flights), Ok(images), Ok(sums)) =
            (open(name::TRANSFERS), open(name::FLIGHTS), open(name::IMAGES), open(name::SUMS))
        else {
            return Ok(None);
        };
        let count = |table: &MapData| Ok::<_, MapError>(table.info()?.max_entries() as usize);
        let (chunks, nth) = (count(&images)?, count(&sums)?);
        Ok(Some(Self {
            published: Published::of(Map::HashMap(transfers))?,
            flights: map(&Map::Array(flights), MAX_FLIGHTS as usize)?,
            images: map(&Map::Array(images), chunks)?,
            sums: map(&Map::Array(sums), nth)?,
        }))
    }
}

fn map<T: crate::host::mapping::Shared>(table: &Map, count: usize) -> Result<Mapping<T>> {
    let Map::Array(data) = table else { anyhow::bail!("a table is no array") };
    Ok(Mapping::of_table(data.fd().as_fd(), count)?)
}

/// The transfers that the kernel half answers.
#[derive(Debug)]
pub struct Published(Mutex<HashMap<MapData, TransferKey, u32>>);

impl Published {
    fn of(table: Map) -> Result<Self> {
        Ok(Self(Mutex::new(table.try_into()?)))
    }

    /// Lets the kernel half answer a transfer.
    ///
    /// # Errors
    /// As the kernel gives them; the daemon answers then.
    pub fn put(&self, key: &TransferKey, slot: u32) -> Result<(), MapError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, slot, 0)
    }

    /// Takes a transfer from the kernel half; none there is fine.
    ///
    /// # Errors
    /// As the kernel gives them.
    pub fn remove(&self, key: &TransferKey) -> Result<(), MapError> {
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key) {
            Err(MapError::KeyNotFound) => Ok(()),
            other => other,
        }
    }

    /// Every transfer that the kernel half answers, and its slot.
    #[must_use]
    pub fn all(&self) -> Vec<(TransferKey, u32)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(Result::ok).collect()
    }
}

/// Removes the pinned tables of TFTP if their sizes are not these: transfers under way start over then.
/// True when something was removed.
pub(super) fn fit(pin_dir: &Path, sizes: Sizes) -> Result<bool> {
    let size = |table: &str| MapInfo::from_pin(pin_dir.join(table)).map(|info| info.max_entries()).ok();
    let fits = |found: Option<u32>, wanted: u32| found == Some(wanted.max(1));
    if fits(size(name::IMAGES), sizes.chunks) && fits(size(name::SUMS), sizes.sums) {
        return Ok(false);
    }
    let mut removed = false;
    for table in name::TFTP {
        let pin = pin_dir.join(table);
        if pin.exists() {
            std::fs::remove_file(&pin).with_context(|| format!("removing {}", pin.display()))?;
            removed = true;
        }
    }
    Ok(removed)
}
