//! What a kernel module says of itself: the section `.modinfo` of its file (ELF, 64 bits, little-endian).

use std::io::{Cursor, Read as _};

use anyhow::{Context as _, Result, bail};

/// What is needed of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    /// Names of modules that have to be loaded before.
    pub(super) depends: Vec<String>,
    /// Patterns of devices.
    pub(super) aliases: Vec<String>,
    /// Files that it wants.
    pub(super) firmware: Vec<String>,
}

/// A module's file, which distributions compress in different ways.
pub(super) fn unpack(name: &str, bytes: Vec<u8>) -> Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    match name.rsplit('.').next() {
        Some("xz") => lzma_rs::xz_decompress(&mut Cursor::new(bytes), &mut unpacked)
            .map_err(|error| anyhow::anyhow!("unpack {name}: {error:?}"))?,
        Some("gz") => {
            let mut from = flate2::read::MultiGzDecoder::new(&bytes[..]);
            from.read_to_end(&mut unpacked).with_context(|| format!("unpack {name}"))?;
        }
        Some("ko") => return Ok(bytes),
        _ => bail!("{name} is compressed in a way that is not known: unpack the modules first"),
    }
    Ok(unpacked)
}

/// Reads it. A file that is no module has nothing.
pub(super) fn info(elf: &[u8]) -> Option<Info> {
    let mut info = Info::default();
    for entry in section(elf, b".modinfo")?.split(|byte| *byte == 0) {
        let text = String::from_utf8_lossy(entry);
        match text.split_once('=') {
            Some(("depends", names)) => {
                let names = names.split(',').filter(|name| !name.is_empty());
                info.depends.extend(names.map(|name| name.replace('-', "_")));
            }
            Some(("softdep", text)) => info.depends.extend(before(text)),
            Some(("alias", pattern)) if !pattern.contains(char::is_whitespace) => {
                info.aliases.push(pattern.to_owned());
            }
            Some(("firmware", file)) => info.firmware.push(file.to_owned()),
            _ => {}
        }
    }
    Some(info)
}

/// The modules that a soft dependency (`pre: a b post: c`) wants before.
fn before(text: &str) -> Vec<String> {
    let mut is_before = false;
    let mut found = Vec::new();
    for word in text.split_whitespace() {
        match word {
            "pre:" => is_before = true,
            "post:" => is_before = false,
            name if is_before => found.push(name.replace('-', "_")),
            _ => {}
        }
    }
    found
}

fn number<const BYTES: usize>(elf: &[u8], at: usize) -> Option<u64> {
    let mut bytes = [0; 8];
    bytes.get_mut(..BYTES)?.copy_from_slice(elf.get(at..at.checked_add(BYTES)?)?);
    Some(u64::from_le_bytes(bytes))
}

fn place(number: u64) -> Option<usize> {
    usize::try_from(number).ok()
}

/// The bytes of a section.
fn section<'e>(elf: &'e [u8], wanted: &[u8]) -> Option<&'e [u8]> {
    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = place(number::<8>(elf, 0x28)?)?;
    let (size, count, names) =
        (place(number::<2>(elf, 0x3a)?)?, place(number::<2>(elf, 0x3c)?)?, place(number::<2>(elf, 0x3e)?)?);
    let bytes = |index: usize| -> Option<(usize, &'e [u8])> {
        let head = table.checked_add(index.checked_mul(size)?)?;
        let (name, at) =
            (place(number::<4>(elf, head)?)?, place(number::<8>(elf, head.checked_add(0x18)?)?)?);
        let length = place(number::<8>(elf, head.checked_add(0x20)?)?)?;
        Some((name, elf.get(at..at.checked_add(length)?)?))
    };
    let (_, names) = bytes(names)?;
    (0..count).filter_map(bytes).find_map(|(name, bytes)| {
        let found = names.get(name..)?.split(|byte| *byte == 0).next()?;
        (found == wanted).then_some(bytes)
    })
}

/// Whether a program is started by another one that loads its libraries (PT_INTERP).
pub(super) fn has_interpreter(elf: &[u8]) -> bool {
    let kinds = || {
        let table = place(number::<8>(elf, 0x20)?)?;
        let (size, count) = (place(number::<2>(elf, 0x36)?)?, place(number::<2>(elf, 0x38)?)?);
        let kind = |index: usize| number::<4>(elf, table.checked_add(index.checked_mul(size)?)?);
        Some((0..count).filter_map(kind).any(|kind| kind == 3))
    };
    kinds().unwrap_or(false)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An ELF file with this section.
    pub(in super::super) fn module(modinfo: &str) -> Vec<u8> {
        let names = b"\0.shstrtab\0.modinfo\0";
        let mut elf = b"\x7fELF\x02\x01".to_vec();
        elf.resize(64, 0);
        let data = elf.len();
        elf.extend(modinfo.bytes());
        let names_at = elf.len();
        elf.extend(names);
        let table = elf.len();
        elf.resize(table + 3 * 64, 0);
        let mut put = |at: usize, value: u64| elf[at..at + 8].copy_from_slice(&value.to_le_bytes());
        put(0x28, table as u64);
        for (index, name, at, length) in [(1, 1u64, names_at, names.len()), (2, 11, data, modinfo.len())] {
            put(table + index * 64, name);
            put(table + index * 64 + 0x18, at as u64);
            put(table + index * 64 + 0x20, length as u64);
        }
        elf[0x3a..0x40].copy_from_slice(&[64, 0, 3, 0, 1, 0]);
        elf
    }

    #[test]
    fn a_module_says_what_it_needs_and_what_it_is_for() {
        let text = "license=GPL\0depends=nvme-core,t10-pi\0softdep=pre: crc32c-x post: late\0alias=pci:v*d*\0alias=a b\0firmware=x/y.bin\0";
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let elf = module(text);
        let expected = Info {
            depends: words(&["nvme_core", "t10_pi", "crc32c_x"]),
            aliases: words(&["pci:v*d*"]),
            firmware: words(&["x/y.bin"]),
        };
        assert_eq!(info(&elf), Some(expected));
        assert_eq!(info(b"no module"), None);
        for length in 0..elf.len() {
            drop(info(&elf[..length]));
        }
    }

    #[test]
    fn a_program_with_libraries_is_told_from_a_static_one() {
        let this = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        assert!(has_interpreter(&this));
        assert!(!has_interpreter(&module("")));
    }
}
