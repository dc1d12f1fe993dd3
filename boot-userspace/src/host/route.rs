//! The routes of this host.

use std::fs;
use std::io;

/// The interface of the default route of IPv4, of several the one with the lowest metric.
pub fn default_interface() -> io::Result<Option<String>> {
    Ok(read(&fs::read_to_string("/proc/thread-self/net/route")?))
}

fn read(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let (name, to, metric, mask) = (columns.first()?, columns.get(1)?, columns.get(6)?, columns.get(7)?);
        (*to == "00000000" && *mask == "00000000")
            .then_some((metric.parse::<u32>().ok()?, (*name).to_owned()))
    });
    routes.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_default_routes_the_nearest_counts() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n";
        let table = format!(
            "{head}wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
             eth0\t00000000\t0100010A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
             eth1\t0000010A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n"
        );
        assert_eq!(read(&table).as_deref(), Some("eth0"));
        assert_eq!(read(head), None);
    }
}
