//! The one place where an event becomes text: a log line, with its level, its fields and its sentence.
//!
//! Each macro here is a kind of line of its own to the log's [`Limit`](super::super::limit::Limit), which is what bounds
//! how many of them are formatted at all. `golden/lines.txt` has all of them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use boot_common::Mac;
use tracing::field::display;
use tracing::{debug, info, warn};

use crate::daemon::limit::STEP;
use crate::host::size::human_size;
use boot_engine::boot::class_name;
use boot_engine::boot::plan::NoScript;
use boot_engine::events::{
    Answer, Answered, BootEvent, Decline, Doubt, Fault, Given, Http, LoaderProblem, NoSubnet, OtherServer,
    Recognition, Refusal, Script, Step, Tftp, Through, TurnedAway, Unheard,
};
use boot_engine::leases::Pool;
use boot_engine::tftp::Outcome;

/// Whose line it is: the fields that most lines have.
struct Whose<'e> {
    step: &'static str,
    by: &'static str,
    mac: Option<Mac>,
    name: Option<&'e str>,
    interface: &'e str,
}

impl Whose<'_> {
    /// The machine of a step that has one; the engine's always have.
    fn mac(&self) -> Mac {
        self.mac.unwrap_or(Mac([0; 6]))
    }

    /// As DHCP's lines have it.
    fn known_name(&self) -> &str {
        self.name.unwrap_or_default()
    }
}

/// Writes an event's line.
pub(super) fn write(event: &BootEvent) {
    let BootEvent { machine, link, by, step: what, .. } = event;
    let whose = &Whose {
        step: what.kind().name(),
        by: by.name(),
        mac: machine.as_ref().map(|machine| machine.mac),
        name: machine.as_ref().and_then(|machine| machine.name.as_deref()),
        interface: link.as_ref().map_or("", |link| &link.name),
    };
    let Whose { step, by, interface, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    match what {
        Step::Answered(answered) => write_answer(whose, answered),
        Step::Refused(why) => info!(step, by, %mac, name, "refused: {}", Words(why)),
        Step::Recognised(recognition) => write_recognition(whose, *recognition),
        Step::Loader(LoaderProblem::Missing(missing)) => warn!(step, by, %mac, "{missing}"),
        Step::Loader(LoaderProblem::Reduced { firmware, lacks_http }) => {
            let lacks = if *lacks_http {
                "HTTP (DOWNLOAD_PROTO_HTTP)"
            } else {
                "a kernel format (IMAGE_BZIMAGE or IMAGE_EFI)"
            };
            warn!(step, by, %mac, "the iPXE that {} machines are sent lacks {lacks} itself: they get their script now, which it may not run; build it with that, and name it in [ipxe] or put it into boot_dir", firmware.name());
        }
        Step::OtherServer(other) => write_other_server(whose, *other),
        Step::Stray { reserved, through, subnet } => {
            let through = match through {
                Through::Link => format!("on {interface}"),
                Through::Relay(relay) => format!("through relay {relay}"),
            };
            warn!(step, by, %mac, name, address = %reserved,
                "{mac} has {reserved} in the configuration, but asks {through}, where {subnet} is: its switch port is in the wrong VLAN, or it was plugged in elsewhere. Until then it gets addresses of {subnet} only");
        }
        Step::Declined(address, decline) => write_decline(whose, *address, decline),
        Step::Released(address) => info!(step, by, %mac, %address, "gave {address} back"),
        Step::NotBelieved(given, address, doubt) => {
            let what = match given {
                Given::Declined => "DECLINE",
                Given::Released => "RELEASE",
            };
            warn!(step, by, %mac, %address,
                "a {what} of {address} in the name of {mac} is ignored: {}. If {mac} did not send it, somebody else forges it", Words(doubt));
        }
        Step::AddressInUse { address, user } => warn!(step, by, %mac, %address,
            "{address} is used by {user} although nobody got it from here: it rests, find out who gave it"),
        Step::CannotProbe => warn!(
            step,
            by,
            "addresses behind relays are offered without asking whether somebody has them: \
             that needs the capability CAP_NET_RAW"
        ),
        Step::Dropped { reason, fault, from, length } => {
            let (name, says) = (reason.name(), reason.says());
            let mac = whose.mac.map_or_else(|| "an unknown machine".to_owned(), |mac| mac.to_string());
            let remedy = match fault {
                Fault::Malformed => {
                    "the client, or a relay on the way, writes it wrong: tcpdump -vve port 67 shows how"
                }
                Fault::NoRoom => "it takes short answers only (option 57): give it fewer options",
                Fault::Bootp => "BOOTP is answered where a [[machine]] has this mac and an ip",
            };
            if *fault == Fault::Bootp {
                info!(step, by, reason = name, %mac, %from, interface, length,
                    "{mac} is not answered: {says}; {remedy}");
            } else {
                warn!(step, by, reason = name, %mac, %from, interface, length,
                    "{mac} is not answered: {says}; {remedy}");
            }
        }
        Step::PoolEmpty(pool, turned_away) => write_empty_pool(whose, pool, *turned_away),
        Step::PoolHasRoom(pool) => {
            let Pool { subnet, size, used, resting, refused } = pool;
            info!(step, by, %subnet, size, used, resting, refused,
                "subnet {subnet} has {} addresses again", pool.free());
        }
        Step::NoSubnet(NoSubnet::OnLink) => warn!(step, by, %mac, interface,
            "{interface} has no address in any [[subnet]]: machines there get no address, {mac} among them"),
        Step::NoSubnet(NoSubnet::Behind { relay, selects, from }) => {
            let link =
                if selects == relay { String::new() } else { format!(" selects the link {selects}, which") };
            warn!(step, by, %mac, %relay, %from,
                "relay {relay}{link} is in no [[subnet]]: machines behind it get no address, {mac} among them (its request came from {from}); write a [[subnet]] with {selects} in it, or take this server out of the relay's list");
        }
        Step::Tftp(tftp) => write_tftp(whose, tftp),
        Step::Unheard(Unheard::Tftp { links: interfaces, requests }) => warn!(
            step,
            by,
            interfaces,
            requests,
            "the kernel half passed on {requests} TFTP requests of {interfaces} that never reached the daemon: a firewall \
             of this host drops UDP port 69; look for it with nft list ruleset, or iptables -S, and let it pass"
        ),
        Step::Unheard(Unheard::Dhcp { requests }) => warn!(
            step,
            by,
            requests,
            "the kernel half passed on {requests} DHCP requests that never reached the daemon: a firewall of this host \
             drops UDP ports 67 and 4011; look for it with nft list ruleset, or iptables -S, and let them pass"
        ),
        Step::Script { client, path, end } => write_script(whose, *client, path, end),
        Step::Http(client, http) => write_http(whose, *client, http),
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
                "{mac} on {interface} was answered {answers} times within a minute ({a_second} a second), and the first {most} have a line: it asks in a loop, or somebody does in its name; look at its console and its switch port"
            );
        }
        Step::LeaseDeleted { address, was_resting: true } => {
            info!(step, by, %mac, %address, "{address} rests no longer");
        }
        Step::LeaseDeleted { address, was_resting: false } => {
            info!(step, by, %mac, %address, "took {address} from {mac}");
        }
        Step::LeasesImported(leases) => info!(step, by, leases, "imported {leases} leases"),
    }
}

fn write_answer(whose: &Whose<'_>, answered: &Answered) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    let Answered { answer, class, address, boot } = answered;
    let verb = match answer {
        Answer::Offer => "offered",
        Answer::Ack => "acknowledged",
        Answer::Options => "gave the options to",
        Answer::Bootp => "gave",
        Answer::BootFile => "told the boot file to",
    };
    let class = class_name(*class);
    let boot = boot.as_ref().map(|file| file.describe()).filter(|file| !file.is_empty());
    let boot = boot.map_or_else(String::new, |file| format!(": boot {file}"));
    if address.is_unspecified() {
        info!(name: STEP, step, by, %mac, name, class, "{verb} {class}{boot}");
    } else {
        info!(name: STEP, step, by, %mac, name, class, %address, "{verb} {address} to {class}{boot}");
    }
}

fn write_recognition(whose: &Whose<'_>, recognition: Recognition) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    match recognition {
        Recognition::Known => {
            info!(name: STEP, step, by, %mac, name, "{mac} is {name}, by its UUID or its switch port");
        }
        Recognition::AtAnotherPort => info!(step, by, %mac,
            "{mac} is at another switch port now: none that the configuration names"),
        Recognition::StillLeased { address, holder } => warn!(step, by, %mac, name, %address,
            "{holder} has {address} by a lease that still runs, so {mac} gets another one: the machine has a new card, or two machines show the same UUID or port (xpxe leases delete {holder} ends the lease)"),
        Recognition::TakenFrom { address, holder } => warn!(step, by, %mac, name, %address,
            "{holder} had {address} so far: the machine has a new card, or two machines show the same UUID or port"),
    }
}

fn write_other_server(whose: &Whose<'_>, other: OtherServer) {
    let Whose { step, by, interface, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    let instead =
        format_args!("stop it, or write dhcp = \"proxy\" for {interface} if it is to give the addresses");
    match other {
        OtherServer::Chosen { server, address, was_offered } => {
            let not_ours = if was_offered { ", and not the offer from here" } else { "" };
            info!(step, by, %mac, name, %server, %address,
                "{mac} took {address} from another DHCP server, {server}{not_ours}");
        }
        OtherServer::Refused { server } => warn!(step, %mac, name, %server, interface,
            "another DHCP server, {server}, refused {mac} on {interface} (NAK), which therefore starts over: {instead}"),
        OtherServer::Gives { server, address } => warn!(step, %mac, name, %server, interface, %address,
            "another DHCP server, {server}, gives {address} to {mac} on {interface}, where this one gives the addresses: {instead}"),
    }
}

fn write_decline(whose: &Whose<'_>, address: Ipv4Addr, decline: &Decline) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac(), whose.known_name());
    let found = |user: &Option<String>| user.clone().unwrap_or_else(|| "nobody that answers".to_owned());
    match decline {
        Decline::TooMany { most } => warn!(step, by, %mac, %address,
            "{mac} declines {address}, and keeps it: {most} addresses of its subnet were declined within 10 minutes, and more of these are ignored. Find out who uses addresses of the pool, or who forges DECLINEs"),
        Decline::OnlyItself => warn!(step, by, %mac, name, %address,
            "{address} stays {mac}'s: a DECLINE said that somebody else uses it, but only {mac} does. Somebody forges DECLINEs, or the machine's firmware and its operating system use the address at once"),
        Decline::Reserved(user) => warn!(step, by, %mac, name, %address,
            "{address} is in use by somebody else, says {mac}, for which it is reserved. Found there: {}. Find who has it (arping {address})", found(user)),
        Decline::Enough(user) => warn!(step, by, %mac, name, %address,
            "{address} stays {mac}'s although it was declined and {user} has it: a quarter of the pool rests already because of DECLINEs. Find out who uses addresses of the pool, or who forges DECLINEs"),
        Decline::Taken(user) => {
            let fate = if user.is_some() { "It rests for 10 minutes" } else { "It stays in the pool" };
            warn!(step, by, %mac, name, %address,
                "{address} is in use by somebody else, says {mac}, which gets another one. Found there: {}. {fate}; find who has it (arping {address})", found(user));
        }
    }
}

fn write_empty_pool(whose: &Whose<'_>, pool: &Pool, turned_away: TurnedAway) {
    let Whose { step, by, .. } = *whose;
    let Pool { subnet, size, used, resting, refused } = pool;
    let who = match turned_away {
        TurnedAway::One(mac) => mac.to_string(),
        TurnedAway::Many(many) => format!("{many} machines"),
    };
    let what = match size {
        0 => format!("it has no pool: give it one, or name {who} in a [[machine]]"),
        _ => format!(
            "all {size} of its pool are taken ({used} by leases and offers, {resting} rest): enlarge its pool, or make its leases shorter"
        ),
    };
    warn!(step, by, %subnet, size, used, resting, refused, "subnet {subnet} has no address left for {who}: {what}");
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
            "a TFTP request from {client} gets no answer: it is of no network of {interface} and of no [[subnet]]; \
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
            "the client gave up {file} after {}: {message}", human_size(*bytes)
        ),
        Outcome::Stalled { bytes, size, block } => info!(
            step, by, mac, name, %client, file, bytes, block,
            "the client fell silent at block {block}, after {} of {} of {file}", human_size(*bytes), human_size(*size)
        ),
        Outcome::Refused(why) => info!(step, by, mac, name, %client, file, "request refused: {why}"),
        // It was told where the reason was known.
        Outcome::Missing(_) => {}
        Outcome::Unreadable(why) => warn!(step, by, mac, name, %client, file, "sending {file} ended: {why}"),
        Outcome::StartedOver => debug!(step, by, mac, name, %client, file, "the client started over"),
        Outcome::CrowdedOut => info!(
            step, by, mac, name, %client, file, "an idle transfer of {file} made room for others"
        ),
    }
}

fn write_script(whose: &Whose<'_>, client: IpAddr, path: &str, end: &Script) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match end {
        Script::Sent { bytes } => info!(name: STEP, step, by, mac, name, %client, bytes, "sent {path}"),
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

fn write_http(whose: &Whose<'_>, client: IpAddr, http: &Http) {
    let Whose { step, by, .. } = *whose;
    let (mac, name) = (whose.mac.map(display), whose.name);
    match http {
        Http::NoSuchPath(path) => info!(step, by, mac, name, %client,
            "asked for \"{path}\", which is no path of this server: boot files are under /files/, the script is /boot.ipxe"),
        Http::Asked { file, is_head, is_part } => {
            let method = if *is_head { "HEAD" } else { "GET" };
            let status = if *is_part { "206 Partial Content" } else { "200 OK" };
            debug!(step, by, %client, file = &**file, %method, %status, "asked for");
        }
        Http::NotServed { file, why } => {
            info!(step, by, mac, name, %client, file = &**file, "asked for {file}: {}", why.error);
        }
        Http::Sent { file, bytes, took } => {
            let (seconds, size) = (took.as_secs_f64(), human_size(*bytes));
            info!(name: STEP, step, by, mac, name, %client, file = &**file, bytes, seconds, "sent {file}, {size} in {seconds:.1} s");
        }
        Http::Broken { file, bytes, took, why } => {
            let (seconds, size) = (took.as_secs_f64(), human_size(*bytes));
            warn!(step, by, mac, name, %client, file = &**file, bytes, seconds, "sending {file} ended after {size}: {why}");
        }
        Http::Left { file, bytes, whole, took } => {
            let (seconds, size, whole) = (took.as_secs_f64(), human_size(*bytes), human_size(*whole));
            info!(step, by, mac, name, %client, file = &**file, bytes, seconds, "the client left after {size} of {whole} of {file}");
        }
    }
}

/// A reason in words.
struct Words<'r, R>(&'r R);

impl fmt::Display for Words<'_, Refusal> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Refusal::NamesNone => {
                f.write_str("its REQUEST names no address, neither in option 50 nor in ciaddr")
            }
            Refusal::Reserved(address) => write!(f, "{address} is reserved for another machine now"),
            Refusal::Has { wanted, has } => write!(f, "asks for {wanted}, has {has}"),
            Refusal::AnotherNetwork(wanted, Some(subnet)) => write!(
                f,
                "{wanted} is of {subnet}, not of this network: it has moved, or its switch port is in the wrong VLAN"
            ),
            Refusal::AnotherNetwork(wanted, None) => write!(f, "{wanted} is not of this network"),
            Refusal::WasIts(wanted) => write!(f, "{wanted} was its address, and cannot be any more"),
            Refusal::NotOffered(wanted) => write!(f, "{wanted} was not offered to it"),
            Refusal::NotGiven(wanted) => write!(f, "nobody gave it {wanted}"),
        }
    }
}

impl fmt::Display for Words<'_, Doubt> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Doubt::NamesNoServer => f.write_str("it names no server (option 54)"),
            Doubt::OtherLink => {
                f.write_str("it came in on an interface that the subnet of the lease is not on")
            }
            Doubt::Source { from, should } => {
                write!(f, "it comes from {from}, and should come from {should}")
            }
            Doubt::NoRelay => f.write_str("the subnet of the lease is behind relays, and none sent it on"),
            Doubt::OtherRelay(relay) => write!(f, "relay {relay} is not in the subnet of the lease"),
            Doubt::SourceOrRelay { from, should, relay } => {
                write!(f, "it comes from {from}, and should come from {should} or relay {relay}")
            }
        }
    }
}
