//! What may be asked of who keeps the registry of machines.

use std::sync::Arc;
use std::time::Duration;

use boot_agent_protocol::{Inventory, Progress};
use boot_common::Mac;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;

use boot_engine::config::Machine;
use boot_engine::lifecycle::{Act, Observed, Order, OrderError, State, TimesInState};
use boot_engine::registry::{Query, Record, Spec, Untold};

use super::import::{ImportItem, Imported};
use crate::host::secret::Secret;
pub use crate::power::{Boot, PowerCounts, Reading};
use crate::store::{Remote, StoreError};

/// How many questions wait; more wait where they come from.
const WAITING: usize = 256;

/// How long a script waits for who keeps the registry; a database may be away.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Behind the first byte of the MACs that `xpxe preflight` invents.
const PREFLIGHT: [u8; 4] = *b"xpxe";

/// A MAC of nobody for `xpxe preflight`: locally administered, for one station (IEEE 802 section 8.4). Two bytes are random.
#[must_use]
pub fn mac_of_preflight([first, last]: [u8; 2]) -> Mac {
    let [a, b, c, d] = PREFLIGHT;
    Mac([first & 0xfc | 2, a, b, c, d, last])
}

/// Whether `xpxe preflight` has invented this MAC, so that it is no machine. Whoever else has one is not taken down.
#[must_use]
pub fn is_of_preflight(mac: Mac) -> bool {
    let Mac([first, .., last]) = mac;
    mac == mac_of_preflight([first, last])
}

/// A machine as it is shown.
#[derive(Clone, Debug)]
pub enum View {
    /// Of the registry.
    Registered {
        /// What is stored of it.
        record: Arc<Record>,
        /// What it was checked to be.
        machine: Arc<Machine>,
        /// Why it is not served, if it is not.
        shadowed: Option<String>,
        /// For how many seconds it may be in its state.
        limit: Option<u64>,
        /// How far the agent is with what it does now, as it has said last.
        progress: Option<Progress>,
    },
    /// Of the configuration: it is shown, and not changed.
    Configured(Arc<Machine>),
}

impl View {
    /// What the machine was checked to be.
    #[must_use]
    pub fn machine(&self) -> &Arc<Machine> {
        match self {
            Self::Registered { machine, .. } | Self::Configured(machine) => machine,
        }
    }
}

/// Some of the machines.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The machines of this page, those of the configuration first.
    pub machines: Vec<View>,
    /// What to ask for the next ones with, if there are any.
    pub next: Option<u64>,
    /// The last change that is in it, of whichever machine.
    pub revision: u64,
}

/// Which changes somebody wants to hear of.
#[derive(Clone, Debug, Default)]
pub struct WantedChanges {
    /// Of which machines.
    pub query: Query,
    /// Those behind this one; none: from now on.
    pub since: Option<u64>,
    /// Wait until there is one, or until the configuration has been read more often than this.
    pub waits: Option<u64>,
    /// How far agents are, behind what was told of that up to this number; none: from now on.
    pub progress: Option<u64>,
}

/// What has changed.
#[derive(Clone, Debug, Default)]
pub struct MachineChanges {
    /// In the order of the changes, each machine once.
    pub changes: Vec<Change>,
    /// All up to this one are in it.
    pub revision: u64,
    /// There are more.
    pub is_cut: bool,
    /// How often the configuration was read anew. With it other machines may be served, without a revision.
    pub reloads: u64,
    /// The agents that are further by now, each once.
    pub advances: Vec<Advance>,
    /// All up to this number are in it.
    pub progress: u64,
}

/// How far the agent is on a machine. It is in no record, so it has no revision.
#[derive(Clone, Debug)]
pub struct Advance {
    /// The machine.
    pub id: u64,
    /// How people call it.
    pub called: String,
    /// What the agent says.
    pub progress: Progress,
}

/// What has become of a machine of the registry.
#[derive(Clone, Debug)]
pub struct Change {
    /// The number of the change.
    pub revision: u64,
    /// The machine.
    pub id: u64,
    /// What it is now; none: it is none of those that are wanted, any more or ever.
    pub machine: Option<View>,
    /// It was deleted.
    pub is_deleted: bool,
    /// How people called it, where that is known.
    pub called: Option<String>,
}

/// How many machines there are.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// Of the registry, by state.
    pub states: Vec<(State, usize)>,
    /// Those that are in their state for longer than they should be.
    pub overdue: usize,
    /// Those of the registry that are not served.
    pub shadowed: usize,
    /// Those of them of which nothing is left among all machines.
    pub nowhere: Vec<Arc<Machine>>,
    /// Those of the configuration.
    pub configured: usize,
    /// Unknown machines that were not taken down, because so many had been.
    pub turned_away: u64,
    /// The PostgreSQL database that they are in, if they are in one.
    pub database: Option<Remote>,
    /// What was asked of BMCs.
    pub power: PowerCounts,
    /// How long machines were in the states that they have left.
    pub times: TimesInState,
}

/// What somebody wants of a machine's BMC.
#[derive(Clone, Copy, Debug)]
pub struct PowerAsk {
    /// A command; without one, whether the machine is on.
    pub act: Option<Act>,
    /// From where it boots the next time, if that is to be said.
    pub boot: Option<Boot>,
}

/// What a BMC has done, or said.
#[derive(Clone, Debug)]
pub struct Powered {
    /// How the machine is called.
    pub name: String,
    /// Whether it is on, if that was asked.
    pub reading: Option<Reading>,
}

/// Why something is not done to a machine.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// There is none.
    #[error("there is no machine {0}; xpxe machines list shows all")]
    Unknown(String),
    /// What is written of it is wrong.
    #[error("{}", .0.join("; "))]
    Invalid(Vec<String>),
    /// Somebody else has changed it since.
    #[error("the machine was changed since: it has version {} now; read it again, and change that", .0.version)]
    Outdated(Arc<Record>),
    /// Another machine has what it would have.
    #[error("{0}")]
    Conflict(String),
    /// Nobody can read what is stored of it.
    #[error(
        "what is stored of {called} cannot be read, and the log of the start says why: start the version of xpxe that has written it, or \
         delete it (xpxe machines delete id:{id}) and add it anew, which has it wiped where a rule accepts it and agents wipe"
    )]
    Unreadable {
        /// How the machine is called.
        called: String,
        /// Its number.
        id: u64,
    },
    /// It is one of the configuration.
    #[error(
        "{0} is in the configuration, which is changed in its file: change it there, then run xpxe reload"
    )]
    Configured(String),
    /// What has changed since cannot be told.
    #[error(transparent)]
    Untold(#[from] Untold),
    /// It cannot be ordered.
    #[error(transparent)]
    Order(#[from] OrderError),
    /// Its BMC did not do it.
    #[error("{0}")]
    Bmc(String),
    /// It could not be stored, and nothing was changed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The daemon ends.
    #[error("xpxe is stopping: ask again later")]
    Stopping,
}

/// Where an answer goes.
pub type Reply<T> = oneshot::Sender<Result<T, RegistryError>>;

/// What is asked.
#[derive(Debug)]
pub enum RegistryAsk {
    /// Some of the machines.
    List(Query, Reply<Page>),
    /// What has changed.
    Changes(WantedChanges, Reply<MachineChanges>),
    /// One of them, by name, MAC, UUID or number.
    Show(String, Reply<View>),
    /// Add one.
    Create(Spec, Reply<View>),
    /// Add machines, and change those that are there; or, in a dry run, only say what would become of them.
    Import(Vec<ImportItem>, bool, Reply<Imported>),
    /// Change what people say of one. With a version: only if it still has that.
    Put(String, Option<u64>, Spec, Reply<View>),
    /// Remove one.
    Delete(String, Option<u64>, Reply<View>),
    /// Order something of one.
    Order(String, Option<u64>, Order, Reply<View>),
    /// Have a machine switched, or ask whether it is on.
    Power(String, PowerAsk, Reply<Powered>),
    /// Change the password of a machine's BMC. With a version: only if it still has that.
    Password(String, Option<u64>, Option<Secret>, Reply<View>),
    /// Something was seen of a machine, by its number.
    Observed(u64, Observed, Reply<()>),
    /// What a machine, by its number, consists of.
    Inventory(u64, Box<Inventory>, Reply<()>),
    /// How far the agent is on a machine, by its number.
    Progress(u64, Progress),
    /// A machine has said its serial number, from its own address.
    Serial(Mac, Box<str>, oneshot::Sender<()>),
    /// An unknown machine has asked; its UUID if it has shown one.
    Sighted(Mac, Option<[u8; 16]>),
    /// The configuration is another one now. The answer is a sentence for each of the first machines that are not served any
    /// more, and how many others there are.
    Reloaded(oneshot::Sender<Vec<String>>),
    /// How many there are.
    Count(Reply<Census>),
    /// One of these in somebody's name, for the history.
    By(Arc<str>, Box<RegistryAsk>),
}

/// The way to who keeps the registry. Clones lead to the same.
#[derive(Clone, Debug)]
pub struct RegistryHandle {
    asks: mpsc::Sender<RegistryAsk>,
    /// In whose name, if not simply in an operator's.
    by: Option<Arc<str>>,
}

impl RegistryHandle {
    /// A way, and its end.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<RegistryAsk>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { asks: sender, by: None }, receiver)
    }

    /// A way to nobody.
    #[must_use]
    pub fn none() -> Self {
        Self::new().0
    }

    /// The same way in the name of whoever has the token of this name.
    #[must_use]
    pub fn by(&self, token: &str) -> Self {
        Self { asks: self.asks.clone(), by: Some(format!("operator {token}").into()) }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn ask<T>(&self, ask: impl FnOnce(Reply<T>) -> RegistryAsk) -> Result<T, RegistryError> {
        let (reply, answer) = oneshot::channel();
        let ask = match (&self.by, ask(reply)) {
            (Some(by), ask) => RegistryAsk::By(Arc::clone(by), Box::new(ask)),
            (None, ask) => ask,
        };
        self.asks.send(ask).await.map_err(|_| RegistryError::Stopping)?;
        answer.await.map_err(|_| RegistryError::Stopping)?
    }

    /// Tells that an unknown machine has asked, unless there is much to do: it asks again.
    pub fn sighted(&self, mac: Mac, uuid: Option<[u8; 16]>) {
        drop(self.asks.try_send(RegistryAsk::Sighted(mac, uuid)));
    }

    /// Tells which serial number a machine has said, and waits until that is seen to: what it boots depends on it. If that
    /// takes long, it boots as before, and says it again.
    pub async fn heard_serial(&self, mac: Mac, serial: &str) {
        let seen_to = async {
            let (reply, done) = oneshot::channel();
            if self.asks.send(RegistryAsk::Serial(mac, serial.into(), reply)).await.is_ok() {
                drop(done.await);
            }
        };
        if timeout(LONGEST_WAIT, seen_to).await.is_err() {
            warn!(
                "there is much to do: {mac} says the serial number {serial:?}, which is written of a machine, and boots before that was seen to"
            );
        }
    }

    /// Tells how far the agent is on a machine, unless there is much to do: it says it again.
    pub fn progress(&self, id: u64, progress: Progress) {
        drop(self.asks.try_send(RegistryAsk::Progress(id, progress)));
    }

    /// Has the registry follow another configuration. Gives a sentence for each of the first machines that are not served any
    /// more, and how many others there are.
    pub async fn reloaded(&self) -> Vec<String> {
        let (reply, done) = oneshot::channel();
        match self.asks.send(RegistryAsk::Reloaded(reply)).await {
            Ok(()) => done.await.unwrap_or_default(),
            Err(_) => Vec::new(),
        }
    }
}
