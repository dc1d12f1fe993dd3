//! Sidero Booter's flags and environment, so that its command line and its compose file serve with xpxe.

use std::env;
use std::net::IpAddr;

use anyhow::{Result, bail};

use super::factory::Factory;
use crate::host::{link, route};
use boot_engine::config::{Config, Front};

/// The flags that Sidero Booter has and xpxe calls otherwise.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Flags of Sidero Booter")]
pub(super) struct Booter {
    /// The address that HTTP listens on
    #[arg(long, value_name = "IP")]
    api_listen_address: Option<IpAddr>,
    /// The address of HTTP that machines are told
    #[arg(long, value_name = "IP")]
    api_advertise_address: Option<IpAddr>,
    /// The port of HTTP
    #[arg(long, value_name = "PORT")]
    api_port: Option<u16>,
    /// Serve this interface, or the one that has this address
    #[arg(long, value_name = "IF|IP", conflicts_with = "interfaces")]
    dhcp_proxy_iface_or_ip: Option<String>,
    /// Kernel arguments in one text, instead of those behind the flags; also in the environment as EXTRA_KERNEL_ARGS
    #[arg(long, short = 'k', value_name = "ARGS", allow_hyphen_values = true)]
    extra_kernel_args: Option<String>,
    /// Log more
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, action = clap::ArgAction::Set, hide_default_value = true)]
    debug: bool,
    #[command(flatten)]
    pub(super) factory: Factory,
    /// Everything that no flag says is as Sidero Booter has it.
    #[arg(skip)]
    is_stand_in: bool,
}

/// The port that Sidero Booter has HTTP on.
const PORT: u16 = 50084;

impl Booter {
    /// Has everything that no flag says be as Sidero Booter has it.
    pub(super) fn stand_in(&mut self) {
        self.is_stand_in = true;
    }

    pub(super) fn is_stand_in(&self) -> bool {
        self.is_stand_in
    }

    pub(super) fn is_verbose(&self) -> bool {
        self.debug
    }

    /// Whether machines boot what the image factory has, where no kernel is named: a file's own profiles go before it.
    pub(super) fn boots_from_factory(&self, has_file: bool) -> bool {
        self.factory.is_named() || self.is_stand_in && !has_file
    }

    /// Whether the flags name an interface.
    pub(super) fn names_interface(&self) -> bool {
        self.dhcp_proxy_iface_or_ip.is_some() || self.api_advertise_address.is_some() || self.is_stand_in
    }

    /// The interface that the flags name, without one of xpxe's own. In the place of Sidero Booter, where nothing names one, that of
    /// the default route.
    ///
    /// # Errors
    /// No interface has the address, or there is no default route.
    pub(super) fn interface(&self, is_named: bool) -> Result<Option<String>> {
        let named = self.dhcp_proxy_iface_or_ip.clone();
        let Some(named) = named.or_else(|| Some(self.api_advertise_address?.to_string())) else {
            if is_named || !self.is_stand_in {
                return Ok(None);
            }
            let Some(name) = route::default_interface()? else {
                bail!("this host has no default route: name the interface with --dhcp-proxy-iface-or-ip");
            };
            return Ok(Some(name));
        };
        let Ok(address) = named.parse::<IpAddr>() else { return Ok(Some(named)) };
        match link::addresses()?.into_iter().find(|(_, net)| IpAddr::V4(net.addr()) == address) {
            Some((name, _)) => Ok(Some(name)),
            None => {
                bail!("no interface has the address {address}: name the interface itself, with --interface")
            }
        }
    }

    /// Settings of HTTP that the flags have otherwise.
    pub(super) fn apply(&self, config: &mut Config) {
        let http = &mut config.http;
        if let Some(address) = self.api_listen_address {
            http.listen.set_ip(address);
        }
        if let Some(port) = self.api_port.or(self.is_stand_in.then_some(PORT)) {
            http.listen.set_port(port);
        }
        if let Some(address) = self.api_advertise_address {
            http.advertise = Some((address, http.listen.port()).into());
        }
        if self.is_used() && !http.fronts.contains(&Front::Booter) {
            http.fronts.push(Front::Booter);
        }
    }

    /// The kernel's arguments, and where they are from: the flag, then the environment, then those behind all flags.
    pub(super) fn kernel_args(&self, behind: &[String]) -> (String, &'static str) {
        let of_env = || env::var("EXTRA_KERNEL_ARGS").ok().filter(|args| !args.trim().is_empty());
        match (self.extra_kernel_args.clone(), of_env()) {
            (Some(args), _) => (args, "--extra-kernel-args"),
            (None, Some(args)) => (args, "EXTRA_KERNEL_ARGS in the environment"),
            (None, None) => (behind.join(" "), "the command line"),
        }
    }

    fn is_used(&self) -> bool {
        let Self {
            api_listen_address,
            api_advertise_address,
            api_port,
            dhcp_proxy_iface_or_ip,
            extra_kernel_args,
            debug: _,
            factory,
            is_stand_in,
        } = self;
        *is_stand_in
            || factory.is_named()
            || api_listen_address.is_some()
            || api_advertise_address.is_some()
            || api_port.is_some()
            || dhcp_proxy_iface_or_ip.is_some()
            || extra_kernel_args.is_some()
    }
}

/// Whether the environment says what --disable-dhcp-proxy does.
///
/// # Errors
/// It says something else than true or false.
pub(super) fn is_proxy_disabled() -> Result<bool> {
    match env::var("DISABLE_DHCP_PROXY").as_deref() {
        Ok("true" | "1") => Ok(true),
        Ok("false" | "0" | "") | Err(_) => Ok(false),
        Ok(other) => bail!("DISABLE_DHCP_PROXY is {other:?} in the environment: write true or false"),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[arg(long = "interface")]
        interfaces: Vec<String>,
        #[command(flatten)]
        booter: Booter,
        args: Vec<String>,
    }

    fn line(words: &[&str]) -> Line {
        Line::parse_from([&["booter"], words].concat())
    }

    #[test]
    fn its_flags_are_settings_of_http_and_its_front() {
        let mut config = Config::empty();
        line(&["a=1"]).booter.apply(&mut config);
        assert_eq!(config, Config::empty());
        let line = line(&["--api-advertise-address", "10.1.0.2", "--api-port", "50084", "a=1", "b.c=d"]);
        line.booter.apply(&mut config);
        assert_eq!(config.http.listen, "0.0.0.0:50084".parse().unwrap());
        assert_eq!(config.http.advertise, Some("10.1.0.2:50084".parse().unwrap()));
        assert_eq!(config.http.fronts, [Front::Booter]);
        assert!(line.interfaces.is_empty());
        assert_eq!(line.booter.kernel_args(&line.args), ("a=1 b.c=d".to_owned(), "the command line"));
    }

    #[test]
    fn its_flag_for_arguments_comes_first_and_its_interface_is_found_by_address() {
        let line = line(&["-k", "a=1 -b", "--dhcp-proxy-iface-or-ip", "127.0.0.1", "c=2"]);
        assert_eq!(line.booter.kernel_args(&line.args), ("a=1 -b".to_owned(), "--extra-kernel-args"));
        assert_eq!(line.booter.interface(false).unwrap(), Some("lo".to_owned()));
        let named = Booter { dhcp_proxy_iface_or_ip: Some("eth7".to_owned()), ..Booter::default() };
        assert_eq!(named.interface(false).unwrap(), Some("eth7".to_owned()));
        // A network of documentation (RFC 5737): no host has its addresses.
        let nowhere = Booter { dhcp_proxy_iface_or_ip: Some("192.0.2.1".to_owned()), ..Booter::default() };
        assert!(nowhere.interface(false).unwrap_err().to_string().contains("--interface"));
    }
}
