//! A hundred boots that go well, of every kind of firmware, half of them with losses on the way: nothing is wrong with any.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_common::Mac;
use boot_tests::dhcp_client::Wire;
use boot_tests::packet::{Client, Packet};
use boot_tests::place::{CARD, SOON};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::Settings;
use boot_tests::wait::eventually_some;
use serde_json::Value;

use super::scene::*;

const MACHINES: u8 = 100;
/// One in a hundred packets is lost, in either direction.
const LOSS: &str = "meta protocol ip numgen random mod 100 < 1";
/// As iPXE waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_millis(700);

/// What a kind of firmware does until its iPXE runs.
struct Kind {
    name: &'static str,
    /// None: it is iPXE itself.
    firmware: Option<Client>,
    /// By TFTP, unless it has a slash.
    loader: &'static str,
    ipxe: Client,
}

const KINDS: [Kind; 5] = [
    Kind { name: "iPXE in a BIOS", firmware: None, loader: "", ipxe: Client::IpxeBios },
    Kind { name: "UEFI", firmware: Some(Client::Edk2Pxe), loader: "snponly.efi", ipxe: Client::IpxeEfi },
    Kind {
        name: "UEFI on Arm",
        firmware: Some(Client::Edk2PxeArm64),
        loader: "ipxe-arm64.efi",
        ipxe: Client::IpxeEfi,
    },
    Kind {
        name: "UEFI HTTP Boot",
        firmware: Some(Client::Edk2Http),
        loader: "/files/snponly.efi",
        ipxe: Client::IpxeEfi,
    },
    Kind { name: "U-Boot", firmware: Some(Client::Uboot), loader: "ipxe-arm64.efi", ipxe: Client::IpxeEfi },
];

/// Every machine, behind one card.
struct Fleet<'s> {
    scene: &'s Scene<'s>,
    station: Station,
    wire: Wire,
}

impl Fleet<'_> {
    /// Asks until an answer comes, as every client does.
    fn ask(&self, message: &Packet) -> Result<Ipv4Addr> {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            self.wire.send(&message.frame())?;
            if let Some(answer) = self.wire.hear_reply(&[message.xid], PATIENCE)? {
                return Ok(answer.address());
            }
        }
        bail!("no answer: {}", self.scene.xpxe.last_lines(20))
    }

    fn lease(&self, client: Client, mac: Mac) -> Result<Ipv4Addr> {
        let offered = self.ask(&client.discover(mac))?;
        self.ask(&client.request(mac, offered, SERVER))
    }

    fn curl(&self, from: Ipv4Addr, urls: &[String]) -> Result<()> {
        let from = from.to_string();
        let mut words = vec!["-sSf", "--tftp-blksize", "1432", "--interface", &from];
        for url in urls {
            words.extend(["-o", "/dev/null", url]);
        }
        self.station.output("curl", &words).map(drop)
    }

    fn boot(&self, kind: &Kind, mac: Mac) -> Result<()> {
        let http = |path: &str| format!("http://{SERVER_ADDRESS}:8080{path}");
        let mut has_address = false;
        let mut take = |address: Ipv4Addr| -> Result<()> {
            if !std::mem::replace(&mut has_address, true) {
                let own = format!("{address}/24");
                self.station.output("ip", &["address", "replace", &own, "dev", "eth0"])?;
            }
            Ok(())
        };
        if let Some(firmware) = kind.firmware {
            let address = self.lease(firmware, mac)?;
            take(address)?;
            let loader = match kind.loader.strip_prefix('/') {
                Some(_) => http(kind.loader),
                None => format!("tftp://{SERVER_ADDRESS}/{}", kind.loader),
            };
            self.curl(address, &[loader])?;
        }
        let address = self.lease(kind.ipxe, mac)?;
        take(address)?;
        let uuid = format!("78707865-0000-4000-8000-{}", mac.to_string().replace(':', ""));
        let script = http(&format!("/ipxe/boot.ipxe?mac={mac}&uuid={uuid}"));
        self.curl(address, &[script, http("/files/guest/vmlinuz"), http("/files/guest/initrd.img")])?;
        self.lease(Client::Udhcpc, mac).map(drop)
    }
}

#[test]
fn a_hundred_boots_of_every_firmware_with_losses_too_just_boot() -> Result<()> {
    scene(&Settings::default(), |scene| {
        for (file, bytes) in [
            ("snponly.efi", 20_000),
            ("ipxe-arm64.efi", 20_000),
            ("guest/vmlinuz", 20_000),
            ("guest/initrd.img", 20_000),
        ] {
            scene.put(file, bytes)?;
        }
        let station = scene.place.rack.client("fleet", CARD)?;
        let fleet = Fleet { scene, wire: Wire::open_for_ip(&station, "eth0")?, station };
        for number in 0..MACHINES {
            if number == MACHINES / 2 {
                scene.drop_on_the_way(&[LOSS.to_owned()])?;
            }
            let kind = &KINDS[usize::from(number) % KINDS.len()];
            let mac = Mac([2, 0x77, 0, 1, 0, number]);
            fleet.boot(kind, mac).with_context(|| format!("machine {number}, {}", kind.name))?;
        }
        scene.drop_on_the_way(&[])?;
        let mut all = Value::Null;
        let booted = eventually_some(SOON, "every machine booted", || {
            all = serde_json::from_str(&scene.xpxe(&["why", "--all", "--json"]).ok()?).ok()?;
            let groups = all.as_array()?;
            let group = groups.first()?;
            (groups.len() == 1 && group["cause"] == "boots" && group["count"] == MACHINES).then_some(())
        });
        booted.with_context(|| format!("{all:#}"))?;
        let page =
            fleet.station.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/metrics")])?;
        let counted = format!("xpxe_boot_stage_seconds_count{{stage=\"system\"}} {MACHINES}");
        ensure!(page.contains(&counted), "{counted} is not in\n{page}");
        Ok(())
    })
}
