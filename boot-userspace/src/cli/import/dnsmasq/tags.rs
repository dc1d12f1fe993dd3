//! dnsmasq's tags: each is one of several descriptions of clients.

use std::collections::BTreeMap;

use super::super::clients::{Clients, all_of};
use super::Import;
use super::lines::Line;

/// Which clients have a tag.
#[derive(Debug, Default)]
pub(super) struct Tags(BTreeMap<String, Vec<Clients>>);

impl Tags {
    pub(super) fn set(&mut self, tag: &str, clients: Clients) {
        let all = self.0.entry(tag.to_owned()).or_default();
        if !all.contains(&clients) {
            all.push(clients);
        }
    }

    /// The clients that have all of these tags; `!` is for those that have it not.
    ///
    /// # Errors
    /// Why the configuration cannot say it.
    pub(super) fn with<'t>(&self, tags: impl IntoIterator<Item = &'t str>) -> Result<Vec<Clients>, String> {
        let mut found = vec![Clients::default()];
        for tag in tags {
            let (name, is_negated) = match tag.strip_prefix(['!', '#']) {
                Some(name) => (name, true),
                None => (tag, false),
            };
            let Some(own) = self.0.get(name) else {
                if is_negated {
                    continue;
                }
                return Err(format!("no statement that is carried over sets the tag {name}"));
            };
            let own = if is_negated {
                let mut others = vec![Clients::default()];
                for clients in own {
                    let not = clients
                        .not()
                        .ok_or_else(|| format!("xpxe has no condition for clients without the tag {name}"))?;
                    others = all_of(&others, &not);
                }
                others
            } else {
                own.clone()
            };
            found = all_of(&found, &own);
        }
        match found.is_empty() {
            true => Err("no client has all of these tags".to_owned()),
            false => Ok(found),
        }
    }
}

/// The tags in front of a value, and the rest: `tag:a,tag:b,rest`.
pub(super) fn split<'w>(words: &[&'w str]) -> (Vec<&'w str>, Vec<&'w str>) {
    let tag = |word: &&'w str| {
        let prefixes = ["tag:", "net:", "interface:"];
        prefixes.into_iter().find_map(|prefix| word.strip_prefix(prefix))
    };
    let tags: Vec<&str> = words.iter().map_while(tag).collect();
    let rest = words.get(tags.len()..).unwrap_or_default().to_vec();
    (tags, rest)
}

fn named(word: &str) -> &str {
    ["set:", "net:"].into_iter().find_map(|prefix| word.strip_prefix(prefix)).unwrap_or(word)
}

impl Import<'_> {
    /// Statements that set a tag by what a client says.
    pub(super) fn tag(&mut self, line: &Line) {
        let words = line.words();
        let clients = match (line.key.as_str(), words.as_slice()) {
            ("dhcp-match", [_, option, value @ ..]) => matched(option, value),
            ("dhcp-vendorclass", [_, .., class]) => vendor_class(class),
            ("dhcp-userclass", [_, .., class]) if class.eq_ignore_ascii_case("ipxe") => Ok(Clients::ipxe()),
            ("dhcp-userclass", [_, ..]) => Err("xpxe knows no user class but iPXE's".to_owned()),
            ("dhcp-mac", [_, mac]) => mac_prefix(mac),
            ("dhcp-circuitid", [_, id]) => {
                Ok(Clients { circuit_id: Some(relay_id(id)), ..Clients::default() })
            }
            ("dhcp-remoteid", [_, id]) => Ok(Clients { remote_id: Some(relay_id(id)), ..Clients::default() }),
            (
                "dhcp-match" | "dhcp-vendorclass" | "dhcp-userclass" | "dhcp-mac" | "dhcp-circuitid"
                | "dhcp-remoteid",
                _,
            ) => {
                self.setup.bad(&line.place, format!("{} lacks a part", line.text()));
                return;
            }
            _ => return,
        };
        match clients {
            Ok(clients) => self.tags.set(named(words.first().copied().unwrap_or_default()), clients),
            Err(why) => self.setup.left(&line.place, line.text(), why),
        }
    }

    /// `tag-if=set:a,tag:b,tag:!c`
    pub(super) fn tag_if(&mut self, line: &Line) {
        let words = line.words();
        let (set, needed): (Vec<&str>, Vec<&str>) = words.iter().partition(|word| word.starts_with("set:"));
        let needed = needed.iter().map(|word| word.strip_prefix("tag:").unwrap_or(word));
        match self.tags.with(needed) {
            Ok(found) => {
                for tag in set {
                    found.iter().for_each(|clients| self.tags.set(named(tag), clients.clone()));
                }
            }
            Err(why) => self.setup.left(&line.place, line.text(), why),
        }
    }
}

/// `option:client-arch,7`, `93,7` or `175`
fn matched(option: &str, value: &[&str]) -> Result<Clients, String> {
    let option = option.strip_prefix("option:").unwrap_or(option);
    match (option, value) {
        ("client-arch" | "93", [arch]) => {
            let parsed = match arch.strip_prefix("0x") {
                Some(digits) => u16::from_str_radix(digits, 16).ok(),
                None => arch.parse().ok(),
            };
            let names = [("x86PC", 0), ("IA32_EFI", 6), ("BC_EFI", 7), ("X86-64_EFI", 9), ("ARM64_EFI", 11)];
            let by_name =
                names.iter().find(|(name, _)| name.eq_ignore_ascii_case(arch)).map(|(_, arch)| *arch);
            let arch = parsed.or(by_name).ok_or_else(|| format!("{arch:?} is no architecture"))?;
            Ok(Clients::arch(arch))
        }
        ("175", _) => Ok(Clients::ipxe()),
        ("vendor-class" | "60", [class]) => vendor_class(class),
        ("user-class" | "77", [class]) if class.eq_ignore_ascii_case("ipxe") => Ok(Clients::ipxe()),
        _ => Err("xpxe has no condition for this option".to_owned()),
    }
}

/// The architectures that boot over HTTP.
const HTTP: [u16; 10] = [15, 16, 17, 18, 19, 20, 23, 24, 28, 40];

/// `PXEClient:Arch:00007` in any length.
pub(in crate::cli::import) fn vendor_class(class: &str) -> Result<Clients, String> {
    let class = class.strip_prefix("enterprise:").unwrap_or(class);
    let rest = ["PXEClient", "HTTPClient"].into_iter().find_map(|kind| class.strip_prefix(kind));
    let rest = rest.ok_or_else(|| "xpxe has no condition for this vendor class".to_owned())?;
    let arch = rest.strip_prefix(":Arch:").and_then(|arch| arch.split(':').next());
    match arch {
        None if class == "HTTPClient" => Ok(Clients { archs: Some(HTTP.into()), ..Clients::default() }),
        None if rest.is_empty() => Ok(Clients::firmware()),
        Some(arch) if arch.parse::<u16>().is_ok() => Ok(Clients::arch(arch.parse().unwrap_or_default())),
        _ => Err("xpxe has no condition for this vendor class".to_owned()),
    }
}

/// `52:54:00:*:*:*`
fn mac_prefix(mac: &str) -> Result<Clients, String> {
    let bytes: Vec<&str> = mac.split([':', '-']).collect();
    let first: Vec<String> =
        bytes.iter().take_while(|byte| **byte != "*").map(|byte| byte.to_ascii_lowercase()).collect();
    let is_hex = first.iter().all(|byte| u8::from_str_radix(byte, 16).is_ok() && byte.len() == 2);
    let rest = bytes.get(first.len()..).unwrap_or_default();
    if first.is_empty() || !is_hex || rest.iter().any(|byte| *byte != "*") {
        return Err("xpxe has conditions only for the first bytes of MAC addresses".to_owned());
    }
    Ok(Clients { mac: Some(first.join(":")), ..Clients::default() })
}

/// Hexadecimal with colons, or a text.
fn relay_id(id: &str) -> String {
    match super::super::options::hex(id).filter(|_| id.contains(':')) {
        Some(bytes) => bytes.iter().fold("0x".to_owned(), |all, byte| all + &format!("{byte:02x}")),
        None => id.to_owned(),
    }
}
