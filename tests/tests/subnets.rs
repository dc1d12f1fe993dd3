//! One MAC in several subnets at once, and what others say in a machine's name.

use std::net::Ipv4Addr;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::{Event, Xpxe};
use boot_tests::dhcp_client::{BROADCAST, Client, Datagram, Mac, Reply, Wire, mac, payload};
use boot_tests::netns::Namespace;
use boot_tests::place::{CARD, OTHER_UNKNOWN, Place, SILENCE, SOON, UNKNOWN};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_MAC, Station};
use boot_tests::settings::Settings;
use dhcproto::v4::{DhcpOption, Message, MessageType};

/// The router's card on the far segment.
const ROUTER: &str = "02:78:00:00:00:02";
/// The server's card there, where it has one, and its address.
const SECOND_CARD: &str = "02:78:00:00:00:03";
const SECOND_ADDRESS: &str = "10.78.0.3";

/// The far segment's subnet, and one address only in the near one.
fn build(fast_path: &'static str) -> Result<Option<Place>> {
    let more = "\n[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.101\"]\nrouter = \"10.78.0.1\"\n\
                lease = \"10m\"\n";
    let settings = Settings { fast_path, more: more.to_owned(), ..Settings::default() };
    let Some(mut place) = Place::build(&settings)? else { return Ok(None) };
    place.config = place.config.replace("10.77.0.100-10.77.0.199", "10.77.0.100-10.77.0.100");
    finish_checksums(&place.rack.server, "eth0")?;
    Ok(Some(place))
}

/// As real network cards do. What goes through a socket has no finished checksum on a veth otherwise.
fn finish_checksums(namespace: &Namespace, interface: &str) -> Result<()> {
    namespace.output("ethtool", &["-K", interface, "tx", "off"]).map(drop)
}

/// A machine's card in one subnet, with the address that it has a lease of.
struct Leased {
    station: Station,
    wire: Wire,
    client: Client,
    address: Ipv4Addr,
    server: Ipv4Addr,
    /// Who has the server's address on this segment: the server, or the router on the way to it.
    next_hop: Mac,
}

impl Leased {
    fn get(station: Station, next_hop: &str) -> Result<Self> {
        let wire = Wire::open(&station, "eth0")?;
        let client = Client::new(mac(&station.mac)?);
        let lease = wire.lease(&client)?;
        let (address, server) = (lease.address(), lease.server().context("a server identifier")?);
        // From now on the station answers for its address, as an operating system does.
        station.output("ip", &["address", "add", &format!("{address}/24"), "dev", "eth0"])?;
        Ok(Self { station, wire, client, address, server, next_hop: mac(next_hop)? })
    }

    fn request(&self) -> Message {
        let mut message = self.client.message();
        message.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
        message
    }

    /// From its own address, to the server or to all on the segment.
    fn datagram(&self, to_server: bool) -> Datagram {
        let (to_mac, to) =
            if to_server { (self.next_hop, self.server) } else { (BROADCAST, Ipv4Addr::BROADCAST) };
        Datagram { source_mac: self.client.mac(), to_mac, source: self.address, to, ..Datagram::default() }
    }

    fn answered(&self, state: &str, datagram: &Datagram, message: &Message) -> Result<()> {
        self.wire.send(&datagram.frame(&payload(message)?))?;
        let reply = self.wire.hear_reply(&[message.xid()], SOON)?;
        let reply = reply.with_context(|| format!("{}: {state} is not answered", self.address))?;
        let right = reply.kind() == Some(MessageType::Ack) && reply.address() == self.address;
        ensure!(right && reply.checksums_are_right, "{}: {state} gets {reply:?}", self.address);
        Ok(())
    }

    fn renewing(&self) -> Result<()> {
        let mut message = self.request();
        message.set_ciaddr(self.address);
        self.answered("RENEWING", &self.datagram(true), &message)
    }

    fn rebinding(&self) -> Result<()> {
        let mut message = self.request();
        message.set_ciaddr(self.address);
        self.answered("REBINDING", &self.datagram(false), &message)
    }

    fn init_reboot(&self) -> Result<()> {
        let mut message = self.request();
        message.opts_mut().insert(DhcpOption::RequestedIpAddress(self.address));
        let from_nobody = Datagram { source: Ipv4Addr::UNSPECIFIED, ..self.datagram(false) };
        self.answered("INIT-REBOOT", &from_nobody, &message)
    }

    /// In whatever state it asks, it may keep its address.
    fn keeps_its_lease(&self) -> Result<()> {
        self.renewing()?;
        self.rebinding()?;
        self.init_reboot()
    }
}

/// Both leases of the MAC are kept, whoever asks in between, over a restart too.
fn both_are_kept(
    place: &Place,
    mut xpxe: Xpxe<'_>,
    near: &Leased,
    far: &Leased,
    by_kernel: bool,
) -> Result<()> {
    let stranger = Client::new(mac(OTHER_UNKNOWN)?);
    let other = Wire::open(&*place.rack.client("other", CARD)?, "eth0")?;
    for round in 0..2 {
        for leased in [near, far, near] {
            leased.keeps_its_lease().with_context(|| format!("round {round}\n{}", xpxe.last_lines(20)))?;
        }
        let offer = other.ask_within(&stranger.discover(), SILENCE)?;
        ensure!(offer.is_none(), "round {round}: another machine is offered {offer:?}");
        if round == 0 {
            xpxe.kill9()?;
            if by_kernel {
                near.init_reboot().context("with the daemon dead, where it was heard last")?;
            }
            xpxe.restart()?;
        }
    }
    xpxe.stop()
}

#[test]
fn one_mac_on_the_server_s_segment_and_behind_a_relay_keeps_both_leases() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = build(fast_path)? else { return Ok(()) };
        let far = place.rack.segment_behind_router(&place.sandbox)?;
        finish_checksums(&far.router, "eth1")?;
        let xpxe = place.serve()?;
        let _relay = far.start_relay()?;
        let near = Leased::get(place.rack.client("near", UNKNOWN)?, SERVER_MAC)?;
        let there = Leased::get(far.client("far", UNKNOWN)?, ROUTER)?;
        there.station.output("ip", &["route", "add", "default", "via", "10.78.0.1"])?;
        ensure!(there.address.octets()[..3] == [10, 78, 0], "{}", there.address);
        both_are_kept(&place, xpxe, &near, &there, fast_path == "xdp").context(fast_path)?;
    }
    Ok(())
}

#[test]
fn one_mac_on_two_interfaces_of_the_server_keeps_both_leases() -> Result<()> {
    for fast_path in ["tc", "off"] {
        let Some(mut place) = build(fast_path)? else { return Ok(()) };
        let far = place.rack.segment_behind_router(&place.sandbox)?;
        let server = &place.rack.server;
        far.plug(server, "eth1", SECOND_CARD)?;
        finish_checksums(server, "eth1")?;
        server.output("ip", &["route", "del", "10.78.0.0/24"])?;
        server.output("ip", &["address", "add", &format!("{SECOND_ADDRESS}/24"), "dev", "eth1"])?;
        place.config += &format!("\n[[interface]]\nname = \"eth1\"\nfast_path = \"{fast_path}\"\n");
        let xpxe = place.serve()?;
        let near = Leased::get(place.rack.client("near", UNKNOWN)?, SERVER_MAC)?;
        let there = Leased::get(far.client("far", UNKNOWN)?, SECOND_CARD)?;
        ensure!(there.server == SECOND_ADDRESS.parse::<Ipv4Addr>()?, "{}", there.server);
        both_are_kept(&place, xpxe, &near, &there, fast_path == "tc").context(fast_path)?;
    }
    Ok(())
}

#[test]
fn a_forged_decline_or_release_costs_the_owner_nothing() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = build(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let owner = Leased::get(place.rack.client("owner", UNKNOWN)?, SERVER_MAC)?;
        let forger = place.client()?;
        let forged = |kind: MessageType, from: Ipv4Addr| -> Result<()> {
            let mut message = owner.client.message();
            message.opts_mut().insert(DhcpOption::MessageType(kind));
            message.opts_mut().insert(DhcpOption::ServerIdentifier(owner.server));
            if kind == MessageType::Release {
                message.set_ciaddr(owner.address);
            } else {
                message.opts_mut().insert(DhcpOption::RequestedIpAddress(owner.address));
            }
            let datagram = Datagram { source: from, source_mac: forger.mac(), ..owner.datagram(false) };
            forger.send(&datagram.frame(&payload(&message)?))
        };
        let nobody = Ipv4Addr::UNSPECIFIED;
        forged(MessageType::Decline, nobody)?;
        xpxe.wait_for_event("that the owner answers for its address", SOON, |event| {
            event.field("step") == "decline" && event.message().contains("forges DECLINEs")
        })?;
        owner.keeps_its_lease().with_context(|| format!("{fast_path}: after a DECLINE"))?;
        forged(MessageType::Release, Ipv4Addr::new(10, 77, 0, 66))?;
        xpxe.wait_for_event("that it is not believed", SOON, |event| {
            event.field("step") == "not-believed" && event.message().contains("10.77.0.66")
        })?;
        owner.keeps_its_lease().with_context(|| format!("{fast_path}: after a RELEASE"))?;
        // The pool has this one address: a lease that was ended would let another machine have it.
        let offer = forger.ask_within(&Client::new(mac(OTHER_UNKNOWN)?).discover(), SILENCE)?;
        ensure!(offer.is_none(), "{fast_path}: {offer:?}");
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn what_is_sent_to_a_group_is_not_answered() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = build(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let client = Client::new(mac(UNKNOWN)?);
        // 224.0.0.1 and its Ethernet address (RFC 1112 section 6.4).
        let all_hosts = Datagram {
            source_mac: client.mac(),
            to_mac: [0x01, 0, 0x5e, 0, 0, 1],
            to: Ipv4Addr::new(224, 0, 0, 1),
            ..Datagram::default()
        };
        let message = client.discover();
        wire.send(&all_hosts.frame(&payload(&message)?))?;
        let reply: Option<Reply> = wire.hear_reply(&[message.xid()], SILENCE)?;
        ensure!(reply.is_none(), "{fast_path}: {reply:?}");
        wire.discover(&client).with_context(|| format!("{fast_path}, to {SERVER_ADDRESS}'s network"))?;
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_request_that_names_no_address_is_refused_with_that_reason() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = build(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let client = Client::new(mac(UNKNOWN)?);
        for has_an_address in [false, true] {
            if has_an_address {
                wire.lease(&client)?;
            }
            let mut message = client.message();
            message.opts_mut().insert(DhcpOption::MessageType(MessageType::Request));
            message.opts_mut().insert(DhcpOption::ServerIdentifier(SERVER_ADDRESS.parse()?));
            wire.ask(&message, MessageType::Nak).context(fast_path)?;
        }
        let is_nak = |event: &Event| event.field("step") == "nak";
        xpxe.wait_for_event("the refusal", SOON, is_nak)?;
        for event in xpxe.log().iter().filter(|event| is_nak(event)) {
            let said = event.message();
            ensure!(said.contains("names no address") && !said.contains("0.0.0.0"), "{fast_path}: {said}");
        }
        xpxe.stop()?;
    }
    Ok(())
}
