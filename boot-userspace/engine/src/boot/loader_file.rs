//! The names by which GRUB, PXELINUX and mboot ask for their configuration.
//!
//! Each tries several, the most particular first: GRUB `grub.cfg-01-MAC`, `grub.cfg-ADDRESS` and `grub.cfg` beside its
//! modules and in the directory above; PXELINUX `pxelinux.cfg/UUID`, `pxelinux.cfg/01-MAC`, its address in hexadecimal
//! digits with fewer and fewer of them, and `pxelinux.cfg/default`; mboot `01-MAC/boot.cfg` and `boot.cfg`.

use boot_common::Mac;

use crate::config::parse_uuid;

/// How the file is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// GRUB 2.
    Grub,
    /// PXELINUX, and what reads its files: U-Boot, petitboot.
    Pxelinux,
    /// VMware's mboot.
    Esxi,
}

/// The machine that a name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum For {
    /// The one that asks.
    Asker,
    /// The one with this MAC.
    Mac(Mac),
    /// The one with this UUID.
    Uuid(String),
}

/// A configuration file that a boot loader asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoaderFile {
    /// The loader's language.
    pub language: Language,
    /// The directory, with a slash behind it if there is one. PXELINUX's is the one that `pxelinux.cfg` is in.
    pub dir: String,
    /// The name in that directory.
    pub name: String,
    /// Whose it is.
    pub whose: For,
    /// One more attempt, from a file that was fetched before.
    pub is_attempt: bool,
    /// The menu of GRUB, which shows it for a file of its own only.
    pub is_menu: bool,
}

/// Before the MAC in the name of a further attempt's file.
pub(super) const ATTEMPT: &str = "grub.cfg-again-";
/// The same of its menu.
pub(super) const MENU: &str = "grub.cfg-menu-";

impl LoaderFile {
    /// The file that a name is of; `None` for every other name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let path: Vec<&str> = name.split(['/', '\\']).filter(|part| !matches!(*part, "" | ".")).collect();
        let (name, dir) = path.split_last()?;
        let lower = name.to_ascii_lowercase();
        if let [above @ .., "pxelinux.cfg"] = dir {
            let whose = pxelinux(&lower)?;
            return Some(Self::new(Language::Pxelinux, above, name, whose));
        }
        if lower == "boot.cfg" {
            let mac = dir.split_last().and_then(|(last, above)| Some((last.strip_prefix("01-")?, above)));
            return match mac {
                Some((mac, above)) => {
                    Some(Self::new(Language::Esxi, above, name, For::Mac(mac.parse().ok()?)))
                }
                None => Some(Self::new(Language::Esxi, dir, name, For::Asker)),
            };
        }
        let whose = match lower.strip_prefix("grub.cfg")? {
            "" => For::Asker,
            rest => grub(rest.strip_prefix('-')?)?,
        };
        let file = Self::new(Language::Grub, dir, name, whose);
        Some(Self { is_attempt: lower.starts_with(ATTEMPT), is_menu: lower.starts_with(MENU), ..file })
    }

    fn new(language: Language, dir: &[&str], name: &str, whose: For) -> Self {
        let dir = dir.iter().map(|part| format!("{part}/")).collect();
        Self { language, dir, name: name.to_owned(), whose, is_attempt: false, is_menu: false }
    }

    /// The names that the loader falls back to after this one: who has written one of these wants it read.
    #[must_use]
    pub fn fallbacks(&self) -> Vec<String> {
        match self.language {
            Language::Pxelinux => vec![format!("{}pxelinux.cfg/default", self.dir)],
            // The installer's own, which is what this one is made from.
            Language::Esxi => Vec::new(),
            Language::Grub => {
                let above = self.dir.trim_end_matches('/').rsplit_once('/').map_or("", |(above, _)| above);
                let above = if above.is_empty() { String::new() } else { format!("{above}/") };
                vec![format!("{}grub.cfg", self.dir), format!("{above}grub.cfg")]
            }
        }
    }
}

fn grub(rest: &str) -> Option<For> {
    let mac = ["again-", "menu-"].iter().find_map(|before| rest.strip_prefix(before)).unwrap_or(rest);
    match mac.strip_prefix("01-") {
        Some(mac) => mac.parse().ok().map(For::Mac),
        None if is_whole_address(rest) => Some(For::Asker),
        None => parse_uuid(rest).ok().map(|_| For::Uuid(rest.to_owned())),
    }
}

fn pxelinux(name: &str) -> Option<For> {
    match name.strip_prefix("01-") {
        Some(mac) => mac.parse().ok().map(For::Mac),
        None if name == "default" || is_whole_address(name) => Some(For::Asker),
        None => parse_uuid(name).ok().map(|_| For::Uuid(name.to_owned())),
    }
}

/// What follows with fewer digits is for several machines, and is asked for only after this one.
fn is_whole_address(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests;
