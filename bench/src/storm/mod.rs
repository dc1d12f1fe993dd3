//! The boot storm and the side-by-side comparison with other DHCP servers.
//!
//! | file | gives |
//! | --- | --- |
//! | [`packet`] | what firmware sends, and what of an answer is looked at |
//! | [`socket`] | raw frames in and out of an interface; all `unsafe` is here |
//! | [`generator`] | many clients at once: a window of them, or a paced storm |
//! | [`outcome`] | what became of them |
//! | [`cable`] | two namespaces and the veth pair between them |
//! | [`server`] | the servers, with the settings an operator would write |
//! | [`meter`] | who spent how much CPU |
//! | [`compare`] | one server through all measures |
//! | [`scale`] | xpxe with many known machines |
//! | [`report`] | the tables |

pub(crate) mod cable;
pub(crate) mod compare;
pub(crate) mod generator;
pub(crate) mod meter;
pub(crate) mod outcome;
pub(crate) mod packet;
pub(crate) mod report;
pub(crate) mod scale;
pub(crate) mod server;
pub(crate) mod socket;
