//! Why a machine did not boot: each cause is brought about on the wire, and `xpxe why` has to name it with the steps that
//! show it. A boot that goes well gives "boots".

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use boot_common::Mac;
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Wire, mac};
use boot_tests::packet::{Client, Packet};
use boot_tests::place::{ALICE, BOB, CARD, Place, SOON, UNKNOWN, known};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_MAC, Station};
use boot_tests::settings::{Known, Settings, boot_dir};
use boot_tests::tftp_client::{Caller, Padding, ack, introduce, request};
use boot_tests::wait::eventually_some;
use serde_json::Value;

/// A verdict about silence needs silence: 20 s at most, for a loader that does not start.
const VERDICT: Duration = Duration::from_secs(90);
const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const RELAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 66);

/// One machine on the wire, and the server.
struct Scene<'p> {
    place: &'p Place,
    xpxe: Xpxe<'p>,
    station: Station,
    wire: Wire,
    known: Known,
}

impl<'p> Scene<'p> {
    fn begin(place: &'p Place, known: Known) -> Result<Self> {
        // Checksums would be left to a card that is none.
        place.rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
        let xpxe = place.serve()?;
        let station = place.rack.client("machine", known.mac)?;
        let wire = Wire::open_for_ip(&station, "eth0")?;
        Ok(Self { place, xpxe, station, wire, known })
    }

    fn mac(&self) -> Result<Mac> {
        Ok(Mac(mac(self.known.mac)?))
    }

    /// Sends a message, and waits for its answer.
    fn ask(&self, message: &Packet) -> Result<Ipv4Addr> {
        self.wire.send(&message.frame())?;
        let answer = self.wire.hear_reply(&[message.xid], SOON)?;
        Ok(answer.with_context(|| self.xpxe.last_lines(20))?.address())
    }

    /// Gets an address as this client.
    fn lease(&self, client: Client) -> Result<Ipv4Addr> {
        let offered = self.ask(&client.discover(self.mac()?))?;
        self.ask(&client.request(self.mac()?, offered, SERVER))
    }

    /// The station uses the machine's address from now on.
    fn take(&self, address: Ipv4Addr) -> Result<()> {
        self.station.output("ip", &["address", "replace", &format!("{address}/24"), "dev", "eth0"]).map(drop)
    }

    fn put(&self, file: &str, bytes: usize) -> Result<()> {
        let path = boot_dir(&self.place.rack).join(file);
        fs::create_dir_all(path.parent().context("a directory")?)?;
        Ok(fs::write(path, vec![7; bytes])?)
    }

    fn tftp(&self, file: &str) -> Result<String> {
        self.station.output("curl", &["-sS", "-o", "/dev/null", &format!("tftp://{SERVER_ADDRESS}/{file}")])
    }

    fn http(&self, path: &str) -> Result<String> {
        self.station
            .output("curl", &["-sSf", &format!("http://{SERVER_ADDRESS}:8080{path}"), "-o", "/dev/null"])
    }

    fn script(&self) -> Result<String> {
        self.http(&format!("/ipxe/boot.ipxe?mac={}", self.known.mac))
    }

    fn xpxe(&self, words: &[&str]) -> Result<String> {
        let file = self.place.rack.dir().join("xpxe.toml").display().to_string();
        self.xpxe.command(&[words, &["--config", &file]].concat())
    }

    fn why(&self) -> Result<Value> {
        Ok(serde_json::from_str(&self.xpxe(&["why", self.known.mac, "--json"])?)?)
    }

    /// Waits for this cause, and gives its evidence.
    fn must_be(&self, cause: &str) -> Result<String> {
        let mut last = Value::Null;
        let found = eventually_some(VERDICT, cause, || {
            last = self.why().ok()?;
            (last["verdict"]["cause"] == cause).then(|| last["verdict"]["evidence"].to_string())
        });
        let shown = || self.xpxe(&["boots", "show", self.known.mac]).unwrap_or_default();
        found.with_context(|| format!("{last:#}\n{}\n{}", shown(), self.xpxe.last_lines(20)))
    }

    /// Firmware gets an address and its loader.
    fn load(&self) -> Result<()> {
        self.put("snponly.efi", 100_000)?;
        let address = self.lease(Client::Edk2Pxe)?;
        self.take(address)?;
        self.tftp("snponly.efi").map(drop)
    }

    /// The same up to its script.
    fn load_script(&self) -> Result<()> {
        self.load()?;
        self.lease(Client::IpxeEfi)?;
        self.script().map(drop)
    }
}

fn scene(settings: &Settings, known: Known, test: impl Fn(&Scene<'_>) -> Result<()>) -> Result<()> {
    let Some(place) = Place::build(settings)? else { return Ok(()) };
    let scene = Scene::begin(&place, known)?;
    test(&scene)?;
    scene.xpxe.stop()
}

#[test]
fn a_boot_that_goes_well_boots_and_is_there_after_a_restart() -> Result<()> {
    for (fast_path, by) in [("off", "daemon"), ("tc", "tc"), ("xdp", "xdp")] {
        let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
        let mut scene = Scene::begin(&place, ALICE)?;
        scene.put("guest/vmlinuz", 200_000)?;
        scene.put("guest/initrd.img", 100_000)?;
        scene.load_script()?;
        scene.http("/files/guest/vmlinuz")?;
        scene.http("/files/guest/initrd.img")?;
        ensure!(scene.why()?["verdict"]["cause"] != "boots", "its system has said nothing yet");
        scene.lease(Client::Udhcpc)?;
        scene.must_be("boots")?;
        let all = |scene: &Scene<'_>| -> Result<String> {
            ensure!(scene.xpxe(&["boots", "list"])?.contains(ALICE.name), "alice is not in the list");
            scene.xpxe(&["boots", "show", ALICE.name])
        };
        let before = all(&scene)?;
        for step in [
            "offered the firmware (efi-x64) 10.77.0.10",
            "fetched snponly.efi by TFTP, 100000 bytes",
            "offered iPXE",
            "fetched its boot script",
            "fetched guest/vmlinuz by HTTP, 200000 bytes",
            "gave the operating system 10.77.0.10",
            "=> boots",
        ] {
            ensure!(before.contains(step), "{fast_path}: {step} is not in\n{before}");
        }
        // iPXE's offer is the answering hook's own.
        ensure!(
            before.lines().any(|line| line.contains(by) && line.contains("offered iPXE")),
            "{by}:\n{before}"
        );
        // Once it was silent for 10 s, it is stored, whatever happens then.
        let file = place.rack.dir().join("state/boots.jsonl");
        eventually_some(SOON, "the stored boot", || {
            fs::read_to_string(&file).ok().filter(|text| text.contains(ALICE.mac))
        })?;
        scene.xpxe.kill9()?;
        scene.xpxe.restart()?;
        ensure!(all(&scene)? == before, "before\n{before}\nafter\n{}", all(&scene)?);
        scene.must_be("boots")?;
        scene.xpxe.stop()?;
    }
    Ok(())
}

#[test]
fn a_machine_that_is_not_answered_knows_why() -> Result<()> {
    let known_only = "[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.100\"]\n";
    let settings = Settings { more: known_only.to_owned(), ..known() };
    scene(&settings, ALICE, |scene| {
        // Through a relay of no subnet.
        let relay = scene.place.rack.neighbour("relay", CARD, "10.77.0.9/24")?;
        relay.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/healthz")])?;
        let through = Wire::open(&relay, "eth0")?;
        let relayed = |giaddr, mac: Mac| -> Result<()> {
            let mut message = Client::Edk2Pxe.discover(mac).relayed(giaddr, SERVER);
            message.eth_source = Mac(boot_tests::dhcp_client::mac(CARD)?);
            message.eth_destination = Mac(boot_tests::dhcp_client::mac(SERVER_MAC)?);
            message.source.set_ip(Ipv4Addr::new(10, 77, 0, 9));
            through.send(&message.frame())
        };
        relayed(RELAY, scene.mac()?)?;
        let evidence = scene.must_be("no-subnet")?;
        ensure!(evidence.contains("through relay 10.99.0.1"), "{evidence}");
        // The pool of one address is empty for the second machine.
        relayed(Ipv4Addr::new(10, 78, 0, 1), Mac(mac(CARD)?))?;
        relayed(Ipv4Addr::new(10, 78, 0, 1), Mac(mac(UNKNOWN)?))?;
        let why = |mac: &str| scene.xpxe(&["why", mac]);
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
fn an_offer_that_is_not_taken_and_one_of_another_server_are_told_apart() -> Result<()> {
    scene(&known(), ALICE, |scene| {
        for _ in 0..4 {
            scene.ask(&Client::Edk2Pxe.discover(scene.mac()?))?;
        }
        let evidence = scene.must_be("offer-not-taken")?;
        ensure!(evidence.contains("4 times"), "{evidence}");
        let other = Client::Edk2Pxe.request(scene.mac()?, Ipv4Addr::new(10, 77, 0, 150), STRANGER);
        scene.wire.send(&other.frame())?;
        let evidence = scene.must_be("other-server")?;
        ensure!(evidence.contains("10.77.0.66"), "{evidence}");
        Ok(())
    })
}

#[test]
fn beside_a_server_that_gives_no_address_a_proxy_says_so() -> Result<()> {
    scene(
        &Settings { dhcp: "proxy", ..Settings::default() },
        Known { name: "", address: None, ..ALICE },
        |scene| {
            for _ in 0..3 {
                scene.ask(&Client::Edk2Pxe.discover(scene.mac()?))?;
            }
            let evidence = scene.must_be("no-address-from-other")?;
            ensure!(evidence.contains("without an address"), "{evidence}");
            let took = Client::Edk2Pxe.request(scene.mac()?, Ipv4Addr::new(10, 77, 0, 150), STRANGER);
            scene.wire.send(&took.frame())?;
            let evidence = scene.must_be("no-file-asked")?;
            ensure!(evidence.contains("requested 10.77.0.150 from the DHCP server 10.77.0.66"), "{evidence}");
            Ok(())
        },
    )
}

#[test]
fn an_address_without_a_file_and_a_file_that_is_not_there() -> Result<()> {
    scene(&known(), ALICE, |scene| {
        let address = scene.lease(Client::Edk2Pxe)?;
        scene.must_be("no-file-asked")?;
        scene.take(address)?;
        ensure!(scene.tftp("wrong.efi").is_err(), "there is no such file");
        let evidence = scene.must_be("file-missing")?;
        ensure!(evidence.contains("wrong.efi"), "{evidence}");
        Ok(())
    })
}

#[test]
fn a_tftp_transfer_tells_by_its_block_what_is_lost() -> Result<()> {
    for (blocks, cause) in [(0, "tftp-answer-lost"), (1, "tftp-mtu"), (9, "tftp-stalled")] {
        scene(&known(), ALICE, |scene| {
            scene.put("snponly.efi", 100_000)?;
            let address = scene.lease(Client::Edk2Pxe)?;
            introduce(&scene.place.rack, [address], ALICE.mac)?;
            let mut caller = Caller::open(&scene.station, SocketAddrV4::new(address, 2001), Padding::None)?;
            caller.send(&request("snponly.efi", &[("blksize", "1468")]))?;
            caller.must_hear("the answer to its options")?;
            for block in 0..blocks {
                caller.send(&ack(block))?;
                caller.must_hear("a block")?;
            }
            // From here on nothing arrives.
            scene.must_be(cause).map(drop)
        })?;
    }
    Ok(())
}

#[test]
fn a_loader_that_never_starts_and_an_ipxe_without_an_address() -> Result<()> {
    scene(&known(), ALICE, |scene| {
        scene.load()?;
        let evidence = scene.must_be("loader-silent")?;
        ensure!(evidence.contains("fetched snponly.efi by TFTP"), "{evidence}");
        for _ in 0..3 {
            scene.ask(&Client::IpxeEfi.discover(scene.mac()?))?;
        }
        let evidence = scene.must_be("second-dhcp")?;
        ensure!(evidence.contains("gave the firmware") && evidence.contains("offered iPXE"), "{evidence}");
        scene.lease(Client::IpxeEfi)?;
        scene.must_be("no-script-asked").map(drop)
    })
}

#[test]
fn a_script_without_a_kernel_a_missing_one_and_a_silent_one() -> Result<()> {
    scene(&known(), ALICE, |scene| {
        scene.load_script()?;
        scene.must_be("kernel-not-asked")?;
        ensure!(scene.http("/files/guest/vmlinuz").is_err(), "there is no such file");
        let evidence = scene.must_be("kernel-missing")?;
        ensure!(evidence.contains("guest/vmlinuz"), "{evidence}");
        // The machine takes a little of its initrd, and leaves.
        scene.put("guest/vmlinuz", 100_000)?;
        scene.put("guest/initrd.img", 64 << 20)?;
        scene.http("/files/guest/vmlinuz")?;
        let url = format!("http://{SERVER_ADDRESS}:8080/files/guest/initrd.img");
        scene
            .station
            .output("sh", &["-c", &format!("curl -sS {url} 2>/dev/null | head -c 1000000 >/dev/null")])?;
        let evidence = scene.must_be("file-cut-off")?;
        ensure!(evidence.contains("closed the connection"), "{evidence}");
        Ok(())
    })
}

#[test]
fn events_are_followed_as_they_come() -> Result<()> {
    scene(&known(), ALICE, |scene| {
        let file = scene.place.rack.dir().join("xpxe.toml").display().to_string();
        let mut follow = scene.place.rack.server.command(&scene.xpxe.binary().display().to_string());
        follow.args(["events", "--follow", "--json", "--machine", ALICE.name, "--config", &file]);
        let follow = scene.place.rack.server.spawn(follow)?;
        // Who follows has to be there before what it is to see.
        eventually_some(SOON, "an event of alice", || {
            scene.ask(&Client::Edk2Pxe.discover(scene.mac().ok()?)).ok()?;
            follow.lines().iter().find(|line| line.text.contains("10.77.0.10")).cloned()
        })?;
        let other = Client::Edk2Pxe.discover(Mac(mac(UNKNOWN)?));
        scene.ask(&other)?;
        scene.lease(Client::Edk2Pxe)?;
        follow.wait_for_line("\"step\":\"ack\"", SOON)?;
        let lines = follow.lines();
        ensure!(lines.iter().all(|line| !line.text.contains(UNKNOWN)), "{lines:?}");
        let first: Value = serde_json::from_str(&lines.first().context("a line")?.text)?;
        ensure!(first["mac"] == ALICE.mac && first["name"] == ALICE.name && first["by"] == "xdp", "{first}");
        Ok(())
    })
}
