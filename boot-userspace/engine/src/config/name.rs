//! Texts that are names: of interfaces, profiles, hosts and domains.

use boot_common::Mac;

use super::value::quoted;

/// The kernel's IFNAMSIZ without the NUL.
const MAX_INTERFACE: usize = 15;
const MAX_LABEL: usize = 63;
const MAX_DOMAIN: usize = 253;

/// The name of a network interface, by the kernel's rules.
pub(super) fn interface(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("is empty; write the name that `ip link` shows, such as \"eth1\"".to_owned());
    }
    if text.len() > MAX_INTERFACE {
        return Err(format!(
            "{} has {} bytes; an interface name has at most {MAX_INTERFACE}",
            quoted(text),
            text.len()
        ));
    }
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '/' | ':');
    if text.contains(bad) || matches!(text, "." | "..") {
        return Err(format!("{} cannot be an interface; write the name that `ip link` shows", quoted(text)));
    }
    Ok(text.to_owned())
}

/// The name of a profile; it becomes a part of URLs and command lines.
pub(super) fn profile(text: &str) -> Result<String, String> {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if !good || text.is_empty() || text.len() > MAX_LABEL || text.starts_with(['.', '-']) {
        return Err(format!(
            "{} cannot be a profile; write 1 to {MAX_LABEL} letters, digits, '.', '_' and '-', not beginning with '.' or '-'",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// The name of a machine: one label by RFC 1123.
pub(super) fn machine(text: &str) -> Result<String, String> {
    if text.contains('.') && text.split('.').all(is_label) {
        let host = text.split('.').next().unwrap_or_default();
        return Err(format!(
            "{} has a domain; write only {} here and the domain in [[subnet]]",
            quoted(text),
            quoted(host)
        ));
    }
    if !is_label(text) {
        return Err(format!(
            "{} is not a host name; write 1 to {MAX_LABEL} letters, digits and '-', not '-' at the ends",
            quoted(text)
        ));
    }
    if text.parse::<Mac>().is_ok() {
        return Err(format!(
            "{} reads like a MAC address; write a name that cannot be taken for one",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

/// The domain of a subnet.
pub(super) fn domain(text: &str) -> Result<String, String> {
    if text.len() > MAX_DOMAIN || !text.split('.').all(is_label) {
        return Err(format!(
            "{} is not a domain; write labels of letters, digits and '-' with dots between them, such as \"example.net\"",
            quoted(text)
        ));
    }
    Ok(text.to_owned())
}

fn is_label(text: &str) -> bool {
    let good = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    good && !text.is_empty() && text.len() <= MAX_LABEL && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests;
