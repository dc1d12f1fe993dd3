//! Which clients a statement of the other server is for.

use std::collections::BTreeSet;

use super::text::Place;

/// All of it has to fit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Clients {
    /// One of these architectures (option 93).
    pub(super) archs: Option<BTreeSet<u16>>,
    /// None of these.
    pub(super) not_archs: BTreeSet<u16>,
    /// iPXE, or not.
    pub(super) ipxe: Option<bool>,
    /// Firmware that asks for a boot file.
    pub(super) is_firmware: bool,
    /// The first bytes of the MAC address.
    pub(super) mac: Option<String>,
    pub(super) circuit_id: Option<String>,
    pub(super) remote_id: Option<String>,
    /// The number of the subnet.
    pub(super) subnet: Option<usize>,
    /// The number of the machine.
    pub(super) machine: Option<usize>,
}

fn both<T: PartialEq + Clone>(a: &Option<T>, b: &Option<T>) -> Result<Option<T>, ()> {
    match (a, b) {
        (Some(a), Some(b)) if a != b => Err(()),
        (Some(one), _) | (None, Some(one)) => Ok(Some(one.clone())),
        (None, None) => Ok(None),
    }
}

impl Clients {
    pub(super) fn arch(arch: u16) -> Self {
        Self { archs: Some([arch].into()), ..Self::default() }
    }

    pub(super) fn ipxe() -> Self {
        Self { ipxe: Some(true), ..Self::default() }
    }

    pub(super) fn firmware() -> Self {
        Self { is_firmware: true, ..Self::default() }
    }

    /// Those that fit both; none if nobody does.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let archs = match (&self.archs, &other.archs) {
            (Some(a), Some(b)) => Some(a & b),
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        let not_archs = &self.not_archs | &other.not_archs;
        let archs: Option<BTreeSet<u16>> = archs.map(|archs| &archs - &not_archs);
        if archs.as_ref().is_some_and(BTreeSet::is_empty) {
            return None;
        }
        let mac = match (&self.mac, &other.mac) {
            (Some(a), Some(b)) if a.starts_with(b.as_str()) => Some(a.clone()),
            (Some(a), Some(b)) if b.starts_with(a.as_str()) => Some(b.clone()),
            (Some(_), Some(_)) => return None,
            (a, b) => a.clone().or_else(|| b.clone()),
        };
        Some(Self {
            not_archs: if archs.is_some() { BTreeSet::new() } else { not_archs },
            archs,
            ipxe: both(&self.ipxe, &other.ipxe).ok()?,
            is_firmware: self.is_firmware || other.is_firmware,
            mac,
            circuit_id: both(&self.circuit_id, &other.circuit_id).ok()?,
            remote_id: both(&self.remote_id, &other.remote_id).ok()?,
            subnet: both(&self.subnet, &other.subnet).ok()?,
            machine: both(&self.machine, &other.machine).ok()?,
        })
    }

    /// All others: one of these descriptions. None if the configuration cannot say it.
    pub(super) fn not(&self) -> Option<Vec<Self>> {
        let is_only = |without: Self| without == Self::default();
        if let Some(archs) = &self.archs {
            let others = Self { not_archs: archs.clone(), ..Self::default() };
            return is_only(Self { archs: None, ..self.clone() }).then(|| vec![others]);
        }
        let ipxe = self.ipxe?;
        let others = Self { ipxe: Some(!ipxe), ..Self::default() };
        is_only(Self { ipxe: None, ..self.clone() }).then(|| vec![others])
    }

    pub(super) fn has_group(&self) -> bool {
        self.mac.is_some()
            || self.circuit_id.is_some()
            || self.remote_id.is_some()
            || self.archs.is_some()
            || !self.not_archs.is_empty()
    }
}

/// A boot file, for whom, and where the other server has it.
#[derive(Clone, Debug)]
pub(super) struct BootRule {
    pub(super) clients: Clients,
    pub(super) file: String,
    /// Another TFTP server than this host.
    pub(super) server: Option<String>,
    pub(super) place: Place,
    pub(super) what: String,
}
