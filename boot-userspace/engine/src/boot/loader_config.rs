//! The configuration of boot loaders that are no iPXE, from the same plan as its script.

use std::net::IpAddr;

use super::loader_context::{Context, Plans};
use super::loader_file::{For, Language, LoaderFile};
use super::plan::{Asked, NoScript, Plan};
use super::{Server, grub, pxelinux};
use crate::config::{Arch, parse_uuid};
use crate::machines::{Asker, Machines};

pub use super::loader_context::Way;

impl LoaderFile {
    /// Who asks for this file, from an address; `server` is this server as that one has reached it, with HTTP's port.
    #[must_use]
    pub fn asked(&self, from: IpAddr, machines: &Machines, server: impl FnOnce(&Asker) -> Server) -> Asked {
        let (said, uuid) = match &self.whose {
            For::Asker => (None, None),
            For::Mac(mac) => (Some(*mac), None),
            For::Uuid(uuid) => (None, Some(uuid.clone())),
        };
        let bytes = uuid.as_deref().and_then(|uuid| parse_uuid(uuid).ok());
        let asker = machines.asker(from, said, bytes);
        let server = server(&asker);
        let mac = said.or_else(|| Some(asker.client.as_ref()?.mac));
        let (domain, hostname, serial, arch, platform) = (None, None, None, None, None);
        Asked { uuid, mac, client_ip: from, server, asker, domain, hostname, serial, arch, platform }
    }

    /// The text of this file. `plan` plans for what is asked, with the architecture in it.
    ///
    /// # Errors
    /// When this machine is not to have it. `None` when the loader is to ask for its next name.
    pub fn text(
        &self,
        asked: &Asked,
        way: Way,
        plan: impl Fn(&Asked) -> Result<Plan, NoScript>,
    ) -> Option<Result<String, NoScript>> {
        let context = Context { file: self, asked, way };
        let text = match self.language {
            Language::Grub if asked.mac.is_none() && asked.asker.known.is_none() => {
                return Some(Ok(grub::bootstrap(&context)));
            }
            Language::Grub => plans(asked, plan).map(|plans| grub::config(&context, &plans)),
            // It says its MAC next.
            Language::Pxelinux
                if asked.mac.is_none() && asked.uuid.is_some() && asked.asker.known.is_none() =>
            {
                return None;
            }
            Language::Pxelinux => {
                plan(&with_arch(asked, Arch::Bios)).map(|plan| pxelinux::config(&context, &plan))
            }
        };
        Some(match (text, self.language) {
            // It goes on to its firmware's next boot entry.
            (Err(NoScript::NotForYou(why)), Language::Grub) => Ok(grub::not_from_here(&why)),
            (Err(NoScript::NotForYou(why)), Language::Pxelinux) => Ok(pxelinux::not_from_here(&why)),
            (text, _) => text,
        })
    }
}

/// GRUB knows its architecture, and its configuration can ask for it.
fn plans(asked: &Asked, plan: impl Fn(&Asked) -> Result<Plan, NoScript>) -> Result<Plans, NoScript> {
    let usual = plan(asked)?;
    let mut of_arch = Vec::new();
    for (_, arch) in Arch::ALL {
        let own = plan(&with_arch(asked, arch))?;
        if own != usual {
            of_arch.push((arch, own));
        }
    }
    Ok(Plans { usual, of_arch })
}

/// As iPXE would say it.
fn with_arch(asked: &Asked, arch: Arch) -> Asked {
    let (arch, platform) = match arch {
        Arch::Bios => ("i386", "pcbios"),
        Arch::Ia32 => ("i386", "efi"),
        Arch::X64 => ("x86_64", "efi"),
        Arch::Arm32 => ("arm32", "efi"),
        Arch::Arm64 => ("arm64", "efi"),
        Arch::Riscv64 => ("riscv64", "efi"),
        Arch::Loongarch64 => ("loong64", "efi"),
    };
    Asked { arch: Some(arch.to_owned()), platform: Some(platform.to_owned()), ..asked.clone() }
}

#[cfg(test)]
mod tests;
