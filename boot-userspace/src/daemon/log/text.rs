//! The one place where an event becomes text: a log line, with its level, its fields and its sentence.
//!
//! Each macro here is a kind of line of its own to the log's [`Limit`](super::super::limit::Limit), which is what bounds
//! how many of them are formatted at all. `golden/lines.txt` has all of them.

use std::fmt;
use std::net::{IpAddr, SocketAddrV4};

use tracing::field::display;
use tracing::{debug, info, warn};

use super::addresses::{Words, write_answer, write_decline, write_empty_pool, write_recognition};
use super::network::{write_network, write_other_server};
use super::registered::write_registered;
use super::whose::Whose;
use crate::daemon::limit::STEP;
use crate::host::size::human_size;
use boot_engine::boot::documents::NoDocument;
use boot_engine::boot::plan::NoScript;
use boot_engine::config::ImageName;
use boot_engine::events::{
    BootEvent, Document, Fault, Given, Http, Image, LoaderProblem, NoSubnet, NoTls, PhoneHome,
    RefusedRequest, Script, Step, Tftp, Through, Unheard, WhyEnded,
};
use boot_engine::leases::Pool;
use boot_engine::tftp::Outcome;

/// Writes an event's line.
pub(super) fn write(event: &BootEvent) {
    let BootEvent { machine, without_mac, link, by, step: what, .. } = event;
    let whose = &Whose {
        step: what.kind().name(),
        by: by.name(),
        mac: machine.as_ref().map(|machine| machine.mac),
        id: without_mac.as_ref().map(|machine| machine.record),
        name: event.name(),
        interface: link.as_ref().map_or("", |link| &link.name),
    };
    let Whose { step, by, interface, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    match what {
        Step::Answered(answered) => write_answer(whose, answered),
        Step::Refused(why) => info!(step, by, %mac, name, "refused: {why}"),
        Step::Recognised(recognition) => write_recognition(whose, *recognition),
        Step::Loader(LoaderProblem::Missing { what, is_first: true }) => warn!(step, by, %mac, "{what}"),
        Step::Loader(LoaderProblem::Missing { what, is_first: false }) => debug!(step, by, %mac, "{what}"),
        Step::Loader(LoaderProblem::Reduced { firmware, lacks_http }) => {
            let lacks = if *lacks_http {
                "HTTP (DOWNLOAD_PROTO_HTTP)"
            } else {
                "a kernel format (IMAGE_BZIMAGE or IMAGE_EFI)"
            };
            warn!(step, by, %mac, "the iPXE binary for {} machines lacks {lacks}: they get their script anyway, which may fail; build iPXE with it, and name the binary in [ipxe] or put it into boot_dir", firmware.name());
        }
        Step::OtherServer(other) => write_other_server(whose, *other),
        Step::OtherFile { .. } | Step::ReplySource { .. } | Step::Switch(_) => write_network(whose, what),
        Step::Stray { reserved, through, subnet } => {
            let through = match through {
                Through::Link => format!("on {interface}"),
                Through::Relay(relay) => format!("through relay {relay}"),
            };
            warn!(step, by, %mac, name, address = %reserved,
                "{mac} asks for an address {through} ({subnet}), but its reservation is {reserved}: its switch port is in the wrong VLAN, or it was plugged in elsewhere. There it gets addresses of {subnet} only");
        }
        Step::Declined(address, decline) => write_decline(whose, *address, decline),
        Step::Released(address) => info!(step, by, %mac, %address, "released {address}"),
        Step::NotBelieved(given, address, doubt) => {
            let what = match given {
                Given::Declined => "DECLINE",
                Given::Released => "RELEASE",
            };
            warn!(step, by, %mac, %address,
                "ignored a {what} of {address} in the name of {mac}: {}. If {mac} did not send it, another host forged it", Words(doubt));
        }
        Step::AddressInUse { address, user } => warn!(step, by, %mac, %address,
            "{address} is in use by {user}, which has no lease of it: the address is on hold for 10 minutes; find out who configured it there"),
        Step::CannotProbe => warn!(
            step,
            by,
            "addresses behind relays are offered without a ping first, even if another host uses them: \
             the ping needs the capability CAP_NET_RAW"
        ),
        Step::Dropped { reason, fault, from, length } => {
            let (name, says) = (reason.name(), reason.says());
            let (mut relay, mut station) = (None, None);
            let mac = whose.mac.map_or_else(|| "an unknown machine".to_owned(), |mac| mac.to_string());
            let remedy = match fault {
                Fault::Malformed => {
                    "the client, or a relay on the way, sends malformed packets: tcpdump -vve port 67 shows them"
                }
                Fault::NoRoom => "it accepts only short answers (option 57): configure fewer options for it",
                Fault::Bootp => "a BOOTP client is answered if a [[machine]] has its mac and an ip",
                Fault::Relay { relay: named, station: found } => {
                    (relay, station) = (Some(display(named)), found.map(display));
                    "its giaddr, or the link or server in its option 82, is this server's own address, a network's or a broadcast address, or 0.0.0.0: correct the relay's settings, or find the host that sends as this relay"
                }
            };
            if *fault == Fault::Bootp {
                info!(step, by, reason = name, %mac, %from, interface, length,
                    "{mac} is not answered: {says}; {remedy}");
            } else {
                warn!(step, by, reason = name, %mac, %from, relay, station, interface, length,
                    "{mac} is not answered: {says}; {remedy}");
            }
        }
        Step::Unanswered { reason, .. } => {
            debug!(step, by, reason = reason.name(), %mac, name, interface, "not answered: {}", reason.says());
        }
        Step::TookElsewhere { address, server, .. } => {
            debug!(step, by, %mac, name, interface, %server, %address, "requests {address} from the other server");
        }
        Step::PoolEmpty(pool, turned_away) => write_empty_pool(whose, pool, *turned_away),
        Step::PoolHasRoom(pool) => {
            let Pool { subnet, size, used, resting, refused } = pool;
            info!(step, by, %subnet, size, used, resting, refused,
                "subnet {subnet} has free addresses again: {}", pool.free());
        }
        Step::NoSubnet(NoSubnet::OnLink) => warn!(step, by, %mac, interface,
            "no address of {interface} is in a [[subnet]]: machines there, such as {mac}, get no address; write a [[subnet]] for {interface}"),
        Step::NoSubnet(NoSubnet::Behind { relay, selects, from, station }) => {
            let link =
                if selects == relay { String::new() } else { format!(" selects the link {selects}, which") };
            let sender =
                station.map_or_else(|| from.to_string(), |station| format!("{from}, station {station}"));
            let station = station.map(display);
            warn!(step, by, %mac, %relay, %from, station,
                "relay {relay}{link} is in no [[subnet]]: machines behind it, such as {mac}, get no address (the request came from {sender}); write a [[subnet]] that contains {selects}, or remove this server from the relay's list");
        }
        Step::Tftp(tftp) => write_tftp(whose, tftp),
        Step::Unheard(Unheard::Tftp { links: interfaces, requests }) => warn!(
            step,
            by,
            interfaces,
            requests,
            "{requests} TFTP requests on {interfaces} passed the kernel programs and never reached the daemon: a firewall \
             on this host drops UDP port 69; find the rule (nft list ruleset, iptables -S) and let the port pass"
        ),
        Step::Unheard(Unheard::Dhcp { requests }) => warn!(
            step,
            by,
            requests,
            "{requests} DHCP requests passed the kernel programs and never reached the daemon: a firewall on this host \
             drops UDP ports 67 and 4011; find the rule (nft list ruleset, iptables -S) and let the ports pass"
        ),
        Step::Script { client, path, end } => write_script(whose, *client, path, end),
        Step::Document { client, path, end } => write_document(whose, *client, path, end),
        Step::BecameState(_)
        | Step::Progress { .. }
        | Step::Overdue { .. }
        | Step::Power(_)
        | Step::InventoryChanged(_)
        | Step::Expected { .. } => write_registered(whose, what),
        Step::Conflict(conflict) => warn!(step, by, %mac, name, "{conflict}"),
        Step::PhoneHome(client, said) => write_phone_home(whose, *client, said),
        Step::Http(client, http) => write_http(whose, *client, http),
        Step::Image(image) => write_image(step, image),
        Step::RouterAdvertised => {
            debug!(step, by, %mac, "told the machine that there is no IPv6 router");
        }
        Step::Flood { answers } => {
            let (a_second, most) = (answers.div_ceil(60), super::answers::MOST_OF_ONE);
            warn!(
                step,
                %mac,
                name,
                interface,
                answers,
                a_second,
                "{mac} on {interface} got {answers} answers within a minute ({a_second} a second); the first {most} were logged. It asks in a loop, or another host uses its MAC: check its console and its switch port"
            );
        }
        Step::LeaseDeleted { address, hold: Some(cause) } => {
            info!(step, by, %mac, %address, hold = cause.as_str(),
                "ended the hold on {address}, which may be given out again: {}", cause.says());
        }
        Step::LeaseDeleted { address, hold: None } => {
            info!(step, by, %mac, %address, "deleted the lease of {address} to {mac}");
        }
        Step::LeasesImported(leases) => info!(step, by, leases, "imported {leases} leases"),
    }
}

fn write_tftp(whose: &Whose<'_>, tftp: &Tftp) {
    let Whose { step, by, interface, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match tftp {
        Tftp::Inspected { file, says, is_wrong: false } => info!(step, by, file, "{says}"),
        Tftp::Inspected { file, says, is_wrong: true } => warn!(step, by, file, "{says}"),
        Tftp::NotServed { client, file, is_customary: true, .. } => {
            debug!(step, by, mac, name, %client, file, "asked for {file}, which is not there");
        }
        Tftp::NotServed { client, file, why, .. } => {
            info!(step, by, mac, name, %client, file, "asked for {file}: {}", why.error);
        }
        Tftp::Stranger { client, net } => warn!(
            step, by, interface, %client,
            "a TFTP request from {client} is not answered: the address is in no network of {interface} and in no [[subnet]]; \
             if machines are there, write clients = [\"{net}\"] in [tftp]"
        ),
        Tftp::Ended { client, file, outcome } => write_transfer(whose, *client, file, outcome),
        Tftp::Unreadable { file, error } => warn!(step, by, file, "{file} cannot be sent: {error}"),
    }
}

fn write_transfer(whose: &Whose<'_>, client: SocketAddrV4, file: &str, outcome: &Outcome) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match outcome {
        Outcome::Finished { bytes, block_size, window, resent, by_xdp, by_tc, took, confirmed } => {
            let end = if *confirmed { "" } else { " (the last acknowledgement did not come)" };
            let seconds = took.as_secs_f64();
            let blocks = outcome.blocks();
            info!(
                name: STEP, step, by, mac, name, %client, file, bytes, seconds, blksize = block_size,
                windowsize = window, blocks, resent, by_xdp, by_tc,
                "sent {file}, {} in {seconds:.1} s{end}", human_size(*bytes)
            );
        }
        Outcome::Probed => debug!(step, by, mac, name, %client, file, "asked for the size of {file}"),
        Outcome::Aborted { code, message, bytes } => info!(
            step, by, mac, name, %client, file, bytes, code,
            "the client aborted {file} after {}: {message}", human_size(*bytes)
        ),
        Outcome::Stalled { bytes, size, block } => info!(
            step, by, mac, name, %client, file, bytes, block,
            "the client stopped answering at block {block}, after {} of {} of {file}", human_size(*bytes), human_size(*size)
        ),
        Outcome::Refused(why) => {
            info!(step, by, mac, name, %client, file, "refused the request for {file}: {why}");
        }
        // It was told where the reason was known.
        Outcome::Missing(_) => {}
        Outcome::Unreadable(why) => warn!(step, by, mac, name, %client, file, "sending {file} failed: {why}"),
        Outcome::StartedOver => debug!(step, by, mac, name, %client, file, "the client started over"),
        Outcome::CrowdedOut => info!(
            step, by, mac, name, %client, file, "ended an idle transfer of {file} to make room for others"
        ),
    }
}

fn write_script(whose: &Whose<'_>, client: IpAddr, path: &str, end: &Script) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match end {
        Script::Sent { bytes, .. } => info!(name: STEP, step, by, mac, name, %client, bytes, "sent {path}"),
        Script::Measured => debug!(step, by, mac, name, %client, "asked for the length of {path}"),
        Script::None(NoScript::NotForYou(why)) => {
            info!(step, by, mac, name, %client, "no {path} for this machine: {why}");
        }
        Script::None(NoScript::OfAnother { machine, address }) => warn!(
            step, by, mac, name, %client,
            "refused {path} of {machine} to {client}: the machine has {address}; where machines reach xpxe \
             through NAT or a proxy, name that in shared_addresses or trusted_proxies of [http]"
        ),
        Script::None(NoScript::Broken(why)) => {
            warn!(step, by, mac, name, %client, "{path} could not be written: {why}");
        }
    }
}

fn write_document(whose: &Whose<'_>, client: IpAddr, path: &str, end: &Document) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match end {
        Document::Sent { bytes } => info!(name: STEP, step, by, mac, name, %client, bytes, "sent {path}"),
        Document::Measured => debug!(step, by, mac, name, %client, "asked for the length of {path}"),
        Document::None(NoDocument::Nothing(why)) => info!(step, by, mac, name, %client, "no {path}: {why}"),
        Document::None(NoDocument::OfAnother { machine, address }) => warn!(
            step, by, mac, name, %client,
            "refused {path} of {machine} to {client}: the machine has {address}; where machines reach xpxe \
             through NAT or a proxy, name that in shared_addresses or trusted_proxies of [http]"
        ),
        Document::None(NoDocument::Secret(why)) => {
            warn!(step, by, mac, name, %client, "refused {path} to {client}: {why}");
        }
        Document::None(NoDocument::Broken(why)) => warn!(step, by, mac, name, %client, "{why}"),
    }
}

fn write_phone_home(whose: &Whose<'_>, client: IpAddr, said: &PhoneHome) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match said {
        PhoneHome::Success(text) => {
            info!(name: STEP, step, by, mac, name, %client, status = "success", "phoned home: success{}", Said(text));
        }
        PhoneHome::Failure(text) => {
            warn!(step, by, mac, name, %client, status = "failure", "phoned home: failure{}", Said(text));
        }
        PhoneHome::OfEarlierRun => warn!(
            step, by, mac, name, %client,
            "phoned home for an earlier run: nothing changes, because the machine was allocated or reinstalled since then"
        ),
        PhoneHome::OfAnother { machine, address } => warn!(
            step, by, mac, name, %client,
            "{client} phoned home for {machine}, which has {address}: it is not believed. Where machines reach xpxe through \
             NAT or a proxy, name that in shared_addresses or trusted_proxies of [http]"
        ),
    }
}

/// A machine's own words, if there are any.
struct Said<'t>(&'t str);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, ", it says {:?}", self.0) }
    }
}

fn write_http(whose: &Whose<'_>, client: IpAddr, http: &Http) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match http {
        Http::NoSuchPath(path) => info!(step, by, mac, name, %client,
            "asked for \"{path}\", which this server does not have: boot files are under /files/, the script is /boot.ipxe"),
        Http::NoTls(why) => write_no_tls(whose, client, why),
        Http::Asked { file, is_head, is_part } => {
            let method = if *is_head { "HEAD" } else { "GET" };
            let status = if *is_part { "206 Partial Content" } else { "200 OK" };
            debug!(step, by, %client, file = &**file, %method, %status, "asked for {file}");
        }
        Http::NotServed { file, why } => {
            info!(step, by, mac, name, %client, file = &**file, "asked for {file}: {}", why.error);
        }
        Http::NoImage { file, why } => {
            info!(step, by, mac, name, %client, file = &**file, "asked for {file}: {why}");
        }
        Http::Relayed { file, bytes, took } => {
            let (seconds, size) = (took.as_secs_f64(), human_size(*bytes));
            info!(name: STEP, step, by, mac, name, %client, file = &**file, bytes, seconds, "sent {file}, {size} in {seconds:.1} s, while it was fetched");
        }
        Http::Sent { file, bytes, took } => {
            let (seconds, size) = (took.as_secs_f64(), human_size(*bytes));
            info!(name: STEP, step, by, mac, name, %client, file = &**file, bytes, seconds, "sent {file}, {size} in {seconds:.1} s");
        }
        Http::Read { file, bytes, took } => {
            let (seconds, size) = (took.as_secs_f64(), human_size(*bytes));
            debug!(step, by, mac, name, %client, file = &**file, bytes, seconds, "sent {size} of {file} in {seconds:.1} s");
        }
        Http::Broken { file, bytes, took, why } => {
            let (seconds, size) = (took.as_secs_f64(), human_size(*bytes));
            warn!(step, by, mac, name, %client, file = &**file, bytes, seconds, "sending {file} failed after {size}: {why}");
        }
        Http::Ended { file, bytes, whole, took, why } => {
            let (seconds, size, whole) = (took.as_secs_f64(), human_size(*bytes), human_size(*whole));
            let why = Words(why);
            info!(step, by, mac, name, %client, file = &**file, bytes, seconds, "ended the connection after {size} of {whole} of {file}: {why}");
        }
        Http::Refused(RefusedRequest::Unreadable(error)) => {
            info!(step, by, %client, "refused a request of {client} that is not readable as HTTP: {error}");
        }
        Http::Refused(RefusedRequest::TooSlow) => {
            info!(step, by, %client, "ended a connection of {client}: the headers of its request did not arrive within 10 s");
        }
        Http::Refused(RefusedRequest::Status { method, path, status }) => {
            let why = match *status {
                403 => "only bss_writers of [http] may write boot parameters",
                405 => "this path takes another method",
                _ => "the path or its parameters are malformed",
            };
            info!(step, by, mac, name, %client, status, "refused {method} of \"{path}\": {why}");
        }
        Http::Left { file, bytes, whole, took } => {
            let (seconds, size, whole) = (took.as_secs_f64(), human_size(*bytes), human_size(*whole));
            info!(step, by, mac, name, %client, file = &**file, bytes, seconds, "the client closed the connection after {size} of {whole} of {file}");
        }
    }
}

fn write_no_tls(whose: &Whose<'_>, client: IpAddr, why: &NoTls) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match why {
        NoTls::Http => info!(step, by, mac, name, %client,
            "the client speaks HTTP at the port of HTTPS: write https:// in its URL, or the port of HTTP"),
        NoTls::OldVersion => info!(step, by, mac, name, %client,
            "the client knows no TLS 1.2: give it new firmware, or boot it over HTTP"),
        NoTls::NoCipher { offered } => info!(step, by, mac, name, %client,
            "the client offers no cipher suite that goes with the certificate (it can {offered}): use a certificate with an RSA key, or boot it over HTTP"),
        NoTls::Distrusted(alert) => info!(step, by, mac, name, %client,
            "the client does not trust the certificate of HTTPS ({alert}): put the certificate of its issuer into the machine, and see that the \
             certificate is for the name or address in the URL"),
        NoTls::Left => info!(step, by, mac, name, %client,
            "the client has left in the middle of the TLS handshake without a reason, as firmware does that does not trust the \
             certificate: put the certificate of its issuer into the machine, and see that the certificate is for the name or \
             address in the URL"),
        NoTls::Late => {
            info!(step, by, mac, name, %client, "the client has not begun to speak TLS within 20 s");
        }
        NoTls::Other(why) => {
            info!(step, by, mac, name, %client, "the client cannot be understood at the port of HTTPS: {why}");
        }
    }
}

fn write_image(step: &'static str, image: &Image) {
    match image {
        Image::StoreIsOpen(sentence) => warn!(step, "{sentence}"),
        Image::BadRecord { name, error } => warn!(step, image = %name, "{error}"),
        Image::Unreadable { digest, error } => warn!(step, sha256 = %digest,
            "{error}; the image is fetched anew if it has an upstream"),
        Image::Damaged { digest, path, store } => warn!(step, sha256 = %digest,
            "{path} was changed: its bytes do not have the digest that it is named for. Nobody gets it; it is in bad/ now, and the image is fetched anew if it has an upstream. Who writes to {store}?"),
        Image::Waits { name, running } => warn!(step, image = %name,
            "image {name} waits for its turn: {running} are being fetched, and no more at once"),
        Image::Retried { name, why, pause } => warn!(step, image = %name, "{why}; trying again in {pause:?}"),
        Image::Fetched { name, digest, bytes, took } => {
            let (seconds, size) = (took.as_secs_f64(), human_size(*bytes));
            info!(step, image = %name, sha256 = %digest, bytes, seconds, "fetched image {name}, {size} in {seconds:.1} s");
        }
        Image::NotFetched { name, error } => warn!(step, image = %name,
            "image {name} cannot be fetched: {error}"),
        Image::NotCompared { name, error } => warn!(step, image = %name,
            "image {name} cannot be compared with its upstream, machines get the copy that is here: {error}"),
        Image::NotSigned { name, error } => warn!(step, image = %name,
            "image {name} has no presigned URL, machines get it from the store: {error}"),
        Image::Removed { digest, bytes, names } => {
            let size = human_size(*bytes);
            let all = names.iter().map(ImageName::as_str).collect::<Vec<_>>().join(", ");
            if names.is_empty() {
                info!(step, sha256 = %digest, "removed {size} that no image has any more, to make room");
            } else {
                info!(step, sha256 = %digest, "removed the bytes of {all} ({size}) to make room: they were not wanted for longest, and are fetched again when they are");
            }
        }
    }
}

impl fmt::Display for Words<'_, WhyEnded> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            WhyEnded::Stalled(seconds) => write!(f, "the client has taken nothing for {seconds} s"),
            WhyEnded::MadeRoom => {
                f.write_str("it was the longest idle one, and a new connection needed its place")
            }
            WhyEnded::Stopped => f.write_str("xpxe was stopped"),
        }
    }
}
