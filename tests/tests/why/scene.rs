//! A server, and machines that do what a test wants, frame by frame.

use std::fs;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use boot_common::Mac;
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Reply, Wire, mac};
use boot_tests::packet::{Client, Packet};
use boot_tests::place::{CARD, Place, SOON};
use boot_tests::rack::{SERVER_ADDRESS, SERVER_MAC, Station};
use boot_tests::settings::{Known, Settings, boot_dir};
use boot_tests::wait::eventually_some;
use serde_json::Value;

/// A verdict about silence needs silence: 20 s at most, for a loader that does not start.
pub(super) const VERDICT: Duration = Duration::from_secs(90);
/// As a client waits for an answer before it asks again.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);
/// The server's address.
pub(super) const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// Another server's.
pub(super) const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 66);
/// Another server's MAC.
pub(super) const STRANGERS_CARD: &str = "02:77:00:00:00:66";

/// The address of a relay on the server's network.
pub(super) const NEAR: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 9);

/// The processors in a program's headers.
pub(super) const X64: u16 = 0x8664;
pub(super) const ARM64: u16 = 0xaa64;

/// The headers of an EFI application for a processor.
pub(super) fn efi(machine: u16) -> Vec<u8> {
    let mut head = vec![0; 4096];
    head[..2].copy_from_slice(b"MZ");
    head[0x3c] = 0x40;
    head[0x40..0x44].copy_from_slice(b"PE\0\0");
    head[0x44..0x46].copy_from_slice(&machine.to_le_bytes());
    head[0x46] = 1; // Sections.
    head[0x54] = 0xf0; // The length of what follows.
    head[0x56] = 0x22;
    head[0x58..0x5a].copy_from_slice(&[0x0b, 0x02]); // 64 bits.
    head[0x58 + 68] = 10; // An application.
    head
}

/// As a relay sends it on to this address of the server.
pub(super) fn relayed(message: Packet, giaddr: Ipv4Addr, to: Ipv4Addr) -> Result<Packet> {
    let mut message = message.relayed(giaddr, to);
    message.eth_source = Mac(mac(CARD)?);
    message.eth_destination = Mac(mac(SERVER_MAC)?);
    message.source.set_ip(NEAR);
    Ok(message)
}

/// A server in its rack.
pub(super) struct Scene<'p> {
    pub(super) place: &'p Place,
    pub(super) xpxe: Xpxe<'p>,
}

/// A machine on the wire.
pub(super) struct Actor<'s> {
    pub(super) scene: &'s Scene<'s>,
    pub(super) station: Station,
    pub(super) wire: Wire,
    pub(super) known: Known,
}

/// Runs a test with a server; not without root.
pub(super) fn scene(settings: &Settings, test: impl Fn(&Scene<'_>) -> Result<()>) -> Result<()> {
    scene_with(settings, |config| config, test)
}

/// The same with a configuration that is changed before it is served.
pub(super) fn scene_with(
    settings: &Settings,
    change: impl Fn(String) -> String,
    test: impl Fn(&Scene<'_>) -> Result<()>,
) -> Result<()> {
    let Some(mut place) = Place::build(settings)? else { return Ok(()) };
    place.config = change(place.config);
    scene_in(&place, test)
}

/// The same in a place that the test has prepared.
pub(super) fn scene_in(place: &Place, test: impl Fn(&Scene<'_>) -> Result<()>) -> Result<()> {
    // Checksums would be left to a card that is none.
    place.rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
    let scene = Scene { place, xpxe: place.serve()? };
    test(&scene)?;
    scene.xpxe.stop()
}

/// A machine that is in no configuration, or in one without a name.
pub(super) fn nobody(mac: &'static str) -> Known {
    Known { name: "", mac, address: None }
}

impl<'p> Scene<'p> {
    pub(super) fn machine(&self, known: Known) -> Result<Actor<'_>> {
        let station = self.place.rack.client(&format!("machine {}", known.mac), known.mac)?;
        let wire = Wire::open_for_ip(&station, "eth0")?;
        Ok(Actor { scene: self, station, wire, known })
    }

    /// Makes a boot file of so many bytes.
    pub(super) fn put(&self, file: &str, bytes: usize) -> Result<()> {
        let mut content = vec![7; bytes];
        if file.ends_with(".efi") {
            let machine = if file.contains("arm64") { ARM64 } else { X64 };
            let head = efi(machine);
            content.splice(..head.len(), head);
        }
        self.write(file, &content)
    }

    pub(super) fn write(&self, file: &str, bytes: &[u8]) -> Result<()> {
        let path = boot_dir(&self.place.rack).join(file);
        fs::create_dir_all(path.parent().context("a directory")?)?;
        Ok(fs::write(path, bytes)?)
    }

    /// Has the switch drop what one of these nftables expressions matches; nothing any more without one.
    pub(super) fn drop_on_the_way(&self, which: &[String]) -> Result<()> {
        let rules: String = which.iter().map(|rule| format!("{rule} drop\n")).collect();
        let text = format!(
            "table bridge holes\ndelete table bridge holes\ntable bridge holes {{\n\
             chain forward {{\ntype filter hook forward priority 0;\n{rules}}}\n}}\n"
        );
        let file = self.place.rack.dir().join("holes.nft");
        fs::write(&file, text)?;
        self.place.rack.namespace.output("nft", &["-f", &file.display().to_string()]).map(drop)
    }

    pub(super) fn xpxe(&self, words: &[&str]) -> Result<String> {
        let file = self.place.rack.dir().join("xpxe.toml").display().to_string();
        self.xpxe.command(&[words, &["--config", &file]].concat())
    }

    /// The verdict of a machine, by MAC or name.
    pub(super) fn why(&self, which: &str) -> Result<Value> {
        Ok(serde_json::from_str(&self.xpxe(&["why", which, "--json"])?)?)
    }

    /// Waits for this cause, and gives its evidence and why it is so sure.
    pub(super) fn must_be(&self, which: &str, cause: &str, within: Duration) -> Result<String> {
        let mut last = Value::Null;
        let found = eventually_some(within, cause, || {
            last = self.why(which).ok()?;
            let verdict = &last["verdict"];
            let sure = || format!("{}, {}: {}", verdict["sure"], verdict["because"], verdict["evidence"]);
            (verdict["cause"] == cause).then(sure)
        });
        let shown = || self.xpxe(&["boots", "show", which]).unwrap_or_default();
        found.with_context(|| format!("{last:#}\n{}\n{}", shown(), self.xpxe.last_lines(20)))
    }
}

impl Actor<'_> {
    pub(super) fn mac(&self) -> Result<Mac> {
        Ok(Mac(mac(self.known.mac)?))
    }

    /// Sends a message until an answer comes, as every client does.
    pub(super) fn hear(&self, message: &Packet) -> Result<Reply> {
        let until = Instant::now() + SOON;
        while Instant::now() < until {
            self.wire.send(&message.frame())?;
            if let Some(answer) = self.wire.hear_reply(&[message.xid], PATIENCE)? {
                return Ok(answer);
            }
        }
        bail!("no answer: {}", self.scene.xpxe.last_lines(20))
    }

    pub(super) fn ask(&self, message: &Packet) -> Result<Ipv4Addr> {
        Ok(self.hear(message)?.address())
    }

    /// Gets an address as this client.
    pub(super) fn lease(&self, client: Client) -> Result<Ipv4Addr> {
        let offered = self.ask(&client.discover(self.mac()?))?;
        self.ask(&client.request(self.mac()?, offered, SERVER))
    }

    /// The station uses the machine's address from now on.
    pub(super) fn take(&self, address: Ipv4Addr) -> Result<()> {
        let own = format!("{address}/24");
        self.station.output("ip", &["address", "replace", &own, "dev", "eth0"]).map(drop)
    }

    pub(super) fn tftp(&self, file: &str) -> Result<String> {
        self.station.output("curl", &["-sS", "-o", "/dev/null", &format!("tftp://{SERVER_ADDRESS}/{file}")])
    }

    pub(super) fn http(&self, path: &str) -> Result<String> {
        self.http_with(path, &[])
    }

    pub(super) fn http_with(&self, path: &str, more: &[&str]) -> Result<String> {
        let url = format!("http://{SERVER_ADDRESS}:8080{path}");
        self.station.output("curl", &[&["-sSf", &url, "-o", "/dev/null"], more].concat())
    }

    pub(super) fn script(&self) -> Result<String> {
        self.http(&format!("/ipxe/boot.ipxe?mac={}", self.known.mac))
    }

    pub(super) fn must_be(&self, cause: &str) -> Result<String> {
        self.scene.must_be(self.known.mac, cause, VERDICT)
    }

    /// The same, with these words in the evidence: what happened is in it a moment later.
    pub(super) fn must_say(&self, cause: &str, says: &str) -> Result<String> {
        let said = || self.must_be(cause).ok().filter(|evidence| evidence.contains(says));
        eventually_some(VERDICT, says, said).with_context(|| self.must_be(cause).unwrap_or_default())
    }

    /// Firmware gets an address and its loader.
    pub(super) fn load(&self) -> Result<()> {
        let address = self.lease(Client::Edk2Pxe)?;
        self.take(address)?;
        self.tftp("snponly.efi").map(drop)
    }

    /// The same up to its script.
    pub(super) fn load_script(&self) -> Result<()> {
        self.scene.put("snponly.efi", 100_000)?;
        self.load()?;
        self.lease(Client::IpxeEfi)?;
        self.script().map(drop)
    }

    /// The same up to its kernel and initrd.
    pub(super) fn load_kernel(&self) -> Result<()> {
        self.put_kernel()?;
        self.load_script()?;
        self.fetch_kernel()
    }

    pub(super) fn put_kernel(&self) -> Result<()> {
        self.scene.put("guest/vmlinuz", 200_000)?;
        self.scene.put("guest/initrd.img", 100_000)
    }

    pub(super) fn fetch_kernel(&self) -> Result<()> {
        self.http("/files/guest/vmlinuz")?;
        self.http("/files/guest/initrd.img").map(drop)
    }

    /// A whole boot.
    pub(super) fn boot(&self) -> Result<()> {
        self.load_kernel()?;
        self.lease(Client::Udhcpc).map(drop)
    }
}
