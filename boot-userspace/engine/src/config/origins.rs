//! Where each setting stands: in which file, by which key, on which line.

use super::arch::{self, Arch};
use super::documents;
use super::file::{File, Machine, Profile, Subnet};
use super::inherit::Lineages;
use super::option;
use super::report::{At, Place};

/// Where the settings of a configuration stand, each as `FILE:LINE: KEY`. Positions are those in
/// [`Config`](super::Config).
pub struct Origins {
    files: Vec<String>,
    file: File,
}

impl Origins {
    pub(super) fn new(files: Vec<String>, file: File) -> Self {
        Self { files, file }
    }

    /// A `[[machine]]`.
    #[must_use]
    pub fn machine(&self, position: usize) -> Option<String> {
        self.of_machine(position).map(|machine| self.place(&machine.place))
    }

    /// A key of a `[[machine]]`: `ip`, `profile`, `args` or `boot_file`.
    #[must_use]
    pub fn machine_key(&self, position: usize, key: &str) -> Option<String> {
        let Machine { ip, profile, args, boot_file, .. } = self.of_machine(position)?;
        let at = match key {
            "ip" => ip,
            "profile" => profile,
            "args" => args,
            "boot_file" => boot_file,
            _ => return None,
        };
        self.at(at.as_ref())
    }

    /// An option of a `[[machine]]`.
    #[must_use]
    pub fn machine_option(&self, position: usize, code: u8) -> Option<String> {
        self.option(&self.of_machine(position)?.options, code)
    }

    /// The document with this name of a `[[machine]]`.
    #[must_use]
    pub fn machine_document(&self, position: usize, name: &str) -> Option<String> {
        self.document(&self.of_machine(position)?.documents, name)
    }

    /// The document with this name of a `[[group]]`.
    #[must_use]
    pub fn group_document(&self, position: usize, name: &str) -> Option<String> {
        self.document(&self.file.groups.get(position)?.documents, name)
    }

    /// The document with this name of a `[[profile]]`, or of the one that it inherits it from.
    #[must_use]
    pub fn profile_document(&self, profile: &str, name: &str) -> Option<String> {
        self.lineage(profile).rev().find_map(|profile| self.document(&profile.documents, name))
    }

    /// A key of a `[[profile]]`, or of the one that it inherits it from: `console`, `template`, `boot_file`, or what it boots: `kernel`,
    /// `esxi`, `wimboot`, `iso` or `menu`.
    #[must_use]
    pub fn profile_key(&self, name: &str, key: &str) -> Option<String> {
        self.lineage(name).rev().find_map(
            |Profile { kernel, boots, console, template, boot_file, .. }| {
                let at = match key {
                    "kernel" => kernel,
                    "esxi" => &boots.esxi,
                    "wimboot" => &boots.wimboot,
                    "iso" => &boots.iso,
                    "menu" => return self.at(boots.menu.first()),
                    "console" => console,
                    "template" => template,
                    "boot_file" => boot_file,
                    _ => return None,
                };
                self.at(at.as_ref())
            },
        )
    }

    /// The arguments of a `[[profile]]` and of those that it inherits, in their order, each with where they stand.
    pub fn profile_args(&self, name: &str) -> impl Iterator<Item = (&str, String)> {
        self.lineage(name).filter_map(|profile| self.args_at(profile.args.as_ref()))
    }

    /// Those of an architecture.
    pub fn arch_args(&self, name: &str, arch: Arch) -> impl Iterator<Item = (&str, String)> {
        self.arches(name, arch).filter_map(|of| self.args_at(of.args.as_ref()))
    }

    /// A `[[group]]`.
    #[must_use]
    pub fn group(&self, position: usize) -> Option<String> {
        self.file.groups.get(position).map(|group| self.place(&group.place))
    }

    /// A key of a `[[group]]`: `profile` or `args`.
    #[must_use]
    pub fn group_key(&self, position: usize, key: &str) -> Option<String> {
        let group = self.file.groups.get(position)?;
        match key {
            "profile" => self.at(group.profile.as_ref()),
            "args" => self.at(group.args.as_ref()),
            _ => None,
        }
    }

    /// An option of a `[[group]]`.
    #[must_use]
    pub fn group_option(&self, position: usize, code: u8) -> Option<String> {
        self.option(&self.file.groups.get(position)?.options, code)
    }

    /// A key of an architecture of a `[[profile]]`: `kernel`, `initrd` or `console`.
    #[must_use]
    pub fn arch_key(&self, name: &str, arch: Arch, key: &str) -> Option<String> {
        self.arches(name, arch).rev().find_map(|of| match key {
            "kernel" => self.at(of.kernel.as_ref()),
            "initrd" => self.at(of.initrd.first()),
            "console" => self.at(of.console.as_ref()),
            _ => None,
        })
    }

    /// One of `initrd` of a `[[profile]]`.
    #[must_use]
    pub fn initrd(&self, name: &str, position: usize) -> Option<String> {
        let profile = self.lineage(name).rfind(|profile| profile.has_initrd)?;
        self.at(profile.initrd.get(position))
    }

    /// An option of a `[[profile]]`.
    #[must_use]
    pub fn profile_option(&self, name: &str, code: u8) -> Option<String> {
        self.lineage(name).rev().find_map(|profile| self.option(&profile.options, code))
    }

    /// The pool of a `[[subnet]]`, or the subnet if it has none.
    #[must_use]
    pub fn pool(&self, position: usize) -> Option<String> {
        let Subnet { pool, cidr, .. } = self.file.subnets.get(position)?;
        self.at(pool.first()).or_else(|| self.at(cidr.as_ref()))
    }

    /// An option of a `[[subnet]]`.
    #[must_use]
    pub fn subnet_option(&self, position: usize, code: u8) -> Option<String> {
        self.option(&self.file.subnets.get(position)?.options, code)
    }

    /// A `[[boot_file]]`.
    #[must_use]
    pub fn rule(&self, position: usize) -> Option<String> {
        self.file.boot_files.get(position).map(|rule| self.place(rule.place()))
    }

    /// `profile` of `[default]`.
    #[must_use]
    pub fn default_profile(&self) -> Option<String> {
        self.at(self.file.default_profile.as_ref())
    }

    /// `unknown` of `[default]`.
    #[must_use]
    pub fn unknown(&self) -> Option<String> {
        self.at(self.file.unknown.as_ref())
    }

    fn of_machine(&self, position: usize) -> Option<&Machine> {
        self.file.machines.get(position)
    }

    /// What a profile inherits, and itself last.
    fn lineage(&self, name: &str) -> impl DoubleEndedIterator<Item = &Profile> {
        let named = |profile: &Profile| profile.name.as_ref().is_some_and(|at| at.value == name);
        let position = self.file.profiles.iter().position(named);
        let lineage = position.map(|position| Lineages::new(&self.file.profiles).of(position));
        lineage.unwrap_or_default().into_iter().filter_map(|position| self.file.profiles.get(position))
    }

    fn arches(&self, name: &str, arch: Arch) -> impl DoubleEndedIterator<Item = &arch::Written> {
        self.lineage(name).filter_map(move |profile| profile.arch.iter().find(|of| of.is_for(arch)))
    }

    fn args_at<'f>(&self, at: Option<&'f At<String>>) -> Option<(&'f str, String)> {
        at.map(|at| (at.value.as_str(), self.place(&at.place)))
    }

    fn document(&self, documents: &documents::Written, name: &str) -> Option<String> {
        documents.iter().find(|(kind, ..)| kind.name() == name).map(|(_, at, _)| self.place(&at.place))
    }

    fn option(&self, options: &[option::Written], code: u8) -> Option<String> {
        options.iter().find_map(|option| option.place_of(code.into())).map(|place| self.place(place))
    }

    fn at<T>(&self, at: Option<&At<T>>) -> Option<String> {
        at.map(|at| self.place(&at.place))
    }

    fn place(&self, place: &Place) -> String {
        let name = self.files.get(usize::from(place.line.map_or(0, |line| line.file)));
        let name = name.map_or("", String::as_str);
        match place.line {
            Some(line) => format!("{name}:{}: {}", line.number, place.key),
            None => format!("{name}: {}", place.key),
        }
    }
}
