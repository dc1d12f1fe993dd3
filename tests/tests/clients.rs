//! More real clients than in `rack`: the testers perfdhcp and nmap, and dhcpcd; each with the kernel half and
//! without.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use boot_tests::place::{ALICE, CARD, Place, in_pool};
use boot_tests::rack::SERVER_ADDRESS;
use boot_tests::settings::{Known, Settings};

/// What nmap's script says it is.
const NMAP: Known = Known { name: "nmap", mac: "de:ad:c0:de:ca:fe", address: Some("10.77.0.66") };

// ---- perfdhcp, which plays many clients behind a relay (giaddr is its own address) ----

#[test]
fn perfdhcp_completes_every_exchange() -> Result<()> {
    // Some clients are new and probed for, the others come again.
    perfdhcp(&["-r", "100", "-R", "80", "-p", "4"], &["DISCOVER-OFFER", "REQUEST-ACK"])
}

#[test]
fn perfdhcp_completes_every_renewal_and_releases() -> Result<()> {
    let what = ["DISCOVER-OFFER", "REQUEST-ACK", "REQUEST-ACK (renewal)"];
    perfdhcp(&["-r", "100", "-R", "80", "-f", "40", "-F", "10", "-p", "4"], &what)
}

#[test]
fn perfdhcp_completes_an_avalanche() -> Result<()> {
    perfdhcp(&["--scenario", "avalanche", "-R", "80"], &["DISCOVER-OFFER", "REQUEST-ACK"])
}

/// Everything is answered, although the first answer to each client waits for the probe of its address.
fn perfdhcp(arguments: &[&str], exchanges: &[&str]) -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = build(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let station = place.rack.neighbour("perfdhcp", CARD, "10.77.0.9/24")?;
        let mut command = station.command("timeout");
        command.args(["60", "perfdhcp", "-4", "-d", "2", "-W", "1500000", "-l", "10.77.0.9"]);
        let output = command.args(arguments).arg(SERVER_ADDRESS).output()?;
        let said = text(&output);
        let context =
            || format!("fast_path = {fast_path:?}, perfdhcp {arguments:?}: {said}\n{}", xpxe.last_lines(10));
        // 3 is what it ends with when answers are missing, and it waits for answers to RELEASE too.
        let releases = arguments.contains(&"-F");
        ensure!(
            output.status.code() == Some(if releases { 3 } else { 0 }),
            "{}: {}",
            output.status,
            context()
        );
        for exchange in exchanges {
            let (sent, received) = counted(&said, exchange).with_context(context)?;
            ensure!(sent > 50 && sent == received, "{exchange}: {received} of {sent}; {}", context());
        }
        if releases {
            let (sent, _) = counted(&said, "RELEASE").with_context(context)?;
            let seen = xpxe.log().iter().filter(|event| event.field("step") == "release").count() as u64;
            ensure!(sent > 10 && seen == sent, "{seen} of {sent} releases were taken; {}", context());
        }
        xpxe.stop()?;
    }
    Ok(())
}

/// Packets sent and received of an exchange, in perfdhcp's report.
fn counted(report: &str, exchange: &str) -> Option<(u64, u64)> {
    let section =
        report.split("***Statistics for: ").find(|section| section.starts_with(&format!("{exchange}***")))?;
    let number = |name: &str| section.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    Some((number("sent packets:")?, number("received packets:")?))
}

// ---- nmap ----

#[test]
fn nmap_reports_the_offer() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = build(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        let station = place.rack.neighbour("nmap", CARD, "10.77.0.9/24")?;
        let mut command = station.command("timeout");
        command.args(["60", "nmap", "-e", "eth0", "--script", "broadcast-dhcp-discover"]);
        command.args(["--script-args", "broadcast-dhcp-discover.timeout=3s"]);
        let output = command.output()?;
        let said = text(&output);
        let context = format!("fast_path = {fast_path:?}: {said}\n{}", xpxe.last_lines(10));
        ensure!(output.status.success(), "{}: {context}", output.status);
        for line in [
            "Response 1 of 1:",
            "IP Offered: 10.77.0.66",
            "DHCP Message Type: DHCPOFFER",
            "Server Identifier: 10.77.0.1",
            "IP Address Lease Time: 10m00s",
            "Subnet Mask: 255.255.255.0",
            "Router: 10.77.0.254",
            "Domain Name Server: 10.77.0.53, 10.77.0.54",
            "Domain Name: rack.test",
        ] {
            ensure!(said.contains(line), "no {line:?}; {context}");
        }
        xpxe.stop()?;
    }
    Ok(())
}

// ---- dhcpcd ----

#[test]
fn dhcpcd_gets_its_address_and_gives_it_back() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = build(fast_path)? else { return Ok(()) };
        let xpxe = place.serve()?;
        for (name, mac, expected) in [("alice", ALICE.mac, Some("10.77.0.10")), ("stranger", CARD, None)] {
            let station = place.rack.client(name, mac)?;
            let (script, notes) =
                (place.rack.dir().join("hook"), place.rack.dir().join(format!("{name}.notes")));
            // Instead of Debian's hooks, which change this machine's name.
            let body = format!("#!/bin/sh\n[ \"$reason\" = BOUND ] && env > {notes:?}\nexit 0\n");
            fs::write(&script, body)?;
            fs::set_permissions(&script, fs::Permissions::from_mode(0o755))?;
            let config = place.rack.dir().join("dhcpcd.conf");
            fs::write(
                &config,
                "duid\noption subnet_mask, routers, domain_name_servers, domain_name, host_name\n\
                 require dhcp_server_identifier\n",
            )?;
            // Its leases, sockets and process ids are where nobody else sees them.
            let run = format!(
                "mount -t tmpfs none /run && mkdir -p /var/lib/dhcpcd && mount -t tmpfs none /var/lib/dhcpcd && \
                 timeout 40 dhcpcd --oneshot --ipv4only --debug --nobackground --config {} --script {} eth0 && \
                 ip -4 address show dev eth0 && cp /var/lib/dhcpcd/eth0.lease {} && \
                 timeout 40 dhcpcd --ipv4only --debug --nobackground --release --config {} --script {} eth0; true",
                config.display(),
                script.display(),
                notes.with_extension("lease").display(),
                config.display(),
                script.display(),
            );
            let mut command = station.command("unshare");
            let output = command.args(["--mount", "--propagation", "private", "sh", "-c", &run]).output()?;
            let said = text(&output);
            let context = || format!("fast_path = {fast_path:?}: {said}\n{}", xpxe.last_lines(10));
            let told = fs::read_to_string(&notes).with_context(context)?;
            let get = |name: &str| told.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            let address = get("new_ip_address").unwrap_or_default();
            match expected {
                Some(expected) => ensure!(address == expected, "{address}: {}", context()),
                None => ensure!(in_pool(address.parse()?), "{address}: {}", context()),
            }
            for (name, value) in [
                ("new_subnet_cidr", "24"),
                ("new_routers", "10.77.0.254"),
                ("new_domain_name_servers", "10.77.0.53 10.77.0.54"),
                ("new_domain_name", "rack.test"),
                ("new_dhcp_lease_time", "600"),
                ("new_dhcp_server_identifier", SERVER_ADDRESS),
            ] {
                ensure!(get(name) == Some(value), "{name} is {:?}; {}", get(name), context());
            }
            ensure!(get("new_host_name") == expected.map(|_| "alice"), "{:?}", get("new_host_name"));
        }
        xpxe.stop()?;
    }
    Ok(())
}

// ---- the place ----

/// `None` without root.
fn build(fast_path: &'static str) -> Result<Option<Place>> {
    Place::build(&Settings { fast_path, machines: vec![ALICE, NMAP], ..Settings::default() })
}

fn text(output: &Output) -> String {
    [&output.stdout[..], &output.stderr].map(String::from_utf8_lossy).concat()
}
