//! Secure Boot: programs signed by a test, and firmware in which its key is enrolled.
//!
//! Firmware with Microsoft's keys starts Debian's shim. That shim loads what Debian has signed, and what is signed by a key in
//! `MokList`, the variable that its MokManager writes when somebody sits at the machine; here it is written into the
//! machine's variables beforehand.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::certificates::Authority;

/// The variables of a machine's firmware in the segment's directory, in place of Debian's.
pub const VARIABLES: &str = "enrolled.vars.fd";
/// Debian's variables, with Microsoft's keys and Secure Boot on.
pub(crate) const MICROSOFT: &str = "/usr/share/OVMF/OVMF_VARS_4M.ms.fd";

/// A variable's header in EDK2's store with authentication: `AUTHENTICATED_VARIABLE_HEADER`.
const HEADER: usize = 60;
/// The start of each.
const START: [u8; 2] = [0xaa, 0x55];
/// The GUIDs of such a store, and of shim's variables.
const STORE: [u8; 16] =
    [0x78, 0x2c, 0xf3, 0xaa, 0x7b, 0x94, 0x9a, 0x43, 0xa1, 0x80, 0x2e, 0x14, 0x4e, 0xc3, 0x77, 0x92];
const SHIM: [u8; 16] =
    [0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23];

/// Signs a program for UEFI.
pub fn sign(authority: &Authority, program: &Path, to: &Path) -> Result<()> {
    let certificate = authority.certificate();
    let mut sbsign = Command::new("sbsign");
    sbsign.arg("--key").arg(certificate.with_extension("key")).arg("--cert").arg(&certificate);
    let output = sbsign.arg("--output").arg(to).arg(program).output();
    let output = output.context("sbsign, which `cargo xtask setup` installs")?;
    ensure!(output.status.success(), "sbsign: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Has the machines of a segment trust an authority as if somebody had enrolled its key in their MokManager.
pub fn enrol(authority: &Authority, segment_dir: &Path) -> Result<()> {
    let variables = fs::read(MICROSOFT).with_context(|| format!("read {MICROSOFT}"))?;
    let variables = with_variable(variables, "MokList", &authority.signature_list()?)?;
    fs::write(segment_dir.join(VARIABLES), variables).context("write the machines' variables")
}

/// A store with one more variable of shim's, which only programs before the operating system can change.
fn with_variable(mut store: Vec<u8>, name: &str, data: &[u8]) -> Result<Vec<u8>> {
    let guid = store.windows(16).position(|bytes| bytes == STORE).context("no store of variables")?;
    // Its GUID, its size, and what state it is in.
    let mut at = guid + 28;
    let number = |at: usize| Some(u32::from_le_bytes(*store.get(at..)?.first_chunk()?) as usize);
    while store.get(at..at + 2) == Some(&START) {
        let sizes = number(at + 36).zip(number(at + 40));
        let (name, data) = sizes.context("a variable is cut off")?;
        at = (at + HEADER + name + data).next_multiple_of(4);
    }
    let name: Vec<u8> = name.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect();
    let mut variable = START.to_vec();
    // Added; kept without power, and for boot services.
    variable.extend([0x3f, 0, 3, 0, 0, 0]);
    variable.extend([0; 8 + 16 + 4]);
    variable.extend(u32::try_from(name.len())?.to_le_bytes());
    variable.extend(u32::try_from(data.len())?.to_le_bytes());
    variable.extend(SHIM);
    variable.extend(name);
    variable.extend(data);
    let place = store.get_mut(at..at + variable.len()).context("the store of variables is full")?;
    ensure!(place.iter().all(|byte| *byte == 0xff), "the store of variables goes on at {at}");
    place.copy_from_slice(&variable);
    Ok(store)
}
