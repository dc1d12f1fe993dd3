//! What is on the wire beside this server, as evidence: other servers, their boot files, switches.

use std::net::Ipv4Addr;

use super::boot::Timed;
use super::case::Case;
use super::causes::Cause;
use super::steps::What;
use super::verdict::Verdict;

/// What another server was heard to do counts for so many milliseconds.
const NAMES_FILE: u64 = 3_600_000;

/// What is known of another server.
pub(super) fn whose(case: &Case<'_>, server: Ipv4Addr) -> String {
    let Some(known) = case.network.server(server) else { return format!("the other server is {server}") };
    let station = known.station.as_deref().map_or_else(String::new, |mac| format!(", station {mac}"));
    let link = known.link.as_deref().map_or_else(String::new, |link| format!(", on {link}"));
    format!("the other server is {server}{station}{link}")
}

/// Another server names a boot file, too. `asked`: the file that the machine asked for here. What was heard within the last
/// hour of another machine counts: a server says the same to all.
pub(super) fn other_file(case: &Case<'_>, asked: Option<&str>, step: &Timed) -> Option<Verdict> {
    let own = case.steps(|what| matches!(what, What::OtherFile { .. }));
    if let Some(last) = own.last()
        && let What::OtherFile { server, file } = &last.what
    {
        let steps = [own.clone(), vec![step]].concat();
        return if asked.is_some_and(|asked| is_same_name(asked, file)) {
            let because = format!("the machine asked here for {file}, which only {server} names");
            Verdict::certain(Cause::ConflictingFile, because, &steps)
        } else if asked.is_some() {
            None
        } else {
            let because = format!("it asked for nothing here, and {server} had named {file}");
            Verdict::likely(Cause::ConflictingFile, because, &steps)
        };
    }
    let other = case.network.names_a_file().filter(|other| other.last + NAMES_FILE > case.boot.opened)?;
    let file = other.file.as_ref()?;
    if asked.is_some_and(|asked| !is_same_name(asked, file)) {
        return None;
    }
    let says =
        format!("another DHCP server, {}, names the boot file {file} for other machines", other.server);
    let found = Verdict::likely(Cause::ConflictingFile, whose(case, other.server), &[step])?;
    Some(found.with(other.last, says))
}

/// Firmware may put a slash before a name.
fn is_same_name(asked: &str, named: &str) -> bool {
    asked.trim_start_matches('/') == named.trim_start_matches('/')
}

/// A spanning tree beside this server is one more sign for a port that forwards late.
pub(super) fn switch_tells(case: &Case<'_>, found: Verdict) -> Verdict {
    match case.network.tree(case.boot.link.as_deref()) {
        Some(port) => found.with(port.last, port.to_string()),
        None => found,
    }
}
