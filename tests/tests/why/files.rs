//! Causes 11 to 16: the boot file, and what comes of it.

use std::net::UdpSocket;

use anyhow::{Result, ensure};
use boot_tests::packet::Client;
use boot_tests::place::{ALICE, BOB, SOON, UNKNOWN, known};
use boot_tests::rack::SERVER_ADDRESS;
use boot_tests::settings::Settings;

use super::scene::*;

#[test]
fn an_address_without_a_file_and_a_file_that_is_not_there() -> Result<()> {
    scene(&known(), |scene| {
        let alice = scene.machine(ALICE)?;
        let address = alice.lease(Client::Edk2Pxe)?;
        alice.must_be("no-file-asked")?;
        alice.take(address)?;
        ensure!(alice.tftp("wrong.efi").is_err(), "there is no such file");
        let evidence = alice.must_be("file-missing")?;
        ensure!(evidence.contains("wrong.efi"), "{evidence}");
        Ok(())
    })
}

#[test]
fn a_boot_file_for_another_machine_is_said_to_be_one() -> Result<()> {
    scene(&known(), |scene| {
        scene.write("snponly.efi", &efi(ARM64))?;
        let alice = scene.machine(ALICE)?;
        alice.load()?;
        let evidence = alice.must_be("wrong-file")?;
        ensure!(evidence.contains("certain") && evidence.contains("snponly.efi"), "{evidence}");
        ensure!(evidence.contains("64-bit Arm") || evidence.contains("arm64"), "{evidence}");
        Ok(())
    })
}

/// As firmware does whose memory is too small for the file.
#[test]
fn a_machine_that_ends_its_transfer_has_its_own_words_in_the_evidence() -> Result<()> {
    scene(&known(), |scene| {
        scene.put("snponly.efi", 100_000)?;
        let alice = scene.machine(ALICE)?;
        let address = alice.lease(Client::Edk2Pxe)?;
        alice.take(address)?;
        let asked = alice.station.run(|| -> Result<()> {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.set_read_timeout(Some(SOON))?;
            socket.send_to(b"\0\x01snponly.efi\0octet\0", (SERVER_ADDRESS, 69))?;
            let (length, from) = socket.recv_from(&mut [0; 600])?;
            ensure!(length == 516, "no first block: {length} bytes");
            socket.send_to(b"\0\x05\0\x03out of memory\0", from)?;
            Ok(())
        })?;
        asked?;
        let evidence = alice.must_be("tftp-aborted")?;
        ensure!(evidence.contains("error 3: out of memory"), "{evidence}");
        Ok(())
    })
}

/// Three real TFTP clients at once, each behind another hole.
#[test]
fn which_packets_of_tftp_came_through_tells_what_is_on_the_way() -> Result<()> {
    let machines = [(ALICE, "tftp-answer-lost"), (BOB, "tftp-mtu"), (nobody(UNKNOWN), "tftp-stalled")];
    scene(&Settings { fast_path: "tc", ..known() }, |scene| {
        scene.put("snponly.efi", 400_000)?;
        let mut fetching = Vec::new();
        let mut holes = Vec::new();
        for (known, _) in machines {
            let machine = scene.machine(known)?;
            let address = machine.lease(Client::Edk2Pxe)?;
            machine.take(address)?;
            let from = format!("ip daddr {address} udp sport 69");
            holes.push(match known.name {
                "alice" => from,
                "bob" => format!("{from} udp length > 1000"),
                _ => format!("{from} quota over 100 kbytes"),
            });
            fetching.push(machine);
        }
        scene.drop_on_the_way(&holes)?;
        // Each gives up by itself, and what it says then is not the point.
        let url = format!("tftp://{SERVER_ADDRESS}/snponly.efi");
        let fetch = |machine: &Actor<'_>| {
            let mut curl = machine.station.command("curl");
            curl.args(["-sS", "--tftp-blksize", "1468", "-o", "/dev/null", &url]);
            machine.station.spawn(curl)
        };
        let _fetches = fetching.iter().map(fetch).collect::<Result<Vec<_>>>()?;
        for (known, cause) in machines {
            let evidence = scene.must_be(known.mac, cause, VERDICT)?;
            ensure!(evidence.contains("stopped answering at block"), "{evidence}");
        }
        Ok(())
    })
}

#[test]
fn a_loader_that_never_starts_and_an_ipxe_without_an_address() -> Result<()> {
    scene(&known(), |scene| {
        scene.put("snponly.efi", 100_000)?;
        let (alice, bob) = (scene.machine(ALICE)?, scene.machine(BOB)?);
        let other = scene.machine(nobody(UNKNOWN))?;
        // Three times it fetches its loader, and nothing follows.
        (0..3).try_for_each(|_| alice.load())?;
        bob.load()?;
        for _ in 0..3 {
            bob.ask(&Client::IpxeEfi.discover(bob.mac()?))?;
        }
        other.load()?;
        other.lease(Client::IpxeEfi)?;
        let evidence = alice.must_be("loader-silent")?;
        ensure!(
            evidence.contains("fetched snponly.efi by TFTP") && evidence.contains("3 times"),
            "{evidence}"
        );
        let evidence = bob.must_be("second-dhcp")?;
        ensure!(evidence.contains("gave the firmware") && evidence.contains("offered iPXE"), "{evidence}");
        other.must_be("no-script-asked").map(drop)
    })
}

#[test]
fn an_ipxe_that_is_given_itself_loads_itself_again_and_again() -> Result<()> {
    scene(&known(), |scene| {
        scene.put("snponly.efi", 100_000)?;
        let alice = scene.machine(ALICE)?;
        alice.load()?;
        for _ in 0..2 {
            alice.lease(Client::IpxeEfi)?;
            alice.tftp("snponly.efi")?;
        }
        let evidence = alice.must_be("loader-loop")?;
        ensure!(evidence.contains("snponly.efi 3 times") && evidence.contains("gave iPXE"), "{evidence}");
        Ok(())
    })
}
