use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;

fn read(text: &str) -> Result<Parsed, String> {
    parse(text, Format::Auto, NOW)
}

fn lease(mac: &str, address: &str, expires: u64, hostname: Option<&str>) -> ImportedLease {
    let hostname = hostname.map(str::to_owned);
    ImportedLease { mac: mac.to_owned(), address: address.to_owned(), expires: Some(expires), hostname }
}

fn leases(parsed: &Parsed) -> Vec<ImportedLease> {
    parsed.leases.iter().map(|(_, lease)| lease.clone()).collect()
}

#[test]
fn dnsmasq_leases_are_read_without_those_of_ipv6_and_of_the_past() {
    let text = "1800000600 52:54:00:00:00:01 10.1.1.40 node1 01:52:54:00:00:00:01\n\
        0 52:54:00:00:00:02 10.1.1.41 * *\n\
        1700000000 52:54:00:00:00:03 10.1.1.42 old *\n\
        1800000600 20-00:11:22:33:44:55:66:77 10.1.1.43 * *\n\
        duid 00:01:00:01:2c:9a:11:22\n\
        1800000600 1193046 fd00::1 node1 00:01\n";
    let parsed = read(text).unwrap();
    let wanted = [
        lease("52:54:00:00:00:01", "10.1.1.40", 1_800_000_600, Some("node1")),
        lease("52:54:00:00:00:02", "10.1.1.41", 0, None),
    ];
    assert_eq!(leases(&parsed), wanted);
    let reasons = ["line 3 ended at 2023-11-14", "line 4 no Ethernet", "line 6 IPv6"];
    assert_eq!(parsed.skipped.len(), 3, "{:?}", parsed.skipped);
    for ((line, why), reason) in parsed.skipped.iter().zip(reasons) {
        assert!(reason.starts_with(line) && why.contains(&reason[line.len() + 1..]), "{line}: {why}");
    }
}

const ISC: &str = r#"# The format of this file is documented in the dhcpd.leases(5) manual page.
authoring-byte-order little-endian;
server-duid "\000\001\"{\377";
failover peer "x" state { my state normal at 5 2026/01/02 03:04:05; }

lease 10.1.1.40 {
  starts 5 2027/01/15 07:00:00;
  ends 5 2027/01/15 07:30:00;
  binding state active;
  hardware ethernet 52:54:00:00:00:01;
}
lease 10.1.1.41 {
  starts 5 2027/01/15 07:00:00; ends never; tstp never;
  cltt 5 2027/01/15 07:00:00;
  binding state active;
  next binding state free;
  hardware ethernet 52:54:00:00:00:02;
  uid "\001RT\000{};\002";
  set vendor-class-identifier = "PXEClient";
  on expiry { if exists agent { log (info, "}"); } }
  client-hostname "node2";
}
lease 10.1.1.42 { ends epoch 1800000600; # Fri Jan 15 08:10:00 2027
  binding state free; hardware ethernet 52:54:00:00:00:03; }
lease 10.1.1.43 { ends 5 2027/01/15 07:59:59; binding state active; hardware ethernet 52:54:00:00:00:04; }
lease 10.1.1.44 { ends 5 2027/01/15 09:00:00; binding state active; hardware token-ring 52:54:00:00:00:05; }
lease 10.1.1.40 {
  ends 5 2027/01/15 08:10:00;
  binding state active;
  hardware ethernet 52:54:00:00:00:01;
  client-hostname "node1";
}
lease 10.1.1.45 { ends 5 2027/01/15 08:05:00; binding state active; hardware ethernet 52:54:00:00:00:01; }
"#;

#[test]
fn isc_leases_are_a_journal_with_much_else_in_it() {
    let parsed = read(ISC).unwrap();
    let wanted = [
        lease("52:54:00:00:00:02", "10.1.1.41", 0, Some("node2")),
        lease("52:54:00:00:00:01", "10.1.1.40", 1_800_000_600, Some("node1")),
    ];
    assert_eq!(leases(&parsed), wanted);
    let skipped = [
        ("line 23", "10.1.1.42 is free"),
        ("line 25", "10.1.1.43 ended at 2027-01-15T07:59:59Z"),
        ("line 26", "10.1.1.44 has no Ethernet"),
        ("line 33", "has 10.1.1.40 for longer"),
    ];
    assert_eq!(parsed.skipped.len(), skipped.len(), "{:?}", parsed.skipped);
    for ((line, why), (at, reason)) in parsed.skipped.iter().zip(skipped) {
        assert!(line == at && why.contains(reason), "{line}: {why}");
    }
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (format, text, wanted) in [
        (Format::Dnsmasq, "\nsoon 52:54:00:00:00:01 10.1.1.40 * *", "line 2: \"soon\" is no time"),
        (Format::Dnsmasq, "5 52:54:00:00:00:01 10.1.1 * *", "line 1: \"10.1.1\" is no IP"),
        (Format::Dnsmasq, "5 52:54:00:00:00:01", "line 1: not a line of dnsmasq.leases"),
        (Format::Isc, "lease 10.1.1.1 {\n ends 1 2027/13/01 00:00:00;\n}", "line 2: ends 1 2027/13/01"),
        (Format::Isc, "\nlease fd00::1 { }", "line 2: \"fd00::1\" is no IPv4"),
        (Format::Isc, "lease 10.1.1.1 {\n uid \"\n}", "line 2: a quotation"),
        (Format::Isc, "\n\nlease 10.1.1.1 {", "line 3: a { without"),
        (Format::Isc, "lease 10.1.1.1 { hardware ethernet 1:2; }", "line 1: \"1:2\" is no MAC"),
        (Format::Json, "[\n{\"mac\": 5}]", "line 2: not a list of leases"),
    ] {
        let said = parse(text, format, NOW).unwrap_err();
        assert!(said.starts_with(wanted), "{text:?}: {said}");
    }
}

#[test]
fn what_the_list_writes_is_read_again() {
    let text = r#"[{"mac":"52:54:00:00:00:01","address":"10.1.1.40","subnet":"10.1.0.0/16","state":"leased",
        "expires":1800000600,"expires_at":"2027-01-15T08:10:00Z","name":"node1"}]"#;
    let wanted = [lease("52:54:00:00:00:01", "10.1.1.40", 1_800_000_600, Some("node1"))];
    assert_eq!(leases(&read(text).unwrap()), wanted);
}

#[test]
fn an_empty_file_has_no_leases() {
    assert_eq!(read("").unwrap(), Parsed::default());
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![Format::Auto, Format::Dnsmasq, Format::Isc, Format::Json])
}

proptest! {
    #[test]
    fn no_text_is_a_panic(text in any::<String>(), format in formats(), now in any::<u64>()) {
        parse(&text, format, now).ok();
    }

    #[test]
    fn no_order_of_words_is_a_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "lease", "10.1.1.1", "{", "}", ";", "\"", "\\", "#", "\n", "ends", "never", "epoch", "binding",
            "state", "active", "hardware", "ethernet", "52:54:00:00:00:01", "5", "2027/01/15", "08:00:00",
            "18446744073709551615", "9999/12/31", "0/0/0", "1970/1/1", "*", "[", "duid", "::1",
        ]), 0..60),
        format in formats(),
    ) {
        parse(&words.join(" "), format, NOW).ok();
    }

    #[test]
    fn a_cut_journal_is_a_panic_nowhere(end in 0..ISC.len()) {
        parse(&ISC[..end], Format::Isc, NOW).ok();
    }
}
