//! What may be asked of who keeps the boot parameters that are written while xpxe runs.

use std::net::IpAddr;

use boot_engine::boot::parameters::{BootParameters, Change, Refused};
use tokio::sync::{mpsc, oneshot};

/// How many changes wait; more wait where they come from.
pub const WAITING: usize = 64;

/// Why a change is not made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ParametersError {
    /// It is wrong, or there is no room.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It cannot be kept.
    #[error("the boot parameters cannot be stored: {0}; nothing was changed")]
    Disk(String),
    /// The daemon ends.
    #[error("xpxe is stopping: ask again later")]
    Stopping,
}

/// A change, who makes it, and where the answer goes: it comes when the change is on the disk.
#[derive(Debug)]
pub struct ParametersAsk {
    /// What is changed.
    pub change: Change,
    /// Who asks.
    pub by: IpAddr,
    /// Gets whether it is done.
    pub reply: oneshot::Sender<Result<(), ParametersError>>,
}

/// What is written, and the way to who changes it. Clones are the same.
#[derive(Clone, Debug)]
pub struct ParametersHandle {
    /// As it is now.
    pub table: BootParameters,
    asks: mpsc::Sender<ParametersAsk>,
}

impl ParametersHandle {
    /// A way, and its end.
    #[must_use]
    pub fn new(table: BootParameters) -> (Self, mpsc::Receiver<ParametersAsk>) {
        let (asks, receiver) = mpsc::channel(WAITING);
        (Self { table, asks }, receiver)
    }

    /// Nothing is written, and nobody writes.
    #[must_use]
    pub fn none() -> Self {
        Self::new(BootParameters::default()).0
    }

    /// Makes a change, and waits until it is on the disk and served.
    ///
    /// # Errors
    /// Why nothing is changed.
    pub async fn change(&self, change: Change, by: IpAddr) -> Result<(), ParametersError> {
        let (reply, answer) = oneshot::channel();
        let ask = ParametersAsk { change, by, reply };
        self.asks.send(ask).await.map_err(|_| ParametersError::Stopping)?;
        answer.await.map_err(|_| ParametersError::Stopping)?
    }
}
