//! Whether what a profile boots goes together.

use std::path::Path;

use super::boots::{Kind, LOCAL, Menu, Written, name_in_windows};
use super::checked::Profile;
use super::inherit::Own;
use super::profile_names::ProfileNames;
use super::report::{Place, Report};
use super::value::quoted;
use super::{amount, file, image, value};

/// A DHCP option has 255 bytes, and the URL has the server's address and a NUL, too.
const MAX_DISK: usize = 215;
/// How many entries a menu may have: more than anybody reads.
const MOST_ENTRIES: usize = 64;

/// What a profile boots by what it says itself; the names in its menu are looked up by [`check_menu`].
pub(super) fn own(
    from: &file::Profile,
    boot_dir: &Path,
    report: &mut Report<'_>,
) -> (Option<String>, Kind, Option<Menu>) {
    let Written { esxi, wimboot, iso, menu, has_menu, default, timeout, keys } = &from.boots;
    let at = |key: &str| Place { key: format!("{}.{key}", from.place.key), line: from.place.line };
    if *keys > 1 {
        let message =
            "only one of kernel, esxi, wimboot, iso and menu can be what it boots; remove the others";
        report.add(&from.place, message);
        return (None, Kind::Linux, None);
    }
    if !has_menu && let Some(lonely) = default.as_ref().or(timeout.as_ref()) {
        report.add(&lonely.place, "is of a menu, which is not there; write menu = [\"talos\", \"local\"]");
    }
    if from.has_initrd && (esxi.is_some() || iso.is_some() || *has_menu) {
        report.add(&at("initrd"), "goes with kernel or wimboot only; remove it");
    }
    if let Some(written) = esxi {
        return (written.read(report, |text| tree(text, boot_dir)), Kind::Esxi, None);
    }
    if let Some(written) = iso {
        return (written.read(report, |text| disk(text, boot_dir)), Kind::Iso, None);
    }
    if let Some(written) = wimboot {
        return (written.read(report, |text| image::kernel(text, boot_dir)), Kind::Windows, None);
    }
    if *has_menu {
        let entries: Vec<String> = menu.iter().map(|entry| entry.value.clone()).collect();
        if entries.is_empty() || entries.len() > MOST_ENTRIES {
            let message = format!("write 1 to {MOST_ENTRIES} names of profiles, or \"{LOCAL}\" for its disk");
            report.add(&at("menu"), message);
        }
        for (position, entry) in menu.iter().enumerate() {
            if entries.iter().take(position).any(|before| *before == entry.value) {
                report.add(&entry.place, "is in this menu before; remove one");
            }
        }
        if let Some(default) = default.as_ref().filter(|default| !entries.contains(&default.value)) {
            let message = format!("{} is not in menu; name one of its entries", quoted(&default.value));
            report.add(&default.place, message);
        }
        let timeout = timeout.as_ref().and_then(|at| at.read(report, amount::interval));
        let default = default.as_ref().map(|at| at.value.clone()).or_else(|| entries.first().cloned());
        let menu = Menu { entries, default: default.unwrap_or_default(), timeout };
        return (Some(String::new()), Kind::Linux, Some(menu));
    }
    let kernel = from.kernel.as_ref();
    (kernel.and_then(|at| at.read(report, |text| image::kernel(text, boot_dir))), Kind::Linux, None)
}

/// The image of a disk, whose URL firmware gets as its boot file.
fn disk(text: &str, boot_dir: &Path) -> Result<String, String> {
    let disk = image::kernel(text, boot_dir)?;
    if disk.len() > MAX_DISK {
        return Err(format!(
            "has {} bytes; firmware takes a URL of at most {MAX_DISK} with its server",
            disk.len()
        ));
    }
    Ok(disk)
}

/// A directory in `boot_dir` whose name mboot takes whole: it knows neither quotes nor percent-encoding.
fn tree(text: &str, boot_dir: &Path) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    let tidy = text.trim_end_matches('/');
    if text.contains("://") || text.starts_with(value::IMAGE) {
        return Err(format!(
            "{} is no directory; unpack the installer's ISO into one in boot_dir and write its name",
            quoted(text)
        ));
    }
    let tree = value::file(tidy, boot_dir)?;
    if !tree.bytes().all(is_plain) || tree.split('/').any(str::is_empty) {
        return Err(format!(
            "{} has characters that mboot does not take; name the directory by letters, digits, '.', '_' and '-'",
            quoted(text)
        ));
    }
    Ok(tree)
}

/// What goes together in a profile with what it inherits.
pub(super) fn check(from: &file::Profile, whole: &Own, report: &mut Report<'_>) {
    let Profile { kind, menu, arch, .. } = &whole.rest;
    let what = if menu.is_some() { "menu" } else { kind.key() };
    if (*kind != Kind::Linux || menu.is_some()) && arch.values().any(|of| of.kernel.is_some()) {
        report.add(&from.place, format!("has a kernel for an architecture, which does not go with {what}"));
    }
    if *kind != Kind::Windows {
        return;
    }
    let initrds =
        whole.initrd.iter().flatten().chain(arch.values().flat_map(|of| of.initrd.iter().flatten()));
    let initrds: Vec<&String> = initrds.collect();
    if initrds.is_empty() {
        let message = "Windows PE needs its files; write initrd = [\"winpe/BCD\", \"winpe/boot.sdi\", \"winpe/boot.wim\"]";
        report.add(&from.place, message);
    }
    for initrd in initrds {
        let name = name_in_windows(initrd);
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if name.is_empty() || !name.bytes().all(is_plain) {
            let message = format!(
                "{} has no name that wimboot takes; name the file by letters, digits, '.', '_' and '-'",
                quoted(initrd)
            );
            report.add(&from.place, message);
        }
    }
}

/// Whether the entries of a menu are there to boot.
pub(super) fn check_menu(
    from: &file::Profile,
    names: &ProfileNames<'_>,
    is_menu: impl Fn(&str) -> bool,
    report: &mut Report<'_>,
) {
    for entry in
        from.boots.menu.iter().filter(|entry| entry.value != LOCAL || names.known.contains_key(LOCAL))
    {
        if is_menu(&entry.value) {
            report.add(&entry.place, "is a menu itself; name a profile that boots something");
        } else {
            entry.read(report, |name| names.find(name));
        }
    }
}
