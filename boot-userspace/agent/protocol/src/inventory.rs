//! What a machine consists of.

use serde::{Deserialize, Serialize};

/// The version of the document. A change that old readers would misunderstand has another number.
pub const SCHEMA: u32 = 1;
/// Longest text taken from a machine, in characters.
const LONGEST: usize = 128;
/// Most entries of a list.
const MOST: usize = 512;

/// A machine's inventory. What the machine does not say is empty or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Inventory {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When it was taken, in Unix seconds of the server.
    pub taken: u64,
    /// What SMBIOS says of the whole.
    pub system: System,
    /// Processors, one for each socket.
    pub processors: Vec<Processor>,
    /// Memory in bytes, as the kernel sees it.
    pub memory: u64,
    /// The memory modules that SMBIOS names.
    pub memory_modules: Vec<MemoryModule>,
    /// Fixed disks.
    pub disks: Vec<Disk>,
    /// Network cards.
    pub nics: Vec<Nic>,
    /// The address of the BMC, if it has one that the machine can read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmc: Option<String>,
}

/// SMBIOS types 0 to 2.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct System {
    /// Who made it.
    pub vendor: String,
    /// Its model.
    pub product: String,
    /// Its serial number.
    pub serial: String,
    /// Its UUID.
    pub uuid: String,
    /// Its asset tag.
    pub asset_tag: String,
    /// The board's serial number.
    pub board_serial: String,
    /// Its firmware's version.
    pub firmware: String,
    /// `uefi` or `bios`.
    pub boot: String,
}

/// A processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Processor {
    /// Its model.
    pub model: String,
    /// Its cores.
    pub cores: u32,
    /// Its threads.
    pub threads: u32,
}

/// A memory module: SMBIOS type 17.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct MemoryModule {
    /// Its slot, as the board has it.
    pub slot: String,
    /// Its size in bytes.
    pub size: u64,
    /// Its speed in MT/s.
    pub speed: u32,
    /// Who made it.
    pub vendor: String,
    /// Its part number.
    pub part: String,
    /// Its serial number.
    pub serial: String,
}

/// A fixed disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Disk {
    /// The kernel's name, without `/dev/`.
    pub name: String,
    /// Its model.
    pub model: String,
    /// Its serial number.
    pub serial: String,
    /// Its world wide name.
    pub wwn: String,
    /// Its size in bytes.
    pub size: u64,
    /// Whether it turns.
    pub rotational: bool,
    /// `nvme`, `scsi`, `virtio`, `mmc` or what the kernel calls it.
    pub transport: String,
}

/// A network card.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Nic {
    /// The kernel's name.
    pub name: String,
    /// Its MAC address.
    pub mac: String,
    /// Its driver.
    pub driver: String,
    /// Its speed in Mbit/s; 0 without a link.
    pub speed: u32,
    /// Whether it has a link.
    pub link: bool,
    /// The switch that was heard on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lldp: Option<Lldp>,
}

/// What a switch says of itself (IEEE 802.1AB).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Lldp {
    /// Its chassis ID.
    pub chassis: String,
    /// Its port ID.
    pub port: String,
    /// The port's description.
    pub port_description: String,
    /// Its name.
    pub name: String,
}

impl Inventory {
    /// The same, bounded and with nothing in its texts that a terminal or a log would follow: a machine has written it.
    #[must_use]
    pub fn tamed(mut self) -> Self {
        let Self { schema: _, taken: _, memory: _, system, processors, memory_modules, disks, nics, bmc } =
            &mut self;
        processors.truncate(MOST);
        memory_modules.truncate(MOST);
        disks.truncate(MOST);
        nics.truncate(MOST);
        let System { vendor, product, serial, uuid, asset_tag, board_serial, firmware, boot } = system;
        let of_system = [vendor, product, serial, uuid, asset_tag, board_serial, firmware, boot];
        let processors = processors.iter_mut().map(|processor| &mut processor.model);
        let modules = memory_modules
            .iter_mut()
            .flat_map(|module| [&mut module.slot, &mut module.vendor, &mut module.part, &mut module.serial]);
        let disks = disks.iter_mut().flat_map(|disk| {
            [&mut disk.name, &mut disk.model, &mut disk.serial, &mut disk.wwn, &mut disk.transport]
        });
        let nics = nics.iter_mut().flat_map(|nic| {
            let lldp = nic.lldp.iter_mut().flat_map(|lldp| {
                [&mut lldp.chassis, &mut lldp.port, &mut lldp.port_description, &mut lldp.name]
            });
            [&mut nic.name, &mut nic.mac, &mut nic.driver].into_iter().chain(lldp)
        });
        let all = of_system.into_iter().chain(processors).chain(modules).chain(disks).chain(nics).chain(bmc);
        for text in all {
            let is_plain = |c: char| c == ' ' || c.is_ascii_graphic() || c.is_alphanumeric();
            let plain = text.chars().take(LONGEST).map(|c| if is_plain(c) { c } else { '_' });
            *text = plain.collect::<String>().trim().to_owned();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_machine_writes_is_bounded_and_plain() {
        let wild = Inventory {
            disks: vec![Disk { serial: " a\u{1b}[31m\n".to_owned(), ..Disk::default() }; 600],
            nics: vec![Nic {
                lldp: Some(Lldp { name: "x".repeat(999), ..Lldp::default() }),
                ..Nic::default()
            }],
            bmc: Some("10.0.0.9\0".to_owned()),
            ..Inventory::default()
        };
        let tame = wild.tamed();
        assert_eq!((tame.disks.len(), tame.disks[0].serial.as_str()), (512, "a_[31m_"));
        assert_eq!(tame.nics[0].lldp.as_ref().map(|lldp| lldp.name.len()), Some(128));
        assert_eq!(tame.bmc.as_deref(), Some("10.0.0.9_"));
    }

    #[test]
    fn a_document_of_another_agent_is_read_as_far_as_it_is_known() {
        let read: Inventory = serde_json::from_str("{\"schema\":1,\"memory\":7,\"fans\":[1]}").unwrap();
        assert_eq!((read.schema, read.memory, read.disks.len()), (1, 7, 0));
    }
}
