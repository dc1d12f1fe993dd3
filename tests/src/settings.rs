//! xpxe's configuration for a rack of the tests.

use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::guest;
use crate::rack::{Rack, SUBNET};
use crate::sandbox::Sandbox;

/// A machine in the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Its name.
    pub name: &'static str,
    /// Its MAC.
    pub mac: &'static str,
    /// Its reserved address, if it has one.
    pub address: Option<&'static str>,
}

/// The settings that differ from test to test; the rest is the same: network 10.77.0.0/24 with a pool of .100 to .199,
/// HTTP on port 8080, the guest for every machine.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The interface to serve.
    pub interface: &'static str,
    /// `server`, `proxy` or `off`.
    pub dhcp: &'static str,
    /// `auto`, `xdp`, `tc` or `off`.
    pub fast_path: &'static str,
    /// The memory for boot files in the kernel half.
    pub fast_path_memory: &'static str,
    /// The known machines.
    pub machines: Vec<Known>,
    /// The profile's kernel arguments.
    pub args: String,
    /// More TOML: whole tables.
    pub more: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interface: "eth0",
            dhcp: "server",
            fast_path: "xdp",
            fast_path_memory: "64M",
            machines: Vec::new(),
            args: "console=ttyS0".to_owned(),
            more: String::new(),
        }
    }
}

/// The directory of the pinned programs and tables.
pub fn pin_dir(sandbox: &Sandbox) -> PathBuf {
    sandbox.pin_dir().join("xpxe")
}

/// The directory of the boot files.
pub fn boot_dir(rack: &Rack) -> PathBuf {
    rack.dir().join("boot")
}

/// The kernel argument of this machine only.
pub fn proof(name: &str) -> String {
    format!("xpxe.proof={name}")
}

impl Settings {
    /// Makes the directories that the file names, and returns its text. A proxy has no network of its own.
    pub fn write(&self, sandbox: &Sandbox, rack: &Rack) -> Result<String> {
        let (state_dir, boot_dir) = (rack.dir().join("state"), boot_dir(rack));
        for dir in [&state_dir, &boot_dir] {
            fs::create_dir_all(dir)?;
        }
        let Self { interface, dhcp, fast_path, fast_path_memory, args, more, .. } = self;
        let mut text = format!(
            r#"
state_dir = {state_dir:?}
boot_dir = {boot_dir:?}
pin_dir = {pin_dir:?}
fast_path_memory = "{fast_path_memory}"

[http]
listen = "0.0.0.0:8080"

[[interface]]
name = "{interface}"
dhcp = "{dhcp}"
fast_path = "{fast_path}"

[[profile]]
name = "guest"
kernel = "{kernel}"
initrd = ["{initrd}"]
args = "{args}"

[default]
profile = "guest"
"#,
            pin_dir = pin_dir(sandbox),
            kernel = guest::KERNEL,
            initrd = guest::INITRD,
        );
        if *dhcp == "server" {
            text += &format!(
                r#"
[[subnet]]
cidr = "{SUBNET}"
pool = ["10.77.0.100-10.77.0.199"]
router = "10.77.0.254"
dns = ["10.77.0.53", "10.77.0.54"]
domain = "rack.test"
lease = "10m"
"#
            );
        }
        text += more;
        for Known { name, mac, address } in &self.machines {
            text +=
                &format!("\n[[machine]]\nmac = \"{mac}\"\nname = \"{name}\"\nargs = \"{}\"\n", proof(name));
            text += &address.map(|address| format!("ip = \"{address}\"\n")).unwrap_or_default();
        }
        Ok(text)
    }
}
