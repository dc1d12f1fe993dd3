//! What each kind of machine would experience with the offers that came: which one it takes, what it fetches, and where it stops.

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use boot_common::Mac;
use boot_engine::boot::plan::NoScript;

use super::http::{self, Answer};
use super::offers::{Kind, Offer};
use super::script::{Fetch, Settings, absolute};
use super::shown;
use super::tftp::{self, Failure, Fetched, Fetches, TIMES};
use crate::files::{inspect_for_firmware, inspect_for_ipxe};
use crate::host::size::human_size;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// None: only the machine itself would know.
    pub(super) is_good: Option<bool>,
    pub(super) says: String,
}

impl Step {
    fn good(says: String) -> Self {
        Self { is_good: Some(true), says }
    }

    fn bad(says: String) -> Self {
        Self { is_good: Some(false), says }
    }

    fn unseen(says: String) -> Self {
        Self { is_good: None, says }
    }
}

/// What becomes of a kind of machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) kind: Kind,
    pub(super) steps: Vec<Step>,
    /// In one sentence.
    pub(super) says: String,
    /// None: it was not looked at to its end.
    pub(super) boots: Option<bool>,
    /// A server has a boot file for it.
    pub(super) is_meant: bool,
}

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
    /// The boot files that were fetched.
    pub(super) fetches: Fetches,
}

/// Why a machine is followed no further, in one sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Stop {
    /// The machine stops there.
    At(String),
    /// What the machine gets from there on is not for others to see.
    Unseen(String),
}

impl From<String> for Stop {
    fn from(says: String) -> Self {
        Self::At(says)
    }
}

/// What a step gives to the next, or why there is none.
type Outcome<T> = Result<T, Stop>;

fn stops<T>(says: String) -> Outcome<T> {
    Err(Stop::At(says))
}

impl Judge<'_> {
    pub(super) fn verdict(&self, kind: Kind) -> Verdict {
        let mut steps = Vec::new();
        let (boots, says) = match self.follow(kind, &mut steps) {
            Ok(says) => (Some(true), says),
            Err(Stop::At(says)) => (Some(false), says),
            Err(Stop::Unseen(says)) => (None, says),
        };
        let is_meant = self.of(kind).any(|offer| !offer.boot_file.is_empty());
        Verdict { kind, steps, says, boots, is_meant }
    }

    fn of(&self, kind: Kind) -> impl Iterator<Item = &Offer> {
        self.offers.iter().filter(move |offer| offer.kind == kind)
    }

    fn follow(&self, kind: Kind, steps: &mut Vec<Step>) -> Outcome<String> {
        let all: Vec<&Offer> = self.of(kind).collect();
        if all.is_empty() {
            let code = match kind {
                Kind::Bios => "PXE-E51",
                Kind::Ipxe => "\"No configuration methods succeeded\"",
                _ => "PXE-E16",
            };
            return stops(format!("gets no offer within {} s and shows {code}", self.waited));
        }
        let giving: Vec<&&Offer> = all.iter().filter(|offer| !offer.address.is_unspecified()).collect();
        if let [first, others @ ..] = giving.as_slice() {
            steps.push(Step::good(format!("{} offers the address {}", first.server, first.address)));
            for other in others {
                steps.push(Step::bad(format!(
                    "{} offers an address, too ({}): a machine takes either, by chance; keep one of the two servers silent",
                    other.server, other.address
                )));
            }
            if !first.has_mask {
                steps.push(Step::bad(format!(
                    "{} sends no subnet mask (option 1), which UEFI refuses",
                    first.server
                )));
            }
        } else {
            return stops("gets no address: only proxies answer, and no DHCP server gives one; it waits and shows PXE-E51 or PXE-E16".to_owned());
        }
        let Some(offer) = self.with_boot_file(kind, &all) else {
            return stops(match kind {
                Kind::HttpBoot => "gets an address and no URL: HTTP Boot needs an offer with option 60 \"HTTPClient\" and a URL in option 67".to_owned(),
                Kind::Ipxe => "gets an address and nothing to boot, and shows \"Nothing to boot\"".to_owned(),
                _ => "gets an address and no boot file (option 67 or the field file), and shows PXE-E53 or PXE-E16".to_owned(),
            });
        };
        steps.push(Step::good(format!("{} names the boot file {}", offer.server, shown(&offer.boot_file))));
        let file = &offer.boot_file;
        if kind == Kind::Ipxe && is_ipxe(file) {
            return stops(format!(
                "is given iPXE again ({}), which it loads for ever: give clients of the user class \"iPXE\" (option 77) a script",
                shown(file)
            ));
        }
        match (kind, file.contains("://")) {
            (Kind::Ipxe, true) => self.script(file, offer.next_server, steps),
            (Kind::Ipxe, false) => {
                let server = self.tftp_server(offer)?;
                self.script(&format!("tftp://{server}/{}", file.trim_start_matches('/')), server, steps)
            }
            (Kind::HttpBoot, _) => self.http_boot(file, steps),
            (_, true) => stops(format!("gets the URL {} as its boot file, and knows TFTP only", shown(file))),
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
            return stops(
                "is not told where the boot file is: neither siaddr nor option 66 is set".to_owned(),
            );
        }
        if http::is_machine_itself(named) {
            return stops(format!("is told that the boot file is on {named}, which is the machine itself"));
        }
        Ok(named)
    }

    /// The boot file of PXE firmware, three times from new ports.
    fn boot_file(&self, kind: Kind, server: Ipv4Addr, name: &str, steps: &mut Vec<Step>) -> Outcome<String> {
        let attempts = self.fetches.of(server, name, || tftp::fetch(self.own, server, name));
        let mut fetched: Vec<&Fetched> = Vec::new();
        let mut failed = Vec::new();
        for attempt in attempts.iter() {
            match attempt {
                Ok(file) => {
                    let rate = file.bytes as f64 / file.took.as_secs_f64().max(0.000_001);
                    let says = format!(
                        "{} comes by TFTP from {server}: {} in {:.2} s, {}/s",
                        shown(name),
                        human_size(file.bytes),
                        file.took.as_secs_f64(),
                        human_size(rate as u64)
                    );
                    steps.push(Step::good(says));
                    fetched.push(file);
                }
                Err(failure) => {
                    let says =
                        format!("{} by TFTP from {server}: {}", shown(name), shown(&failure.to_string()));
                    steps.push(Step::bad(says));
                    failed.push(failure);
                }
            }
        }
        let bios = kind == Kind::Bios;
        match (fetched.first(), failed.first()) {
            (None, Some(Failure::Refused { code: 1, .. })) => {
                let shows = if bios { "PXE-T01 File not found" } else { "PXE-E23" };
                return stops(format!(
                    "asks {server} for {}, which is not there, and shows {shows}",
                    shown(name)
                ));
            }
            (None, Some(Failure::Refused { code, .. })) => {
                return stops(format!(
                    "is refused {} with TFTP error {code}, and shows PXE-E23",
                    shown(name)
                ));
            }
            (None, Some(Failure::Silent)) => {
                let shows = if bios { "PXE-E32" } else { "PXE-E18" };
                return stops(format!("hears nothing from TFTP on {server} and shows {shows}"));
            }
            (None, _) => {
                return stops(format!(
                    "does not get {} whole from {server}, and shows PXE-E18 or PXE-E99",
                    shown(name)
                ));
            }
            (Some(_), Some(_)) => {
                return stops(format!(
                    "boots by chance: of {TIMES} fetches of {} from different ports {} failed, as with several ways (ECMP) of \
                     which one is broken",
                    shown(name),
                    failed.len()
                ));
            }
            (Some(first), None) => {
                if fetched.iter().any(|other| other.digest != first.digest) {
                    return stops(format!(
                        "gets {} with other bytes each time: two servers have it",
                        shown(name)
                    ));
                }
                let looked = inspect_for_firmware(kind.firmware(), &first.head, first.bytes);
                match &looked.problem {
                    Some(problem) => {
                        steps.push(Step::bad(format!("{}: {problem}", shown(name))));
                        return stops(format!(
                            "loads {}, which it cannot start: it is {}",
                            shown(name),
                            looked.with_article()
                        ));
                    }
                    None => steps.push(Step::good(format!("{} is {}", shown(name), looked.with_article()))),
                }
            }
        }
        Ok(format!(
            "loads {} from {server} and starts it; if it is iPXE, see there how it goes on",
            shown(name)
        ))
    }

    fn http_boot(&self, url: &str, steps: &mut Vec<Step>) -> Outcome<String> {
        let answer = get(url, None, steps)?;
        let Some(length) = answer.length else {
            return stops(format!("gets {} without Content-Length, which HTTP Boot refuses", shown(url)));
        };
        let looked = inspect_for_firmware(Kind::HttpBoot.firmware(), &answer.body, length);
        if let Some(problem) = &looked.problem {
            steps.push(Step::bad(format!("{}: {problem}", shown(url))));
            return stops(format!(
                "loads {}, which it cannot start: it is {}",
                shown(url),
                looked.with_article()
            ));
        }
        steps.push(Step::good(format!("{} is {}", shown(url), looked.with_article())));
        Ok(format!("loads {} and starts it; if it is iPXE, see there how it goes on", shown(url)))
    }

    /// What iPXE fetches by its script, and by those that it leads to.
    fn script(&self, url: &str, server: Ipv4Addr, steps: &mut Vec<Step>) -> Outcome<String> {
        let mut settings = Settings::of(self.mac, &server.to_string());
        let mut url = url.to_owned();
        for _ in 0..MOST_SCRIPTS {
            let (size, body) = self.content(&url, None, steps)?;
            if !body.starts_with(b"#!ipxe") {
                let looked = inspect_for_ipxe(&body, size, true);
                return match looked.problem {
                    None => Ok(format!("starts {}, {}", shown(&url), looked.with_article())),
                    Some(problem) => stops(format!("cannot start {}: {problem}", shown(&url))),
                };
            }
            let text = String::from_utf8_lossy(&body).into_owned();
            let fetches = settings.fetches(&text, &url);
            let (asides, fetches): (Vec<&Fetch>, Vec<&Fetch>) =
                fetches.iter().partition(|fetch| matches!(fetch, Fetch::Aside(_)));
            for aside in asides.iter().take(MOST_FILES) {
                let says = "is not fetched: it may be a report of the machine, or is given once";
                steps.push(Step::unseen(format!("{} {says}", shown(aside.url()))));
            }
            let files = fetches.iter().filter(|fetch| !matches!(fetch, Fetch::Chain(_)));
            let files: Vec<&Fetch> = files.copied().take(MOST_FILES).collect();
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
                    _ if !asides.is_empty() => {
                        let says = "gets a script that fetches only what is not fetched here";
                        return Err(Stop::Unseen(says.to_owned()));
                    }
                    _ => {
                        let says = text.lines().find_map(|line| line.trim().strip_prefix("echo "));
                        return stops(format!(
                            "gets a script that boots nothing{}",
                            says.map(|says| format!("; it says: {}", shown(says))).unwrap_or_default()
                        ));
                    }
                }
            }
            let by_http = files.iter().map(|fetch| fetch.url()).filter(|url| url.starts_with("http://"));
            let mut answers = http::fetch_all(by_http);
            let mut kernel = None;
            for fetch in files {
                let file = fetch.url();
                let (size, body) = self.content(file, answers.remove(file), steps)?;
                let is_kernel = matches!(fetch, Fetch::Kernel(_));
                if is_kernel || matches!(fetch, Fetch::Initrd(_)) {
                    let looked = inspect_for_ipxe(&body, size, is_kernel);
                    if let Some(problem) = &looked.problem {
                        let what = if is_kernel { "kernel" } else { "initrd" };
                        let says = format!("{}: {problem}", shown(file));
                        steps.push(Step::bad(says.clone()));
                        return stops(format!("cannot boot its {what}, {says}"));
                    }
                    if is_kernel {
                        let says = format!("{} is {}", shown(file), looked.with_article());
                        steps.push(Step::good(says));
                    }
                }
                if !matches!(fetch, Fetch::Initrd(_)) {
                    kernel = Some(shown(file));
                }
            }
            return Ok(format!("boots {}", kernel.unwrap_or_else(|| "what its script names".to_owned())));
        }
        stops(format!("goes from script to script without an end, at last {}", shown(&url)))
    }

    /// The size and the beginning of a file, of which there may be an answer already.
    fn content(
        &self,
        url: &str,
        answer: Option<Result<Answer, String>>,
        steps: &mut Vec<Step>,
    ) -> Outcome<(u64, Vec<u8>)> {
        if let Some(rest) = url.strip_prefix("tftp://") {
            let (host, name) = rest.split_once('/').unwrap_or((rest, ""));
            let server = host.split(':').next().and_then(|host| host.parse().ok());
            let server: Ipv4Addr =
                server.ok_or_else(|| format!("is sent to {}, which has no address", shown(url)))?;
            if http::is_machine_itself(server) {
                return stops(format!("is sent to {}, which is the machine itself", shown(url)));
            }
            let file = tftp::fetch(self.own, server, name);
            let file = file
                .map_err(|failure| format!("does not get {}: {}", shown(url), shown(&failure.to_string())))?;
            steps.push(Step::good(format!("{} comes: {}", shown(url), human_size(file.bytes))));
            return Ok((file.bytes, file.head));
        }
        let answer = get(url, answer, steps)?;
        Ok((answer.length.unwrap_or(answer.body.len() as u64), answer.body))
    }
}

/// An answer that is good, which is asked for where there is none yet.
fn get(url: &str, answer: Option<Result<Answer, String>>, steps: &mut Vec<Step>) -> Outcome<Answer> {
    if url.starts_with("https://") {
        return Err(Stop::Unseen(format!(
            "fetches {}, which is not looked at: it needs its own trust in the server",
            shown(url)
        )));
    }
    let answer = answer.or_else(|| http::fetch_all([url]).remove(url));
    match answer.unwrap_or_else(|| Err("nothing came".to_owned())) {
        Ok(answer) => answered(url, answer, steps),
        Err(why) => {
            steps.push(Step::bad(format!("{}: {}", shown(url), shown(&why))));
            stops(format!("stops at {}: {}", shown(url), shown(&why)))
        }
    }
}

/// What is to be thought of an answer.
fn answered(url: &str, answer: Answer, steps: &mut Vec<Step>) -> Outcome<Answer> {
    if answer.status == 200 {
        let size = answer.length.map_or_else(|| "no length".to_owned(), human_size);
        steps.push(Step::good(format!("{} answers 200, {size}", shown(url))));
        return Ok(answer);
    }
    let body = String::from_utf8_lossy(&answer.body);
    // A page for a browser begins with what nobody reads.
    let why = body.lines().map(str::trim).find(|line| !line.is_empty()).filter(|line| !line.starts_with('<'));
    let why = why.map(|line| format!(": {}", shown(line))).unwrap_or_default();
    let says = format!("{} answers {}{why}", shown(url), answer.status);
    // As xpxe says it, of whichever machine.
    let of_another = NoScript::OfAnother { machine: String::new(), address: Ipv4Addr::UNSPECIFIED };
    if answer.status == 403 && body.contains(&of_another.to_string()) {
        steps.push(Step::unseen(says));
        return Err(Stop::Unseen(format!(
            "is not looked at further: the server gives {} to the machine itself only",
            shown(url)
        )));
    }
    steps.push(Step::bad(says.clone()));
    stops(format!("stops at a file: {says}"))
}

/// Whether a file is iPXE, by the names that its builds have.
fn is_ipxe(file: &str) -> bool {
    let name = file.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let has_one = |beginnings: &[&str]| beginnings.iter().any(|beginning| name.starts_with(beginning));
    (name.ends_with(".efi") && has_one(&["ipxe", "snp"])) || has_one(&["undionly.", "ipxe.pxe", "ipxe.kpxe"])
}
