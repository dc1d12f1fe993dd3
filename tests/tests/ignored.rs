//! An ignored machine gets nothing: not beside another DHCP server, and at no URL of any front.

use anyhow::{Context as _, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{Place, SILENCE, SOON, UNKNOWN};
use boot_tests::rack::Station;
use boot_tests::settings::Settings;
use boot_tests::wait::eventually;

const FRONTS: [&str; 6] = ["booter", "sidero", "bss", "matchbox", "pixiecore", "smee"];
/// `MAC` is the machine's.
const PATHS: [&str; 30] = [
    "boot.ipxe",
    "ipxe/boot.ipxe?mac=MAC",
    "autoexec.ipxe",
    "grub/grub.cfg",
    "pxelinux.cfg/default",
    "files/guest/vmlinuz",
    "images/none",
    "documents/user-data",
    "phone-home",
    "ipxe/init.ipxe",
    "tftp/ipxe.efi",
    "config?u=78707865-0000-4000-8000-525400770041",
    "env/guest/kernel",
    "configdata?uuid=78707865-0000-4000-8000-525400770041",
    "boot/v1/bootscript?mac=MAC",
    "apis/bss/boot/v1/bootscript?mac=MAC",
    "boot/v1/bootparameters?mac=MAC",
    "meta-data",
    "user-data",
    "ipxe?mac=MAC",
    "grub?mac=MAC",
    "ignition?mac=MAC",
    "cloud?mac=MAC",
    "generic?mac=MAC",
    "metadata?mac=MAC",
    "assets/guest/vmlinuz",
    "v1/boot/MAC",
    "ipxe/script/MAC/auto.ipxe",
    "ipxe/binary/snp.efi",
    "2009-04-04/meta-data/",
];

/// Unknown machines are taken down, and every front is on.
fn place(dhcp: &'static str, fast_path: &'static str) -> Result<Option<Place>> {
    let settings = Settings { dhcp, fast_path, ..Settings::default() };
    let Some(mut place) = Place::build(&settings)? else { return Ok(None) };
    let default = "[default]\nprofile = \"guest\"\n";
    ensure!(place.config.contains(default) && place.config.contains("[http]\n"));
    place.config = place
        .config
        .replace(default, &format!("{default}unknown = \"discover\"\n"))
        .replace("[http]\n", &format!("[http]\nfronts = {FRONTS:?}\n"));
    Ok(Some(place))
}

fn machines(place: &Place, xpxe: &Xpxe<'_>, words: &[&str]) -> Result<String> {
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.command(&[&["machines"], words, &["--config", &file]].concat())
}

fn is_discovered(place: &Place, xpxe: &Xpxe<'_>) -> Result<()> {
    eventually(SOON, "it is discovered", || {
        machines(place, xpxe, &["list", "--state", "discovered"]).is_ok_and(|listed| listed.contains(UNKNOWN))
    })
}

/// The status and the length of an answer.
fn get(from: &Station, path: &str) -> Result<(String, String)> {
    let url = format!("http://10.77.0.1:8080/{}", path.replace("MAC", UNKNOWN));
    let said =
        from.output("curl", &["-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}", &url])?;
    let (status, length) = said.split_once(' ').context("a status and a length")?;
    Ok((status.to_owned(), length.to_owned()))
}

#[test]
fn at_the_urls_of_every_front_it_gets_nothing() -> Result<()> {
    let Some(place) = place("server", "xdp")? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    let address = wire.lease(&Client::firmware(mac(UNKNOWN)?, 7))?.address();
    is_discovered(&place, &xpxe)?;
    let itself = place.rack.neighbour("itself", "02:77:00:00:00:e7", &format!("{address}/24"))?;
    let nothing = ("404".to_owned(), "0".to_owned());
    let gets = || -> Result<Vec<&str>> {
        let mut gets = Vec::new();
        for path in PATHS {
            if get(&itself, path)? != nothing {
                gets.push(path);
            }
        }
        Ok(gets)
    };
    let before = gets()?;
    ensure!(before.len() > PATHS.len() / 2, "the fronts are on, and answer at {before:?} only");
    machines(&place, &xpxe, &["ignore", UNKNOWN])?;
    ensure!(gets()?.is_empty(), "an ignored machine is answered at {:?}", gets()?);
    machines(&place, &xpxe, &["accept", UNKNOWN])?;
    ensure!(gets()? == before, "accepted, it gets {:?} instead of {before:?}", gets()?);
    xpxe.stop()
}

#[test]
fn beside_another_dhcp_server_it_is_not_answered() -> Result<()> {
    for fast_path in ["xdp", "off"] {
        let Some(place) = place("proxy", fast_path)? else { return Ok(()) };
        let mut xpxe = place.serve()?;
        let wire = place.client()?;
        let machine = Client::firmware(mac(UNKNOWN)?, 7);
        wire.discover(&machine)?;
        is_discovered(&place, &xpxe)?;
        machines(&place, &xpxe, &["ignore", UNKNOWN])?;
        let silent = |when: &str| -> Result<()> {
            let answer = wire.ask_within(&machine.discover(), SILENCE)?;
            ensure!(answer.is_none(), "{fast_path}, {when}: {answer:?}");
            Ok(())
        };
        silent("ignored")?;
        wire.discover(&Client::firmware(mac("02:77:00:00:00:10")?, 7)).context("others are served")?;
        xpxe.kill9()?;
        xpxe.restart()?;
        silent("after a restart")?;
        machines(&place, &xpxe, &["accept", UNKNOWN])?;
        wire.discover(&machine).context("it is accepted")?;
        xpxe.stop()?;
    }
    Ok(())
}
