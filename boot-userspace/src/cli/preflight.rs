//! `xpxe preflight`: what machines would get here, from whichever servers there are.

mod http;
mod judge;
mod offers;
mod script;
mod tftp;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use boot_common::Mac;
use boot_engine::events;
use serde_json::{Value, json};

use crate::daemon::request::mac_of_preflight;
use crate::host::link;
use judge::{Judge, Verdict};
use offers::{Asker, Heard, Kind};
use tftp::Fetches;

/// The flags of `xpxe preflight`.
#[derive(Debug, clap::Args)]
pub(super) struct Preflight {
    /// The interface in the machines' network; it needs an address there, from which files are fetched
    #[arg(long, value_name = "IF")]
    interface: String,
    /// Ask as a relay with this address (giaddr), which must be one of this host: answers are sent to it
    #[arg(long, value_name = "ADDRESS")]
    relay: Option<Ipv4Addr>,
    /// Send to this server instead of to all; needs --relay
    #[arg(long, value_name = "ADDRESS", requires = "relay")]
    server: Option<Ipv4Addr>,
    /// Ask as this machine instead of one that nobody knows
    #[arg(long, value_name = "MAC", value_parser = card)]
    mac: Option<Mac>,
    /// How many seconds to wait for offers; some servers probe an address for 3 s before they offer it
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    wait: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// As much of a text is shown.
const LONGEST_SHOWN: usize = 500;

/// A text of others as one line that nobody minds reading.
fn shown(text: &str) -> String {
    match text.char_indices().nth(LONGEST_SHOWN) {
        None => events::shown(text),
        Some((end, _)) => {
            format!("{}… ({} bytes)", events::shown(text.get(..end).unwrap_or_default()), text.len())
        }
    }
}

/// JSON that is read on a terminal, too: what is not seen, or turns the order of letters around, stands there as a number.
fn visible(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        // Those of ASCII are escaped already.
        if letter.is_ascii() || letter.escape_debug().eq([letter]) {
            text.push(letter);
        } else {
            let mut units = [0; 2];
            letter.encode_utf16(&mut units).iter().for_each(|unit| text += &format!("\\u{unit:04x}"));
        }
    }
    text
}

/// Random bytes.
fn random(bytes: &mut [u8]) -> io::Result<()> {
    File::open("/dev/urandom")?.read_exact(bytes)
}

/// The MAC of a network card: no server answers others.
fn card(text: &str) -> Result<Mac, String> {
    let mac = text.parse::<Mac>().map_err(|error| error.to_string())?;
    if mac.is_station() {
        return Ok(mac);
    }
    Err("it is a group, broadcast or zero address; write the address of one network card".to_owned())
}

/// A MAC of nobody, which no xpxe takes down as a machine.
fn nobody() -> io::Result<Mac> {
    let mut bytes = [0; 2];
    random(&mut bytes)?;
    Ok(mac_of_preflight(bytes))
}

impl Preflight {
    pub(super) fn run(self) -> Result<ExitCode> {
        let link = link::find(&self.interface)?;
        if let Some(relay) = self.relay
            && !link::addresses()?.iter().any(|(_, net)| net.addr() == relay)
        {
            bail!(
                "{relay} is no address of this host, and the answers would go there: run this on the relay, or add the address"
            );
        }
        let mac = self.mac.map_or_else(nobody, Ok).context("cannot read /dev/urandom")?;
        let wait = Duration::from_secs(self.wait);
        let asker = Asker { mac, relay: self.relay, server: self.server, wait };
        let heard = offers::ask(&link, &asker)?;
        let own = link.addresses.first().map_or(Ipv4Addr::UNSPECIFIED, ipnet::Ipv4Net::addr);
        let fetches = Fetches::default();
        let judge = Judge { offers: &heard.offers, mac, own, waited: self.wait, fetches };
        let verdicts: Vec<Verdict> = Kind::ALL.into_iter().map(|kind| judge.verdict(kind)).collect();
        if self.json {
            println!("{}", visible(&format!("{:#}", shape(&self.interface, mac, &heard, &verdicts))));
        } else {
            print!("{}", text(&self.interface, mac, &heard, &verdicts));
        }
        Ok(if is_good(&verdicts) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// Whether nothing is known to be wrong. What was not looked at to its end is neither good nor bad.
fn is_good(verdicts: &[Verdict]) -> bool {
    let stops = |verdict: &Verdict| verdict.boots == Some(false);
    !verdicts.iter().all(stops) && !verdicts.iter().any(|verdict| stops(verdict) && verdict.is_meant)
}

fn text(interface: &str, mac: Mac, heard: &Heard, verdicts: &[Verdict]) -> String {
    let mut text =
        format!("{interface}, asked as {mac}; nothing was requested, so no lease is bound\n\noffers\n");
    let mut rows: Vec<[String; 5]> = Vec::new();
    for offer in &heard.offers {
        let address = match offer.address.is_unspecified() {
            true => "no address (proxy)".to_owned(),
            false => offer.address.to_string(),
        };
        let file = match offer.boot_file.as_str() {
            "" => "no boot file".to_owned(),
            file => shown(file),
        };
        let after = format!("{:.2} s", offer.after.as_secs_f64());
        rows.push([offer.kind.name().to_owned(), offer.server.to_string(), address, file, after]);
    }
    if rows.is_empty() {
        text += "  none\n";
    }
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    for [kind, server, address, file, after] in &rows {
        let [a, b, c, d] = widths;
        text += &format!("  {kind:a$}  {server:b$}  {address:c$}  {file:d$}  after {after}\n");
    }
    for (station, number) in &heard.more {
        let from = station.map_or_else(|| "other stations".to_owned(), |mac| format!("the station {mac}"));
        text += &format!("  … and {number} more from {from}, which are not looked at\n");
    }
    for Verdict { kind, steps, says, boots, .. } in verdicts {
        let mark = match boots {
            Some(true) => "ok ",
            Some(false) => "NO ",
            None => "?  ",
        };
        text += &format!("\n{mark} {} {says}\n", kind.name());
        for step in steps {
            let mark = match step.is_good {
                Some(true) => "+",
                Some(false) => "-",
                None => "?",
            };
            text += &format!("    {mark} {}\n", step.says);
        }
    }
    text
}

fn shape(interface: &str, mac: Mac, heard: &Heard, verdicts: &[Verdict]) -> Value {
    let mut of_kind: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for offer in &heard.offers {
        of_kind.entry(offer.kind.name()).or_default().push(json!({
            "server": offer.server.to_string(),
            "station": offer.station.to_string(),
            "address": Some(offer.address).filter(|address| !address.is_unspecified()).map(|address| address.to_string()),
            "next_server": offer.next_server.to_string(),
            "server_name": offer.server_name,
            "boot_file": offer.boot_file,
            "class": offer.class,
            "seconds": offer.after.as_secs_f64(),
        }));
    }
    let kinds = verdicts.iter().map(|verdict| {
        let steps = verdict.steps.iter().map(|step| json!({ "good": step.is_good, "says": step.says }));
        json!({
            "kind": verdict.kind.name(),
            "boots": verdict.boots,
            "says": verdict.says,
            "offers": of_kind.remove(verdict.kind.name()).unwrap_or_default(),
            "steps": steps.collect::<Vec<_>>(),
        })
    });
    let kinds: Vec<Value> = kinds.collect();
    let more = heard
        .more
        .iter()
        .map(|(station, number)| json!({ "station": station.map(|mac| mac.to_string()), "offers": number }));
    let more: Vec<Value> = more.collect();
    json!({ "interface": interface, "mac": mac.to_string(), "kinds": kinds, "more_offers": more })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_looked_at_is_neither_good_nor_bad() {
        let verdict = |boots, is_meant| Verdict {
            kind: Kind::Ipxe,
            steps: Vec::new(),
            says: "says".to_owned(),
            boots,
            is_meant,
        };
        let (whole, unseen) = (verdict(Some(true), true), verdict(None, true));
        let (broken, not_meant) = (verdict(Some(false), true), verdict(Some(false), false));
        assert!(is_good(&[whole.clone(), unseen.clone(), not_meant.clone()]));
        assert!(is_good(&[unseen.clone(), not_meant.clone()]));
        assert!(!is_good(&[whole, broken]));
        assert!(!is_good(&[not_meant]));
        let (heard, verdicts) = (Heard::default(), [unseen]);
        let text = text("eth1", Mac([2; 6]), &heard, &verdicts);
        assert!(text.contains("\n?   iPXE says\n"), "{text}");
        let shape = shape("eth1", Mac([2; 6]), &heard, &verdicts);
        assert_eq!(shape["kinds"][0]["boots"], Value::Null);
    }

    #[test]
    fn only_a_network_card_asks() {
        assert_eq!(card("52-54-00-00-00-01"), Ok(Mac([0x52, 0x54, 0, 0, 0, 1])));
        for text in ["ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "01:00:5e:00:00:01", "node1"] {
            assert!(card(text).is_err(), "{text}");
        }
    }

    #[test]
    fn json_hides_nothing_and_means_the_same() {
        let value = json!({ "a": "x\u{9b}31m\u{202e}gfc.b\n\u{e0001}\u{e4}…" });
        let text = visible(&value.to_string());
        assert_eq!(text, "{\"a\":\"x\\u009b31m\\u202egfc.b\\n\\udb40\\udc01\u{e4}…\"}");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
    }
}
