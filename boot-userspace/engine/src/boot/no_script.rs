//! Why a machine gets nothing to boot by.

use std::net::Ipv4Addr;

/// Why there is no script.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoScript {
    /// This machine is not to be booted from here. Says why.
    #[error("{0}")]
    NotForYou(String),
    /// The configuration names the machine, which has another address than the one that asks.
    #[error("{machine} has another address: its script is for itself only; the server's log says more")]
    OfAnother {
        /// Its name, or its MAC.
        machine: String,
        /// The address it has. Not for the one that asks.
        address: Ipv4Addr,
    },
    /// The script should exist and could not be written: an error in a template, for example.
    #[error("{0}")]
    Broken(String),
}
