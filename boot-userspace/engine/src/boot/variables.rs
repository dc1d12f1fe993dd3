//! What templates say of the machine that asks.

use std::net::Ipv4Addr;

use super::Server;
use super::asked::Asked;
use super::choice::Choice;
use super::url::url;
use crate::config::{
    Config, Initrd, MachineVariables, NetworkVariables, ServerVariables, Variables, parse_uuid, tame,
    uuid_text,
};

/// Where documents are, by machine.
pub const DOCUMENTS: &str = "/documents/";
/// Where machines say how their boot went.
pub const PHONE_HOME: &str = "/phone-home";
/// Where agents ask what to do, by machine.
pub const AGENT: &str = "/agent/";

/// The path at which the machine that asks reports: with the number of its installation, so that a late report of an earlier one is
/// known for that.
fn phone_home(asked: &Asked) -> String {
    let mac = asked.mac_with_hyphens().unwrap_or_default();
    match asked.life().map(|life| life.run) {
        None | Some(0) => format!("{PHONE_HOME}?mac={mac}"),
        Some(run) => format!("{PHONE_HOME}/{run}?mac={mac}"),
    }
}

/// The variables of the machine that asks, without `args` and `again`.
pub(super) fn of(config: &Config, asked: &Asked, choice: &Choice<'_>) -> Variables {
    let server = &asked.server;
    let arch = asked.arch();
    let named = |paths: &[String]| -> Vec<Initrd> {
        let named = paths.iter().enumerate();
        named
            .map(|(number, path)| Initrd { name: format!("initrd{number}"), url: url(server, path) })
            .collect()
    };
    let name = choice.profile.map(|(name, _)| name.to_owned());
    let (profile, kernel, initrds) = match (&choice.written, choice.profile) {
        (Some(written), _) => {
            let parameters = &written.parameters;
            (name, Some(url(server, &parameters.kernel())), named(&parameters.initrds()))
        }
        (None, None) => (None, None, Vec::new()),
        (None, Some((_, profile))) => {
            let kernel = profile.first_file(arch).map(|file| url(server, &file));
            (name, kernel, named(profile.initrd_of(arch)))
        }
    };
    Variables {
        machine: machine(asked),
        network: asked.address().map(|address| network(config, address)).unwrap_or_default(),
        server: ServerVariables {
            address: server.host().to_owned(),
            files: server.at("/files"),
            url: server.as_str().to_owned(),
        },
        documents: server.at(format_args!("{DOCUMENTS}{}/{}", asked.who_in_urls(), token(server))),
        phone_home: server.at(phone_home(asked)),
        agent: server.for_agent(format_args!("{AGENT}{}/{}", asked.who_in_urls(), token(server))),
        agent_key: server.key(),
        profile,
        kernel,
        initrds,
        args: None,
        again: None,
    }
}

/// The part of a path that secret documents are given for.
fn token(server: &Server) -> String {
    server.token().map(|token| token.in_urls() + "/").unwrap_or_default()
}

fn machine(asked: &Asked) -> MachineVariables {
    let machine = asked.machine();
    let name = machine.and_then(|machine| machine.name.clone());
    let name = name.or_else(|| asked.mac_with_hyphens()).unwrap_or_else(|| asked.client_ip.to_string());
    MachineVariables {
        name,
        mac: asked.mac.map(|mac| mac.to_string()),
        uuid: machine.and_then(|machine| machine.uuid).map(uuid_text).or_else(|| asked.said_uuid()),
        ip: asked.address(),
        serial: asked.serial.as_deref().map(tame),
        hostname: asked.hostname.as_deref().map(tame),
        arch: asked.arch().map(|arch| arch.to_string()),
        labels: machine.map(|machine| machine.labels.clone()).unwrap_or_default(),
    }
}

fn network(config: &Config, address: Ipv4Addr) -> NetworkVariables {
    let subnet = config.subnets.iter().find(|subnet| subnet.cidr.contains(&address));
    subnet.map_or_else(NetworkVariables::default, |subnet| NetworkVariables {
        cidr: Some(subnet.cidr.to_string()),
        netmask: Some(subnet.cidr.netmask()),
        prefix: Some(subnet.cidr.prefix_len()),
        router: subnet.router,
        dns: subnet.dns.clone(),
        domain: subnet.domain.clone(),
    })
}

impl Asked {
    fn mac_with_hyphens(&self) -> Option<String> {
        self.mac.map(|mac| mac.to_string().replace(':', "-"))
    }

    /// The UUID that it says, as UUIDs are written, if it is one.
    fn said_uuid(&self) -> Option<String> {
        self.uuid.as_deref().and_then(|uuid| parse_uuid(uuid).ok()).map(uuid_text)
    }

    /// The machine in the URLs of its documents: its MAC address, or `self` for the one that asks, then what it says of its
    /// architecture, its serial number, its UUID and what was chosen in its
    /// menu, which its operating system may not say.
    fn who_in_urls(&self) -> String {
        let parts = [
            self.mac_with_hyphens().unwrap_or_else(|| "self".to_owned()),
            self.arch().map_or_else(String::new, |arch| arch.to_string()),
            self.serial.as_deref().map(tame).unwrap_or_default(),
            self.said_uuid().unwrap_or_default(),
            self.chosen.as_deref().map(tame).unwrap_or_default(),
        ];
        parts.join(",").trim_end_matches(',').to_owned()
    }
}
