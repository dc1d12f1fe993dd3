//! A machine whose packets somebody records: the kernel half passes all of them on, so that they are seen. An answer that
//! XDP sends, and the request that it was, no socket hears.

use boot_common::Mac;
use boot_common::tables::{Host, HostKey, IGNORED_SET};
use zerocopy::FromZeros as _;

use super::event_loop::Daemon;

impl Daemon {
    /// Has the kernel half leave a machine to the daemon, or none any more. False if it is another one already.
    pub(super) async fn watch(&mut self, mac: Option<Mac>) -> bool {
        if mac.is_some() && self.watched.is_some() {
            return false;
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
