//! The sockets that clients connect to by TCP, and why one cannot be opened.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use anyhow::{Error, Result};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Handle;
use tracing::warn;

use crate::http::{self, Certificate, Tls};
use boot_engine::config::Api;

/// What listens, and the key that says where.
pub(super) type Listening = (&'static str, &'static str);
/// HTTP of machines.
pub(super) const HTTP: Listening = ("HTTP", "listen in [http]");
/// HTTPS of machines.
pub(super) const HTTPS: Listening = ("HTTPS", "listen of tls in [http]");

/// Why it cannot, and what to do.
pub(super) fn cannot_listen((what, key): Listening, address: SocketAddr, error: io::Error) -> Error {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => "stop what does, or",
        ErrorKind::AddrNotAvailable => "this host has no such address; give it to an interface, or",
        _ => "mend the cause, or",
    };
    Error::new(error).context(format!("{what} cannot listen on {address}: {remedy} set {key}"))
}

const API: Listening = ("the API", "listen in [api]");

/// The address of the API, which is ours before anybody can connect.
pub(super) struct ApiSocket {
    socket: TcpSocket,
    address: SocketAddr,
    tls: Option<Tls>,
}

/// Where the API listens.
pub(super) struct ApiListener {
    pub(super) listener: TcpListener,
    pub(super) tls: Option<Tls>,
}

impl ApiSocket {
    pub(super) fn reserve(settings: &Api) -> Result<Self> {
        let mut tls = None;
        if let Some(settings) = &settings.tls {
            let certificate = Certificate::read(settings)?;
            certificate.warnings().iter().for_each(|sentence| warn!("{sentence}"));
            tls = Some(Tls::new(settings, certificate));
        }
        let address = settings.listen;
        let socket = http::reserve(address).map_err(|error| cannot_listen(API, address, error))?;
        Ok(Self { socket, address, tls })
    }

    /// Lets people connect, whom these threads serve.
    pub(super) fn listen(self, threads: &Handle) -> Result<ApiListener> {
        let _registers_there = threads.enter();
        let Self { socket, address, tls } = self;
        let listener = http::listen(socket).map_err(|error| cannot_listen(API, address, error))?;
        Ok(ApiListener { listener, tls })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_http_cannot_listen_has_its_own_remedy() {
        let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = holder.local_addr().unwrap();
        // A network of documentation (RFC 5737): no host has its addresses.
        let nowhere = SocketAddr::from(([192, 0, 2, 1], 0));
        for (address, remedy) in [(taken, "stop what does"), (nowhere, "this host has no such address")] {
            let error = http::reserve(address).err().unwrap();
            let said = format!("{:#}", cannot_listen(HTTP, address, error));
            assert!(said.contains(&address.to_string()) && said.contains(remedy), "{said}");
            assert_eq!(said.contains("stop what does"), address == taken, "{said}");
        }
    }
}
