//! Who keeps the boot parameters that are written while xpxe runs: a change is stored, then served, then answered.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::request::{ParametersAsk, ParametersError, WAITING_CHANGES};
use crate::host::live::Live;
use crate::images::Images;
use crate::store;
use boot_engine::boot::parameters::{Act, BootParameters, Change, LARGEST_TABLE, Refused, Table, Target};
use boot_engine::boot::script::ScriptWriter;

/// How many names a line of the log has.
const MOST_NAMED: usize = 5;

/// Who changes them.
pub(super) struct Keeper {
    pub(super) table: BootParameters,
    pub(super) state_dir: PathBuf,
    /// Whose configuration says where kernels lie.
    pub(super) scripts: Live<ScriptWriter>,
    /// Who fetches the images that are named.
    pub(super) images: Arc<Images>,
}

impl Keeper {
    /// Makes changes for ever. Those that wait are stored together.
    pub(super) async fn run(self, mut asks: mpsc::Receiver<ParametersAsk>) {
        let mut batch = Vec::new();
        while asks.recv_many(&mut batch, WAITING_CHANGES).await > 0 {
            self.make(std::mem::take(&mut batch)).await;
        }
    }

    async fn make(&self, batch: Vec<ParametersAsk>) {
        let config = Arc::clone(self.scripts.get().planner().config());
        let mut table = Table::clone(&self.table.get());
        let mut made = Vec::new();
        for ask in batch {
            match table.after(&ask.change, &config.boot_dir) {
                Ok(new) => {
                    table = new;
                    made.push(ask);
                }
                // Who has hung up wants no answer.
                Err(refused) => drop(ask.reply.send(Err(refused.into()))),
            }
        }
        if made.is_empty() {
            return;
        }
        let stored = self.store(&table).await;
        if stored.is_ok() {
            self.images.follow_written(&table);
            self.table.replace(table);
        } else if let Err(error) = &stored {
            warn!("{error}");
        }
        for ParametersAsk { change, by, reply } in made {
            if stored.is_ok() {
                info!("{}, by {by} through the front for BSS", said(&change));
            }
            drop(reply.send(stored.clone()));
        }
    }

    async fn store(&self, table: &Table) -> Result<(), ParametersError> {
        let disk = |error: String| ParametersError::Disk(error);
        let bytes = serde_json::to_vec(&table.kept()).map_err(|error| disk(error.to_string()))?;
        if bytes.len() > LARGEST_TABLE {
            let why = format!("all boot parameters together may have {LARGEST_TABLE} bytes; delete some");
            return Err(Refused::Full(why).into());
        }
        let state_dir = self.state_dir.clone();
        let written = spawn_blocking(move || store::boot_parameters::write(&state_dir, &bytes)).await;
        match written {
            Ok(written) => written.map_err(|error| disk(error.to_string())),
            Err(ended) => Err(disk(ended.to_string())),
        }
    }
}

/// What was done, to whom.
fn said(change: &Change) -> String {
    let done = match change.act {
        Act::Add => "wrote new",
        Act::Set => "wrote",
        Act::Update => "changed",
        Act::Remove => "removed",
    };
    let names: Vec<String> = change.targets.iter().take(MOST_NAMED).map(Target::called).collect();
    let more = match change.targets.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{done} boot parameters of {}{more}", names.join(", "))
}
