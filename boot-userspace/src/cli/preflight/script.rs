//! What an iPXE script fetches, as far as its lines say it: not every script is followed, and none is run.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use boot_common::Mac;
use boot_engine::boot::variables::{AGENT, DOCUMENTS, PHONE_HOME};

/// As long a line and a value as iPXE's scripts have: each line could double what the one before has set.
const LONGEST_LINE: usize = 8192;
const LONGEST_VALUE: usize = 4096;
/// How many settings are kept, and how many fetches.
const MOST_SETTINGS: usize = 1000;
const MOST_FETCHES: usize = 256;

/// A line that fetches something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetch {
    /// Another script, or a program, in its place.
    Chain(String),
    /// A kernel.
    Kernel(String),
    /// An initrd, or another file.
    Initrd(String),
    /// A disk.
    Disk(String),
    /// What only the machine may fetch: a report perhaps, which would count as its own, or a document that is given once.
    Aside(String),
}

impl Fetch {
    pub(super) fn url(&self) -> &str {
        let (Self::Chain(url) | Self::Kernel(url) | Self::Initrd(url) | Self::Disk(url) | Self::Aside(url)) =
            self;
        url
    }
}

/// iPXE's settings as the machine has them that seems to ask.
pub(super) struct Settings(BTreeMap<String, String>);

impl Settings {
    pub(super) fn of(mac: Mac, server: &str) -> Self {
        let hyphens = mac.to_string().replace(':', "-");
        let own = [
            ("mac", mac.to_string()),
            ("mac:hexhyp", hyphens.clone()),
            ("net0/mac", mac.to_string()),
            ("net0/mac:hexhyp", hyphens),
            ("buildarch", "x86_64".to_owned()),
            ("platform", "efi".to_owned()),
            ("next-server", server.to_owned()),
            ("net0/next-server", server.to_owned()),
        ];
        Self(own.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// A text with the values of its settings; those that are not set are empty. What is too long is cut.
    fn expand(&self, text: &str) -> String {
        let (mut whole, mut rest) = (String::new(), text);
        while let Some((before, behind)) = rest.split_once("${") {
            whole += before;
            if whole.len() > LONGEST_LINE {
                return whole;
            }
            let Some((name, after)) = behind.split_once('}') else { return whole + "${" + behind };
            whole += self.0.get(name).map_or("", String::as_str);
            rest = after;
        }
        whole + rest
    }

    fn set(&mut self, name: &str, value: String) {
        let has_room = self.0.len() < MOST_SETTINGS || self.0.contains_key(name);
        if has_room && name.len() + value.len() <= LONGEST_VALUE {
            self.0.insert(name.to_owned(), value);
        }
    }

    /// What a script fetches, in its order. URLs that are none are beside the script.
    pub(super) fn fetches(&mut self, script: &str, base: &str) -> Vec<Fetch> {
        let mut found: Vec<Fetch> = Vec::new();
        // URLs by the names of what is fetched, which later lines may have in place of a URL.
        let mut images: BTreeMap<String, String> = BTreeMap::new();
        for line in script.lines() {
            let line = self.expand(line);
            // `isset … && chain … || goto …`
            for command in line.split(" || ").flat_map(|part| part.split(" && ")) {
                let words = command.split_whitespace().take_while(|word| !["||", "&&"].contains(word));
                let words: Vec<&str> = words.collect();
                let [verb, words @ ..] = words.as_slice() else { continue };
                if *verb == "set" {
                    if let [name, value @ ..] = words {
                        self.set(name, value.join(" "));
                    }
                    continue;
                }
                if found.len() >= MOST_FETCHES {
                    return found;
                }
                let (name, Some(file)) = arguments(words) else { continue };
                let image = match *verb {
                    "chain" | "imgexec" | "kernel" | "imgselect" | "imgload" | "boot" => images.get(file),
                    _ => None,
                };
                let is_image = image.is_some();
                let url = image.cloned().unwrap_or_else(|| absolute(file, base));
                let kind: fn(String) -> Fetch = match *verb {
                    "chain" | "imgexec" => Fetch::Chain,
                    "kernel" | "imgselect" | "imgload" | "boot" => Fetch::Kernel,
                    "initrd" | "module" => Fetch::Initrd,
                    "sanboot" => Fetch::Disk,
                    "imgfetch" => Fetch::Aside,
                    _ => continue,
                };
                let fetch = if is_for_machine(&url) { Fetch::Aside(url.clone()) } else { kind(url.clone()) };
                if is_image {
                    if found.contains(&fetch) {
                        continue;
                    }
                    // It is used, so it is a file.
                    found.retain(|other| !matches!(other, Fetch::Aside(own) if *own == url));
                }
                images.insert(name.unwrap_or_else(|| last_part(&url)).to_owned(), url);
                found.push(fetch);
            }
        }
        found
    }
}

/// The name that a line gives its file, and the file: the first word that is no flag, and no flag's value.
fn arguments<'w>(words: &[&'w str]) -> (Option<&'w str>, Option<&'w str>) {
    let (mut name, mut words) = (None, words.iter());
    while let Some(word) = words.next() {
        match *word {
            "--name" | "-n" => name = words.next().copied(),
            "--timeout" | "-t" | "--drive" | "-d" | "--filename" | "-f" => {
                words.next();
            }
            word if word.starts_with('-') => name = word.strip_prefix("--name=").or(name),
            word => return (name, Some(word)),
        }
    }
    (name, None)
}

/// The path in a URL.
fn path(url: &str) -> &str {
    let plain = url.split(['?', '#']).next().unwrap_or(url);
    let rest = plain.split_once("://").map_or(plain, |(_, rest)| rest);
    rest.find('/').and_then(|at| rest.get(at..)).unwrap_or_default()
}

/// The name that a file has without another one.
fn last_part(url: &str) -> &str {
    path(url).rsplit('/').next().unwrap_or_default()
}

/// Whether xpxe takes whoever fetches this for the machine, or gives it once only.
fn is_for_machine(url: &str) -> bool {
    [AGENT, DOCUMENTS, PHONE_HOME].into_iter().any(|start| path(url).starts_with(start))
}

/// A URL as seen from another.
pub(super) fn absolute(url: &str, base: &str) -> String {
    if url.contains("://") {
        return url.to_owned();
    }
    let start = base.find("://").map_or(0, |at| at + 3);
    let host = base.get(start..).and_then(|rest| rest.find('/')).map_or(base.len(), |at| start + at);
    let root = base.get(..host).unwrap_or(base);
    match url.strip_prefix('/') {
        Some(path) => format!("{root}/{path}"),
        None => {
            let plain = base.split(['?', '#']).next().unwrap_or(base);
            let dir =
                plain.rfind('/').filter(|at| *at >= host).and_then(|at| plain.get(..at)).unwrap_or(root);
            format!("{dir}/{url}")
        }
    }
}
