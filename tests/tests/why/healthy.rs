//! Boots that go well, of every kind of firmware, with losses on the way too, beside another server and behind a relay: nothing
//! is wrong with any.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use boot_common::Mac;
use boot_tests::dhcp_client::Wire;
use boot_tests::packet::{Client, Packet};
use boot_tests::place::{CARD, SOON};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::reference::dnsmasq_plain_dhcp;
use boot_tests::settings::Settings;
use boot_tests::wait::eventually_some;
use serde_json::Value;

use super::scene::*;

const MACHINES: u8 = 100;
/// One in a hundred packets is lost, in either direction.
const LOSS: &str = "meta protocol ip numgen random mod 100 < 1";
/// As iPXE waits for an answer before it asks again.
const PATIENCE: Duration = Duration::from_millis(700);

/// What a kind of firmware does.
struct Kind {
    name: &'static str,
    /// None: it is iPXE itself.
    firmware: Option<Firmware>,
    /// By TFTP, unless it has a slash.
    loader: &'static str,
    then: Then,
}

/// Who asks first.
#[derive(Clone, Copy)]
enum Firmware {
    /// As recorded.
    Of(Client),
    /// The PXE ROM of a card in a BIOS: iPXE says the same, and more.
    BiosRom,
}

/// What its loader does.
enum Then {
    /// It asks for an address once more, then for the machine's script.
    Ipxe(Client),
    /// It keeps the firmware's address, and fetches this by TFTP.
    Config(&'static str),
}

impl Firmware {
    fn packet(self, of: impl Fn(Client) -> Packet) -> Packet {
        match self {
            Self::Of(client) => of(client),
            Self::BiosRom => {
                let mut packet = of(Client::IpxeBios);
                // The client identifier, the user class, and iPXE's own options.
                packet.options.retain(|(code, _)| ![61, 77, 175].contains(code));
                packet
            }
        }
    }
}

const KINDS: [Kind; 8] = [
    Kind { name: "iPXE in a BIOS", firmware: None, loader: "", then: Then::Ipxe(Client::IpxeBios) },
    Kind {
        name: "a PXE ROM in a BIOS",
        firmware: Some(Firmware::BiosRom),
        loader: "undionly.kpxe",
        then: Then::Ipxe(Client::IpxeBios),
    },
    Kind {
        name: "UEFI",
        firmware: Some(Firmware::Of(Client::Edk2Pxe)),
        loader: "snponly.efi",
        then: Then::Ipxe(Client::IpxeEfi),
    },
    Kind {
        name: "UEFI on Arm",
        firmware: Some(Firmware::Of(Client::Edk2PxeArm64)),
        loader: "ipxe-arm64.efi",
        then: Then::Ipxe(Client::IpxeEfi),
    },
    Kind {
        name: "GRUB",
        firmware: Some(Firmware::Of(Client::Edk2Pxe)),
        loader: "grubnetx64.efi",
        then: Then::Config("grub/grub.cfg"),
    },
    Kind {
        name: "PXELINUX",
        firmware: Some(Firmware::BiosRom),
        loader: "lpxelinux.0",
        then: Then::Config("pxelinux.cfg/default"),
    },
    Kind {
        name: "UEFI HTTP Boot",
        firmware: Some(Firmware::Of(Client::Edk2Http)),
        loader: "/files/snponly.efi",
        then: Then::Ipxe(Client::IpxeEfi),
    },
    Kind {
        name: "U-Boot",
        firmware: Some(Firmware::Of(Client::Uboot)),
        loader: "ipxe-arm64.efi",
        then: Then::Ipxe(Client::IpxeEfi),
    },
];

/// How machines get their addresses.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// From the server, on its network.
    Direct,
    /// From the server, through this relay.
    Relay(Ipv4Addr),
    /// From another server, beside which xpxe is a proxy.
    Beside,
}

fn kind(number: u8) -> &'static Kind {
    &KINDS[usize::from(number) % KINDS.len()]
}

fn mac(number: u8) -> Mac {
    Mac([2, 0x77, 0, 1, 0, number])
}

/// Those whose loader is not iPXE are in the configuration.
fn settings(machines: u8, dhcp: &'static str) -> Settings {
    let mut more = String::new();
    for number in 0..machines {
        if let Kind { loader, then: Then::Config(_), .. } = kind(number) {
            more += &format!("\n[[machine]]\nmac = \"{}\"\nboot_file = \"{loader}\"\n", mac(number));
        }
    }
    Settings { dhcp, more, ..Settings::default() }
}

/// Every machine, behind one card.
struct Fleet<'s> {
    scene: &'s Scene<'s>,
    station: Station,
    wire: Wire,
    way: Way,
}

impl<'s> Fleet<'s> {
    fn new(scene: &'s Scene<'s>, station: Station, way: Way) -> Result<Self> {
        for file in ["snponly.efi", "ipxe-arm64.efi", "grubnetx64.efi", "undionly.kpxe", "lpxelinux.0"] {
            scene.put(file, 20_000)?;
        }
        for file in ["guest/vmlinuz", "guest/initrd.img"] {
            scene.put(file, 20_000)?;
        }
        Ok(Self { scene, wire: Wire::open_for_ip(&station, "eth0")?, station, way })
    }

    /// Asks until an answer of this server comes, as every client does.
    fn ask(&self, message: Packet, server: Ipv4Addr) -> Result<Ipv4Addr> {
        let xid = message.xid;
        let frame = match self.way {
            Way::Relay(giaddr) => relayed(message, giaddr, SERVER)?.frame(),
            Way::Direct | Way::Beside => message.frame(),
        };
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            self.wire.send(&frame)?;
            let patient = Instant::now() + PATIENCE;
            while let Some(answer) =
                self.wire.hear_reply(&[xid], patient.saturating_duration_since(Instant::now()))?
            {
                if answer.server() == Some(server) {
                    return Ok(answer.address());
                }
            }
        }
        bail!("no answer: {}", self.scene.xpxe.last_lines(20))
    }

    fn lease(&self, firmware: Firmware, mac: Mac) -> Result<Ipv4Addr> {
        let server = if self.way == Way::Beside { STRANGER } else { SERVER };
        let offered = self.ask(firmware.packet(|client| client.discover(mac)), server)?;
        self.ask(firmware.packet(|client| client.request(mac, offered, server)), server)
    }

    fn curl(&self, from: Ipv4Addr, urls: &[String]) -> Result<()> {
        let from = from.to_string();
        let mut words = vec!["-sSf", "--tftp-blksize", "1432", "--interface", &from];
        for url in urls {
            words.extend(["-o", "/dev/null", url]);
        }
        self.station.output("curl", &words).map(drop)
    }

    fn take(&self, address: Ipv4Addr) -> Result<()> {
        let own = format!("{address}/24");
        self.station.output("ip", &["address", "replace", &own, "dev", "eth0"]).map(drop)
    }

    fn boot(&self, kind: &Kind, mac: Mac) -> Result<()> {
        let http = |path: &str| format!("http://{SERVER_ADDRESS}:8080{path}");
        let tftp = |path: &str| format!("tftp://{SERVER_ADDRESS}/{path}");
        if !matches!(self.way, Way::Relay(_)) {
            // A file may be asked for before the server knows whose address that is: then it looks whose card has it.
            self.station.output("ip", &["link", "set", "eth0", "address", &mac.to_string()])?;
        }
        let mut has = None;
        if let Some(firmware) = kind.firmware {
            let address = self.lease(firmware, mac)?;
            self.take(address)?;
            has = Some(address);
            let is_http = kind.loader.starts_with('/');
            self.curl(address, &[if is_http { http(kind.loader) } else { tftp(kind.loader) }])?;
        }
        let config = match kind.then {
            Then::Ipxe(client) => {
                let address = self.lease(Firmware::Of(client), mac)?;
                if has.replace(address).is_none() {
                    self.take(address)?;
                }
                let uuid = format!("78707865-0000-4000-8000-{}", mac.to_string().replace(':', ""));
                http(&format!("/ipxe/boot.ipxe?mac={mac}&uuid={uuid}"))
            }
            Then::Config(file) => tftp(file),
        };
        let address = has.context("an address")?;
        self.curl(address, &[config])?;
        self.curl(address, &[http("/files/guest/vmlinuz"), http("/files/guest/initrd.img")])?;
        self.lease(Firmware::Of(Client::Udhcpc), mac).map(drop)
    }

    /// Every machine has booted, whatever else is asked.
    fn all_boot(&self, machines: u8) -> Result<()> {
        let mut all = Value::Null;
        let booted = eventually_some(SOON, "every machine booted", || {
            all = serde_json::from_str(&self.scene.xpxe(&["why", "--all", "--json"]).ok()?).ok()?;
            let groups = all.as_array()?;
            let group = groups.first()?;
            (groups.len() == 1 && group["cause"] == "boots" && group["count"] == machines).then_some(())
        });
        booted.with_context(|| format!("{all:#}"))
    }
}

#[test]
fn a_hundred_boots_of_every_firmware_with_losses_too_just_boot() -> Result<()> {
    scene(&settings(MACHINES, "server"), |scene| {
        let fleet = Fleet::new(scene, scene.place.rack.client("fleet", CARD)?, Way::Direct)?;
        for number in 0..MACHINES {
            if number == MACHINES / 2 {
                scene.drop_on_the_way(&[LOSS.to_owned()])?;
            }
            let kind = kind(number);
            fleet.boot(kind, mac(number)).with_context(|| format!("machine {number}, {}", kind.name))?;
        }
        scene.drop_on_the_way(&[])?;
        fleet.all_boot(MACHINES)?;
        let page =
            fleet.station.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/metrics")])?;
        let counted = format!("xpxe_boot_stage_seconds_count{{stage=\"system\"}} {MACHINES}");
        ensure!(page.contains(&counted), "{counted} is not in\n{page}");
        Ok(())
    })
}

/// Two of each kind.
const FEW: u8 = 16;

#[test]
fn every_firmware_boots_beside_another_server_that_gives_the_addresses() -> Result<()> {
    scene(&settings(FEW, "proxy"), |scene| {
        let other = scene.place.rack.neighbour("stranger", STRANGERS_CARD, &format!("{STRANGER}/24"))?;
        let _dnsmasq = dnsmasq_plain_dhcp(&other, scene.place.rack.dir(), "10.77.0.150,10.77.0.199")?;
        let fleet = Fleet::new(scene, scene.place.rack.client("fleet", CARD)?, Way::Beside)?;
        for number in 0..FEW {
            let kind = kind(number);
            fleet.boot(kind, mac(number)).with_context(|| format!("machine {number}, {}", kind.name))?;
        }
        fleet.all_boot(FEW)
    })
}

#[test]
fn every_firmware_boots_behind_a_relay() -> Result<()> {
    let settings = settings(FEW, "server");
    let more =
        settings.more + "\n[[subnet]]\ncidr = \"10.78.0.0/24\"\npool = [\"10.78.0.100-10.78.0.199\"]\n";
    scene(&Settings { more, ..settings }, |scene| {
        let relay = scene.place.rack.neighbour("relay", CARD, &format!("{NEAR}/24"))?;
        // The machines' network is behind it, as it is behind a router.
        let server = &scene.place.rack.server;
        server.output("ip", &["route", "add", "10.78.0.0/24", "via", &NEAR.to_string()])?;
        let giaddr = Ipv4Addr::new(10, 78, 0, 1);
        let fleet = Fleet::new(scene, relay, Way::Relay(giaddr))?;
        fleet.take(giaddr)?;
        for number in 0..FEW {
            let kind = kind(number);
            fleet.boot(kind, mac(number)).with_context(|| format!("machine {number}, {}", kind.name))?;
        }
        fleet.all_boot(FEW)
    })
}
