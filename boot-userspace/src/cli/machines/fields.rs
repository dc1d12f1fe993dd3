//! What may be said of a machine on the command line.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use boot_engine::config::RegisteredBmc;
use boot_engine::registry::Spec;

/// What is said of a machine.
#[derive(Debug, clap::Args)]
pub(super) struct Fields {
    /// Its name
    #[arg(long)]
    name: Option<String>,
    /// Its MAC addresses; empty: those that it has are not its own, and it is known by its serial number, UUID or switch port
    #[arg(long)]
    mac: Vec<String>,
    /// Its SMBIOS UUID
    #[arg(long)]
    uuid: Option<String>,
    /// Its serial number: the first machine that says it is this one
    #[arg(long)]
    serial: Option<String>,
    /// Its address
    #[arg(long)]
    ip: Option<String>,
    /// Its profile
    #[arg(long)]
    profile: Option<String>,
    /// Its kernel arguments
    #[arg(long)]
    args: Option<String>,
    /// The image that the agent writes to its disk: a file in boot_dir, or image:NAME; empty: none
    #[arg(long, value_name = "FILE")]
    image: Option<String>,
    /// The SHA-256 of that file as it is
    #[arg(long, value_name = "DIGEST")]
    image_sha256: Option<String>,
    /// The disk that it is written to, by serial number or name; empty: the only one
    #[arg(long, value_name = "DISK")]
    image_disk: Option<String>,
    /// Labels, as KEY=VALUE; KEY= removes one
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[command(flatten)]
    bmc: Bmc,
}

/// What is said of its BMC. What is not said is as in [bmc] of the configuration; an empty text takes it away.
#[derive(Debug, clap::Args)]
struct Bmc {
    /// Where its BMC is: an address, with a port if need be, or for Redfish a URL
    #[arg(id = "bmc-address", long = "bmc-address", value_name = "ADDRESS")]
    address: Option<String>,
    /// The MAC address of its BMC, whose lease says where it is
    #[arg(id = "bmc-mac", long = "bmc-mac", value_name = "MAC")]
    mac: Option<String>,
    /// redfish, ipmi, wake-on-lan or command
    #[arg(id = "bmc-driver", long = "bmc-driver", value_name = "DRIVER")]
    driver: Option<String>,
    /// Who xpxe is for its BMC
    #[arg(id = "bmc-user", long = "bmc-user", value_name = "USER")]
    user: Option<String>,
    /// The SHA-256 digest of its BMC's certificate
    #[arg(id = "bmc-certificate", long = "bmc-certificate", value_name = "DIGEST")]
    certificate: Option<String>,
    /// Take any certificate of its BMC
    #[arg(id = "bmc-insecure", long = "bmc-insecure", value_name = "BOOL")]
    insecure: Option<bool>,
    /// The cipher suite of IPMI
    #[arg(id = "bmc-cipher", long = "bmc-cipher", value_name = "NUMBER")]
    cipher: Option<u8>,
    /// uefi or bios
    #[arg(long = "firmware", value_name = "KIND")]
    firmware: Option<String>,
    /// A file whose first line is the password of its BMC (- is the standard input); it is stored encrypted
    #[arg(id = "bmc-password-file", long = "bmc-password-file", value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Bmc {
    fn put_into(self, spec: &mut Spec) -> Result<Option<String>> {
        let Self { address, mac, driver, user, certificate, insecure, cipher, firmware, password_file } =
            self;
        let mut bmc = spec.bmc.clone().unwrap_or_default();
        let set = |field: &mut Option<String>, value: Option<String>| {
            if let Some(value) = value {
                *field = Some(value).filter(|value| !value.is_empty());
            }
        };
        set(&mut bmc.address, address);
        set(&mut bmc.mac, mac);
        set(&mut bmc.driver, driver);
        set(&mut bmc.user, user);
        set(&mut bmc.certificate, certificate);
        set(&mut bmc.firmware, firmware);
        bmc.insecure = insecure.or(bmc.insecure);
        bmc.cipher = cipher.or(bmc.cipher);
        spec.bmc = Some(bmc).filter(|bmc| *bmc != RegisteredBmc::default());
        password_file.map(|file| first_line(&file)).transpose()
    }
}

/// A password never is an argument: everybody on this host sees those.
fn first_line(file: &Path) -> Result<String> {
    let text = if file.as_os_str() == "-" {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        line
    } else {
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
    };
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => bail!("the first line of {} is empty, and it is to be the password", file.display()),
    }
}

impl Fields {
    /// A new machine, and the password of its BMC. Nothing can be taken away from it, so what is empty is a variable of a script
    /// that was.
    pub(super) fn of_new(self) -> Result<(Spec, Option<String>)> {
        let given = [
            ("--name", &self.name),
            ("--uuid", &self.uuid),
            ("--serial", &self.serial),
            ("--ip", &self.ip),
            ("--profile", &self.profile),
        ];
        if let Some((flag, _)) = given.into_iter().find(|(_, value)| value.as_deref() == Some("")) {
            bail!("{flag} is empty, and nothing was added: write a value, or leave it out");
        }
        let mut spec = Spec::default();
        let password = self.put_into(&mut spec)?;
        Ok((spec, password))
    }

    /// Changes what is said of a machine. Gives the password of its BMC, which is no part of that.
    pub(super) fn put_into(self, spec: &mut Spec) -> Result<Option<String>> {
        let Self { name, mac, uuid, serial, ip, profile, args, image, image_sha256, image_disk, labels, bmc } =
            self;
        let set = |field: &mut Option<String>, value: Option<String>| {
            if let Some(value) = value {
                *field = Some(value).filter(|value| !value.is_empty());
            }
        };
        set(&mut spec.name, name);
        set(&mut spec.uuid, uuid);
        set(&mut spec.serial, serial);
        set(&mut spec.ip, ip);
        set(&mut spec.profile, profile);
        if !mac.is_empty() {
            spec.mac = mac.into_iter().filter(|mac| !mac.is_empty()).collect();
        }
        if let Some(args) = args {
            spec.args = args;
        }
        if image.as_deref() == Some("") {
            spec.image = None;
        } else if image.is_some() || image_sha256.is_some() || image_disk.is_some() {
            let own = spec.image.get_or_insert_default();
            own.url = image.unwrap_or_else(|| std::mem::take(&mut own.url));
            own.sha256 = image_sha256.unwrap_or_else(|| std::mem::take(&mut own.sha256));
            set(&mut own.disk, image_disk);
        }
        for label in labels {
            match label.split_once('=') {
                Some((key, "")) => drop(spec.labels.remove(key)),
                Some((key, value)) => drop(spec.labels.insert(key.to_owned(), value.to_owned())),
                None => bail!("{label:?} is no label; write KEY=VALUE, or KEY= to remove one"),
            }
        }
        bmc.put_into(spec)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        fields: Fields,
    }

    fn fields(flag: &str, value: &str) -> Fields {
        Flags::parse_from(["xpxe", "--mac", "02:77:00:00:00:01", flag, value]).fields
    }

    #[test]
    fn an_empty_text_takes_away_what_was_said() {
        let mut spec = Spec {
            name: Some("node1".to_owned()),
            mac: vec!["52:54:00:00:00:01".to_owned()],
            serial: Some("CZ12".to_owned()),
            ..Spec::default()
        };
        Flags::parse_from(["set", "--mac", "", "--name", ""]).fields.put_into(&mut spec).unwrap();
        assert_eq!(spec, Spec { serial: Some("CZ12".to_owned()), ..Spec::default() });
    }

    #[test]
    fn what_is_empty_is_taken_away_from_a_machine_that_is_there_and_refused_of_a_new_one() {
        for flag in ["--name", "--uuid", "--serial", "--ip", "--profile"] {
            let said = fields(flag, "").of_new().unwrap_err().to_string();
            assert!(said.starts_with(&format!("{flag} is empty")), "{said}");
        }
        let (mut spec, _) = fields("--name", "alice").of_new().unwrap();
        assert_eq!(spec.name.as_deref(), Some("alice"));
        fields("--name", "").put_into(&mut spec).unwrap();
        assert_eq!(spec.name, None);
    }
}
