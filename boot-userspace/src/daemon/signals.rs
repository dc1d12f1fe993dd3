//! What signals do to the daemon: SIGTERM and SIGINT end it, no other one that people or tools send does.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// The signals, from when it is made: none of them finds the daemon unprepared after that. (Of SIGPIPE nothing has to be
/// said: Rust ignores it.)
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    user: [Signal; 2],
}

impl Signals {
    /// Begins to listen. Must be called inside a tokio runtime.
    pub(super) fn listen() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// Waits until the daemon has to end.
    pub(super) async fn end(mut self) {
        let [first, second] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => warn!(
                    "SIGHUP: xpxe goes on with the configuration it has, because it cannot reload it yet; to apply a \
                     changed one, restart xpxe (systemctl restart xpxe): leases and the kernel half stay"
                ),
                _ = first.recv() => info!("SIGUSR1 means nothing to xpxe"),
                _ = second.recv() => info!("SIGUSR2 means nothing to xpxe"),
            }
        }
    }
}
