//! The memory modules that SMBIOS names (DMTF DSP0134, type 17).

use boot_agent_protocol::MemoryModule;

/// Type 17, and the end of the table.
const MEMORY_DEVICE: u8 = 17;
const END: u8 = 127;

/// Reads `/sys/firmware/dmi/tables/DMI`. A table that is cut off is read as far as it goes.
pub(crate) fn memory_modules(table: &[u8]) -> Vec<MemoryModule> {
    let mut found = Vec::new();
    let mut rest = table;
    while let Some((structure, texts, next)) = split(rest) {
        match structure.first() {
            Some(&MEMORY_DEVICE) => found.extend(module(structure, &texts)),
            Some(&END) | None => break,
            _ => {}
        }
        rest = next;
    }
    found
}

/// A structure, its texts, and what is behind it.
fn split(table: &[u8]) -> Option<(&[u8], Vec<String>, &[u8])> {
    let length = usize::from(*table.get(1)?);
    let structure = table.get(..length).filter(|structure| structure.len() >= 4)?;
    let behind = table.get(length..)?;
    let end = behind.windows(2).position(|pair| pair == [0, 0])?;
    let texts = behind.get(..end)?.split(|byte| *byte == 0);
    let texts = texts.map(|text| String::from_utf8_lossy(text).trim().to_owned()).collect();
    Some((structure, texts, behind.get(end + 2..)?))
}

/// A slot; nothing if the structure is too short to be one.
fn module(structure: &[u8], texts: &[String]) -> Option<MemoryModule> {
    let word = |at: usize| Some(u16::from_le_bytes(structure.get(at..at + 2)?.try_into().ok()?));
    let text = |at: usize| {
        let number = structure.get(at).copied().map_or(0, usize::from);
        let text = number.checked_sub(1).and_then(|index| texts.get(index));
        text.cloned().unwrap_or_default()
    };
    let size = match word(0x0c)? {
        // No module, or nobody knows.
        0 | 0xffff => 0,
        0x7fff => {
            let extended = structure.get(0x1c..0x20)?.try_into().ok().map(u32::from_le_bytes)?;
            u64::from(extended & 0x7fff_ffff) << 20
        }
        kilobytes if kilobytes & 0x8000 != 0 => u64::from(kilobytes & 0x7fff) << 10,
        megabytes => u64::from(megabytes) << 20,
    };
    Some(MemoryModule {
        slot: text(0x10),
        size,
        speed: word(0x15).map_or(0, u32::from),
        vendor: text(0x17),
        serial: text(0x18),
        part: text(0x1a),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(size: u16, extended: u32, texts: &[&str]) -> Vec<u8> {
        let mut bytes = vec![0; 0x22];
        (bytes[0], bytes[1]) = (17, 0x22);
        bytes[0x0c..0x0e].copy_from_slice(&size.to_le_bytes());
        (bytes[0x10], bytes[0x17], bytes[0x18], bytes[0x1a]) = (1, 2, 3, 4);
        bytes[0x15..0x17].copy_from_slice(&3200u16.to_le_bytes());
        bytes[0x1c..0x20].copy_from_slice(&extended.to_le_bytes());
        for text in texts {
            bytes.extend(text.bytes().chain([0]));
        }
        bytes.push(0);
        if texts.is_empty() {
            bytes.push(0);
        }
        bytes
    }

    #[test]
    fn modules_are_read_with_their_sizes_whatever_else_the_table_has() {
        let other = [1, 4, 0, 0, b'x', 0, 0];
        let end = [127, 4, 0, 0, 0, 0];
        let table = [
            &other[..],
            &slot(16384, 0, &["DIMM_A1", "Samsung", "S-1 ", "M393"]),
            &slot(0x7fff, 65536, &["DIMM_A2"]),
            &slot(0, 0, &["DIMM_B1"]),
            &slot(0x8000 | 512, 0, &[]),
            &end,
        ]
        .concat();
        let found = memory_modules(&table);
        let sizes: Vec<u64> = found.iter().map(|module| module.size).collect();
        assert_eq!(sizes, [16 << 30, 64 << 30, 0, 512 << 10]);
        let first = &found[0];
        assert_eq!(
            [&first.slot, &first.vendor, &first.serial, &first.part].map(String::as_str),
            ["DIMM_A1", "Samsung", "S-1", "M393"]
        );
        assert_eq!((first.speed, found[3].slot.as_str()), (3200, ""));
        for length in 0..table.len() {
            assert!(memory_modules(&table[..length]).len() <= 4);
        }
    }
}
