//! HTTPS: the same routes for clients that encrypt.

mod certificate;
mod handshake;
mod hello;

use axum::Router;
use tokio::net::TcpListener;

use super::connections::Connections;
use super::protocol::{self, Tcp};
use super::{Ends, canonical, tell_unseen};
use crate::host::clock;
use boot_engine::events::{BootEvent, Events, Http, Step, WhyEnded};

pub use certificate::{Certificate, Tls, TlsError};

/// Where HTTPS listens, with what, and who hears why a client was not understood.
pub struct Https {
    /// Clients connect to it.
    pub listener: TcpListener,
    /// What they are shown.
    pub tls: Tls,
    /// Gets what happens.
    pub events: Events,
}

/// Serves for ever.
pub(super) async fn serve(mut connections: Connections, router: Router, tls: Tls, events: Events) {
    loop {
        let (connection, client) = connections.accept().await;
        let client = canonical(client);
        let server = connection.local_addr().map_or(client, canonical);
        let (leave, answering, ending) = (connection.leave(), connection.answering(), connection.ending());
        let receipts = connection.receipts();
        let made_room = ending.clone();
        let (tls, router, events) = (tls.clone(), router.clone(), events.clone());
        let answers = async move {
            match handshake::shake_hands(&tls, connection).await {
                Ok(stream) => {
                    let ends = Ends { client, server, is_tls: true, key: tls.shown().key() };
                    // Bytes that are encrypted pass through this process.
                    let tcp = Tcp { answering, outbox: None, ending: ending.clone(), receipts };
                    let ended = protocol::speak(stream, router, ends, Some(tcp)).await;
                    tell_unseen(ended, client.ip(), &ending, &events);
                }
                Err(Some(why)) => {
                    events.emit(BootEvent::new(clock::boot(), Step::Http(client.ip(), Http::NoTls(why))));
                }
                Err(None) => {}
            }
        };
        tokio::spawn(async move {
            tokio::select! {
                () = answers => {}
                () = leave.notified() => made_room.by_daemon(WhyEnded::MadeRoom),
            }
        });
    }
}
