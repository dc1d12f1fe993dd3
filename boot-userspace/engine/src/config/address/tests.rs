use super::*;
use crate::config::tests::refused;

#[test]
fn hosts() {
    assert_eq!(host("10.1.0.1"), Ok(Ipv4Addr::new(10, 1, 0, 1)));
    refused(
        host,
        &[
            ("", "not an IPv4"),
            ("10.1.0", "not an IPv4"),
            ("::1", "not an IPv4"),
            ("10.1.0.1 ", "not an IPv4"),
        ],
    );
    for text in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        refused(host, &[(text, "not the address of a host")]);
    }
}

#[test]
fn cidrs() {
    assert_eq!(cidr("10.1.0.0/16").map(|net| net.to_string()).as_deref(), Ok("10.1.0.0/16"));
    assert!(cidr("10.0.0.0/8").is_ok());
    assert!(cidr("10.0.0.2/31").is_ok());
    refused(
        cidr,
        &[
            ("", "is not a subnet"),
            ("10.1.0.0", "write it behind, such as \"10.1.0.0/24\""),
            ("10.1.0/16", "is not a subnet"),
            ("10.1.0.0/33", "wrong prefix length"),
            ("10.1.0.0/", "wrong prefix length"),
            ("10.1.0.0/255.255.0.0", "wrong prefix length"),
            ("10.1.0.5/16", "host bits set; write \"10.1.0.0/16\""),
            ("10.1.0.5/32", "no room"),
            ("0.0.0.0/0", "too large"),
            ("127.0.0.0/8", "addresses of hosts"),
            ("224.0.0.0/8", "addresses of hosts"),
            ("fd00::/64", "is not a subnet"),
        ],
    );
}

#[test]
fn ranges() {
    let [low, high] = [Ipv4Addr::new(10, 1, 1, 33), Ipv4Addr::new(10, 1, 1, 233)];
    assert_eq!(range("10.1.1.33-10.1.1.233"), Ok((low, high)));
    assert_eq!(range(" 10.1.1.33 - 10.1.1.233"), Ok((low, high)));
    assert_eq!(range("10.1.1.33"), Ok((low, low)));
    refused(
        range,
        &[
            ("10.1.1.9-10.1.1.3", "write \"10.1.1.3-10.1.1.9\""),
            ("", "is not a range"),
            ("10.1.1.9-", "is not a range"),
            ("10.1.1.9-20", "is not a range"),
            ("10.1.1.0/24", "is not a range"),
        ],
    );
}

#[test]
fn macs() {
    assert_eq!(mac("52:54:00:00:00:01"), Ok(Mac([0x52, 0x54, 0, 0, 0, 1])));
    refused(
        mac,
        &[
            ("52:54:00:00:00", "is not a MAC"),
            ("01:00:5e:00:00:01", "is a group"),
            ("ff:ff:ff:ff:ff:ff", "is a group"),
            ("00:00:00:00:00:00", "is a group"),
        ],
    );
}

#[test]
fn sockets() {
    assert_eq!(listen("0.0.0.0:80"), Ok(SocketAddr::from(([0, 0, 0, 0], 80))));
    assert!(listen("[::]:80").is_ok());
    refused(
        listen,
        &[("10.1.0.2", "write \"10.1.0.2:8080\""), ("localhost:80", "is not an address"), ("", "is not")],
    );
    refused(listen, &[("::1", "write \"[::1]:8080\""), ("1.2.3.4:65536", "is not an address")]);

    assert_eq!(advertise("10.1.0.2", 81), Ok(SocketAddr::from(([10, 1, 0, 2], 81))));
    assert_eq!(advertise("10.1.0.2:82", 81), Ok(SocketAddr::from(([10, 1, 0, 2], 82))));
    refused(
        |text| advertise(text, 80),
        &[("0.0.0.0", "cannot connect"), ("example.net", "is not an address")],
    );
    refused(|text| advertise(text, 80), &[("10.1.0.2:0", "port 0"), ("255.255.255.255", "cannot connect")]);
}
