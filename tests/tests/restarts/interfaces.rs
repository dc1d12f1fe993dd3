//! Interfaces that go, come back and change, and what the kernel half can do on them.

use super::*;

#[test]
fn an_interface_without_xdp_says_so_once_and_is_answered_by_tc() -> Result<()> {
    // The interface, the commands that make it from eth0, and the client's.
    let kinds: [(&str, &[&str], &str); 3] = [
        (
            "br0",
            &["link add br0 type bridge stp_state 0 forward_delay 0", "link set eth0 master br0"],
            "eth0",
        ),
        ("mv0.5", &["link add link eth0 name mv0.5 type macvlan mode bridge"], "eth0"),
        ("eth0.5", &["link add link eth0 name eth0.5 type vlan id 5"], "eth0.5"),
    ];
    for (interface, setup, client_interface) in kinds {
        let Some(place) = Place::build(&Settings { interface, fast_path: "auto", ..known() })? else {
            return Ok(());
        };
        let server = &place.rack.server;
        let address = format!("address add {SERVER_ADDRESS}/24 dev {interface}");
        let up = format!("link set {interface} up");
        let commands = ["address flush dev eth0"].iter().chain(setup).copied().chain([address.as_str(), &up]);
        let mut made = commands.map(|command| server.output("ip", &command.split(' ').collect::<Vec<_>>()));
        match made.find_map(Result::err) {
            Some(error) if error.to_string().contains("Unknown device type") => {
                println!("skipped: this kernel has nothing like {interface}");
                continue;
            }
            Some(error) => return Err(error),
            None => {}
        }
        drop(made);
        let mut xpxe = place.serve()?;
        let says = |log: &[Event]| {
            let about =
                |event: &&Event| event.message().contains("XDP") && event.message().contains(interface);
            log.iter().filter(about).filter(|event| event.field("level") == "WARN").count()
        };
        ensure!(says(&xpxe.log()) == 1, "{interface}: not one warning:\n{}", xpxe.last_lines(20));
        let station = place.rack.client("client", CARD)?;
        if client_interface != "eth0" {
            station.output(
                "ip",
                &["link", "add", "link", "eth0", "name", client_interface, "type", "vlan", "id", "5"],
            )?;
            station.output("ip", &["link", "set", client_interface, "up"])?;
        }
        let wire = Wire::open(&station, client_interface)?;
        let alice = Client::new(mac(ALICE.mac)?);
        let ack = wire.lease(&alice).with_context(|| format!("{interface}\n{}", xpxe.last_lines(20)))?;
        ensure!(ack.address() == Ipv4Addr::new(10, 77, 0, 10), "{interface}: {}", ack.address());
        xpxe.wait_for_event("the offer by TC", SOON, |event| {
            event.field("step") == "offer" && event.field("mac") == ALICE.mac && event.field("by") == "tc"
        })?;
        // The link is found again under its pin.
        xpxe.kill9()?;
        wire.discover(&alice).with_context(|| format!("{interface}: with the daemon dead"))?;
        xpxe.restart()?;
        wire.lease(&alice).with_context(|| format!("{interface}: after adoption"))?;
        let adopted = xpxe.log().iter().filter(|event| event.field("adopted") == "true").count();
        ensure!(adopted == 1, "{interface}: not adopted:\n{}", xpxe.last_lines(20));
    }
    Ok(())
}

#[test]
fn a_veth_is_answered_by_tc_unless_xdp_is_asked_for() -> Result<()> {
    for (fast_path, level, by) in
        [("auto", "INFO", "tc"), ("xdp", "WARN", "xdp"), ("tc", "", "tc"), ("off", "", "daemon")]
    {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let log = xpxe.log();
        let about = |event: &&Event| event.message().contains("the other end of eth0 runs");
        let said: Vec<String> = log.iter().filter(about).map(|event| event.field("level")).collect();
        ensure!(said.concat() == level, "{fast_path}: said at {said:?}:\n{}", xpxe.last_lines(20));
        place.client()?.lease(&Client::new(mac(ALICE.mac)?))?;
        xpxe.wait_for_event("the offer", SOON, |event| {
            event.field("step") == "offer" && event.field("by") == by
        })?;
        let has_xdp = link_details(&place.rack)?.contains("xdp");
        ensure!(has_xdp == (fast_path == "xdp"), "{fast_path}: {}", link_details(&place.rack)?);
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_card_that_takes_vlan_tags_out_is_named_where_xdp_would_not_see_them() -> Result<()> {
    for (fast_path, rxvlan, expected) in [("xdp", "on", 1), ("xdp", "off", 0), ("tc", "on", 0)] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        place.rack.server.output("ethtool", &["-K", "eth0", "rxvlan", rxvlan])?;
        let xpxe = place.serve()?;
        let says = |event: &&Event| event.message().contains("ethtool -K eth0 rxvlan off");
        let said = xpxe.log().iter().filter(says).count();
        ensure!(said == expected, "{fast_path}, rxvlan {rxvlan}: {said} times\n{}", xpxe.last_lines(20));
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn an_interface_that_went_down_is_served_when_it_is_up_again() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        for round in 0..2u8 {
            for state in ["down", "up"] {
                place.rack.server.output("ip", &["link", "set", "eth0", state])?;
            }
            let carrier = || place.rack.server.output("ip", &["link", "show", "dev", "eth0"]);
            eventually(SOON, "eth0 is up", || carrier().is_ok_and(|text| text.contains("state UP")))?;
            // The switch notices a little later, and this client asks only once.
            let port = || place.rack.namespace.output("bridge", &["link", "show", "dev", SERVER_PORT]);
            let forwards = || port().is_ok_and(|text| text.contains("state forwarding"));
            eventually(SOON, "the switch forwards", forwards)?;
            let stranger = Client::new([2, 0x77, 0, 0, 3, round]);
            // While it is looked at anew, nobody is heard.
            eventually(SOON, "a stranger's address", || wire.lease(&stranger).is_ok())
                .with_context(|| format!("{fast_path}\n{}", xpxe.last_lines(20)))?;
            wire.lease(&Client::new(mac(ALICE.mac)?)).with_context(|| format!("{fast_path}: alice"))?;
        }
        xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_new_interface_under_the_old_name_is_served_after_a_restart() -> Result<()> {
    // Not XDP: the new far end has no program there, and then XDP_TX on a veth delivers nothing.
    let Some(place) = Place::build(&Settings { fast_path: "tc", ..known() })? else { return Ok(()) };
    let mut xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, stranger] = [Client::new(mac(ALICE.mac)?), Client::new(mac(UNKNOWN)?)];
    let before = wire.lease(&stranger)?;
    xpxe.stop()?;
    let server = &place.rack.server;
    server.output("ip", &["link", "delete", "eth0"])?;
    // So that it is not by chance the same number.
    server.output("ip", &["link", "add", "spare", "type", "bridge"])?;
    place.rack.plug(server, "eth0", SERVER_MAC)?;
    server.output("ip", &["address", "add", &format!("{SERVER_ADDRESS}/24"), "dev", "eth0"])?;
    xpxe.restart()?;
    wire.lease(&alice).with_context(|| xpxe.last_lines(20))?;
    let offers = |event: &Event| {
        event.field("step") == "offer" && event.field("mac") == ALICE.mac && event.field("by") == "tc"
    };
    xpxe.wait_for_event("alice's offer by TC", SOON, offers)?;
    ensure!(wire.lease(&stranger)?.address() == before.address(), "the stranger has another address");
    xpxe.stop()
}

#[test]
fn a_new_interface_under_the_old_name_is_served_at_once() -> Result<()> {
    for (fast_path, by) in [("tc", "tc"), ("off", "daemon")] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let xpxe = place.serve()?;
        let wire = place.client()?;
        let [alice, stranger] = [Client::new(mac(ALICE.mac)?), Client::new(mac(UNKNOWN)?)];
        let before = wire.lease(&stranger)?;
        let file = vec![7; 100_000];
        fs::write(boot_dir(&place.rack).join("loader"), &file)?;
        let server = &place.rack.server;
        for round in 1..=2 {
            let loud = |event: &Event| {
                event.field("level") == "ERROR" && event.message().contains("there is no interface \"eth0\"")
            };
            let back = |event: &Event| event.message().starts_with("serving eth0 as it is now");
            let times = |what: &dyn Fn(&Event) -> bool| xpxe.log().iter().filter(|event| what(event)).count();
            server.output("ip", &["link", "delete", "eth0"])?;
            eventually(SOON, "that eth0 is gone", || times(&loud) == round)
                .with_context(|| xpxe.last_lines(20))?;
            // So that it is not by chance the same number.
            server.output("ip", &["link", "add", &format!("spare{round}"), "type", "bridge"])?;
            place.rack.plug(server, "eth0", SERVER_MAC)?;
            server.output("ip", &["address", "add", &format!("{SERVER_ADDRESS}/24"), "dev", "eth0"])?;
            eventually(SOON, "that eth0 is back", || times(&back) == round)
                .with_context(|| xpxe.last_lines(20))?;
            let offers = |event: &Event| {
                event.field("step") == "offer" && event.field("mac") == ALICE.mac && event.field("by") == by
            };
            let offered = times(&offers);
            // The switch forwards a little later.
            eventually(SOON, "alice's address", || wire.lease(&alice).is_ok())
                .with_context(|| xpxe.last_lines(20))?;
            eventually(SOON, "an offer by the right half", || times(&offers) > offered)
                .with_context(|| format!("{fast_path}\n{}", xpxe.last_lines(20)))?;
            let again = wire.lease(&stranger).with_context(|| xpxe.last_lines(20))?;
            ensure!(again.address() == before.address(), "the stranger has another address");
        }
        let neighbour = place.rack.neighbour("neighbour", "02:77:00:00:00:e0", "10.77.0.9/24")?;
        let out = place.rack.dir().join("fetched");
        let url = format!("tftp://{SERVER_ADDRESS}/loader");
        neighbour.output("curl", &["-sS", "-o", &out.display().to_string(), &url])?;
        ensure!(fs::read(&out)? == file, "{fast_path}: another file came");
        xpxe.wait_for_event("what was sent", SOON, |event| {
            event.field("file") == "loader" && event.field("step") == "tftp" && event.field("by") == by
        })?;
        xpxe.stop()?;
    }
    Ok(())
}
