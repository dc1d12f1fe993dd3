//! Prepared answers: what each class of clients is told, ready for the tables.

pub(crate) mod entries;
pub mod fits;
pub(crate) mod prepare;
pub(crate) mod sets;

pub use fits::left_out;
