//! What signals do to the daemon: SIGTERM and SIGINT end it, SIGHUP reloads its configuration, no other one that people or
//! tools send does anything.

use anyhow::Result;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tracing::info;

use super::request::ReloadRequest;

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
    pub(super) async fn end(mut self, reloads: mpsc::Sender<ReloadRequest>) {
        let [first, second] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => {
                    info!("SIGHUP: reloading the configuration");
                    // Where several wait already, the last of them reads it as it is now.
                    reloads.try_send(oneshot::channel().0).ok();
                }
                _ = first.recv() => info!("ignored SIGUSR1"),
                _ = second.recv() => info!("ignored SIGUSR2"),
            }
        }
    }
}
