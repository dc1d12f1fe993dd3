//! A machine of the registry: what people write of it, checked by the rules of `[[machine]]`.

use std::collections::BTreeMap;

use super::bmc::RegisteredBmc;
use super::checked::{Config, Machine, RelayPort};
use super::disk_image::DiskImage;
use super::{address, bytes, name, serial, value};

/// What people may write of a machine of the registry, as texts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// As `name` of `[[machine]]`.
    pub name: Option<String>,
    /// As `mac`.
    pub macs: Vec<String>,
    /// As `uuid`.
    pub uuid: Option<String>,
    /// The serial number that SMBIOS says it has.
    pub serial: Option<String>,
    /// As `circuit_id` and `remote_id` of `relay_port`.
    pub relay_port: Option<(String, Option<String>)>,
    /// As `ip`.
    pub ip: Option<String>,
    /// As `profile`.
    pub profile: Option<String>,
    /// As `args`.
    pub args: String,
    /// As `labels`.
    pub labels: BTreeMap<String, String>,
    /// As `bmc`.
    pub bmc: Option<RegisteredBmc>,
    /// The image that the agent writes to its disk.
    pub image: Option<DiskImage>,
}

impl Registered {
    /// The machine.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with its key.
    pub fn check(&self, config: &Config) -> Result<Machine, Vec<String>> {
        let mut wrong = Vec::new();
        let mut said = |key: &str, why: String| wrong.push(format!("{key}: {why}"));
        let mut machine =
            Machine { args: self.args.clone(), labels: self.labels.clone(), ..Machine::default() };
        for text in &self.macs {
            match address::mac(text) {
                Ok(mac) if machine.macs.contains(&mac) => said("mac", format!("{mac} is there twice")),
                Ok(mac) => machine.macs.push(mac),
                Err(why) => said("mac", why),
            }
        }
        if let Some(text) = &self.name {
            machine.name = name::machine(text).map_err(|why| said("name", why)).ok();
        }
        if let Some(text) = &self.uuid {
            machine.uuid = bytes::uuid(text).map_err(|why| said("uuid", why)).ok();
        }
        if let Some(text) = &self.serial {
            machine.serial = serial::serial(text).map_err(|why| said("serial", why)).ok();
        }
        if let Some((circuit, remote)) = &self.relay_port {
            let circuit = bytes::relay_value(circuit).map_err(|why| said("relay_port.circuit_id", why));
            let remote = remote.as_ref().map(|text| bytes::relay_value(text)).transpose();
            let remote = remote.map_err(|why| said("relay_port.remote_id", why));
            if let (Ok(circuit_id), Ok(remote_id)) = (circuit, remote) {
                machine.relay_port = Some(RelayPort { circuit_id, remote_id });
            }
        }
        if let Some(text) = &self.ip {
            machine.ip = address::host(text)
                .and_then(|ip| accept(config, ip).map(|()| ip))
                .map_err(|why| said("ip", why))
                .ok();
        }
        if let Some(text) = &self.profile {
            if config.profiles.contains_key(text) {
                machine.profile = Some(text.clone());
            } else {
                said(
                    "profile",
                    format!(
                        "there is no profile {}; write a [[profile]] with this name or name another",
                        value::quoted(text)
                    ),
                );
            }
        }
        if let Err(why) = value::args(&self.args).and_then(|_| only_variables(&self.args)) {
            said("args", why);
        }
        if let Some(image) = &self.image {
            image.check(&config.boot_dir).into_iter().for_each(|(key, why)| said(key, why));
            machine.image = Some(Box::new(image.clone()));
        }
        for (key, text) in &self.labels {
            if let Err(why) = value::label(key, text) {
                said(&format!("labels.{}", key.escape_debug()), why);
            }
        }
        machine.bmc = self.bmc.as_ref().map(|bmc| Box::new(bmc.check(&mut said)));
        let is_known = self.uuid.is_some() || self.serial.is_some() || self.relay_port.is_some();
        if self.macs.is_empty() && !is_known {
            said(
                "mac",
                "nothing tells this machine from others: give it a MAC, a uuid, a serial or a relay_port"
                    .to_owned(),
            );
        }
        if wrong.is_empty() { Ok(machine) } else { Err(wrong) }
    }
}

impl From<&Machine> for Registered {
    fn from(machine: &Machine) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let port = machine.relay_port.as_ref();
        Self {
            name: machine.name.clone(),
            macs: machine.macs.iter().map(ToString::to_string).collect(),
            uuid: machine.uuid.map(bytes::uuid_text),
            serial: machine.serial.clone(),
            relay_port: port.map(|port| (text(&port.circuit_id), port.remote_id.as_deref().map(text))),
            ip: machine.ip.map(|ip| ip.to_string()),
            profile: machine.profile.clone(),
            args: machine.args.clone(),
            labels: machine.labels.clone(),
            bmc: machine.bmc.as_deref().map(RegisteredBmc::from),
            image: machine.image.as_deref().cloned(),
        }
    }
}

/// Whether a text has nothing of a template but variables: it is written while machines are served, and nobody tries it first.
fn only_variables(text: &str) -> Result<(), String> {
    let remedy = "in the registry a text may have {{ variables }} only, also with | default(\"…\"): write the rest in args of a \
                  [[group]] or [[profile]]";
    if text.contains("{%") || text.contains("{#") {
        return Err(remedy.to_owned());
    }
    for part in text.split("{{").skip(1) {
        let (inside, _) = part.split_once("}}").ok_or("{{ without }}")?;
        let (name, otherwise) = match inside.split_once('|') {
            Some((name, filter)) => (name, Some(filter.trim())),
            None => (inside, None),
        };
        let is_name = name.trim().chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
        let is_plain = |filter: &str| {
            let value = filter.strip_prefix("default(").and_then(|rest| rest.strip_suffix(')'));
            value.is_some_and(|value| !value.contains(['(', '|', '~', '*', '+']))
        };
        if !is_name || !otherwise.is_none_or(is_plain) {
            return Err(remedy.to_owned());
        }
    }
    Ok(())
}

/// Whether a machine can have this address.
fn accept(config: &Config, ip: std::net::Ipv4Addr) -> Result<(), String> {
    if config.subnets.is_empty() {
        return Ok(());
    }
    let Some(subnet) = config.subnets.iter().find(|subnet| subnet.cidr.contains(&ip)) else {
        return Err(format!("{ip} is in no [[subnet]]"));
    };
    let is_edge =
        subnet.cidr.prefix_len() < 31 && (ip == subnet.cidr.network() || ip == subnet.cidr.broadcast());
    if is_edge || subnet.router == Some(ip) {
        return Err(format!(
            "{ip} is the router's, the network's or the broadcast address of {}",
            subnet.cidr
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_labels_are_words_wherever_they_are_written() {
        let config = crate::config::parse("[[interface]]\nname = 'eth1'\ndhcp = 'off'\n", "test").unwrap();
        let said = |key: &str| {
            let labels = [(key.to_owned(), "v".to_owned())].into();
            let macs = vec!["52:54:00:00:00:01".to_owned()];
            Registered { macs, labels, ..Registered::default() }.check(&config)
        };
        let long = "k".repeat(318);
        for good in ["role", "feature.node.kubernetes.io/cpu-0_1", "Größe"] {
            assert!(said(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a=b", "a;b", "a,b", "\u{1b}[31mred\nx", "r\0", "\u{202e}a", &long] {
            let why = said(bad).unwrap_err().join("");
            assert!(why.contains("cannot be the key of a label"), "{why}");
            assert!(!why.contains(char::is_control), "{why:?}");
        }
    }

    #[test]
    fn arguments_of_the_registry_name_variables_and_compute_nothing() {
        for good in ["", "a=1 {b}", "n={{ machine.name }} x={{labels.rack|default(\"none\")}}"] {
            assert_eq!(only_variables(good), Ok(()), "{good}");
        }
        for bad in [
            "{% for n in range(40) %}{% set a.x = a.x ~ a.x %}{% endfor %}",
            "{{ 'a' * 999999999 }}",
            "{{ machine.name ~ machine.name }}",
            "{{ range(9) | join }}",
            "{{ a | default('b' * 9) }}",
            "{{ a",
            "{# #}",
        ] {
            assert!(only_variables(bad).is_err(), "{bad}");
        }
    }
}
