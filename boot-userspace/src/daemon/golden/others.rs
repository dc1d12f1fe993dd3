//! TFTP, operators, and what lies between the kernel half and the daemon.

use std::collections::HashSet;
use std::sync::Arc;

use boot_engine::events::Events;
use boot_engine::leases::Which;
use tokio::sync::oneshot;

use boot_fixtures::message::{UNKNOWN, discover};

use super::dhcp::Lab;
use crate::daemon::request::Ask;
use crate::daemon::{Daemon, log, unheard};
use crate::host::clock;
use crate::store::Store;

pub(super) fn tftp() {
    crate::io::tftp::golden(Arc::new(log::events()));
}

pub(super) fn operators_and_host() {
    unheard::golden(&(Arc::new(log::events()) as Events));
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(operate());
}

async fn operate() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    let text = "[[interface]]\nname = \"eth1\"\n[[subnet]]\ncidr = \"10.1.0.0/16\"\npool = [\"10.1.1.33-10.1.1.40\"]\n";
    let mut lab = Lab::new(text);
    // What somebody has already rests.
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    lab.send(&discover(UNKNOWN));
    store.commit(&lab.changes).await.unwrap();
    let Lab { engine, .. } = lab;
    let mut daemon = Daemon::new(engine, store, HashSet::new(), None, log::events());
    let entry = |last: u8| boot_engine::leases::Entry {
        mac: boot_common::Mac([0x52, 0x54, 0, 0, 0, last]),
        address: [10, 1, 1, 37 + last].into(),
        expires: Some(clock::wall().as_secs() + 1000),
        hostname: None,
    };
    let (reply, _answer) = oneshot::channel();
    daemon.answer(Ask::Import { entries: vec![entry(1), entry(2)], dry_run: false, reply }).await;
    let (reply, _answer) = oneshot::channel();
    daemon.answer(Ask::Delete(Which::Address([10, 1, 1, 38].into()), reply)).await;
    let (reply, _answer) = oneshot::channel();
    daemon.answer(Ask::Delete(Which::Address([10, 1, 1, 33].into()), reply)).await;
}
