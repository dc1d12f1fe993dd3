//! Configuration files that are written for whoever asks, by TFTP and HTTP as clients fetch them, and a front that a reload
//! switches on.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Event;
use boot_tests::dhcp_client::{Client, mac};
use boot_tests::place::{ALICE, BOB, Place, SOON, known};
use boot_tests::rack::{SERVER_ADDRESS, Station};
use boot_tests::settings::{boot_dir, proof};

const ALICES: &str = "01-02-77-00-00-00-10";

#[test]
fn each_machine_gets_its_own_configuration_and_no_other_s() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    // Alice has her address; Bob's card asks from his.
    let wire = place.client()?;
    for machine in [ALICE, BOB] {
        wire.lease(&Client::new(mac(machine.mac)?))?;
    }
    let alice = place.rack.neighbour("alice", ALICE.mac, "10.77.0.10/24")?;
    let bob = place.rack.neighbour("bob", BOB.mac, "10.77.0.11/24")?;
    for name in [
        format!("grub/grub.cfg-{ALICES}"),
        "grub/x86_64-efi/grub.cfg".to_owned(),
        format!("pxelinux.cfg/{ALICES}"),
        "pxelinux.cfg/default".to_owned(),
    ] {
        let ways = [
            format!("tftp://{SERVER_ADDRESS}//{name}"),
            format!("http://{SERVER_ADDRESS}:8080/files/{name}"),
        ];
        for url in &ways {
            let text = fetch(&alice, url)?;
            ensure!(text.contains(&proof("alice")), "{url}: {text}");
            if name.contains("grub") {
                grub_reads(&text)?;
            }
            let other = fetch(&bob, url);
            match name.contains(ALICES) {
                true => ensure!(other.is_err(), "{url} to bob: {other:?}"),
                false => ensure!(other?.contains(&proof("bob")), "{url}"),
            }
        }
    }
    let told = |event: &Event| {
        let refused =
            format!("refused /grub/grub.cfg-{ALICES} of alice to 10.77.0.11: the machine has 10.77.0.10");
        event.field("step") == "script" && event.message().starts_with(&refused)
    };
    xpxe.wait_for_event("a line about bob, who asked for alice's", SOON, told)?;
    // iPXE's own first script is the same for all, and in every directory.
    let script = fetch(&bob, &format!("http://{SERVER_ADDRESS}:8080/files/autoexec.ipxe"))?;
    let chain = format!("chain --replace http://{SERVER_ADDRESS}:8080/ipxe/boot.ipxe?uuid=");
    ensure!(script.contains(&chain) && script.contains(" || autoboot ||\n:again\n"), "{script}");
    for name in ["autoexec.ipxe", "shim/Autoexec.IPXE"] {
        ensure!(fetch(&bob, &format!("tftp://{SERVER_ADDRESS}//{name}"))? == script, "{name}");
    }
    // In the smallest blocks, in windows, as a text of a terminal.
    let name = format!("pxelinux.cfg/{ALICES}");
    let whole = fetch(&alice, &format!("tftp://{SERVER_ADDRESS}/{name}"))?;
    let out = place.rack.dir().join("out").display().to_string();
    for (options, text) in [
        (&["--option", "blksize 8"][..], whole.clone()),
        (&["--option", "blksize 16", "--option", "windowsize 4"], whole.clone()),
        (&["--option", "mode netascii"], whole.replace('\n', "\r\n")),
    ] {
        let arguments = [options, &["-g", "-r", &name, "-l", &out, SERVER_ADDRESS]].concat();
        alice.output("atftp", &arguments)?;
        let got = fs::read_to_string(&out)?;
        ensure!(got == text || got.replace('\r', "") == whole, "{options:?}: {got:?}");
        fs::remove_file(&out)?;
    }
    // What somebody has written comes first, also where the loader asks for it last.
    fs::create_dir_all(boot_dir(&place.rack).join("pxelinux.cfg"))?;
    fs::write(boot_dir(&place.rack).join("pxelinux.cfg/default"), "own")?;
    ensure!(fetch(&alice, &format!("tftp://{SERVER_ADDRESS}/pxelinux.cfg/default"))? == "own");
    ensure!(fetch(&alice, &format!("tftp://{SERVER_ADDRESS}/{name}")).is_err());
    fs::write(boot_dir(&place.rack).join("autoexec.ipxe"), "own")?;
    ensure!(fetch(&alice, &format!("tftp://{SERVER_ADDRESS}/autoexec.ipxe"))? == "own");
    xpxe.stop()
}

/// As VMware's mboot asks, beside itself: first in the directory of its MAC, then for the installer's own file. Where it lies
/// does not matter, because the prefix is whole.
#[test]
fn mboot_gets_the_machine_s_boot_cfg_by_tftp_and_http() -> Result<()> {
    let mut settings = known();
    settings.more += "\n[[profile]]\nname = \"esxi\"\nesxi = \"vm/esxi\"\nargs = \"ks={{ documents }}kickstart\"\n\
        [[group]]\nname = \"alice\"\nmatch = { mac = \"02:77:00:00:00:10\" }\nprofile = \"esxi\"\n";
    let Some(place) = Place::build(&settings)? else { return Ok(()) };
    let own = "title=ESXi\nkernel=/b.b00\nkernelopt=runweasel cdromBoot\nmodules=/a.gz --- /b.gz\nbuild=8\n";
    let tree = boot_dir(&place.rack).join("vm/esxi");
    fs::create_dir_all(&tree)?;
    fs::write(tree.join("boot.cfg"), own)?;
    fs::write(tree.join("b.b00"), "kernel")?;
    let xpxe = place.serve()?;
    let wire = place.client()?;
    for machine in [ALICE, BOB] {
        wire.lease(&Client::new(mac(machine.mac)?))?;
    }
    let alice = place.rack.neighbour("alice", ALICE.mac, "10.77.0.10/24")?;
    let bob = place.rack.neighbour("bob", BOB.mac, "10.77.0.11/24")?;
    let (tftp, http) = (format!("tftp://{SERVER_ADDRESS}/"), format!("http://{SERVER_ADDRESS}:8080/files"));
    for dir in ["", "vm/esxi/", "vm/esxi/efi/boot/"] {
        for (start, prefix) in [(&tftp, "vm/esxi".to_owned()), (&http, format!("{http}/vm/esxi"))] {
            let url = format!("{start}/{dir}{ALICES}/boot.cfg");
            let text = fetch(&alice, &url)?;
            let expected = format!(
                "title=ESXi\nkernel=b.b00\nmodules=a.gz --- b.gz\nbuild=8\nkernelopt=runweasel \
                 ks=http://{SERVER_ADDRESS}:8080/documents/02-77-00-00-00-10/kickstart {}\nprefix={prefix}\n",
                proof("alice")
            );
            ensure!(text == expected, "{url}:\n{text}");
            ensure!(fetch(&bob, &url).is_err(), "{url} to bob");
        }
    }
    // Bob boots something else, and everybody may read what lies there.
    for url in [&tftp, &http] {
        ensure!(fetch(&bob, &format!("{url}/vm/esxi/01-02-77-00-00-00-11/boot.cfg")).is_err(), "{url}");
        ensure!(fetch(&bob, &format!("{url}/vm/esxi/boot.cfg"))? == own, "{url}");
        ensure!(fetch(&alice, &format!("{url}/vm/esxi/b.b00"))? == "kernel", "{url}");
    }
    let script = fetch(&alice, &format!("http://{SERVER_ADDRESS}:8080/ipxe/boot.ipxe?mac={}", ALICE.mac))?;
    let line = format!(
        "kernel {http}/vm/esxi/efi/boot/bootx64.efi -c {http}/vm/esxi/{ALICES}/boot.cfg || goto retry\n"
    );
    ensure!(script.contains(&line), "{script}");
    xpxe.stop()
}

/// The entries of a menu, in each loader's language, as a machine gets them.
#[test]
fn a_menu_is_one_in_every_loader_s_language() -> Result<()> {
    let mut settings = known();
    settings.more += "\n[[profile]]\nname = \"choice\"\nmenu = [\"guest\", \"local\"]\nmenu_timeout = \"1m\"\n\
        [[group]]\nname = \"alice\"\nmatch = { mac = \"02:77:00:00:00:10\" }\nprofile = \"choice\"\n";
    let Some(place) = Place::build(&settings)? else { return Ok(()) };
    let xpxe = place.serve()?;
    let wire = place.client()?;
    wire.lease(&Client::new(mac(ALICE.mac)?))?;
    let alice = place.rack.neighbour("alice", ALICE.mac, "10.77.0.10/24")?;
    let files = format!("http://{SERVER_ADDRESS}:8080/files");
    let opens = fetch(&alice, &format!("{files}/grub/grub.cfg"))?;
    let menu = format!("(http,{SERVER_ADDRESS}:8080)/files/grub/grub.cfg-menu-{ALICES}");
    ensure!(opens == format!("configfile {menu}\n"), "{opens}");
    let menu = fetch(&alice, &format!("{files}/grub/grub.cfg-menu-{ALICES}"))?;
    grub_reads(&menu)?;
    ensure!(menu.contains("menuentry 'guest' {") && menu.contains(&proof("alice")), "{menu}");
    let pxelinux = fetch(&alice, &format!("tftp://{SERVER_ADDRESS}/pxelinux.cfg/default"))?;
    ensure!(pxelinux.contains("ONTIMEOUT guest\nLABEL guest\n  LINUX "), "{pxelinux}");
    let ask = |more: &str| {
        let url = format!("http://{SERVER_ADDRESS}:8080/ipxe/boot.ipxe?mac={}{more}", ALICE.mac);
        fetch(&alice, &url)
    };
    ensure!(
        ask("")?.contains("choose --default guest --timeout 60000 chosen || goto menu\n"),
        "{}",
        ask("")?
    );
    ensure!(ask("&chosen=guest")?.contains(&proof("alice")), "{}", ask("&chosen=guest")?);
    ensure!(ask("&chosen=local")?.ends_with("\nexit 1\n"), "{}", ask("&chosen=local")?);
    ensure!(ask("&chosen=x%0Ashell")? == ask("")?, "{}", ask("&chosen=x%0Ashell")?);
    xpxe.stop()
}

#[test]
fn a_reload_switches_a_front_on() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let xpxe = place.serve()?;
    let watcher = place.rack.neighbour("watcher", "02:77:00:00:00:e9", "10.77.0.9/24")?;
    let url = format!("http://{SERVER_ADDRESS}:8080/boot/v1/bootscript?mac=02:77:00:00:00:99&arch=x86_64");
    ensure!(fetch(&watcher, &url).is_err(), "before");
    let file = place.rack.dir().join("xpxe.toml").display().to_string();
    xpxe.write_config(&place.config.replace("[http]", "[http]\nfronts = [\"bss\"]"))?;
    let said = xpxe.command(&["reload", "--config", &file])?;
    ensure!(said == "changed http.fronts\n", "{said}");
    let script = fetch(&watcher, &url)?;
    ensure!(
        script.contains(" BOOTIF=01-02-77-00-00-00-99 ") && script.contains("|| goto boot_retry\n"),
        "{script}"
    );
    xpxe.stop()
}

fn fetch(from: &Station, url: &str) -> Result<String> {
    from.output("curl", &["-sSf", "--max-time", "20", url])
}

/// GRUB's own check of its language.
fn grub_reads(text: &str) -> Result<()> {
    let mut check =
        Command::new("grub-script-check").stdin(Stdio::piped()).spawn().context("grub-script-check")?;
    check.stdin.take().context("its input")?.write_all(text.as_bytes())?;
    ensure!(check.wait()?.success(), "GRUB does not read\n{text}");
    Ok(())
}
