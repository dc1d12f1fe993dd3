//! Which files are given by signed links only: kernels and initrds of the configuration, by whatever name they are asked for.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::inspect::Need;
use super::path::tidy;
use super::{BootFiles, OpenError, OpenFile, loader, percent};
use crate::host::live::Live;

/// For so long it is believed which files the names mean. A link that leads somewhere else is noticed after that.
const BELIEVED: Duration = Duration::from_secs(1);

/// Device and inode.
type Identities = Arc<HashSet<(u64, u64)>>;

/// What is signed.
#[derive(Debug)]
pub(super) struct Signed {
    is_on: AtomicBool,
    /// Kernels and initrds, as the configuration has them.
    names: Live<Vec<String>>,
    /// Which files those were, and when.
    found: Mutex<Option<(Instant, Identities)>>,
}

impl Default for Signed {
    fn default() -> Self {
        Self { is_on: AtomicBool::default(), names: Live::new(Vec::new()), found: Mutex::default() }
    }
}

impl Signed {
    /// Another configuration counts from now on.
    pub(super) fn follow(&self, is_on: bool, names: Vec<String>) {
        self.names.replace(names);
        self.is_on.store(is_on, Ordering::Relaxed);
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// What was found lately.
    fn known(&self) -> Option<Identities> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.as_ref().filter(|(when, _)| when.elapsed() < BELIEVED).map(|(_, found)| Arc::clone(found))
    }
}

impl BootFiles {
    /// Whether a name is a kernel or an initrd of the configuration, and links to those are signed.
    #[must_use]
    pub fn wants_signature(&self, name: &str) -> bool {
        // TFTP takes a name as it is, or else decoded.
        self.signed.is_on()
            && (self.has_need(name, |need| *need == Need::Ipxe)
                || percent::decode(name).is_some_and(|name| self.has_need(&name, |need| *need == Need::Ipxe)))
    }

    /// A file that was opened by a name that needs no signature: refused if it is a kernel or an initrd all the same, by a link
    /// of the file system. Waits for the disk.
    pub(super) fn unless_signed(&self, name: &str, file: OpenFile) -> Result<OpenFile, OpenError> {
        if !self.signed.is_on() || self.is_exempt(name) {
            return Ok(file);
        }
        let signed = self.signed.known().unwrap_or_else(|| self.look_for_signed());
        if signed.contains(&file.identity) { Err(OpenError::Signed) } else { Ok(file) }
    }

    /// The same without waiting: none where nobody knows, or it is refused.
    pub(super) fn at_hand_unless_signed(&self, name: &str, file: OpenFile) -> Option<OpenFile> {
        if !self.signed.is_on() || self.is_exempt(name) {
            return Some(file);
        }
        let signed = self.signed.known()?;
        (!signed.contains(&file.identity)).then_some(file)
    }

    /// A name that was judged before, or that firmware asks for, which cannot sign.
    fn is_exempt(&self, name: &str) -> bool {
        self.has_need(name, |_| true) || loader::served_to(name).is_some()
    }

    fn has_need(&self, name: &str, is_meant: impl Fn(&Need) -> bool) -> bool {
        let needs = self.needs.get();
        let name = tidy(name).unwrap_or_default().to_ascii_lowercase();
        let name = self.within(&name).unwrap_or(&name);
        needs.get(name).is_some_and(|needs| needs.iter().any(is_meant))
    }

    fn look_for_signed(&self) -> Identities {
        let names = self.signed.names.get();
        let found = names.iter().filter_map(|name| Some(self.find_anywhere(name).ok()?.identity));
        let found: Identities = Arc::new(found.collect());
        // Names that were replaced meanwhile are looked for again by the next one.
        if Arc::ptr_eq(&names, &self.signed.names.get()) {
            let mut known = self.signed.found.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some((Instant::now(), Arc::clone(&found)));
        }
        found
    }
}
