//! What each kind of machine would experience with the offers that came: which one it takes, what it fetches, and where it stops.

use std::net::Ipv4Addr;

use boot_common::Mac;

use super::http::{self, Answer};
use super::offers::{Kind, Offer};
use super::script::{Fetch, Settings, absolute};
use super::shown;
use super::tftp::{self, Failure, Fetched};
use crate::files::{inspect_for_firmware, inspect_for_ipxe};
use crate::host::size::human_size;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) is_good: bool,
    pub(super) says: String,
}

/// What becomes of a kind of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: Kind,
    pub(super) steps: Vec<Step>,
    /// In one sentence.
    pub(super) says: String,
    pub(super) boots: bool,
    /// A server has a boot file for it.
    pub(super) is_meant: bool,
}

/// How often a boot file is fetched: routers with several ways (ECMP) choose one by the port.
const TIMES: usize = 3;
/// Scripts that lead to each other.
const MOST_SCRIPTS: usize = 5;
/// Files that a script names.
const MOST_FILES: usize = 8;

/// Where files are fetched from, and who seems to.
pub(super) struct Judge<'a> {
    pub(super) offers: &'a [Offer],
    pub(super) mac: Mac,
    /// This host's address.
    pub(super) own: Ipv4Addr,
    /// What the waiting was, in seconds.
    pub(super) waited: u64,
}

/// What a step gives to the next, or the sentence with which the machine stops.
type Outcome<T> = Result<T, String>;

impl Judge<'_> {
    pub(super) fn verdict(&self, kind: Kind) -> Verdict {
        let mut steps = Vec::new();
        let outcome = self.follow(kind, &mut steps);
        let boots = outcome.is_ok();
        let says = outcome.unwrap_or_else(|why| why);
        let is_meant = self.of(kind).any(|offer| !offer.boot_file.is_empty());
        Verdict { kind, steps, says, boots, is_meant }
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Offer> {
        self.offers.iter().filter(move |offer| offer.kind == kind)
    }

    fn follow(&self, kind: Kind, steps: &mut Vec<Step>) -> Outcome<String> {
        let good = |says: String| Step { is_good: true, says };
        let bad = |says: String| Step { is_good: false, says };
        let all: Vec<&Offer> = self.of(kind).collect();
        if all.is_empty() {
            let code = match kind {
                Kind::Bios => "PXE-E51",
                Kind::Ipxe => "\"No configuration methods succeeded\"",
                _ => "PXE-E16",
            };
            return Err(format!("gets no offer within {} s and shows {code}", self.waited));
        }
        let giving: Vec<&&Offer> = all.iter().filter(|offer| !offer.address.is_unspecified()).collect();
        if let [first, others @ ..] = giving.as_slice() {
            steps.push(good(format!("{} offers the address {}", first.server, first.address)));
            for other in others {
                steps.push(bad(format!(
                    "{} offers an address, too ({}): a machine takes either, by chance; keep one of the two servers silent",
                    other.server, other.address
                )));
            }
            if !first.has_mask {
                steps.push(bad(format!(
                    "{} sends no subnet mask (option 1), which UEFI refuses",
                    first.server
                )));
            }
        } else {
            return Err("gets no address: only proxies answer, and no DHCP server gives one; it waits and shows PXE-E51 or PXE-E16".to_owned());
        }
        let Some(offer) = self.with_boot_file(kind, &all) else {
            return Err(match kind {
                Kind::HttpBoot => "gets an address and no URL: HTTP Boot needs an offer with option 60 \"HTTPClient\" and a URL in option 67".to_owned(),
                Kind::Ipxe => "gets an address and nothing to boot, and shows \"Nothing to boot\"".to_owned(),
                _ => "gets an address and no boot file (option 67 or the field file), and shows PXE-E53 or PXE-E16".to_owned(),
            });
        };
        steps.push(good(format!("{} names the boot file {}", offer.server, shown(&offer.boot_file))));
        let file = &offer.boot_file;
        match (kind, file.contains("://")) {
            (Kind::Ipxe, true) => self.script(file, offer.next_server, steps),
            (Kind::Ipxe, false) => {
                let server = self.tftp_server(offer)?;
                self.script(&format!("tftp://{server}/{}", file.trim_start_matches('/')), server, steps)
            }
            (Kind::HttpBoot, _) => self.http_boot(file, steps),
            (_, true) => Err(format!("gets the URL {} as its boot file, and knows TFTP only", shown(file))),
            (_, false) => {
                let server = self.tftp_server(offer)?;
                self.boot_file(kind, server, file, steps)
            }
        }
    }

    /// The offer whose boot file the firmware takes: one that speaks its class before one that does not.
    fn with_boot_file<'o>(&self, kind: Kind, all: &[&'o Offer]) -> Option<&'o Offer> {
        let named = || all.iter().copied().filter(|offer| !offer.boot_file.is_empty());
        let of_class = named().find(|offer| offer.class.starts_with(kind.class()));
        match kind {
            Kind::HttpBoot => of_class.filter(|offer| offer.boot_file.contains("://")),
            _ => of_class.or_else(|| named().next()),
        }
    }

    /// Where TFTP is: option 66 if it is an address, else siaddr.
    fn tftp_server(&self, offer: &Offer) -> Outcome<Ipv4Addr> {
        let named = offer.server_name.parse().unwrap_or(offer.next_server);
        if named.is_unspecified() {
            return Err("is not told where the boot file is: neither siaddr nor option 66 is set".to_owned());
        }
        if http::is_machine_itself(named) {
            return Err(format!("is told that the boot file is on {named}, which is the machine itself"));
        }
        Ok(named)
    }

    /// The boot file of PXE firmware, three times from new ports.
    fn boot_file(&self, kind: Kind, server: Ipv4Addr, name: &str, steps: &mut Vec<Step>) -> Outcome<String> {
        let mut fetched: Vec<Fetched> = Vec::new();
        let mut failed = Vec::new();
        for nth in 1..=TIMES {
            match tftp::fetch(self.own, server, name) {
                Ok(file) => {
                    let rate = file.bytes as f64 / file.took.as_secs_f64().max(0.000_001);
                    let says = format!(
                        "{} comes by TFTP from {server}: {} in {:.2} s, {}/s",
                        shown(name),
                        human_size(file.bytes),
                        file.took.as_secs_f64(),
                        human_size(rate as u64)
                    );
                    steps.push(Step { is_good: true, says });
                    fetched.push(file);
                }
                Err(failure) => {
                    let says =
                        format!("{} by TFTP from {server}: {}", shown(name), shown(&failure.to_string()));
                    steps.push(Step { is_good: false, says });
                    let is_answer = matches!(failure, Failure::Refused { .. } | Failure::Silent);
                    failed.push(failure);
                    // The same again would only take its time.
                    if is_answer && fetched.is_empty() && nth == 1 {
                        break;
                    }
                }
            }
        }
        let bios = kind == Kind::Bios;
        match (fetched.first(), failed.first()) {
            (None, Some(Failure::Refused { code: 1, .. })) => {
                let shows = if bios { "PXE-T01 File not found" } else { "PXE-E23" };
                return Err(format!(
                    "asks {server} for {}, which is not there, and shows {shows}",
                    shown(name)
                ));
            }
            (None, Some(Failure::Refused { code, .. })) => {
                return Err(format!("is refused {} with TFTP error {code}, and shows PXE-E23", shown(name)));
            }
            (None, Some(Failure::Silent)) => {
                let shows = if bios { "PXE-E32" } else { "PXE-E18" };
                return Err(format!("hears nothing from TFTP on {server} and shows {shows}"));
            }
            (None, _) => {
                return Err(format!(
                    "does not get {} whole from {server}, and shows PXE-E18 or PXE-E99",
                    shown(name)
                ));
            }
            (Some(_), Some(_)) => {
                return Err(format!(
                    "boots by chance: of {TIMES} fetches of {} from different ports {} failed, as with several ways (ECMP) of \
                     which one is broken",
                    shown(name),
                    failed.len()
                ));
            }
            (Some(first), None) => {
                if fetched.iter().any(|other| other.digest != first.digest) {
                    return Err(format!(
                        "gets {} with other bytes each time: two servers have it",
                        shown(name)
                    ));
                }
                let looked = inspect_for_firmware(kind.firmware(), &first.head, first.bytes);
                match &looked.problem {
                    Some(problem) => {
                        steps.push(Step { is_good: false, says: format!("{}: {problem}", shown(name)) });
                        return Err(format!(
                            "loads {}, which it cannot start: it is {}",
                            shown(name),
                            looked.with_article()
                        ));
                    }
                    None => steps.push(Step {
                        is_good: true,
                        says: format!("{} is {}", shown(name), looked.with_article()),
                    }),
                }
            }
        }
        Ok(format!(
            "loads {} from {server} and starts it; if it is iPXE, see there how it goes on",
            shown(name)
        ))
    }

    fn http_boot(&self, url: &str, steps: &mut Vec<Step>) -> Outcome<String> {
        if url.starts_with("https://") {
            return Ok(format!(
                "fetches {}, which was not looked at: it needs its own trust in the server",
                shown(url)
            ));
        }
        let answer = self.get(url, steps)?;
        let Some(length) = answer.length else {
            return Err(format!("gets {} without Content-Length, which HTTP Boot refuses", shown(url)));
        };
        let looked = inspect_for_firmware(Kind::HttpBoot.firmware(), &answer.body, length);
        if let Some(problem) = &looked.problem {
            steps.push(Step { is_good: false, says: format!("{}: {problem}", shown(url)) });
            return Err(format!(
                "loads {}, which it cannot start: it is {}",
                shown(url),
                looked.with_article()
            ));
        }
        steps.push(Step { is_good: true, says: format!("{} is {}", shown(url), looked.with_article()) });
        Ok(format!("loads {} and starts it; if it is iPXE, see there how it goes on", shown(url)))
    }

    /// What iPXE fetches by its script, and by those that it leads to.
    fn script(&self, url: &str, server: Ipv4Addr, steps: &mut Vec<Step>) -> Outcome<String> {
        let mut settings = Settings::of(self.mac, &server.to_string());
        let mut url = url.to_owned();
        for _ in 0..MOST_SCRIPTS {
            let (size, body) = self.content(&url, steps)?;
            if !body.starts_with(b"#!ipxe") {
                let looked = inspect_for_ipxe(&body, size, true);
                return match looked.problem {
                    None => Ok(format!("starts {}, {}", shown(&url), looked.with_article())),
                    Some(problem) => Err(format!("cannot start {}: {problem}", shown(&url))),
                };
            }
            let text = String::from_utf8_lossy(&body).into_owned();
            let fetches = settings.fetches(&text, &url);
            let files: Vec<&Fetch> =
                fetches.iter().filter(|fetch| !matches!(fetch, Fetch::Chain(_))).take(MOST_FILES).collect();
            if files.is_empty() {
                match fetches.first() {
                    // What it chains is what was chosen.
                    _ if text.contains("\nmenu ") => {
                        return Ok("shows a menu, in which a person chooses".to_owned());
                    }
                    Some(Fetch::Chain(next)) => {
                        url = absolute(next, &url);
                        continue;
                    }
                    _ => {
                        let says = text.lines().find_map(|line| line.trim().strip_prefix("echo "));
                        return Err(format!(
                            "gets a script that boots nothing{}",
                            says.map(|says| format!("; it says: {}", shown(says))).unwrap_or_default()
                        ));
                    }
                }
            }
            let mut kernel = None;
            for fetch in &files {
                let (Fetch::Kernel(file) | Fetch::Initrd(file) | Fetch::Disk(file) | Fetch::Chain(file)) =
                    fetch;
                let (size, body) = self.content(file, steps)?;
                let is_kernel = matches!(fetch, Fetch::Kernel(_));
                if is_kernel || matches!(fetch, Fetch::Initrd(_)) {
                    let looked = inspect_for_ipxe(&body, size, is_kernel);
                    if let Some(problem) = &looked.problem {
                        let what = if is_kernel { "kernel" } else { "initrd" };
                        let says = format!("{}: {problem}", shown(file));
                        steps.push(Step { is_good: false, says: says.clone() });
                        return Err(format!("cannot boot its {what}, {says}"));
                    }
                    if is_kernel {
                        let says = format!("{} is {}", shown(file), looked.with_article());
                        steps.push(Step { is_good: true, says });
                    }
                }
                if !matches!(fetch, Fetch::Initrd(_)) {
                    kernel = Some(shown(file));
                }
            }
            return Ok(format!("boots {}", kernel.unwrap_or_else(|| "what its script names".to_owned())));
        }
        Err(format!("goes from script to script without an end, at last {}", shown(&url)))
    }

    /// The size and the beginning of a file.
    fn content(&self, url: &str, steps: &mut Vec<Step>) -> Outcome<(u64, Vec<u8>)> {
        if let Some(rest) = url.strip_prefix("tftp://") {
            let (host, name) = rest.split_once('/').unwrap_or((rest, ""));
            let server = host.split(':').next().and_then(|host| host.parse().ok());
            let server: Ipv4Addr =
                server.ok_or_else(|| format!("is sent to {}, which has no address", shown(url)))?;
            if http::is_machine_itself(server) {
                return Err(format!("is sent to {}, which is the machine itself", shown(url)));
            }
            let file = tftp::fetch(self.own, server, name);
            let file = file
                .map_err(|failure| format!("does not get {}: {}", shown(url), shown(&failure.to_string())))?;
            steps.push(Step {
                is_good: true,
                says: format!("{} comes: {}", shown(url), human_size(file.bytes)),
            });
            return Ok((file.bytes, file.head));
        }
        let answer = self.get(url, steps)?;
        Ok((answer.length.unwrap_or(answer.body.len() as u64), answer.body))
    }

    fn get(&self, url: &str, steps: &mut Vec<Step>) -> Outcome<Answer> {
        match http::fetch(url) {
            Ok(answer) if answer.status == 200 => {
                let size = answer.length.map_or_else(|| "no length".to_owned(), human_size);
                steps.push(Step { is_good: true, says: format!("{} answers 200, {size}", shown(url)) });
                Ok(answer)
            }
            Ok(answer) => {
                let says = format!("{} answers {}", shown(url), answer.status);
                steps.push(Step { is_good: false, says: says.clone() });
                Err(format!("stops at a file: {says}"))
            }
            Err(why) => {
                steps.push(Step { is_good: false, says: format!("{}: {}", shown(url), shown(&why)) });
                Err(format!("stops at {}: {}", shown(url), shown(&why)))
            }
        }
    }
}
