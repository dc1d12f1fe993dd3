//! Causes 1 to 10: no address, another server's, or one that leads nowhere.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot_common::Mac;
use boot_tests::dhcp_client::{BROADCAST, Datagram, Wire, mac, payload};
use boot_tests::machine::{Firmware, Machine};
use boot_tests::packet::Client;
use boot_tests::place::{ALICE, BOB, CARD, OTHER_UNKNOWN, SOON, UNKNOWN, known};
use boot_tests::rack::SERVER_ADDRESS;
use boot_tests::reference::{dnsmasq, dnsmasq_plain_dhcp};
use boot_tests::settings::Settings;
use boot_tests::wait::{eventually, eventually_some};
use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode};

use super::scene::*;

/// A relay in no subnet.
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const SECOND_ARM: &str = "02:77:00:00:00:97";
/// The option with the kind of a DHCP message.
const MESSAGE_TYPE: u8 = 53;

fn proxy() -> Settings {
    Settings { dhcp: "proxy", ..Settings::default() }
}

#[test]
fn a_machine_that_is_not_answered_knows_why() -> Result<()> {
    let more = "[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.100\"]\n";
    scene(&Settings { more: more.to_owned(), ..known() }, |scene| {
        let relay = scene.place.rack.neighbour("relay", CARD, &format!("{NEAR}/24"))?;
        relay.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/healthz")])?;
        let through = Wire::open(&relay, "eth0")?;
        let ask = |giaddr, client: &str| -> Result<()> {
            let discover = Client::Edk2Pxe.discover(Mac(mac(client)?));
            through.send(&relayed(discover, giaddr, SERVER)?.frame())
        };
        // Through a relay of no subnet.
        ask(RELAY, ALICE.mac)?;
        let evidence = scene.must_be(ALICE.mac, "no-subnet", VERDICT)?;
        ensure!(evidence.contains("through relay 10.99.0.1"), "{evidence}");
        // The pool of one address is empty for the second machine.
        let far = Ipv4Addr::new(10, 78, 0, 1);
        ask(far, CARD)?;
        ask(far, UNKNOWN)?;
        let why = |which: &str| scene.xpxe(&["why", which]);
        let says = eventually_some(SOON, "an empty pool", || {
            why(UNKNOWN).ok().filter(|text| text.contains("pool-exhausted"))
        });
        let says = says.with_context(|| why(UNKNOWN).unwrap_or_default() + &scene.xpxe.last_lines(20))?;
        for part in [
            "certain",
            "no address is left",
            "PXE-E51",
            "xpxe leases list",
            "docs/troubleshooting.md#pool-exhausted",
        ] {
            ensure!(says.contains(part), "{part} is not in\n{says}");
        }
        // Bob has never asked, and the fleet says so.
        ensure!(why(BOB.name)?.contains("never-asked"), "{}", why(BOB.name)?);
        let all = scene.xpxe(&["why", "--all"])?;
        ensure!(
            all.contains("1 machine: no-subnet") && all.contains("never-asked") && all.contains(BOB.name),
            "{all}"
        );
        ensure!(why("nobody").is_err(), "nobody is known");
        Ok(())
    })
}

#[test]
fn an_unknown_machine_that_is_ignored_is_told_the_setting() -> Result<()> {
    let ignores = |config: String| config.replace("[default]\n", "[default]\nunknown = \"ignore\"\n");
    scene_with(&Settings::default(), ignores, |scene| {
        let machine = scene.machine(nobody(UNKNOWN))?;
        machine.wire.send(&Client::Edk2Pxe.discover(machine.mac()?).frame())?;
        let evidence = machine.must_be("not-answered")?;
        ensure!(evidence.contains("unknown = \\\"ignore\\\""), "{evidence}");
        Ok(())
    })
}

/// Real iPXE behind a switch that drops what servers send.
#[test]
fn real_firmware_whose_offers_are_lost_takes_none() -> Result<()> {
    scene(&known(), |scene| {
        scene.drop_on_the_way(&["udp sport 67".to_owned()])?;
        let machine = Machine::power_on(&scene.place.rack, ALICE.name, ALICE.mac, Firmware::BiosIpxe)?;
        let evidence = scene.must_be(ALICE.mac, "offer-not-taken", VERDICT)?;
        ensure!(
            evidence.contains("did not take the offer") && evidence.contains("offered iPXE"),
            "{evidence}"
        );
        machine.power_off()
    })
}

/// As long as a switch port with a spanning tree drops everything, nearly.
const FORWARDS_LATE: Duration = Duration::from_secs(21);

/// One machine's switch port forwards late; others go wrong meanwhile.
#[test]
fn a_port_that_forwards_late_and_an_address_in_use_a_refusal_no_loader() -> Result<()> {
    scene(&known(), |scene| {
        scene.drop_on_the_way(&[format!("ether daddr {} udp sport 67", ALICE.mac)])?;
        let alice = scene.machine(ALICE)?;
        let discover = Client::IpxeBios.discover(alice.mac()?).frame();
        let since = Instant::now();
        (0..2).try_for_each(|_| alice.wire.send(&discover))?;

        // Somebody has bob's address, and bob finds out.
        let _holder = scene.place.rack.neighbour("holder", CARD, "10.77.0.11/24")?;
        let bob = scene.machine(BOB)?;
        let address = bob.lease(Client::Edk2Pxe)?;
        // A real client looks for the address first, which takes longer than a millisecond.
        scene.xpxe.wait_for_event("bob's ACK", SOON, |event| {
            event.field("step") == "ack" && event.field("mac") == BOB.mac
        })?;
        let mut decline = Client::Udhcpc.request(bob.mac()?, address, SERVER);
        decline.options.retain(|(code, _)| *code != MESSAGE_TYPE);
        bob.wire.send(&decline.with(MESSAGE_TYPE, &[4]).frame())?;
        let evidence = bob.must_be("address-in-use")?;
        ensure!(evidence.contains(CARD) && evidence.contains("10.77.0.11"), "{evidence}");

        // A machine wants an address that it had elsewhere.
        let moved = scene.machine(nobody(UNKNOWN))?;
        moved.hear(&Client::Edk2Pxe.reboot(moved.mac()?, Ipv4Addr::new(192, 0, 2, 9)))?;
        let evidence = moved.must_be("refused-here")?;
        ensure!(evidence.contains("192.0.2.9"), "{evidence}");

        // Nobody has put an iPXE for these two into the boot directory.
        let arms = [scene.machine(nobody(OTHER_UNKNOWN))?, scene.machine(nobody(SECOND_ARM))?];
        for arm in &arms {
            arm.lease(Client::Edk2PxeArm64)?;
        }
        for arm in &arms {
            let evidence = arm.must_be("no-loader")?;
            ensure!(evidence.contains("ipxe-arm64.efi"), "{evidence}");
        }

        eventually(FORWARDS_LATE, "the port forwards", || since.elapsed() >= FORWARDS_LATE)?;
        alice.wire.send(&discover)?;
        scene.drop_on_the_way(&[])?;
        alice.put_kernel()?;
        let address = alice.lease(Client::IpxeBios)?;
        alice.take(address)?;
        alice.script()?;
        alice.fetch_kernel()?;
        alice.lease(Client::Udhcpc)?;
        let evidence = alice.must_be("late-link")?;
        ensure!(
            evidence.contains("offers within") && evidence.contains("until the machine took one"),
            "{evidence}"
        );
        Ok(())
    })
}

#[test]
fn another_server_that_wins_is_named_with_its_station() -> Result<()> {
    scene(&known(), |scene| {
        let other = scene.place.rack.neighbour("stranger", STRANGERS_CARD, &format!("{STRANGER}/24"))?;
        let dir = scene.place.rack.dir();
        let _dnsmasq = dnsmasq_plain_dhcp(&other, dir, "10.77.0.150,10.77.0.160")?;
        let alice = scene.machine(ALICE)?;
        let discover = Client::Edk2Pxe.discover(alice.mac()?);
        alice.wire.send(&discover.frame())?;
        let theirs = eventually_some(SOON, "the other server's offer", || {
            let reply = alice.wire.hear_reply(&[discover.xid], SOON).ok()??;
            (reply.server() == Some(STRANGER)).then(|| reply.address())
        })?;
        let request = Client::Edk2Pxe.request(alice.mac()?, theirs, STRANGER);
        ensure!(alice.hear(&request)?.server() == Some(STRANGER));
        let evidence = alice.must_be("other-server")?;
        ensure!(evidence.contains("10.77.0.66") && evidence.contains(&theirs.to_string()), "{evidence}");
        ensure!(evidence.contains(STRANGERS_CARD), "not its station: {evidence}");
        Ok(())
    })
}

#[test]
fn a_refusal_by_a_stranger_is_its_doing() -> Result<()> {
    scene(&known(), |scene| {
        let other = scene.place.rack.neighbour("stranger", STRANGERS_CARD, &format!("{STRANGER}/24"))?;
        let strangers = Wire::open(&other, "eth0")?;
        let alice = scene.machine(ALICE)?;
        alice.ask(&Client::Edk2Pxe.discover(alice.mac()?))?;
        // What the kernel half answers is told a moment later, and no machine requests before it has an offer.
        eventually(SOON, "the offer among its steps", || {
            scene
                .xpxe(&["boots", "show", ALICE.mac])
                .is_ok_and(|steps| steps.contains("offered the firmware"))
        })?;
        let none = Ipv4Addr::UNSPECIFIED;
        let mut nak = Message::new_with_id(7, none, none, none, none, &mac(ALICE.mac)?);
        nak.set_opcode(Opcode::BootReply).set_flags(Flags::default().set_broadcast());
        nak.opts_mut().insert(DhcpOption::MessageType(MessageType::Nak));
        nak.opts_mut().insert(DhcpOption::ServerIdentifier(STRANGER));
        let datagram = Datagram {
            source_mac: mac(STRANGERS_CARD)?,
            to_mac: BROADCAST,
            source: STRANGER,
            to: Ipv4Addr::BROADCAST,
            source_port: 67,
            to_port: 68,
        };
        strangers.send(&datagram.frame(&payload(&nak)?))?;
        let evidence = alice.must_be("refused-by-other")?;
        ensure!(evidence.contains("10.77.0.66") && evidence.contains(STRANGERS_CARD), "{evidence}");
        Ok(())
    })
}

#[test]
fn a_relay_that_writes_to_another_address_gets_answers_from_an_unexpected_one() -> Result<()> {
    let more = "[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.199\"]\n";
    scene(&Settings { more: more.to_owned(), ..known() }, |scene| {
        let second = Ipv4Addr::new(10, 77, 0, 3);
        let server = &scene.place.rack.server;
        server.output("ip", &["address", "add", &format!("{second}/24"), "dev", "eth0"])?;
        scene.xpxe.wait_for_event("the second address", SOON, |event| {
            event.message().contains("serving eth0 as it is now")
        })?;
        // The relay takes answers from the address that it asks only.
        scene.drop_on_the_way(&[format!("ip saddr {SERVER} udp dport 67")])?;
        let relay = scene.place.rack.neighbour("relay", CARD, &format!("{NEAR}/24"))?;
        relay.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/healthz")])?;
        server.output("ip", &["route", "add", "10.78.0.0/24", "via", &NEAR.to_string()])?;
        let through = Wire::open(&relay, "eth0")?;
        for _ in 0..3 {
            let discover = Client::Edk2Pxe.discover(Mac(mac(UNKNOWN)?));
            through.send(&relayed(discover, Ipv4Addr::new(10, 78, 0, 1), second)?.frame())?;
        }
        let evidence = scene.must_be(UNKNOWN, "reply-source", VERDICT)?;
        for part in ["10.77.0.3", "10.77.0.1", "relay 10.78.0.1"] {
            ensure!(evidence.contains(part), "{part} is not in {evidence}");
        }
        scene.xpxe.wait_for_event("the line", SOON, |event| event.field("step") == "reply-source")?;
        Ok(())
    })
}

#[test]
fn beside_a_server_that_gives_no_address_a_proxy_says_so() -> Result<()> {
    scene(&proxy(), |scene| {
        let machine = scene.machine(nobody(ALICE.mac))?;
        for _ in 0..3 {
            machine.ask(&Client::Edk2Pxe.discover(machine.mac()?))?;
        }
        let evidence = machine.must_be("no-address-from-other")?;
        ensure!(evidence.contains("without an address"), "{evidence}");
        let took = Client::Edk2Pxe.request(machine.mac()?, Ipv4Addr::new(10, 77, 0, 150), STRANGER);
        machine.wire.send(&took.frame())?;
        let evidence = machine.must_be("no-file-asked")?;
        ensure!(evidence.contains("requested 10.77.0.150 from the DHCP server 10.77.0.66"), "{evidence}");
        Ok(())
    })
}

#[test]
fn a_boot_file_of_the_other_server_is_in_the_way() -> Result<()> {
    scene(&proxy(), |scene| {
        let other = scene.place.rack.neighbour("stranger", STRANGERS_CARD, &format!("{STRANGER}/24"))?;
        let config = "interface=eth0\ndhcp-range=10.77.0.150,10.77.0.160,10m\ndhcp-authoritative\n\
                      dhcp-boot=pxelinux.0,boot,10.77.0.66\n";
        let _dnsmasq = dnsmasq(&other, scene.place.rack.dir(), config)?;
        let machine = scene.machine(nobody(ALICE.mac))?;
        let discover = Client::Edk2Pxe.discover(machine.mac()?);
        machine.wire.send(&discover.frame())?;
        let theirs = eventually_some(SOON, "the other server's offer", || {
            let reply = machine.wire.hear_reply(&[discover.xid], SOON).ok()??;
            (reply.server() == Some(STRANGER)).then(|| reply.address())
        })?;
        let request = Client::Edk2Pxe.request(machine.mac()?, theirs, STRANGER);
        ensure!(machine.hear(&request)?.address() == theirs);
        let evidence = machine.must_be("conflicting-file")?;
        ensure!(evidence.contains("likely") && evidence.contains("pxelinux.0"), "{evidence}");
        // It follows the other one's name to this server.
        machine.take(theirs)?;
        ensure!(machine.tftp("pxelinux.0").is_err(), "there is no such file here");
        eventually_some(SOON, "certainty", || {
            let evidence = machine.must_be("conflicting-file").ok()?;
            evidence.contains("\"certain\"").then_some(evidence)
        })
        .map(drop)
    })
}
