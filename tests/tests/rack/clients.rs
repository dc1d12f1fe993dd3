//! Real clients of DHCP.

use super::*;

/// What every client of the subnet is told.
const NETWORK: [(&str, &str); 4] = [
    ("subnet", "255.255.255.0"),
    ("router", "10.77.0.254"),
    ("dns", "10.77.0.53 10.77.0.54"),
    ("domain", "rack.test"),
];

#[test]
fn udhcpc_gets_renews_and_releases_its_address_with_the_kernel_half() -> Result<()> {
    udhcpc_gets_renews_and_releases("xdp")
}

#[test]
fn udhcpc_gets_renews_and_releases_its_address_without_the_kernel_half() -> Result<()> {
    udhcpc_gets_renews_and_releases("off")
}

fn udhcpc_gets_renews_and_releases(fast_path: &'static str) -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let reserved = place.rack.client("alice", ALICE.mac)?;
    let got = Udhcpc::start(&place.rack, &reserved)?;
    let lease = got.wait_for("bound", &xpxe)?;
    ensure!(lease.get("ip") == "10.77.0.10", "alice got {lease:?}");
    ensure!(lease.get("hostname") == "alice", "alice is called {lease:?}");
    ensure!(lease.get("lease") == "600" && lease.get("serverid") == SERVER_ADDRESS, "{lease:?}");
    for (name, value) in NETWORK {
        ensure!(lease.get(name) == value, "{name} is {:?} and not {value:?}", lease.get(name));
    }

    got.process.signal(Signal::SIGUSR1)?;
    let renewed = got.wait_for("renew", &xpxe)?;
    ensure!(renewed.get("ip") == "10.77.0.10", "renewed: {renewed:?}");
    got.process.signal(Signal::SIGUSR2)?;
    xpxe.wait_for_event("alice's release", SOON, |event| {
        event.field("step") == "release" && event.field("mac") == ALICE.mac
    })?;

    let stranger = place.rack.client("stranger", UNKNOWN)?;
    let lease = Udhcpc::start(&place.rack, &stranger)?.wait_for("bound", &xpxe)?;
    ensure!(in_pool(lease.get("ip").parse()?), "a stranger got {lease:?}");
    ensure!(lease.get("hostname").is_empty(), "a stranger has a name: {lease:?}");
    answered_by_the_right_half(&xpxe, fast_path)
}

#[test]
fn dhclient_gets_and_releases_its_address_with_the_kernel_half() -> Result<()> {
    dhclient_gets_and_releases("xdp")
}

#[test]
fn dhclient_gets_and_releases_its_address_without_the_kernel_half() -> Result<()> {
    dhclient_gets_and_releases("off")
}

fn dhclient_gets_and_releases(fast_path: &'static str) -> Result<()> {
    let Some(place) = Place::build(&Settings { fast_path, ..known() })? else { return Ok(()) };
    let xpxe = place.serve()?;
    let dir = place.rack.dir();
    // Without an address of its own dhclient could not send its RELEASE.
    let set_address = dir.join("set-address");
    write_script(
        &set_address,
        "[ \"$reason\" = BOUND ] && ip address add $new_ip_address/24 dev $interface\nexit 0\n",
    )?;
    for (name, mac, expected) in [("alice", ALICE.mac, Some("10.77.0.10")), ("stranger", UNKNOWN, None)] {
        let client = place.rack.client(name, mac)?;
        let (leases, pid) = (dir.join(format!("{name}.leases")), dir.join(format!("{name}.pid")));
        let mut dhclient = client.command("dhclient");
        dhclient.args(["-1", "-d", "-v", "-lf"]).arg(&leases).arg("-pf").arg(&pid);
        dhclient.arg("-sf").arg(if expected.is_some() { &set_address } else { Path::new("/bin/true") });
        dhclient.arg("eth0");
        let process = client.spawn(dhclient)?;
        let bound = process.wait_for_line("bound to", SOON).with_context(|| xpxe.last_lines(20))?;
        let address: Ipv4Addr = bound.text.split_whitespace().nth(2).unwrap_or_default().parse()?;
        match expected {
            Some(expected) => ensure!(address.to_string() == expected, "{}", bound.text),
            None => ensure!(in_pool(address), "{}", bound.text),
        }
        let written = fs::read_to_string(&leases)?;
        let mut wanted = vec![
            format!("fixed-address {address};"),
            "option subnet-mask 255.255.255.0;".to_owned(),
            "option routers 10.77.0.254;".to_owned(),
            "option domain-name-servers 10.77.0.53,10.77.0.54;".to_owned(),
            "option domain-name \"rack.test\";".to_owned(),
            "option dhcp-lease-time 600;".to_owned(),
            format!("option dhcp-server-identifier {SERVER_ADDRESS};"),
        ];
        wanted.extend(expected.map(|_| "option host-name \"alice\";".to_owned()));
        for line in wanted {
            ensure!(written.contains(&line), "{name}'s lease has no {line:?}:\n{written}");
        }
        if expected.is_some() {
            drop(process);
            let leases = leases.display().to_string();
            let pid = pid.display().to_string();
            client
                .output("dhclient", &["-r", "-v", "-lf", &leases, "-pf", &pid, "-sf", "/bin/true", "eth0"])?;
            xpxe.wait_for_event("alice's release", SOON, |event| {
                event.field("step") == "release" && event.field("mac") == ALICE.mac
            })?;
        }
    }
    answered_by_the_right_half(&xpxe, fast_path)
}

fn write_script(path: &Path, body: &str) -> Result<()> {
    fs::write(path, format!("#!/bin/sh\n{body}"))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

/// A running udhcpc that sets its address and writes down what it was told.
pub(super) struct Udhcpc {
    process: Process,
    notes: PathBuf,
}

/// What the script got in its environment.
#[derive(Debug)]
pub(super) struct Told(Vec<(String, String)>);

impl Told {
    pub(super) fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }
}

impl Udhcpc {
    pub(super) fn start(rack: &Rack, station: &Station) -> Result<Self> {
        let script = rack.dir().join(format!("{}.udhcpc", station.name()));
        let notes = script.with_extension("notes");
        // A reader never sees half of a file: it is renamed into place.
        let body = format!(
            "if [ $1 = bound ]; then ip address add $ip/$mask dev $interface; fi\n\
             env > {notes}.new && mv {notes}.new {notes}.$1\n",
            notes = notes.display()
        );
        write_script(&script, &body)?;
        let mut udhcpc = station.command("busybox");
        udhcpc.args(["udhcpc", "-i", "eth0", "-f", "-t", "5", "-T", "2", "-s"]).arg(&script);
        Ok(Self { process: station.spawn(udhcpc)?, notes })
    }

    pub(super) fn wait_for(&self, what: &str, xpxe: &Xpxe<'_>) -> Result<Told> {
        let notes = PathBuf::from(format!("{}.{what}", self.notes.display()));
        let text = eventually_some(SOON, &format!("udhcpc is {what}"), || fs::read_to_string(&notes).ok())
            .with_context(|| {
                let said = boot_tests::netns::tail(&self.process.lines(), 20);
                format!("udhcpc:\n{said}xpxe:\n{}", xpxe.last_lines(20))
            })?;
        let pairs = text.lines().filter_map(|line| line.split_once('='));
        Ok(Told(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()))
    }
}
