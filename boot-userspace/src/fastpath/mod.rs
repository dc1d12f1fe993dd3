//! The only module that knows aya: the kernel half as the daemon sees it.
//!
//! Programs, links and tables are pinned, so they go on answering while the daemon is away. [`FastPath::start`]
//! adopts what an earlier daemon left, or begins anew when that was built for other tables.

mod attach;
mod events;
mod load;
mod pins;
mod present;
mod refusal;
mod sys;
mod tables;
mod transfers;

use std::path::Path;

use anyhow::Result;
use aya::Ebpf;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::host::lock::Lock;

/// Why a table did not take an entry.
pub use aya::maps::MapError as TableError;

pub use crate::fastpath::attach::{Attached, Wanted};
pub use crate::fastpath::events::{AsyncEvents, Events};
pub use crate::fastpath::load::{NotInBpffs, OBJECT, load};
pub use crate::fastpath::pins::{
    Detached, PinsDenied, PinsInUse, Temporary, detach, keep_daemons_out, lock, remove,
};
pub use crate::fastpath::present::refuse_another;
pub use crate::fastpath::refusal::{NoPermission, kernel_release};
pub use crate::fastpath::tables::Tables;
pub use crate::fastpath::transfers::{Published, Sizes, Transfers};

/// What was there when the daemon started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// Tables of the same version, with this many machines; the last sign of life was so many seconds ago.
    Tables {
        /// Machines in the table.
        hosts: usize,
        /// Seconds since the heartbeat.
        silent: u64,
    },
    /// Tables of another version, which were removed.
    OtherVersion {
        /// That version, if even that can be read.
        abi_version: Option<u32>,
    },
}

/// The kernel half, loaded and with its tables open.
pub struct FastPath {
    ebpf: Ebpf,
    /// Nobody else writes to the tables meanwhile.
    _pins: Lock,
    /// What was there before.
    pub found: Found,
}

impl FastPath {
    /// Loads the programs over the tables pinned in `pin_dir`, creating what is missing. `with_log`: with messages for
    /// [`follow_log`](Self::follow_log). `sizes`: room for images.
    ///
    /// # Errors
    /// No bpffs, no permission, another daemon's `pin_dir`, or a kernel that refuses the programs; the text says what to
    /// do.
    pub fn start(pin_dir: &Path, with_log: bool, sizes: Sizes) -> Result<(Self, Tables, Transfers)> {
        let pins = pins::take(pin_dir)?;
        let found = load::look(pin_dir)?;
        if transfers::fit(pin_dir, sizes)? {
            tracing::warn!("fast_path_memory has changed: running TFTP transfers start over");
        }
        let mut ebpf = load::load(pin_dir, with_log, sizes)?;
        let tables = Tables::open(&mut ebpf)?;
        let transfers = Transfers::open(&mut ebpf, sizes)?;
        Ok((Self { ebpf, _pins: pins, found }, tables, transfers))
    }

    /// Takes the programs off an interface, if an earlier daemon left any there.
    ///
    /// # Errors
    /// When a pin cannot be removed.
    pub fn release(&mut self, pin_dir: &Path, interface: &str) -> Result<()> {
        attach::release(pin_dir, interface)
    }

    /// Puts the programs on an interface, given by name and number: by an atomic exchange where an earlier daemon's link is there.
    ///
    /// # Errors
    /// When `wanted` insists on a hook that the interface does not have, or neither hook can be had.
    pub fn attach(&mut self, pin_dir: &Path, interface: (&str, u32), wanted: Wanted) -> Result<Attached> {
        attach::attach(&mut self.ebpf, pin_dir, interface, wanted)
    }

    /// Passes the kernel half's log messages on to tracing, for as long as the runtime lives.
    ///
    /// # Errors
    /// Outside of a tokio runtime, or when the programs were built without messages.
    pub fn follow_log(&mut self) -> Result<()> {
        let logger = aya_log::EbpfLogger::init(&mut self.ebpf)?;
        #[expect(unsafe_code, reason = "AsyncFd wants to know that the descriptor stays the same")]
        // SAFETY: the logger owns its ring buffer's descriptor for as long as it lives.
        let mut logger = unsafe { AsyncFd::register_with_interest(logger, Interest::READABLE) }?;
        tokio::spawn(async move {
            while let Ok(mut guard) = logger.readable_mut().await {
                guard.get_inner_mut().flush();
                guard.clear_ready();
            }
        });
        Ok(())
    }
}
