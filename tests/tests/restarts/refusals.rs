//! What keeps the daemon from starting, each said in one sentence.

use super::*;

#[test]
fn an_interface_that_must_have_xdp_and_has_none_is_refused_in_one_sentence() -> Result<()> {
    let Some(place) = Place::build(&Settings { interface: "br0", fast_path: "xdp", ..known() })? else {
        return Ok(());
    };
    for command in ["link add br0 type bridge", "address add 10.77.0.2/24 dev br0", "link set br0 up"] {
        place.rack.server.output("ip", &command.split(' ').collect::<Vec<_>>())?;
    }
    refused(&place, &[], &["br0", "XDP", "fast_path"])
}

#[test]
fn another_server_on_a_port_is_named_with_the_port_and_the_way_out() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    {
        let _other = dnsmasq_plain_dhcp(&place.rack.server, place.rack.dir(), "10.77.0.100,10.77.0.199")?;
        refused(&place, &[], &["port 67", "dnsmasq", "stop that server"])?;
    }
    // A second xpxe meets the first one's HTTP port.
    let first = place.config.clone();
    let xpxe = Xpxe::start(&place.rack, &first, &[])?;
    place.config = first.replace("/state\"", "/state2\"");
    refused(&place, &[], &["8080", "listen"])?;
    // And the first one goes on.
    place.client()?.lease(&Client::new(mac(UNKNOWN)?))?;
    xpxe.stop()
}

#[test]
fn without_capabilities_it_says_which_are_missing() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let none = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"];
    refused(&place, &none, &["CAP_NET", "systemd unit"])?;
    let bind_only = ["setpriv", "--bounding-set", "-all,+net_bind_service", "--inh-caps", "-all"];
    refused(&place, &bind_only, &["CAP_NET_RAW", "systemd unit"])?;
    let no_bpf = ["setpriv", "--bounding-set", "-all,+net_bind_service,+net_raw", "--inh-caps", "-all"];
    refused(&place, &no_bpf, &["CAP_BPF", "CAP_NET_ADMIN", "fast_path = \"off\""])
}

#[test]
fn two_capabilities_are_enough_without_the_kernel_half() -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path: "off", ..known() })? else { return Ok(()) };
    let two = ["setpriv", "--bounding-set", "-all,+net_bind_service,+net_raw", "--inh-caps", "-all"];
    let process = place.spawn(&two)?;
    process.wait_for_line("\"ready\"", SOON)?;
    place.client()?.lease(&Client::new(mac(ALICE.mac)?))?;
    let status = process.terminate(SOON)?;
    ensure!(status.success(), "{}", ending(status));
    Ok(())
}

#[test]
fn a_pin_dir_outside_of_a_bpffs_is_refused_in_one_sentence() -> Result<()> {
    let Some(mut place) = Place::build(&known())? else { return Ok(()) };
    let pins = place.rack.dir().join("pins").display().to_string();
    place.config = place.config.replace(&pin_dir(&place.sandbox).display().to_string(), &pins);
    refused(&place, &[], &["pin_dir", &pins, "bpffs"])
}

#[test]
fn with_dhcp_off_another_server_may_have_the_port() -> Result<()> {
    let Some(place) = Place::build(&Settings { dhcp: "off", ..Settings::default() })? else { return Ok(()) };
    let dnsmasq = dnsmasq_plain_dhcp(&place.rack.server, place.rack.dir(), "10.77.0.100,10.77.0.199")?;
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let pxe = Client::firmware(mac(UNKNOWN)?, 7);
    let offer = wire.ask_within(&pxe.discover(), SOON)?.context("dnsmasq answers")?;
    ensure!(in_pool(offer.address()) && offer.boot_file().is_empty(), "{:?}", offer.message);
    dnsmasq.wait_for_line("DHCPOFFER", SOON)?;
    let other = wire.hear_reply(&[offer.message.xid()], SILENCE)?;
    ensure!(other.is_none(), "a second answer: {other:?}\n{}", xpxe.last_lines(10));
    let client = place.rack.neighbour("files", BOB.mac, "10.77.0.9/24")?;
    client.output("curl", &["-sSf", "-o", "/dev/null", &format!("tftp://{SERVER_ADDRESS}/{SNPONLY}")])?;
    xpxe.stop()
}

/// Serving ends by itself with code 1 and one line on standard error, which has all of `words`.
fn refused(place: &Place, by: &[&str], words: &[&str]) -> Result<()> {
    let process = place.spawn(by)?;
    let status = process.wait(SOON)?;
    eventually(SOON, "the end of its output", || process.output_ended().is_some())?;
    let lines: Vec<_> = process.lines().into_iter().map(|line| line.text).collect();
    ensure!(status.code() == Some(1), "{}: {lines:#?}", ending(status));
    let complaints: Vec<_> = lines.iter().filter(|line| !line.starts_with('{')).collect();
    ensure!(complaints.len() == 1, "not one sentence: {lines:#?}");
    println!("{}", complaints[0]);
    for word in words {
        ensure!(complaints[0].contains(word), "no {word:?} in: {}", complaints[0]);
    }
    Ok(())
}

#[test]
fn a_machine_with_the_servers_own_address_is_refused_by_check_and_serve() -> Result<()> {
    let twin = Known { address: Some("10.77.0.1"), ..ALICE };
    let Some(place) = Place::build(&Settings { machines: vec![twin], ..Settings::default() })? else {
        return Ok(());
    };
    let says = "[[machine]] alice has ip = \"10.77.0.1\", which is this server's own address on eth0";
    let process = place.spawn(&[])?;
    process.wait_for_line(says, SOON)?;
    ensure!(!process.wait(SOON)?.success(), "it serves");
    let file = place.rack.dir().join("xpxe.toml");
    let binary = boot_tests::daemon::binary()?.display().to_string();
    let checked = place.rack.server.output(&binary, &["check", "--config", &file.display().to_string()]);
    let why = format!("{:#}", checked.err().context("check calls it fine")?);
    ensure!(why.contains("own address on eth0"), "{why}");
    Ok(())
}

#[test]
fn pins_that_xpxe_may_not_use_are_named_with_their_path() -> Result<()> {
    let Some(mut place) = Place::build(&Settings { fast_path: "auto", ..known() })? else { return Ok(()) };
    let pins = pin_dir(&place.sandbox);
    // Root as a service has it: not allowed to use what is somebody else's.
    let by = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"];
    let nobodys = |path: &Path| std::os::unix::fs::chown(path, Some(65_534), None);
    {
        let xpxe = place.serve()?;
        xpxe.stop()?;
        nobodys(&pins.join("HOSTS"))?;
        let hosts = pins.join("HOSTS").display().to_string();
        refused(&place, &by, &["no permission to use", &hosts, "chown"])?;
        place.detach(&xpxe)?;
    }
    let closed = place.sandbox.pin_dir().join("closed");
    fs::create_dir(&closed)?;
    fs::set_permissions(&closed, std::os::unix::fs::PermissionsExt::from_mode(0o700))?;
    nobodys(&closed)?;
    let below = closed.join("xpxe").display().to_string();
    place.config = place.config.replace(&pins.display().to_string(), &below);
    refused(&place, &by, &["no permission to use", &below, "chown"])
}
