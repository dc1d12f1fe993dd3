//! The code and the tables that xpxe's kernel half and its daemon share.
//!
//! One function, [`respond`](respond::respond), turns a request frame and the tables into an answer or a
//! [`Reason`] why there is none. It is compiled for XDP, for TC, for the daemon and for the tests, so the
//! fast path and the slow path cannot disagree.
//!
//! Rules for this crate: no allocation, no panic, no formatting, no recursion, and no access to a buffer at an
//! offset that is not masked to the buffer's size, because the kernel's verifier has to prove the same. Whatever
//! a packet contains, the result is an answer or a `Reason`, never an error that leaves the crate.
#![no_std]

#[cfg(any(test, feature = "user"))]
extern crate std;

pub mod answer;
pub mod class;
pub mod classify;
pub mod decide;
pub mod facts;
pub mod frame;
pub mod mac;
pub mod memory;
mod pod;
pub mod reason;
pub mod respond;
pub mod scratch;
pub mod tables;
pub mod tftp;
pub mod wire;

pub use mac::Mac;
pub use reason::Reason;
