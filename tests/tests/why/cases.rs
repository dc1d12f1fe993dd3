//! The worked cases of docs/troubleshooting.md, followed to the letter: the commands are run, and what the page shows has to come.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, bail, ensure};
use boot_common::Mac;
use boot_tests::dhcp_client::{Wire, mac};
use boot_tests::guest;
use boot_tests::packet::Client;
use boot_tests::place::{CARD, SOON};
use boot_tests::rack::SERVER_ADDRESS;
use boot_tests::settings::{Known, Settings, boot_dir};
use boot_tests::wait::eventually_some;

use super::scene::*;

const NODE7: Known = Known { name: "node7", mac: "52:54:00:00:00:07", address: Some("10.77.0.17") };
const FAR: &str = "52:54:00:00:00:21";
const NEW: &str = "52:54:00:00:00:22";

/// A case of the page: its blocks of code, in their order.
struct Case<'s> {
    scene: &'s Scene<'s>,
    blocks: std::vec::IntoIter<(String, String)>,
}

impl<'s> Case<'s> {
    fn read(scene: &'s Scene<'s>, heading: &str) -> Result<Self> {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
        let page = fs::read_to_string(page)?;
        let (_, case) =
            page.split_once(&format!("\n### {heading}\n")).with_context(|| format!("no case {heading}"))?;
        let case = case.split("\n##").next().unwrap_or_default();
        let inside = case.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
        let blocks: Vec<(String, String)> =
            inside.map(|(language, text)| (language.to_owned(), text.to_owned())).collect();
        Ok(Self { scene, blocks: blocks.into_iter() })
    }

    /// What is to be written into the configuration.
    fn toml(&mut self) -> Result<String> {
        let (language, text) = self.blocks.next().context("no further block")?;
        ensure!(language == "toml", "{text}");
        Ok(text)
    }

    /// Types the commands of the next block, until they show what the page has.
    fn typed(&mut self) -> Result<()> {
        let (language, text) = self.blocks.next().context("no further block")?;
        ensure!(language.is_empty(), "{language}: {text}");
        for typed in format!("\n{text}").split("\n# ").skip(1) {
            let (command, expected) = typed.split_once('\n').unwrap_or((typed, ""));
            let mut said = String::new();
            eventually_some(SOON, command, || {
                said = self.run(command).ok()?;
                shows(&said, expected).ok()
            })
            .with_context(|| format!("{command}\n{said}\n{:?}", shows(&said, expected)))?;
        }
        Ok(())
    }

    fn run(&self, command: &str) -> Result<String> {
        let mut words = command.split(' ');
        ensure!(words.next() == Some("xpxe"), "{command}");
        let (place, xpxe) = (self.scene.place, &self.scene.xpxe);
        let mut command = place.rack.server.command(&xpxe.binary().display().to_string());
        command.args(words).arg("--config").arg(place.rack.dir().join("xpxe.toml"));
        let Output { stdout, stderr, .. } = command.output()?;
        Ok(String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned())
    }

    fn done(mut self) -> Result<()> {
        ensure!(self.blocks.next().is_none(), "the page goes on");
        Ok(())
    }
}

/// Each line of the page comes, in this order; … stands for anything.
fn shows(said: &str, expected: &str) -> Result<()> {
    let mut lines = said.lines();
    for wanted in expected.lines().filter(|line| !line.trim_matches(['…', ' ']).is_empty()) {
        let fits = |line: &str| {
            let mut rest = line;
            wanted.split('…').map(str::trim).all(|part| match rest.split_once(part) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
        };
        if !lines.any(fits) {
            bail!("without {wanted:?}");
        }
    }
    Ok(())
}

fn ask(wire: &Wire, client: &str) -> Result<()> {
    wire.send(&Client::Edk2Pxe.discover(Mac(mac(client)?)).frame())
}

#[test]
fn a_newcomer_finds_the_relay_that_no_subnet_has() -> Result<()> {
    scene(&Settings { machines: vec![NODE7], ..Settings::default() }, |scene| {
        let mut case = Case::read(scene, "No machine of a rack gets an offer: PXE-E51")?;
        let relay = scene.place.rack.neighbour("relay", CARD, &format!("{NEAR}/24"))?;
        relay.output("curl", &["-sS", &format!("http://{SERVER_ADDRESS}:8080/healthz")])?;
        let wire = Wire::open(&relay, "eth0")?;
        let asks = || {
            let discover = Client::Edk2Pxe.discover(Mac(mac(FAR)?));
            wire.send(&relayed(discover, Ipv4Addr::new(10, 78, 0, 1), SERVER)?.frame())
        };
        asks()?;
        case.typed()?;
        case.typed()?;
        scene.xpxe.write_config(&format!("{}\n{}", scene.place.config, case.toml()?))?;
        case.typed()?;
        asks()?;
        case.typed()?;
        case.done()
    })
}

#[test]
fn a_newcomer_finds_the_kernel_that_is_not_there() -> Result<()> {
    scene(&Settings { machines: vec![NODE7], ..Settings::default() }, |scene| {
        let mut case = Case::read(scene, "iPXE does not find its kernel: 2d0c613b")?;
        let node = scene.machine(NODE7)?;
        scene.put("guest/initrd.img", 100_000)?;
        node.load_script()?;
        ensure!(node.http("/files/guest/vmlinuz").is_err(), "there is no such file");
        case.typed()?;
        case.typed()?;
        guest::install(&boot_dir(&scene.place.rack))?;
        case.typed()?;
        node.boot()?;
        case.typed()?;
        case.done()
    })
}

#[test]
fn a_newcomer_finds_the_pool_that_is_empty() -> Result<()> {
    let small = |config: String| config.replace("10.77.0.100-10.77.0.199", "10.77.0.100-10.77.0.100");
    scene_with(&Settings { machines: vec![NODE7], ..Settings::default() }, small, |scene| {
        let mut case = Case::read(scene, "One machine more than addresses: PXE-E16")?;
        let first = scene.machine(Known { name: "", mac: FAR, address: None })?;
        first.lease(Client::Edk2Pxe)?;
        ask(&first.wire, NEW)?;
        case.typed()?;
        case.typed()?;
        let pool = case.toml()?;
        let before = "pool = [\"10.77.0.100-10.77.0.100\"]\n";
        ensure!(scene.place.config.contains(before), "{}", scene.place.config);
        scene.xpxe.write_config(&scene.place.config.replace(before, &pool))?;
        case.typed()?;
        ask(&first.wire, NEW)?;
        case.typed()?;
        case.done()
    })
}
