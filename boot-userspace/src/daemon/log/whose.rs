//! The fields that most lines have.

use boot_common::Mac;

/// Whose line it is: the fields that most lines have.
pub(super) struct Whose<'e> {
    pub(super) step: &'static str,
    pub(super) by: &'static str,
    pub(super) mac: Option<Mac>,
    /// The number in the registry of one without a MAC.
    pub(super) id: Option<u64>,
    pub(super) name: Option<&'e str>,
    pub(super) interface: &'e str,
}

impl Whose<'_> {
    /// The machine of a step that has one; the engine's always have.
    pub(super) fn mac(&self) -> Mac {
        self.mac.unwrap_or(Mac([0; 6]))
    }

    /// As DHCP's lines have it.
    pub(super) fn known_name(&self) -> &str {
        self.name.unwrap_or_default()
    }
}
