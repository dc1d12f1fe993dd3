//! Changes of what is written, and how it is kept: one list, in which what is the same stands once.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{CloudInit, Name, Parameters, Table, Target, Written};
use crate::config::{check_args, check_kernel};

/// How many names, cards, numbers and images may have parameters: the machines of a large site.
pub(super) const MOST: usize = 50_000;
/// Bytes of one set of parameters, as JSON.
const LARGEST: usize = 64 << 10;
/// Bytes of everything, as JSON: it is written anew with each change.
pub const LARGEST_TABLE: usize = 16 << 20;
/// Bytes of a name.
const LONGEST_NAME: usize = 253;

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Write what is not written yet.
    Add,
    /// Write it, whatever is written.
    Set,
    /// Change what is written; what the change does not name stays.
    Update,
    /// Remove what is written.
    Remove,
}

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// What is done.
    pub act: Act,
    /// To whose parameters.
    pub targets: Vec<Target>,
    /// What is written.
    pub parameters: Parameters,
}

/// Why a change is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is nothing in it.
    #[error("Nothing to Store")]
    Nothing,
    /// Somebody has written it before.
    #[error("Already exists: {0}")]
    Exists(String),
    /// Nobody has written it.
    #[error("no boot parameters are written for {0}")]
    Missing(String),
    /// It cannot be booted.
    #[error("{0}")]
    Invalid(String),
    /// There is no room.
    #[error("{0}")]
    Full(String),
}

impl Table {
    /// What is in a list that was kept.
    ///
    /// # Errors
    /// A MAC address in it is none.
    pub fn read(kept: Vec<Written>) -> Result<Self, Refused> {
        let mut table = Self::default();
        for written in kept {
            let Written { hosts, macs, nids, parameters } = written;
            let parameters = Arc::new(parameters);
            let mut targets: Vec<Target> = hosts.into_iter().map(Target::host).collect();
            targets.extend(macs.iter().map(|mac| card(mac)).collect::<Result<Vec<_>, _>>()?);
            targets.extend(nids.into_iter().map(Target::Nid));
            if targets.is_empty() {
                targets = image(&parameters).into_iter().collect();
            }
            table.0.extend(targets.into_iter().map(|target| (target, Arc::clone(&parameters))));
        }
        Ok(table)
    }

    /// The list to keep.
    #[must_use]
    pub fn kept(&self) -> Vec<Written> {
        let mut kept: Vec<Written> = Vec::new();
        let mut at = std::collections::HashMap::<*const Parameters, usize>::new();
        for (target, parameters) in &self.0 {
            let position = *at.entry(Arc::as_ptr(parameters)).or_insert_with(|| {
                kept.push(Written { parameters: (**parameters).clone(), ..Written::default() });
                kept.len() - 1
            });
            let Some(written) = kept.get_mut(position) else { continue };
            match target {
                Target::Host(name) => written.hosts.push(name.to_string()),
                Target::Mac(mac) => written.macs.push(mac.to_string()),
                Target::Nid(nid) => written.nids.push(*nid),
                // They stand in the parameters.
                Target::Kernel(_) | Target::Initrd(_) => {}
            }
        }
        kept
    }

    /// What is written after a change. `boot_dir` is where kernels without a URL lie.
    ///
    /// # Errors
    /// Why nothing is changed.
    pub fn after(&self, change: &Change, boot_dir: &Path) -> Result<Self, Refused> {
        let Change { act, targets, parameters } = change;
        if targets.is_empty() {
            return Err(Refused::Nothing);
        }
        let mut table = self.clone();
        if *act == Act::Remove {
            for target in targets {
                table.remove(target)?;
            }
            return Ok(table);
        }
        check(parameters, boot_dir)?;
        let shared = Arc::new(parameters.clone());
        for target in targets {
            if let Target::Host(name) = target {
                check_name(name)?;
            }
            let before = self.0.get(target);
            let new = match (act, before) {
                (Act::Add, Some(_)) => return Err(Refused::Exists(target.called())),
                (Act::Update, None) => return Err(Refused::Missing(target.called())),
                (Act::Update, Some(before)) => Arc::new(updated(before, parameters)),
                _ => Arc::clone(&shared),
            };
            if *act == Act::Update {
                check(&new, boot_dir)?;
            }
            table.0.insert(target.clone(), new);
        }
        if table.0.len() > MOST {
            return Err(Refused::Full(format!(
                "boot parameters are kept for {MOST} names at most; delete some"
            )));
        }
        Ok(table)
    }

    fn remove(&mut self, target: &Target) -> Result<(), Refused> {
        let was = self.0.remove(target);
        match target {
            // Whoever has named it does so no longer.
            Target::Kernel(path) => self.forget(|of| &mut of.kernel, path),
            Target::Initrd(path) => self.forget(|of| &mut of.initrd, path),
            _ if was.is_none() => return Err(Refused::Missing(target.called())),
            _ => {}
        }
        Ok(())
    }

    fn forget(&mut self, part: impl Fn(&mut Parameters) -> &mut String, path: &str) {
        for parameters in self.0.values_mut() {
            let mut new = (**parameters).clone();
            if part(&mut new) == path {
                part(&mut new).clear();
                *parameters = Arc::new(new);
            }
        }
    }
}

/// A card, as BSS's clients write it.
///
/// # Errors
/// It is no MAC address.
pub fn card(text: &str) -> Result<Target, Refused> {
    let mac = text.parse().map_err(|_| Refused::Invalid(format!("invalid MAC address format: {text}")))?;
    Ok(Target::Mac(mac))
}

/// What parameters without a machine are written for: their kernel, or else their initrd.
#[must_use]
pub fn image(parameters: &Parameters) -> Option<Target> {
    let Parameters { kernel, initrd, .. } = parameters;
    match (kernel.is_empty(), initrd.is_empty()) {
        (false, _) => Some(Target::Kernel(kernel.clone())),
        (true, false) => Some(Target::Initrd(initrd.clone())),
        (true, true) => None,
    }
}

fn check_name(name: &Name) -> Result<(), Refused> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let text = name.as_str();
    match !text.is_empty() && text.len() <= LONGEST_NAME && text.chars().all(is_good) {
        true => Ok(()),
        false => Err(Refused::Invalid(format!(
            "{text:?} is no host: write up to {LONGEST_NAME} letters, digits, '-', '_' and '.'"
        ))),
    }
}

fn check(parameters: &Parameters, boot_dir: &Path) -> Result<(), Refused> {
    let of = |what: &str, why: String| Refused::Invalid(format!("{what}: {why}"));
    check_args(&parameters.params).map_err(|why| of("params", why))?;
    if parameters.params.contains(char::is_control) {
        return Err(of("params", "has a control character; remove it".to_owned()));
    }
    for (what, file) in [("kernel", parameters.kernel()), ("initrd", super::as_file(&parameters.initrd))] {
        // What xpxe itself fetches is for the configuration to say: it reaches more than the machines do.
        if file.starts_with("image:") && !file.starts_with("image:s3://") {
            let why = "xpxe fetches only s3:// for BSS; write an http:// or https:// URL, which the machine fetches itself";
            return Err(of(what, why.to_owned()));
        }
        if !file.is_empty() {
            check_kernel(&file, boot_dir).map_err(|why| of(what, why))?;
        }
    }
    let bytes = serde_json::to_string(parameters).map_or(usize::MAX, |text| text.len());
    if bytes > LARGEST {
        return Err(Refused::Full(format!("has {bytes} bytes; write at most {LARGEST}")));
    }
    Ok(())
}

fn updated(before: &Parameters, by: &Parameters) -> Parameters {
    let text = |before: &String, by: &String| if by.is_empty() { before.clone() } else { by.clone() };
    let cloud_init = match (&before.cloud_init, &by.cloud_init) {
        (Some(before), Some(by)) => Some(CloudInit {
            meta_data: merged(before.meta_data.as_ref(), by.meta_data.as_ref()),
            user_data: merged(before.user_data.as_ref(), by.user_data.as_ref()),
            phone_home: by.phone_home.clone().or_else(|| before.phone_home.clone()),
        }),
        (before, by) => by.clone().or_else(|| before.clone()),
    };
    Parameters {
        params: text(&before.params, &by.params),
        kernel: text(&before.kernel, &by.kernel),
        initrd: text(&before.initrd, &by.initrd),
        cloud_init,
        token: before.token.clone(),
    }
}

fn merged(
    before: Option<&Map<String, Value>>,
    by: Option<&Map<String, Value>>,
) -> Option<Map<String, Value>> {
    let mut merged = before.cloned();
    if let Some(by) = by {
        patch(merged.get_or_insert_default(), by);
    }
    merged
}

/// RFC 7396: what is null is removed, objects are changed key by key, everything else is replaced.
pub fn patch(target: &mut Map<String, Value>, by: &Map<String, Value>) {
    for (key, value) in by {
        match value {
            Value::Null => drop(target.remove(key)),
            Value::Object(by) => {
                let inner = target.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if !inner.is_object() {
                    *inner = Value::Object(Map::new());
                }
                if let Value::Object(inner) = inner {
                    patch(inner, by);
                }
            }
            other => drop(target.insert(key.clone(), other.clone())),
        }
    }
}
