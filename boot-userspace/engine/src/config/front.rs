//! `fronts`: the systems whose machines and tools are served by the URLs that they know.

use super::value::choice;

/// A system for network boot that xpxe stands in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// `booter`: Sidero Booter.
    Booter,
    /// `sidero`: Sidero Metal.
    Sidero,
    /// `bss`: the Boot Script Service of OpenCHAMI and CSM.
    Bss,
    /// `matchbox`
    Matchbox,
    /// `pixiecore`: what its API mode asks.
    Pixiecore,
    /// `smee`: Tinkerbell's.
    Smee,
}

/// Every front, by its name in the file.
const FRONTS: [(&str, Front); 6] = [
    ("booter", Front::Booter),
    ("sidero", Front::Sidero),
    ("bss", Front::Bss),
    ("matchbox", Front::Matchbox),
    ("pixiecore", Front::Pixiecore),
    ("smee", Front::Smee),
];

pub(super) fn read(text: &str) -> Result<Front, String> {
    choice(text, &FRONTS)
}
