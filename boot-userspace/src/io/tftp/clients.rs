//! Whose requests are answered, and from which port.
//!
//! Whoever forges an address has our answers sent to its owner. So addresses of networks that nobody named get nothing, and
//! where all are answered, the others have to prove that they hear us: by the number of a port that only our answer has.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::host::link::Link;
use crate::host::live::Live;
use boot_engine::config::{Config, TftpClients};

/// How many networks are remembered as refused, so that each has one line in the log.
const MOST_REFUSED: usize = 256;

/// What an address gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is of a network of ours.
    Served,
    /// It is not, and answered all the same, from a port of the transfer's own.
    Foreign,
    /// Silence.
    Refused,
}

/// The networks that are served beside the interfaces' own. Clones are the same.
#[derive(Clone, Debug)]
pub struct Clients(Live<Networks>);

#[derive(Debug)]
struct Networks {
    named: Vec<Ipv4Net>,
    are_all: bool,
}

impl Clients {
    pub(super) fn of(config: &Config) -> Self {
        Self(Live::new(Networks::of(config)))
    }

    /// From now on those of another configuration. Transfers under way go on.
    pub fn follow(&self, config: &Config) {
        self.0.replace(Networks::of(config));
    }

    pub(super) fn standing(&self, address: Ipv4Addr, link: &Link) -> Standing {
        let networks = self.0.get();
        let mut ours = link.addresses.iter().chain(&networks.named);
        match ours.any(|net| net.contains(&address)) {
            true => Standing::Served,
            false if networks.are_all => Standing::Foreign,
            false => Standing::Refused,
        }
    }
}

impl Networks {
    fn of(config: &Config) -> Self {
        let subnets = config.subnets.iter().map(|subnet| subnet.cidr);
        let (named, are_all) = match &config.tftp.clients {
            TftpClients::Served(named) => (named.as_slice(), false),
            TftpClients::Any => (&[][..], true),
        };
        Self { named: subnets.chain(named.iter().copied()).collect(), are_all }
    }
}

/// What the log has said of refused clients.
#[derive(Default)]
pub(super) struct Refusals(HashSet<Ipv4Net>);

impl Refusals {
    /// The network to write into the configuration, if the log has not said so yet.
    pub(super) fn new_of(&mut self, address: Ipv4Addr) -> Option<Ipv4Net> {
        let net = Ipv4Net::new(address, 24).ok()?.trunc();
        if self.0.len() >= MOST_REFUSED {
            self.0.clear();
        }
        self.0.insert(net).then_some(net)
    }
}

#[cfg(test)]
mod tests {
    use boot_common::Mac;

    use super::*;
    use boot_engine::config;

    #[test]
    fn networks_of_interfaces_subnets_and_the_configuration_are_served() {
        let parse = |clients: &str| {
            let text = format!(
                "[[interface]]\nname = \"eth1\"\n[[subnet]]\ncidr = \"10.2.0.0/16\"\npool = [\"10.2.0.9\"]\n{clients}"
            );
            Clients::of(&config::parse(&text, "test").unwrap())
        };
        let addresses = vec!["10.1.0.1/24".parse().unwrap(), "10.8.0.1/24".parse().unwrap()];
        let link = Link { index: 2, name: "eth1".to_owned(), mac: Mac([2; 6]), addresses, mtu: 1500 };
        let standing = |clients: &Clients, address: &str| clients.standing(address.parse().unwrap(), &link);
        let default = parse("");
        for ours in ["10.1.0.7", "10.8.0.7", "10.2.255.7"] {
            assert_eq!(standing(&default, ours), Standing::Served, "{ours}");
        }
        for other in ["10.1.1.7", "10.3.0.7", "192.0.2.7"] {
            assert_eq!(standing(&default, other), Standing::Refused, "{other}");
            assert_eq!(standing(&parse("[tftp]\nclients = \"any\""), other), Standing::Foreign, "{other}");
        }
        let more = parse("[tftp]\nclients = [\"10.3.0.0/24\"]");
        assert_eq!(standing(&more, "10.3.0.7"), Standing::Served);
        assert_eq!(standing(&more, "10.3.1.7"), Standing::Refused);
    }

    #[test]
    fn a_refused_network_is_told_once_and_few_are_remembered() {
        let mut refusals = Refusals::default();
        let net = Some("192.0.2.0/24".parse().unwrap());
        assert_eq!(refusals.new_of(Ipv4Addr::new(192, 0, 2, 7)), net);
        assert_eq!(refusals.new_of(Ipv4Addr::new(192, 0, 2, 8)), None);
        for number in 0..100_000_u32 {
            refusals.new_of(Ipv4Addr::from(number << 8));
            assert!(refusals.0.len() <= MOST_REFUSED);
        }
    }
}
