//! A machine whose packets somebody records: the kernel half passes all of them on, so that they are seen. An answer that
//! XDP sends, and the request that it was, no socket hears.

use std::time::Duration;

use boot_common::Mac;
use boot_common::tables::{Host, HostKey, IGNORED_SET};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::warn;
use zerocopy::FromZeros as _;

use super::event_loop::Daemon;
use super::request::Ask;

/// How long the daemon's way out waits: the disk may hang.
const LAST: Duration = Duration::from_secs(2);

/// Gives the machine back to the kernel half before the daemon ends: afterwards nobody else would answer it.
pub(super) async fn give_back(asks: &mpsc::Sender<Ask>) {
    let (reply, answer) = oneshot::channel();
    let given = async { asks.send(Ask::Watch(None, reply)).await.is_ok() && answer.await.is_ok() };
    if !timeout(LAST, given).await.unwrap_or(false) {
        warn!(
            "xpxe ends without having looked whether a machine is being recorded: such a one is answered by nobody until xpxe runs again"
        );
    }
}

impl Daemon {
    /// Has the kernel half leave a machine to the daemon, or none any more. False if it is another one already.
    pub(super) async fn watch(&mut self, mac: Option<Mac>) -> bool {
        if mac.is_some() && self.watched.is_some() {
            return false;
        }
        if mac.is_none() && self.watched.is_none() {
            return true;
        }
        // The kernel half may promise what is stored, and the engine's entry may be ahead of that.
        self.settle().await;
        let before = std::mem::replace(&mut self.watched, mac);
        self.engine.policy().machines().watch(mac);
        for mac in before.into_iter().chain(mac) {
            self.tell_host(&HostKey::from(mac));
        }
        true
    }

    /// Tells the kernel what it has to know of a machine.
    pub(super) fn tell_host(&mut self, key: &HostKey) {
        match self.engine.host_of(key) {
            _ if self.watched == Some(key.mac) => {
                let host = passed_on();
                self.tell("machine", |tables| tables.put_host(key, &host));
            }
            Some(host) => self.tell("machine", |tables| tables.put_host(key, &host)),
            None => self.tell("machine", |tables| tables.delete_host(key)),
        }
    }
}

/// An entry that no request fits: its subnet has no client, and its answer set no answer.
fn passed_on() -> Host {
    let mut host = Host::new_zeroed();
    host.address = [255; 4];
    host.mask = [255; 4];
    host.answer_set = IGNORED_SET - 1;
    host
}
