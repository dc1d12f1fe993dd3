//! What an event says about one machine's boot. Of an answer it costs no memory: there are half a million of those a second.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use boot_common::{Mac, Reason};

use super::network::Heard;
use super::steps::{By, Given, What};
use crate::boot::documents::NoDocument;
use crate::boot::plan::NoScript;
use crate::events::{
    Answer, BootEvent, Decline, Document, Http, LoaderProblem, NoTls, OtherServer, PhoneHome, Recognition,
    Said, Script, Shared, Step, SwitchFrame, Tftp, Through, WhyEnded,
};
use crate::tftp::Outcome;

/// So many characters of a text are kept: most texts have a client's own words in them.
const LONGEST_TEXT: usize = 200;
/// The same for what two machines have in common: no client's words but names are in it.
const LONGEST_CONFLICT: usize = 400;

/// What an event says about one machine's boot.
#[derive(Clone, Debug)]
pub struct Note {
    /// When, by the boot clock.
    pub at: Duration,
    /// The machine, where it is known which.
    pub mac: Option<Mac>,
    /// Whether it has a name: nobody can make that up.
    pub is_known: bool,
    /// The address that the machine has, where only that is known.
    pub address: Option<Ipv4Addr>,
    /// The interface.
    pub link: Option<Arc<str>>,
    /// Who did it.
    pub by: By,
    /// What happened to it; none of what was only heard beside it.
    pub what: Option<What>,
    /// What its DHCP message said beside its question.
    pub said: Said,
    /// The other DHCP server or switch that it tells of.
    pub(super) heard: Option<Heard>,
}

impl Note {
    /// Of an event; none if it says nothing about a machine's boot.
    #[must_use]
    pub fn of(event: &BootEvent) -> Option<Self> {
        let link = event.link.as_ref().map(|link| Arc::clone(&link.name));
        let heard = heard(&event.step, link.as_ref());
        let Some((what, from)) = what(&event.step) else {
            return Some(Self {
                at: event.at,
                mac: None,
                is_known: false,
                address: None,
                link,
                by: event.by.into(),
                what: None,
                said: Said::default(),
                heard: Some(heard?),
            });
        };
        let mac = event.machine.as_ref().map(|machine| machine.mac);
        let is_known = event.machine.as_ref().is_some_and(|machine| machine.name.is_some());
        let address = match from {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        if mac.is_none() && address.is_none() {
            return None;
        }
        let said = match &event.step {
            Step::Answered(answered) => answered.said,
            _ => Said::default(),
        };
        let (at, by) = (event.at, event.by.into());
        Some(Self { at, mac, is_known, address, link, by, what: Some(what), said, heard })
    }
}

/// A text as it is kept. Whoever sends long names fills no memory.
fn short(text: &str) -> Box<str> {
    match text.char_indices().nth(LONGEST_TEXT) {
        None => text.into(),
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
    }
}

fn heard(step: &Step, link: Option<&Arc<str>>) -> Option<Heard> {
    let (server, station, file) = match step {
        Step::OtherServer(OtherServer::Chosen { server, .. }) => (server, None, None),
        Step::OtherServer(
            OtherServer::Refused { server, station } | OtherServer::Gives { server, station, .. },
        ) => (server, *station, None),
        Step::OtherFile { server, station, file } => (server, *station, Some(short(file))),
        Step::Tftp(Tftp::Inspected { file, says, is_wrong }) => {
            let (file, says) = (short(file), short(says));
            return Some(Heard::File { file, says, is_wrong: *is_wrong });
        }
        Step::Switch(frame) => {
            let frame = match &**frame {
                SwitchFrame::Lldp { station, switch, port } => {
                    SwitchFrame::Lldp { station: *station, switch: short(switch), port: short(port) }
                }
                tree @ SwitchFrame::Tree { .. } => tree.clone(),
            };
            return Some(Heard::Switch { frame, link: link.cloned() });
        }
        _ => return None,
    };
    Some(Heard::Server { server: *server, station, file, link: link.cloned() })
}

/// What the event is in a timeline, and the address that asked.
fn what(step: &Step) -> Option<(What, Option<IpAddr>)> {
    let of_machine = |what| Some((what, None));
    match step {
        Step::Answered(answered) => of_machine(What::Answered {
            given: match answered.answer {
                Answer::Offer => Given::Offer,
                Answer::Ack => Given::Ack,
                Answer::Options => Given::Options,
                Answer::Bootp => Given::Bootp,
                Answer::BootFile => Given::BootFile,
            },
            class: answered.class.key(),
            address: answered.address,
        }),
        Step::Unanswered { reason, relay } => of_machine(What::Unanswered { reason: *reason, relay: *relay }),
        Step::TookElsewhere { address, server, class } => {
            let (address, server, class) = (*address, *server, class.key());
            of_machine(What::TookElsewhere { address, server, class })
        }
        Step::Dropped { reason, .. } => {
            of_machine(What::Unanswered { reason: *reason, relay: Ipv4Addr::UNSPECIFIED })
        }
        Step::Refused(why) => of_machine(What::Refused { why: short(&why.to_string()) }),
        Step::OtherServer(OtherServer::Chosen { server, address, was_offered }) => {
            of_machine(What::ChoseOther { server: *server, address: *address, was_offered: *was_offered })
        }
        Step::OtherServer(OtherServer::Refused { server, .. }) => {
            of_machine(What::RefusedByOther { server: *server })
        }
        Step::OtherServer(OtherServer::Gives { server, address, .. }) => {
            of_machine(What::GivenByOther { server: *server, address: *address })
        }
        Step::OtherFile { server, file, .. } => {
            of_machine(What::OtherFile { server: *server, file: short(file) })
        }
        Step::ReplySource { relay, asked, from, .. } => {
            of_machine(What::ReplySource { relay: *relay, asked: *asked, from: *from })
        }
        Step::Recognised(
            Recognition::StillLeased { address, holder } | Recognition::TakenFrom { address, holder },
        ) => of_machine(What::SharedIdentity { address: *address, holder: *holder }),
        // One keeps no machine from booting. Of the other, where the machine stands says more: it is not served.
        Step::Conflict(conflict)
            if matches!(conflict.what, Shared::Placeholder { .. } | Shared::Shadowed(_)) =>
        {
            None
        }
        Step::Conflict(conflict) => {
            // Both parties are in it, and each is called as briefly as logs do.
            of_machine(What::Conflict { says: conflict.to_string().chars().take(LONGEST_CONFLICT).collect() })
        }
        Step::Stray { reserved, through: Through::Link | Through::Relay(_), subnet } => {
            of_machine(What::Stray { reserved: *reserved, subnet: subnet.to_string().into() })
        }
        Step::Declined(address, decline) => {
            let user = match decline {
                Decline::Reserved(Some(user)) | Decline::Enough(user) | Decline::Taken(Some(user)) => user,
                Decline::OnlyItself => return None,
                Decline::TooMany { .. } | Decline::Reserved(None) | Decline::Taken(None) => "",
            };
            of_machine(What::AddressInUse { address: *address, user: short(user) })
        }
        Step::AddressInUse { address, user } => {
            of_machine(What::AddressInUse { address: *address, user: short(user) })
        }
        Step::Loader(LoaderProblem::Missing { what, .. }) => {
            of_machine(What::NoLoader { why: what.as_str().into() })
        }
        Step::Tftp(tftp) => of_tftp(tftp),
        Step::Script { client, end, .. } => match end {
            Script::Sent { uuid, .. } => {
                Some((What::ScriptSent { uuid: uuid.map(Into::into) }, Some(*client)))
            }
            Script::Measured => None,
            // Who asked is not the machine that it named.
            Script::None(NoScript::OfAnother { .. }) => None,
            Script::None(why) => Some((What::NoScript { why: short(&why.to_string()) }, Some(*client))),
        },
        Step::Document { client, path, end } => {
            let path = short(path);
            match end {
                Document::Sent { .. } => Some((What::DocumentSent { path }, Some(*client))),
                Document::Measured => None,
                Document::None(NoDocument::OfAnother { .. }) => None,
                Document::None(why) => {
                    Some((What::NoDocument { path, why: short(&why.to_string()) }, Some(*client)))
                }
            }
        }
        Step::PhoneHome(client, said) => {
            let (success, says) = match said {
                PhoneHome::Success(says) => (true, says),
                PhoneHome::Failure(says) => (false, says),
                PhoneHome::OfEarlierRun | PhoneHome::OfAnother { .. } => return None,
            };
            Some((What::PhoneHome { success, says: short(says) }, Some(*client)))
        }
        Step::Http(client, http) => Some((of_http(http)?, Some(*client))),
        step => of_machine(of_registry(step)?),
    }
}

/// What the registry does with a machine, or hears of its agent.
fn of_registry(step: &Step) -> Option<What> {
    Some(match step {
        Step::Progress { does, percent } => What::Progress { does: short(does), percent: *percent },
        Step::BecameState(past) => What::BecameState { state: past.to, why: short(&past.why) },
        Step::Overdue { state, waits, .. } => What::Overdue { state: *state, waits: short(waits) },
        Step::Power(done) => {
            let failed = done.end.as_ref().and_then(|end| end.as_ref().err());
            let failed = failed.map_or_else(Box::default, |why| short(why));
            What::Power { act: done.act, by: short(&done.by), failed }
        }
        Step::InventoryChanged(differences) => {
            What::InventoryChanged { differs: short(&differences.join(", ")) }
        }
        _ => return None,
    })
}

fn of_tftp(tftp: &Tftp) -> Option<(What, Option<IpAddr>)> {
    let (client, what) = match tftp {
        Tftp::NotServed { is_customary: true, .. } => return None,
        Tftp::NotServed { client, file, why, .. } => {
            let (file, why) = (short(file), short(&why.error.to_string()));
            (client, What::TftpMissing { file, why })
        }
        Tftp::Ended { client, file, outcome } => {
            let file = short(file);
            let what = match outcome {
                Outcome::Finished { bytes, took, confirmed, .. } => {
                    What::TftpSent { file, bytes: *bytes, millis: millis(*took), confirmed: *confirmed }
                }
                Outcome::Aborted { code, message, .. } => {
                    What::TftpAborted { file, code: *code, message: short(message) }
                }
                Outcome::Stalled { bytes, size, block } => {
                    What::TftpStalled { file, bytes: *bytes, size: *size, block: *block }
                }
                Outcome::Refused(why) => What::TftpMissing { file, why: short(why) },
                Outcome::Unreadable(why) => What::TftpMissing { file, why: short(why) },
                Outcome::Probed | Outcome::Missing(_) | Outcome::StartedOver | Outcome::CrowdedOut => {
                    return None;
                }
            };
            (client, what)
        }
        Tftp::Inspected { .. } | Tftp::Stranger { .. } | Tftp::Unreadable { .. } => return None,
    };
    Some((what, Some(IpAddr::V4(*client.ip()))))
}

fn of_http(http: &Http) -> Option<What> {
    let file = |name: &Arc<str>| short(name);
    Some(match http {
        Http::Asked { is_head: true, .. } | Http::Refused(_) => return None,
        Http::Asked { file: name, .. } => What::FileAsked { file: file(name) },
        Http::NoSuchPath(path) => {
            What::FileMissing { file: short(path), why: "no path of this server".into() }
        }
        Http::NotServed { file: name, why } => {
            What::FileMissing { file: file(name), why: short(&why.error.to_string()) }
        }
        Http::NoImage { file: name, why } => What::FileMissing { file: file(name), why: short(why) },
        Http::Relayed { file: name, bytes, took }
        | Http::Sent { file: name, bytes, took }
        | Http::Read { file: name, bytes, took } => {
            What::FileSent { file: file(name), bytes: *bytes, millis: millis(*took) }
        }
        Http::Broken { file: name, bytes, why, .. } => {
            What::FileCut { file: file(name), bytes: *bytes, whole: 0, by_machine: false, why: short(why) }
        }
        Http::Ended { file: name, bytes, whole, why, .. } => {
            let why: Box<str> = match why {
                WhyEnded::Stalled(seconds) => format!("the machine took nothing for {seconds} s").into(),
                WhyEnded::MadeRoom => "its place was needed for another machine".into(),
                WhyEnded::Stopped => "xpxe was stopped".into(),
            };
            What::FileCut { file: file(name), bytes: *bytes, whole: *whole, by_machine: false, why }
        }
        Http::Left { file: name, bytes, whole, .. } => {
            let (bytes, whole) = (*bytes, *whole);
            What::FileCut { file: file(name), bytes, whole, by_machine: true, why: "".into() }
        }
        Http::NoTls(why) => What::NoTls {
            why: match why {
                NoTls::Http => "it speaks HTTP on the port of HTTPS".into(),
                NoTls::OldVersion => "it knows no TLS 1.2".into(),
                NoTls::NoCipher { .. } => "none of its cipher suites fits the certificate".into(),
                NoTls::Distrusted(why) => short(&format!("it does not trust the certificate: {why}")),
                NoTls::Left => "it left after it was shown the certificate".into(),
                NoTls::Late => "its handshake took too long".into(),
                NoTls::Other(why) => short(why),
            },
        },
    })
}

fn millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// Which messages without an answer belong into a timeline: those of a client that waits for one from here.
#[must_use]
pub(crate) fn is_missed(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoSubnet
            | Reason::PoolExhausted
            | Reason::UnknownHost
            | Reason::OtherServer
            | Reason::NoAnswer
            | Reason::NotStored
            | Reason::NotSent
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{Conflict, Machine, Meanwhile};

    #[test]
    fn a_machine_is_known_by_its_name() {
        let is_known = |name: Option<Arc<str>>| {
            let step = Step::Unanswered { reason: Reason::NoSubnet, relay: Ipv4Addr::UNSPECIFIED };
            let event = BootEvent::new(Duration::ZERO, step).of(Machine { mac: Mac([2; 6]), name });
            Note::of(&event).unwrap().is_known
        };
        assert!(is_known(Some("node1".into())) && !is_known(None));
    }

    #[test]
    fn a_record_that_is_not_served_is_no_duplicate_identity() {
        let is_step = |what: Shared, meanwhile: Meanwhile| {
            let step = Step::Conflict(Box::new(Conflict { what, meanwhile }));
            let machine = Machine { mac: Mac([2; 6]), name: None };
            Note::of(&BootEvent::new(Duration::ZERO, step).of(machine)).is_some()
        };
        let why = "a machine of the configuration has its name db1: rename one of them";
        assert!(!is_step(Shared::Shadowed(why.into()), Meanwhile::Unserved));
        assert!(!is_step(Shared::Placeholder { uuid: "0".into() }, Meanwhile::ByMac));
        assert!(is_step(Shared::Uuid { uuid: "0".into(), other: "db2".into() }, Meanwhile::ByMac));
    }

    #[test]
    fn whoever_sends_long_names_fills_no_memory() {
        assert_eq!(&*short("snponly.efi"), "snponly.efi");
        assert_eq!(short(&"é".repeat(LONGEST_TEXT)).chars().count(), LONGEST_TEXT);
        let long = short(&"é".repeat(LONGEST_TEXT + 1));
        assert!(long.chars().count() == LONGEST_TEXT + 1 && long.ends_with("é…"), "{long}");
    }
}
