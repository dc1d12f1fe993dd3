//! `dhcp-boot` and `pxe-service`

use super::super::clients::{BootRule, Clients, all_of, place_boot_files};
use super::Import;
use super::lines::Line;
use super::tags::split;

/// dnsmasq's names of client systems, and the architectures that boot the same file.
const SYSTEMS: [(&str, &[u16]); 9] = [
    ("x86PC", &[0]),
    ("IA64_EFI", &[2]),
    ("Intel_Lean_Client", &[5]),
    ("IA32_EFI", &[6]),
    ("BC_EFI", &[7]),
    ("x86-64_EFI", &[7, 9]),
    ("Xscale_EFI", &[8]),
    ("ARM32_EFI", &[10]),
    ("ARM64_EFI", &[11]),
];

impl Import<'_> {
    pub(super) fn boot_files(&mut self, lines: &[Line]) {
        let mut rules = Vec::new();
        for line in lines.iter().filter(|line| line.key == "pxe-service") {
            match self.service(line) {
                Ok(found) => rules.extend(found),
                Err(why) => self.setup.left(&line.place, line.text(), why),
            }
        }
        // Of several that fit, dnsmasq takes the last one with tags, then one without.
        let mut boots: Vec<(bool, &Line)> = Vec::new();
        for line in lines.iter().rev().filter(|line| line.key == "dhcp-boot") {
            boots.push((split(&line.words()).0.is_empty(), line));
        }
        boots.sort_by_key(|(is_general, _)| *is_general);
        for (_, line) in boots {
            match self.boot(line) {
                Ok(found) => rules.extend(found),
                Err(why) => self.setup.left(&line.place, line.text(), why),
            }
        }
        place_boot_files(&mut self.setup, rules);
    }

    /// `tag:efi64,ipxe.efi,server,10.1.0.1`
    fn boot(&mut self, line: &Line) -> Result<Vec<BootRule>, String> {
        let words = line.words();
        let (tags, rest) = split(&words);
        let Some((file, rest)) = rest.split_first().filter(|(file, _)| !file.is_empty()) else {
            return Err("names no file".to_owned());
        };
        let server = self.server(rest.get(1).or(rest.first()).copied());
        let clients = self.tags.with(tags)?;
        Ok(clients.into_iter().map(|clients| rule(line, clients, file, server.clone())).collect())
    }

    /// `tag:x,x86PC,"Text",pxelinux,10.1.0.1`
    fn service(&mut self, line: &Line) -> Result<Vec<BootRule>, String> {
        let words = line.words();
        let (tags, rest) = split(&words);
        let (system, file, server) = match rest.as_slice() {
            [system, _, file, server, ..] => (*system, *file, Some(*server)),
            [system, _, file] => (*system, *file, None),
            _ => {
                return Err(
                    "boots from the local disk, which needs no service: machines do that by themselves"
                        .to_owned(),
                );
            }
        };
        if file.is_empty() || file.bytes().all(|b| b.is_ascii_digit()) {
            return Err(
                "boots from the local disk or from a boot server by its number; xpxe has no such menu"
                    .to_owned(),
            );
        }
        let by_number = system.parse::<u16>().ok();
        let named = SYSTEMS.iter().find(|(name, _)| name.eq_ignore_ascii_case(system));
        let archs: Vec<u16> = match (named, by_number) {
            (Some((_, archs)), _) => archs.to_vec(),
            (None, Some(arch)) => vec![arch],
            (None, None) => return Err(format!("{system} is no client system that xpxe knows")),
        };
        // Without an ending the name of the boot layer is added.
        let is_plain = !file.rsplit('/').next().unwrap_or_default().contains('.');
        let file = if is_plain { format!("{file}.0") } else { file.to_owned() };
        let server = self.server(server);
        let own = [Clients { archs: Some(archs.into_iter().collect()), ..Clients::default() }];
        let clients = all_of(&self.tags.with(tags)?, &own);
        Ok(clients.into_iter().map(|clients| rule(line, clients, &file, server.clone())).collect())
    }

    /// Another server than this host.
    fn server(&self, named: Option<&str>) -> Option<String> {
        let named = named.filter(|named| !named.is_empty() && *named != "0.0.0.0")?;
        let is_own = self.addresses.iter().any(|(_, net)| net.addr().to_string() == named);
        (!is_own).then(|| named.to_owned())
    }
}

fn rule(line: &Line, clients: Clients, file: &str, server: Option<String>) -> BootRule {
    BootRule { clients, file: file.to_owned(), server, place: line.place.clone(), what: line.text() }
}
