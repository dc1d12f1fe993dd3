//! The boot storm and the side-by-side comparison with other DHCP servers.
//!
//! | file | gives |
//! | --- | --- |
//! | [`command`] | its command line |
//! | [`packet`] | what firmware sends, and what of an answer is looked at |
//! | [`generator`] | many clients at once: a window of them, or a paced storm |
//! | [`outcome`] | what became of them |
//! | [`lane`] | a cable with the clients at its end |
//! | [`kind`] | which servers there are |
//! | [`server`] | how they are started and ended |
//! | [`settings`] | their settings, as an operator would write them |
//! | [`boots`] | first boots by how many machines are at it at once |
//! | [`compare`] | one server through all measures |
//! | [`scale`] | xpxe with many known machines |
//! | [`report`] | the tables |

pub(crate) mod boots;
pub(crate) mod command;
pub(crate) mod compare;
pub(crate) mod generator;
pub(crate) mod kind;
pub(crate) mod lane;
pub(crate) mod outcome;
pub(crate) mod packet;
pub(crate) mod report;
pub(crate) mod scale;
pub(crate) mod server;
pub(crate) mod settings;
