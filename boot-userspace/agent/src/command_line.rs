//! The kernel's command line.

use std::net::Ipv4Addr;

use boot_agent_protocol::{KEY, SERVER_KEY};

/// What the agent takes from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CommandLine {
    /// The URL below which the server is asked.
    pub(crate) url: Option<String>,
    /// What the server is known by over HTTPS.
    pub(crate) key: Option<String>,
    /// The card that the machine has booted from.
    pub(crate) card: Option<String>,
    /// `ip=ADDRESS:…:ROUTER:MASK`: an address that is not asked for.
    pub(crate) address: Option<(Ipv4Addr, Ipv4Addr, Option<Ipv4Addr>)>,
}

impl CommandLine {
    pub(crate) fn read(text: &str) -> Self {
        let mut read = Self::default();
        for word in text.split_whitespace() {
            if let Some(url) = word.strip_prefix(KEY) {
                // The machine's MAC is what its URL begins with.
                let who = url.split_once("/agent/").and_then(|(_, rest)| rest.split([',', '/']).next());
                read.card = read.card.or(who.and_then(mac));
                read.url = Some(url.to_owned());
            } else if let Some(key) = word.strip_prefix(SERVER_KEY) {
                read.key = Some(key.to_owned()).filter(|key| !key.is_empty());
            } else if let Some(card) = word.strip_prefix("BOOTIF=") {
                read.card = mac(card.strip_prefix("01-").unwrap_or(card));
            } else if let Some(text) = word.strip_prefix("ip=") {
                read.address = address(text);
            }
        }
        read
    }
}

/// With colons, in lower case, as sysfs has it.
fn mac(text: &str) -> Option<String> {
    let mac = text.replace('-', ":").to_ascii_lowercase();
    let is_byte = |part: &str| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    (mac.split(':').count() == 6 && mac.split(':').all(is_byte)).then_some(mac)
}

fn address(text: &str) -> Option<(Ipv4Addr, Ipv4Addr, Option<Ipv4Addr>)> {
    let mut parts = text.split(':').map(|part| part.parse().ok());
    let (address, _, router, mask) = (parts.next()?, parts.next(), parts.next()?, parts.next()?);
    Some((address?, mask?, router))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_the_card_and_an_address_are_read() {
        let url = "http://10.1.0.2:8080/agent/52-54-00-00-00-0A,x64,,/t-00/";
        let read = CommandLine::read(&format!("quiet console=ttyS0 xpxe.agent={url} xpxe.key= ip=dhcp"));
        let card = Some("52:54:00:00:00:0a".to_owned());
        assert_eq!(read, CommandLine { url: Some(url.to_owned()), key: None, card, address: None });
        let read =
            CommandLine::read("BOOTIF=01-52-54-00-00-00-0b ip=10.1.1.5::10.1.0.1:255.255.0.0:n:eth0:off");
        assert_eq!(read.card.as_deref(), Some("52:54:00:00:00:0b"));
        let router = Some(Ipv4Addr::new(10, 1, 0, 1));
        assert_eq!(read.address, Some((Ipv4Addr::new(10, 1, 1, 5), Ipv4Addr::new(255, 255, 0, 0), router)));
        assert_eq!(CommandLine::read("xpxe.agent=http://10.1.0.2/agent/self/t-00/").card, None);
    }
}
