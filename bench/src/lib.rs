//! What the benchmarks have in common.
//!
//! | file | gives |
//! | --- | --- |
//! | [`cable`] | two namespaces and the veth pair between them |
//! | [`content`] | the bytes of the files that servers serve |
//! | [`frame`] | who has which address, and checksums |
//! | [`group`] | what a server used, with every process that it started |
//! | [`machine`] | what the figures were measured on |
//! | [`meter`] | who spent how much CPU |
//! | [`place`] | where a server keeps its files |
//! | [`socket`] | raw frames in and out of an interface; all `unsafe` is here |

pub mod cable;
pub mod content;
pub mod frame;
pub mod group;
pub mod machine;
pub mod meter;
pub mod place;
pub mod socket;
