//! `xpxe import`: the imported configuration gives clients what the other server gave them.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use boot_tests::daemon::Xpxe;
use boot_tests::dhcp_client::{Client, Reply, mac};
use boot_tests::netns::Process;
use boot_tests::place::{Place, PlayedClients, SOON, in_pool};
use boot_tests::settings::{Settings, pin_dir};
use dhcproto::Encodable as _;
use dhcproto::v4::DhcpOption;

const ADDRESS: &str = "10.77.0.1/24";
/// Mask, router, DNS, log server of printers, name, domain, root path, MTU, NTP, domain search, TFTP servers, PXELINUX.
const COMPARED: [u8; 12] = [1, 3, 6, 9, 12, 15, 17, 26, 42, 119, 150, 208];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("imports").join(name)
}

/// A server that `cargo xtask setup` has unpacked, or one of this machine.
fn program(name: &str) -> String {
    let unpacked = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/peers/usr/sbin").join(name);
    if unpacked.is_file() { unpacked.display().to_string() } else { name.to_owned() }
}

/// What a client gets, as far as both servers have to agree.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    /// None: one of the pool.
    address: Option<Ipv4Addr>,
    boot_file: String,
    options: Vec<(u8, Vec<u8>)>,
}

impl Got {
    /// What the client has asked for, or is compared anyway; xpxe gives firmware and iPXE every option.
    fn of(reply: &Reply, client: &Client) -> Result<Self> {
        let mut options = Vec::new();
        for (code, option) in reply.message.opts().iter() {
            let code = u8::from(*code);
            if COMPARED.contains(&code) && client.asks_for(code) {
                options.push((code, bytes(option)?));
            }
        }
        options.sort();
        let address = Some(reply.address()).filter(|address| !in_pool(*address));
        Ok(Self { address, boot_file: reply.boot_file(), options })
    }
}

/// The data of an option.
fn bytes(option: &DhcpOption) -> Result<Vec<u8>> {
    let bytes = option.to_vec()?;
    Ok(bytes.get(2..).unwrap_or_default().to_vec())
}

/// The machines that the configurations name, others, and each kind of firmware.
fn clients() -> Result<Vec<(&'static str, Client)>> {
    let system = |mac_text: &str| -> Result<Client> { Ok(Client::new(mac(mac_text)?).with(55, &COMPARED)) };
    let firmware = |last: u8, arch: u16| -> Result<Client> {
        let mac = mac(&format!("02:77:00:00:01:{last:02x}"))?;
        Ok(Client::firmware(mac, arch).with(55, &[1, 3, 6, 15, 43, 60, 66, 67]))
    };
    Ok(vec![
        ("alice", system("02:77:00:00:00:10")?),
        ("bob", system("02:77:00:00:00:11")?),
        ("a third one", system("02:77:00:00:00:12")?),
        ("a phone", system("00:1b:54:00:00:01")?),
        ("an unknown one", system("02:77:00:00:00:99")?),
        ("BIOS", firmware(0, 0)?),
        ("UEFI x64", firmware(1, 7)?),
        ("UEFI x64, number 9", firmware(2, 9)?),
        ("UEFI arm64", firmware(3, 11)?),
        ("iPXE", firmware(4, 7)?.with(77, b"iPXE").with(175, &[19, 1, 1, 16, 1, 2, 36, 1, 1])),
    ])
}

fn answers(wire: &PlayedClients) -> Result<Vec<(&'static str, Got)>> {
    let answer = |(name, client): (&'static str, Client)| -> Result<(&'static str, Got)> {
        let offer = wire.discover(&client).with_context(|| name.to_owned())?;
        Ok((name, Got::of(&offer, &client)?))
    };
    clients()?.into_iter().map(answer).collect()
}

/// Starts the server `start` with the text of a configuration, then xpxe with what that is imported as, and compares
/// their answers, apart from differences that the result of the import names.
fn compare(
    from: &str,
    name: &str,
    text: impl Fn(&Place, String) -> String,
    start: impl Fn(&Place, &Path) -> Result<Process>,
    is_named: impl Fn(&str, &mut Got, &mut Got),
) -> Result<()> {
    let Some(place) = Place::build(&Settings::default())? else { return Ok(()) };
    place.rack.server.output("ethtool", &["-K", "eth0", "tx", "off"])?;
    let file = place.rack.dir().join(name);
    let boot_dir = place.rack.dir().join("boot");
    fs::write(&file, text(&place, fs::read_to_string(fixture(name))?))?;
    let wire = place.client()?;
    let theirs = {
        let server = start(&place, &file)?;
        let answers = answers(&wire)?;
        drop(server);
        answers
    };
    let binary = boot_tests::daemon::binary()?.display().to_string();
    let imported = Command::new(&binary)
        .args(["import", from])
        .arg(&file)
        .args(["--interface", "eth0", "--address", ADDRESS])
        .output()?;
    let (toml, told) = (String::from_utf8(imported.stdout)?, String::from_utf8(imported.stderr)?);
    ensure!(imported.status.success(), "{told}");
    let boot =
        if toml.contains("boot_dir = ") { String::new() } else { format!("boot_dir = {boot_dir:?}\n") };
    let own = format!(
        "state_dir = {:?}\npin_dir = {:?}\n{boot}",
        place.rack.dir().join("state"),
        pin_dir(&place.sandbox),
    );
    let xpxe = Xpxe::start(&place.rack, &(own + &toml), &[])?;
    // The loaders are those of the other host.
    let checked = xpxe.command(&[
        "check",
        "--no-files",
        "--config",
        &place.rack.dir().join("xpxe.toml").display().to_string(),
    ])?;
    ensure!(checked.contains("fine"), "{checked}");
    let ours = answers(&wire)?;
    let mut differences = String::new();
    for ((client, mut theirs), (_, mut ours)) in theirs.into_iter().zip(ours) {
        is_named(client, &mut theirs, &mut ours);
        if theirs != ours {
            differences += &format!("{client}\n  {from}: {theirs:?}\n  xpxe: {ours:?}\n");
        }
    }
    ensure!(differences.is_empty(), "{differences}{toml}");
    xpxe.stop()
}

#[test]
fn xpxe_answers_as_dnsmasq_did() -> Result<()> {
    compare(
        "dnsmasq",
        "dnsmasq-lab.conf",
        |place, text| {
            let boot_dir = place.rack.dir().join("boot").display().to_string();
            // What would reach out of the namespace, or change the user that has to end with this process.
            let text = text.replace("port=53", "port=0").replace("/srv/tftp", &boot_dir);
            let leases = place.rack.dir().join("dnsmasq.leases").display().to_string();
            let text = text.replace("/var/lib/misc/dnsmasq.leases", &leases).replace("tftp-secure\n", "");
            text.replace("dhcp-script=/usr/local/bin/lease-changed\n", "user=root\n")
        },
        |place, file| {
            let mut command = place.rack.server.command("dnsmasq");
            command.args(["--keep-in-foreground", "--log-facility=-", "--pid-file="]);
            command.arg(format!("--conf-file={}", file.display()));
            let server = place.rack.server.spawn(command)?;
            server.wait_for_line("DHCP, IP range", SOON)?;
            Ok(server)
        },
        |_, _, _| {},
    )
}

#[test]
fn xpxe_answers_as_kea_did() -> Result<()> {
    compare(
        "kea",
        "kea.conf",
        |place, text| {
            let leases = place.rack.dir().join("leases.csv").display().to_string();
            // Without its libraries and sockets; those are named as left out.
            let text =
                text.replace(r#""persist": true,"#, &format!(r#""persist": true, "name": "{leases}","#));
            let text: Vec<&str> = text
                .lines()
                .filter(|line| !line.contains("hooks-libraries") && !line.contains("control-socket"))
                .collect();
            text.join("\n")
                .replace(
                    r#""severity": "INFO""#,
                    r#""severity": "INFO", "output_options": [ { "output": "stdout" } ]"#,
                )
                .replace(
                    r#""interfaces": [ "eth0" ]"#,
                    r#""interfaces": [ "eth0" ], "dhcp-socket-type": "raw""#,
                )
                .replace(r#", "client-class": "phones""#, "")
                .replace("},\n\"Control-agent\": { \"http-port\": 8000 }", "}")
        },
        |place, file| {
            let dir = place.rack.dir();
            let mut command = place.rack.server.command(&program("kea-dhcp4"));
            command.arg("-c").arg(file);
            command.env("KEA_PIDFILE_DIR", dir).env("KEA_DHCP_DATA_DIR", dir).env("KEA_LOCKFILE_DIR", "none");
            let server = place.rack.server.spawn(command)?;
            server.wait_for_line("DHCP4_STARTED", SOON)?;
            Ok(server)
        },
        // Named in the result: the domain is that of the subnet.
        |_, theirs, _| {
            for (_, name) in theirs.options.iter_mut().filter(|(code, _)| *code == 12) {
                name.truncate(name.iter().position(|byte| *byte == b'.').unwrap_or(name.len()));
            }
        },
    )
}

#[test]
fn xpxe_answers_as_dhcpd_did() -> Result<()> {
    compare(
        "dhcpd",
        "dhcpd-cluster.conf",
        |_, text| text,
        |place, file| {
            let leases = place.rack.dir().join("dhcpd.leases");
            fs::write(&leases, "")?;
            let mut command = place.rack.server.command(&program("dhcpd"));
            command.args(["-4", "-f", "-d", "--no-pid", "-cf"]).arg(file).arg("-lf").arg(&leases).arg("eth0");
            let server = place.rack.server.spawn(command)?;
            server.wait_for_line("Server starting service", SOON)?;
            Ok(server)
        },
        // Named in the result: names for all, boot files for firmware only.
        |client, theirs, ours| {
            if !["BIOS", "iPXE"].contains(&client) && !client.starts_with("UEFI") {
                theirs.boot_file.clear();
            }
            if theirs.options.iter().all(|(code, _)| *code != 12) {
                ours.options.retain(|(code, _)| *code != 12);
            }
        },
    )
}
