//! `[http]`: the server of boot scripts and images.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::address;
use super::reader::Table;
use super::report::{At, Report, one, one_list};
use super::value::quoted;

/// How many HTTP connections one address may have unless the file says otherwise: a row of machines behind one NAT.
pub const DEFAULT_CONNECTIONS_PER_ADDRESS: usize = 256;

/// `[http]`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `listen`: where it listens. Default `0.0.0.0:8080`.
    pub listen: SocketAddr,
    /// `advertise`: the address in the URLs that machines are given. Neither the address nor the port is zero;
    /// without a port in the file it is the one of `listen`. Default: the address the client's interface has.
    pub advertise: Option<SocketAddr>,
    /// `connections_per_address`: how many connections one address may have at once, 1 to 4096. Default
    /// [`DEFAULT_CONNECTIONS_PER_ADDRESS`].
    pub connections_per_address: usize,
    /// `threads`: how many threads deliver scripts and files, 1 to 256. Default: one for each processor.
    pub threads: Option<usize>,
    /// `trusted_proxies`: whose X-Forwarded-For header is believed. Default: nobody's.
    pub trusted_proxies: Vec<IpNet>,
    /// `shared_addresses`: those that stand for several machines, so that nothing follows from them. Default: none.
    pub shared_addresses: Vec<IpNet>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            advertise: None,
            connections_per_address: DEFAULT_CONNECTIONS_PER_ADDRESS,
            threads: None,
            trusted_proxies: Vec::new(),
            shared_addresses: Vec::new(),
        }
    }
}

/// The section as it stands in the file.
#[derive(Default)]
pub(super) struct Written {
    listen: Option<At<String>>,
    advertise: Option<At<String>>,
    connections_per_address: Option<At<u32>>,
    threads: Option<At<u32>>,
    trusted_proxies: Vec<At<String>>,
    shared_addresses: Vec<At<String>>,
}

/// The section in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Written {
    let known =
        ["listen", "advertise", "connections_per_address", "threads", "trusted_proxies", "shared_addresses"];
    let Some(http) = top.table("http", &known, report) else { return Written::default() };
    Written {
        listen: http.text("listen", "0.0.0.0:8080", report),
        advertise: http.text("advertise", "10.1.0.2:8080", report),
        connections_per_address: http.number("connections_per_address", 1..=4096, "256", report),
        threads: http.number("threads", 1..=256, "4", report),
        trusted_proxies: http.texts("trusted_proxies", "10.1.0.5", report),
        shared_addresses: http.texts("shared_addresses", "10.1.0.1", report),
    }
}

impl Written {
    /// Adds what a further file says.
    pub(super) fn add(&mut self, more: Self, report: &mut Report<'_>) {
        one(&mut self.listen, more.listen, report);
        one(&mut self.advertise, more.advertise, report);
        one(&mut self.connections_per_address, more.connections_per_address, report);
        one(&mut self.threads, more.threads, report);
        one_list(&mut self.trusted_proxies, more.trusted_proxies, report);
        one_list(&mut self.shared_addresses, more.shared_addresses, report);
    }
}

/// The settings.
pub(super) fn check(from: &Written, report: &mut Report<'_>) -> Http {
    let default = Http::default();
    let listen = from.listen.as_ref().and_then(|at| at.read(report, address::listen));
    let listen = listen.unwrap_or(default.listen);
    let advertise = from.advertise.as_ref();
    let advertise = advertise.and_then(|at| at.read(report, |text| address::advertise(text, listen.port())));
    let number = |at: &Option<At<u32>>| at.as_ref().and_then(|at| usize::try_from(at.value).ok());
    let (connections, threads) = (number(&from.connections_per_address), number(&from.threads));
    let mut nets = |list: &[At<String>]| list.iter().filter_map(|at| at.read(report, net)).collect();
    Http {
        listen,
        advertise,
        connections_per_address: connections.unwrap_or(default.connections_per_address),
        threads,
        trusted_proxies: nets(&from.trusted_proxies),
        shared_addresses: nets(&from.shared_addresses),
    }
}

/// An address, or all those of a network.
fn net(text: &str) -> Result<IpNet, String> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => Ok(IpNet::from(address)),
        Err(_) => text.parse::<IpNet>(),
    };
    let net = net.map_err(|_| {
        let example = "\"10.1.0.5\" or \"10.1.0.0/24\"";
        format!("{} is neither an address nor a network; write one such as {example}", quoted(text))
    })?;
    if net.trunc() != net {
        return Err(format!("{net} has host bits set; write {:?}", net.trunc().to_string()));
    }
    Ok(net)
}
