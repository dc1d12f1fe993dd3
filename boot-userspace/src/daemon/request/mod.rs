//! What HTTP, the command line and the daemon's own watchers may ask the event loop.

mod boots;
mod events;
mod import;
mod machines;
mod parameters;
mod webhooks;

use std::sync::Arc;

use boot_common::tables::Hook;
use boot_common::{Mac, Reason};
use tokio::sync::oneshot;

pub use boots::Boots;
pub use events::{EventStream, Reader};
pub use import::{ImportItem, Imported, merge};
pub use machines::{
    Advance, Boot, Census, Change, MachineChanges, Page, PowerAsk, PowerCounts, Powered, Reading,
    RegistryAsk, RegistryError, RegistryHandle, Reply, View, WantedChanges, is_of_preflight,
    mac_of_preflight,
};
pub use parameters::{ParametersAsk, ParametersError, ParametersHandle, WAITING as WAITING_CHANGES};
pub use webhooks::{DeadLetter, HookView, Webhooks, WebhooksAsk, WebhooksEnds, WebhooksError, WhichLetters};

use crate::store::StoreError;
use boot_engine::config::{Config, Machine};
use boot_engine::leases::Held;
use boot_engine::leases::Lease;
use boot_engine::leases::Pool;
use boot_engine::leases::{Entry, Outcome, Refusal, Shown, Which};
use boot_engine::machines::{ChangeError, Life, MachineId};
use boot_engine::policy::Loaders;
use boot_engine::reload::Changes;

/// Asks for a reload, and gets what it has changed, or every problem.
pub type ReloadRequest = oneshot::Sender<Result<Changes, Vec<String>>>;

/// What an operator, or who watches, wants, and where the answer goes.
#[derive(Debug)]
pub enum Ask {
    /// Every lease, in the order of the addresses.
    List(oneshot::Sender<Result<Vec<Shown>, AskFailure>>),
    /// What is stored has been read for that.
    Listed(Result<Vec<Lease>, StoreError>, oneshot::Sender<Result<Vec<Shown>, AskFailure>>),
    /// Free an address, or all of a machine; the answer is the leases as they were.
    Delete(Which, oneshot::Sender<Result<Vec<Shown>, AskFailure>>),
    /// Take over leases, or only say what would become of them.
    Import {
        /// The leases.
        entries: Vec<Entry>,
        /// Change nothing.
        dry_run: bool,
        /// Gets what became of each.
        reply: oneshot::Sender<Result<Vec<Outcome>, AskFailure>>,
    },
    /// Serve by another configuration.
    Reload {
        /// It names the same interfaces as before.
        config: Arc<Config>,
        /// The boot files that there are now.
        loaders: Loaders,
        /// Gets whether that is done.
        reply: oneshot::Sender<Result<(), AskFailure>>,
    },
    /// What is stored has been read for that.
    ReadForReload {
        /// The configuration.
        config: Arc<Config>,
        /// The boot files.
        loaders: Loaders,
        /// What is stored.
        stored: Result<Vec<Lease>, StoreError>,
        /// Gets whether that is done.
        reply: oneshot::Sender<Result<(), AskFailure>>,
    },
    /// Add a machine of the registry, or change one that is there. It is stored already.
    PutMachine {
        /// Which, if it is there.
        id: Option<MachineId>,
        /// What it is.
        machine: Arc<Machine>,
        /// Where it is in its life.
        life: Life,
        /// Gets which it is.
        reply: oneshot::Sender<Result<MachineId, ChangeError>>,
    },
    /// Remove a machine of the registry.
    RemoveMachine(MachineId, oneshot::Sender<()>),
    /// Have the kernel half leave a machine to the daemon, or none any more. Gets whether that is done: one at a time.
    Watch(Option<Mac>, oneshot::Sender<bool>),
    /// How packets ended at each hook.
    Packets(oneshot::Sender<Vec<(Hook, Reason, u64)>>),
    /// What has been counted.
    Stats(oneshot::Sender<Stats>),
    /// Why no lease can be stored, if none can.
    Trouble(oneshot::Sender<Option<String>>),
}

/// What has been counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// How packets ended at each hook: since the kernel half was loaded, and in the daemon since its start.
    pub packets: Vec<(Hook, Reason, u64)>,
    /// How many machines have an address in each subnet.
    pub held: Vec<Held>,
    /// How full each subnet's pools are.
    pub pools: Vec<Pool>,
    /// How often leases could not be stored.
    pub store_failures: u64,
    /// How many commands wait for the disk behind the commit that is under way.
    pub gathered: usize,
    /// How often so many waited that packets had to wait, too.
    pub gathered_full: u64,
}

/// Why an operator does not get what he wants.
#[derive(Debug, thiserror::Error)]
pub enum AskFailure {
    /// The engine does not allow it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be read or stored, and nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
