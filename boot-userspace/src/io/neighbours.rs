//! Who has which address, as the system's neighbour table has it.

use std::net::Ipv4Addr;

use boot_common::Mac;

/// The table of this network namespace (proc_net(5)); that of a host with many neighbours is long, so callers keep what
/// they learn.
const TABLE: &str = "/proc/self/net/arp";

/// The station that has this address, if the system knows it.
#[must_use]
pub fn station(address: Ipv4Addr) -> Option<Mac> {
    in_table(&std::fs::read_to_string(TABLE).ok()?, address)
}

fn in_table(table: &str, address: Ipv4Addr) -> Option<Mac> {
    // The address, the type of hardware, flags (2: known), the station.
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let is_it = words.next()?.parse() == Ok(address);
        let is_known = words.nth(1)? != "0x0";
        words.next()?.parse().ok().filter(|_| is_it && is_known)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_station_of_an_address_is_in_its_line() {
        let table = "\
IP address       HW type     Flags       HW address            Mask     Device
10.77.0.12       0x1         0x0         00:00:00:00:00:00     *        eth0
10.77.0.1        0x1         0x2         52:54:00:00:00:01     *        eth0
10.77.0.10       0x1         0x6         52:54:00:00:00:10     *        eth0
";
        let station = |last| in_table(table, Ipv4Addr::new(10, 77, 0, last));
        assert_eq!(station(10), Some(Mac([0x52, 0x54, 0, 0, 0, 0x10])));
        assert_eq!([station(11), station(12)], [None, None]);
        assert_eq!(in_table("", Ipv4Addr::LOCALHOST), None);
    }
}
