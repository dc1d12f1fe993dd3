//! Whether firmware with Secure Boot on starts a program, by who has signed it.
//!
//! Firmware starts what a key of its own has signed; in nearly all machines these are Microsoft's. Microsoft signs shim, and
//! that loads what a key of its distribution has signed. Names of certificates are read here, not proven.

use std::io;

use openssl::nid::Nid;
use openssl::x509::{X509, X509NameRef};

use super::OpenFile;
use super::authenticode::{self, Signature, read_as_far_as_there};
use super::inspect::HEAD;
use super::pe::{self, Layout, Machine, Section};

/// Microsoft's authorities that firmware trusts: for the programs of others, and for Windows.
const MICROSOFT: [&str; 4] = [
    "Microsoft Corporation UEFI CA 2011",
    "Microsoft UEFI CA 2023",
    "Microsoft Windows Production PCA 2011",
    "Windows UEFI CA 2023",
];
/// Longer sections are not read, in bytes.
const LONGEST_SECTION: u64 = 1 << 16;
/// Components of an SBAT that are named.
const MOST_COMPONENTS: usize = 4;

/// A program for UEFI firmware.
#[derive(Debug)]
pub(super) struct Program {
    signatures: Vec<Signature>,
    /// Its components with their generations (UEFI shim, SBAT.md), as far as they are named.
    sbat: Vec<String>,
    /// Whose programs it loads, if it is a shim.
    vendor: Option<Vec<X509>>,
    is_kernel: bool,
    machine: Machine,
}

/// A shim in the boot directory.
pub(super) struct Shim<'a> {
    /// The name that it is served as.
    pub(super) name: &'a str,
    vendor: &'a [X509],
}

/// What is said of a program.
pub(super) struct Judgement {
    /// A clause about "it".
    pub(super) says: String,
    /// Firmware refuses what it was made for.
    pub(super) is_bad: bool,
}

impl Program {
    /// Looks at a file; `None` if it is no PE image.
    ///
    /// # Errors
    /// As the system gives them.
    pub(super) fn read(file: &OpenFile) -> io::Result<Option<Self>> {
        let mut head = vec![0; HEAD];
        let length = read_as_far_as_there(&file.file, &mut head, 0)?;
        head.truncate(length);
        let (Some(headers), Some(layout)) = (pe::read(&head), pe::layout(&head)) else { return Ok(None) };
        let signatures = authenticode::signatures(&layout, &file.file)?;
        let sbat = section(&layout, ".sbat", file)?.map(|text| components(&text)).unwrap_or_default();
        let vendor = section(&layout, ".vendor_cert", file)?.map(|table| vendor(&table));
        // A kernel's header tells where it is to be loaded.
        let is_kernel = head.get(0x202..0x206) == Some(b"HdrS") || head.get(56..60) == Some(b"ARM\x64");
        Ok(Some(Self { signatures, sbat, vendor, is_kernel, machine: headers.machine }))
    }

    /// It as a shim, served by this name.
    pub(super) fn as_shim<'a>(&'a self, name: &'a str) -> Option<Shim<'a>> {
        Some(Shim { name, vendor: self.vendor.as_ref()? })
    }

    /// The name, beside its own, of the program that a shim loads.
    pub(super) fn second_stage(&self) -> Option<&'static str> {
        self.vendor.as_ref()?;
        match self.machine {
            Machine::X64 => Some("grubx64.efi"),
            Machine::Ia32 => Some("grubia32.efi"),
            Machine::Arm64 => Some("grubaa64.efi"),
            _ => None,
        }
    }

    /// Who has signed it, and what follows from that beside these shims: it is served by this name.
    pub(super) fn judge(&self, served_as: &str, shims: &[Shim<'_>]) -> Judgement {
        let fine = |says: String| Judgement { says, is_bad: false };
        if self.signatures.is_empty() {
            return fine("not signed, so it does not boot with Secure Boot on".to_owned());
        }
        let by: Vec<String> = self.signatures.iter().map(|signature| signer(&signature.by)).collect();
        let by = format!("signed by {}", by.join(" and "));
        let fitting: Vec<&X509> = self
            .signatures
            .iter()
            .filter(|signature| signature.fits)
            .map(|signature| &signature.by)
            .collect();
        if fitting.is_empty() {
            let says =
                format!("{by}, and changed since, so it does not boot with Secure Boot on; copy it again");
            return Judgement { says, is_bad: true };
        }
        let sbat = match self.sbat.is_empty() {
            true => String::new(),
            false => format!(" (SBAT {})", self.sbat.join(", ")),
        };
        if fitting.iter().any(|by| is_of_microsoft(by)) {
            let loads = match &self.vendor {
                Some(vendor) if !vendor.is_empty() => {
                    let names: Vec<String> = vendor.iter().map(|own| name(own.subject_name())).collect();
                    format!(", and loads what \"{}\" has signed", names.join("\", \""))
                }
                _ => String::new(),
            };
            return fine(format!("{by}: it boots with Secure Boot on{loads}{sbat}"));
        }
        // A shim asks for an SBAT in what it loads itself; kernels are loaded by that.
        let for_no_shim = self.sbat.is_empty() && !self.is_kernel;
        let trusting = shims.iter().filter(|shim| fitting.iter().any(|by| shim.trusts(by)));
        let shim = trusting.max_by_key(|shim| directory(shim.name) == directory(served_as));
        match shim {
            Some(shim) if for_no_shim => Judgement {
                says: format!(
                    "{by}, whom {} trusts, but it has no SBAT, so shim 15.3 and later do not load it; take a newer one",
                    shim.name
                ),
                is_bad: true,
            },
            Some(shim) => fine(format!("{by}: it boots with Secure Boot on behind {}{sbat}", shim.name)),
            None if for_no_shim => fine(format!(
                "{by}: it boots with Secure Boot on where that key is enrolled in the firmware, and behind no shim, for \
                 it has no SBAT"
            )),
            None => fine(format!(
                "{by}: it boots with Secure Boot on only where that key is enrolled, in the firmware or for shim \
                 (MokManager){sbat}"
            )),
        }
    }
}

impl Shim<'_> {
    fn trusts(&self, by: &X509) -> bool {
        let signed = |own: &X509| own.public_key().is_ok_and(|key| by.verify(&key).unwrap_or(false));
        self.vendor.iter().any(|own| own == by || signed(own))
    }
}

/// Of a file's name, without the slash.
pub(super) fn directory(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(directory, _)| directory)
}

fn is_of_microsoft(by: &X509) -> bool {
    let issuer = by.issuer_name();
    entry(issuer, Nid::ORGANIZATIONNAME).is_some_and(|name| name == "Microsoft Corporation")
        && MICROSOFT.contains(&name(issuer).as_str())
}

/// A signer and its authority, for people.
fn signer(by: &X509) -> String {
    let (subject, issuer) = (name(by.subject_name()), name(by.issuer_name()));
    if subject == issuer { format!("\"{subject}\"") } else { format!("\"{subject}\" of \"{issuer}\"") }
}

/// The common name, or else that of the organization.
fn name(of: &X509NameRef) -> String {
    let found = entry(of, Nid::COMMONNAME).or_else(|| entry(of, Nid::ORGANIZATIONNAME));
    found.unwrap_or_else(|| "somebody without a name".to_owned())
}

/// One line, whoever has written it.
fn entry(of: &X509NameRef, nid: Nid) -> Option<String> {
    let text = of.entries_by_nid(nid).next()?.data().to_string().ok()?;
    Some(text.chars().map(|c| if c.is_control() || c == '"' { '_' } else { c }).take(100).collect())
}

/// The content of the section of this name.
fn section(layout: &Layout, name: &str, file: &OpenFile) -> io::Result<Option<Vec<u8>>> {
    let mut wanted = None;
    for section in &layout.sections {
        if is_called(layout, section, name, file)? {
            wanted = Some(section);
            break;
        }
    }
    let Some(place) = wanted else { return Ok(None) };
    let mut content = vec![0; usize::try_from(place.length.min(LONGEST_SECTION)).unwrap_or(0)];
    let read = read_as_far_as_there(&file.file, &mut content, place.start)?;
    content.truncate(read);
    Ok(Some(content))
}

fn is_called(layout: &Layout, section: &Section, name: &str, file: &OpenFile) -> io::Result<bool> {
    let short = section.name.split(|byte| *byte == 0).next().unwrap_or_default();
    let place = short.strip_prefix(b"/").and_then(|digits| str::from_utf8(digits).ok()?.parse::<u64>().ok());
    let Some(place) = place else { return Ok(short == name.as_bytes()) };
    let mut long = vec![0; name.len() + 1];
    let read = read_as_far_as_there(&file.file, &mut long, layout.names + place)?;
    Ok(long.get(..read).and_then(|long| long.strip_suffix(b"\0")) == Some(name.as_bytes()))
}

/// "grub 4": the first two columns of an SBAT, without its first line, which is of the format itself.
fn components(text: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(text);
    let lines = text.trim_end_matches('\0').lines();
    let entries = lines.filter_map(|line| {
        let (name, rest) = line.split_once(',')?;
        let generation: u32 = rest.split(',').next()?.parse().ok()?;
        let is_word = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (name != "sbat" && name.len() < 64 && name.chars().all(is_word))
            .then(|| format!("{name} {generation}"))
    });
    entries.take(MOST_COMPONENTS).collect()
}

/// The certificate in shim's table of keys: the lengths of what it trusts and of what it does not, then their places.
fn vendor(table: &[u8]) -> Vec<X509> {
    let number = |at: usize| {
        let bytes = table.get(at..)?.first_chunk()?;
        usize::try_from(u32::from_le_bytes(*bytes)).ok()
    };
    let place = || number(8)?.checked_add(number(0)?).map(|end| (number(8).unwrap_or(0), end));
    let content = place().and_then(|(start, end)| table.get(start..end));
    content.and_then(|der| X509::from_der(der).ok()).into_iter().collect()
}

#[cfg(test)]
mod tests;
