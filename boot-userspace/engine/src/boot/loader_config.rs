//! The configuration of boot loaders that are no iPXE, from the same plan as its script.

use std::net::IpAddr;

use super::loader_context::{Context, Plans};
use super::loader_file::{For, Language, LoaderFile};
use super::plan::{Asked, Choices, NoScript, Offer, Plan};
use super::stage::plain;
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
        let (chosen, told) = (None, None);
        Asked {
            uuid,
            mac,
            client_ip: from,
            server,
            asker,
            domain,
            hostname,
            serial,
            arch,
            platform,
            chosen,
            told,
        }
    }

    /// The text of this file, of GRUB or PXELINUX. `offered` plans for what is asked, with the architecture and what was
    /// chosen in it.
    ///
    /// # Errors
    /// When this machine is not to have it. `None` when the loader is to ask for its next name.
    pub fn text<O: Into<Offer>>(
        &self,
        asked: &Asked,
        way: Way,
        offered: impl Fn(&Asked) -> Result<O, NoScript>,
    ) -> Option<Result<String, NoScript>> {
        let offered = |asked: &Asked| offered(asked).map(Into::into);
        let context = Context { file: self, asked, way };
        let text = match self.language {
            Language::Grub if asked.mac.is_none() && asked.asker.known.is_none() => {
                return Some(Ok(grub::bootstrap(&context)));
            }
            Language::Esxi => return None,
            Language::Grub => offered(asked).and_then(|offer| match offer {
                Offer::Menu(_) if !self.is_menu => Ok(grub::open_menu(&context)),
                Offer::Menu(choices) => {
                    let plans = |asked: &Asked| plans(asked, offered);
                    Ok(grub::menu(&context, &choices, &each(asked, &choices, plans)))
                }
                Offer::Plan(_) => plans(asked, offered).map(|plans| grub::config(&context, &plans)),
            }),
            // It says its MAC next.
            Language::Pxelinux
                if asked.mac.is_none() && asked.uuid.is_some() && asked.asker.known.is_none() =>
            {
                return None;
            }
            Language::Pxelinux => {
                let asked = &with_arch(asked, Arch::Bios);
                offered(asked).map(|offer| match offer {
                    Offer::Plan(plan) => pxelinux::config(&context, &plan),
                    Offer::Menu(choices) => {
                        let plan = |asked: &Asked| one(offered(asked)?);
                        pxelinux::menu(&context, &choices, &each(asked, &choices, plan))
                    }
                })
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

/// What each entry of a menu boots, with its name.
fn each<P>(
    asked: &Asked,
    choices: &Choices,
    plan: impl Fn(&Asked) -> Result<P, NoScript>,
) -> Vec<(String, Result<P, NoScript>)> {
    let entry = |entry: &String| {
        let asked = Asked { chosen: Some(entry.clone()), ..asked.clone() };
        (entry.clone(), plan(&asked))
    };
    choices.entries.iter().map(entry).collect()
}

/// The plan where somebody has chosen.
fn one(offer: Offer) -> Result<Plan, NoScript> {
    match offer {
        Offer::Plan(plan) => Ok(plan),
        Offer::Menu(_) => Err(NoScript::Broken("its menu has another menu in it".to_owned())),
    }
}

/// GRUB knows its architecture, and its configuration can ask for it.
fn plans(asked: &Asked, offered: impl Fn(&Asked) -> Result<Offer, NoScript>) -> Result<Plans, NoScript> {
    let plan = |asked: &Asked| one(offered(asked)?);
    let usual = plan(asked)?;
    let mut of_arch = Vec::new();
    for (_, arch) in Arch::ALL {
        let own = match plan(&with_arch(asked, arch)) {
            // The profile has nothing for this architecture, and something for others.
            Err(NoScript::NotForYou(why)) => Plan::Wait(plain(&why)),
            own => own?,
        };
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
