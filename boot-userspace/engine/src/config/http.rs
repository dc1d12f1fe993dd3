//! `[http]`: the server of boot scripts and images.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::address;
use super::front::{self, Front};
use super::reader::Table;
use super::report::{At, Place, Report, one, one_list, twice};
use super::value::{self, quoted};

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
    /// `tls`: HTTPS beside it. Default: none.
    pub tls: Option<Tls>,
    /// `signed_links`: kernels, initrds and images can be fetched only by links that were signed for the client. Default
    /// false.
    pub signed_links: bool,
    /// `shared_addresses`: those that stand for several machines, so that nothing follows from them. Default: none.
    pub shared_addresses: Vec<IpNet>,
    /// `fronts`: the systems whose URLs are answered, too. Default: none.
    pub fronts: Vec<Front>,
    /// `inventory_clients`: who may read all machines at once through a front. Default: nobody.
    pub inventory_clients: Vec<IpNet>,
    /// `bss_writers`: who may write boot parameters through the front for BSS. Default: nobody.
    pub bss_writers: Vec<IpNet>,
    /// `pixiecore_api`: the URL before `/v1/boot/` of a server that says what machines boot whose profile would be that of
    /// `[default]`. Default: none.
    pub pixiecore_api: Option<String>,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            advertise: None,
            connections_per_address: DEFAULT_CONNECTIONS_PER_ADDRESS,
            threads: None,
            trusted_proxies: Vec::new(),
            tls: None,
            signed_links: false,
            shared_addresses: Vec::new(),
            fronts: Vec::new(),
            inventory_clients: Vec::new(),
            bss_writers: Vec::new(),
            pixiecore_api: None,
        }
    }
}

/// `tls`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// `listen`: where HTTPS listens; another port than that of HTTP.
    pub listen: SocketAddr,
    /// `certificate`: a PEM file with the server's own certificate and those of its issuers behind it. Absolute.
    pub certificate: PathBuf,
    /// `key`: a PEM file with the certificate's private key. Absolute.
    pub key: PathBuf,
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
    tls: Option<WrittenTls>,
    signed_links: Option<At<bool>>,
    fronts: Vec<At<String>>,
    inventory_clients: Vec<At<String>>,
    bss_writers: Vec<At<String>>,
    pixiecore_api: Option<At<String>>,
}

struct WrittenTls {
    place: Place,
    listen: Option<At<String>>,
    certificate: Option<At<String>>,
    key: Option<At<String>>,
}

/// The section in the file.
pub(super) fn read(top: &Table<'_>, report: &mut Report<'_>) -> Written {
    let known = [
        "listen",
        "advertise",
        "connections_per_address",
        "threads",
        "trusted_proxies",
        "shared_addresses",
        "tls",
        "signed_links",
        "fronts",
        "inventory_clients",
        "bss_writers",
        "pixiecore_api",
    ];
    let Some(http) = top.table("http", &known, report) else { return Written::default() };
    Written {
        listen: http.text("listen", "0.0.0.0:8080", report),
        advertise: http.text("advertise", "10.1.0.2:8080", report),
        connections_per_address: http.number("connections_per_address", 1..=4096, "256", report),
        threads: http.number("threads", 1..=256, "4", report),
        trusted_proxies: http.texts("trusted_proxies", "10.1.0.5", report),
        shared_addresses: http.texts("shared_addresses", "10.1.0.1", report),
        signed_links: http.flag_at("signed_links", report),
        tls: http.table("tls", &["listen", "certificate", "key"], report).map(|tls| WrittenTls {
            listen: tls.required_text("listen", "0.0.0.0:8443", report),
            certificate: tls.required_text("certificate", "/etc/xpxe/tls.pem", report),
            key: tls.required_text("key", "/etc/xpxe/tls.key", report),
            place: tls.place,
        }),
        fronts: http.texts("fronts", "matchbox", report),
        inventory_clients: http.texts("inventory_clients", "10.1.0.5", report),
        bss_writers: http.texts("bss_writers", "10.1.0.5", report),
        pixiecore_api: http.text("pixiecore_api", "http://10.1.0.9:8080", report),
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
        one(&mut self.signed_links, more.signed_links, report);
        match (&self.tls, more.tls) {
            (Some(before), Some(again)) => twice(&before.place, &again.place, report),
            (None, Some(first)) => self.tls = Some(first),
            (_, None) => {}
        }
        one_list(&mut self.fronts, more.fronts, report);
        one_list(&mut self.inventory_clients, more.inventory_clients, report);
        one_list(&mut self.bss_writers, more.bss_writers, report);
        one(&mut self.pixiecore_api, more.pixiecore_api, report);
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
    let tls = from.tls.as_ref().and_then(|tls| tls.check(listen, report));
    let fronts = from.fronts.iter().filter_map(|at| at.read(report, front::read)).collect();
    let pixiecore_api = from
        .pixiecore_api
        .as_ref()
        .and_then(|at| at.read(report, |text| value::server(text, "http://10.1.0.9:8080")));
    let mut nets = |list: &[At<String>]| list.iter().filter_map(|at| at.read(report, net)).collect();
    Http {
        listen,
        advertise,
        connections_per_address: connections.unwrap_or(default.connections_per_address),
        threads,
        trusted_proxies: nets(&from.trusted_proxies),
        tls,
        signed_links: from.signed_links.as_ref().is_some_and(|at| at.value),
        shared_addresses: nets(&from.shared_addresses),
        fronts,
        inventory_clients: nets(&from.inventory_clients),
        bss_writers: nets(&from.bss_writers),
        pixiecore_api,
    }
}

impl WrittenTls {
    fn check(&self, http: SocketAddr, report: &mut Report<'_>) -> Option<Tls> {
        let listen = self.listen.as_ref().and_then(|at| {
            at.read(report, |text| {
                let listen = address::listen(text)?;
                match listen.port() == http.port() {
                    true => Err(format!("{listen} has the port of HTTP; write another one, such as 8443")),
                    false => Ok(listen),
                }
            })
        });
        let mut path = |at: &Option<At<String>>| at.as_ref().and_then(|at| at.read(report, value::absolute));
        let (certificate, key) = (path(&self.certificate), path(&self.key));
        Some(Tls { listen: listen?, certificate: certificate?, key: key? })
    }
}

/// The URL of a server.
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
