//! Documents as the programs read them that they are for: what xpxe takes they take, and what they refuse xpxe refuses when it
//! is loaded. Needs no root.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, ensure};
use boot_engine::boot::documents::Document;
use boot_engine::boot::plan::{Asked, Planner};
use boot_engine::config::{self, Config, Problems, Source, TextFile};
use boot_engine::machines::Machines;

const CONFIG: &str = r#"
[[interface]]
name = "eth1"
[[subnet]]
cidr = "10.1.0.0/16"
pool = ["10.1.1.33-10.1.1.40"]
router = "10.1.0.1"
dns = ["10.1.1.2", "10.1.1.3"]
domain = "mtl"
[[profile]]
name = "linux"
kernel = "vmlinuz"
[[machine]]
mac = "52:54:00:00:00:01"
name = "node1"
ip = "10.1.1.50"
profile = "linux"
labels = { role = "worker" }
"#;

const CLOUD_CONFIG: &str = r#"#cloud-config
fqdn: {{ machine.name }}.{{ network.domain }}
ntp:
  servers:
  {% for server in network.dns %}
    - {{ server }}
  {% endfor %}
{% if machine.labels.role == "worker" %}
packages: [htop]
{% endif %}
phone_home:
  url: "{{ phone_home }}"
  post: [instance_id, hostname, fqdn]
"#;

const IGNITION: &str = r#"{
  "ignition": { "version": "3.3.0" },
  "storage": {
    "files": [
      { "path": "/etc/hostname", "mode": 420, "contents": { "source": "data:,{{ machine.name }}" } },
      { "path": "/etc/labels", "contents": { "source": "data:,{{ machine.labels.role }}" } }
    ]
  }
}
"#;

const PRESEED: &str = "d-i netcfg/get_hostname string {{ machine.name }}
d-i netcfg/get_nameservers string {{ network.dns | join(' ') }}
# A comment.
d-i preseed/late_command string \\
  wget -O /dev/null \"{{ phone_home }}&status=success\"
d-i clock-setup/utc boolean true
";

#[test]
fn cloud_init_takes_its_user_data_and_refuses_what_is_none() -> Result<()> {
    let document = of_node1("user-data", CLOUD_CONFIG)?;
    ensure!(
        document.text.contains("fqdn: node1.mtl\n") && document.text.contains("    - 10.1.1.3\n"),
        "{}",
        document.text
    );
    ensure!(cloud_init(&document.text)?.status.success(), "{}", said(&cloud_init(&document.text)?));
    for broken in
        ["cloud-config\npackages: [htop]\n", "#cloud-config\npackages: [htop\n", "#cloud-config\n- htop\n"]
    {
        ensure!(!cloud_init(broken)?.status.success(), "cloud-init takes {broken:?}");
        ensure!(load("user-data", broken).is_err(), "xpxe takes {broken:?}");
    }
    Ok(())
}

#[test]
fn ignition_takes_its_configuration_and_refuses_what_is_none() -> Result<()> {
    let document = of_node1("ignition", IGNITION)?;
    let taken = ignition(&document.text)?;
    ensure!(taken.status.success() && document.text.contains("data:,node1"), "{}", said(&taken));
    for broken in
        ["{ \"ignition\": { \"version\": \"3.3.0\" ", "{ \"storage\": {} }", "ignition: {version: 3.3.0}\n"]
    {
        ensure!(!ignition(broken)?.status.success(), "Ignition takes {broken:?}");
        ensure!(load("ignition", broken).is_err(), "xpxe takes {broken:?}");
    }
    Ok(())
}

#[test]
fn debconf_takes_its_preseed_and_refuses_what_is_none() -> Result<()> {
    let document = of_node1("preseed", PRESEED)?;
    let taken = debconf(&document.text)?;
    ensure!(taken.status.success() && taken.stderr.is_empty(), "{}", said(&taken));
    for broken in ["d-i nothing\n", "d-i a/b strnig x\n"] {
        let refused = debconf(broken)?;
        ensure!(!refused.status.success() || !refused.stderr.is_empty(), "debconf takes {broken:?}");
        ensure!(load("preseed", broken).is_err(), "xpxe takes {broken:?}");
    }
    Ok(())
}

/// The configuration with this document.
fn load(kind: &str, text: &str) -> Result<Config, Problems> {
    let read = |name: &str| Ok(TextFile { name: name.to_owned(), text: text.to_owned() });
    let documents = format!("kernel = \"vmlinuz\"\ndocuments = {{ {kind} = \"document\" }}\n");
    let toml = CONFIG.replace("kernel = \"vmlinuz\"\n", &documents);
    config::parse_files_with(&[Source { name: "xpxe.toml".to_owned(), bytes: toml.into() }], &read)
}

/// The document as node1 gets it.
fn of_node1(kind: &str, text: &str) -> Result<Document> {
    let config = load(kind, text)?;
    let machines = Machines::new(config.machines.iter().cloned())?;
    let client_ip: IpAddr = Ipv4Addr::new(10, 1, 1, 50).into();
    let mac = "52:54:00:00:00:01".parse().ok();
    let asked = Asked {
        uuid: None,
        mac,
        asker: machines.asker(client_ip, mac, None),
        domain: None,
        chosen: None,
        hostname: None,
        platform: None,
        serial: None,
        arch: None,
        client_ip,
        told: None,
        server: std::net::SocketAddr::from(([10, 1, 0, 2], 8080)).into(),
    };
    Ok(Planner::new(config)?.document(&asked, kind)?)
}

fn cloud_init(text: &str) -> Result<Output> {
    let packages = reader("usr/lib/python3/dist-packages")?;
    let mut command = Command::new("/usr/bin/python3");
    command.env("PYTHONPATH", packages).args(["-m", "cloudinit.cmd.main", "schema", "-c"]);
    with_file(command, text)
}

fn ignition(text: &str) -> Result<Output> {
    with_file(Command::new(reader("usr/bin/ignition-validate")?), text)
}

fn debconf(text: &str) -> Result<Output> {
    let mut command = Command::new("debconf-set-selections");
    command.arg("-c");
    with_file(command, text)
}

/// Runs a program with the name of a file with this text behind its arguments.
fn with_file(mut command: Command, text: &str) -> Result<Output> {
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("document");
    fs::write(&file, text)?;
    command
        .arg(&file)
        .current_dir(dir.path())
        .env("HOME", dir.path())
        .output()
        .with_context(|| format!("{command:?}"))
}

/// A file that `cargo xtask setup` has prepared.
fn reader(name: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/readers").join(name);
    ensure!(path.exists(), "{} is missing: run `cargo xtask setup`", path.display());
    Ok(path)
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
