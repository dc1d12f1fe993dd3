//! Prepared answers: what each class of clients is told, ready for the tables.

pub mod fits;
pub(crate) mod prepare;
pub(crate) mod sets;
pub(crate) mod tables;

pub use fits::left_out;
