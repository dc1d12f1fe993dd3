use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;

fn parse(text: &str, format: Format, now: u64) -> Result<Parsed, String> {
    super::parse(&Source { text: text.to_owned(), ..Source::default() }, format, &subnets(), now)
}

fn subnets() -> Vec<Subnet> {
    let text = "[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n[[subnet]]\ncidr = '10.1.0.0/16'\n[[subnet]]\ncidr = '10.2.0.0/16'\n";
    boot_engine::config::parse(text, "test").unwrap().subnets
}

fn read(text: &str) -> Result<Parsed, String> {
    parse(text, Format::Auto, NOW)
}

fn lease(mac: &str, address: &str, expires: u64, hostname: Option<&str>) -> ImportedLease {
    let hostname = hostname.map(str::to_owned);
    let (mac, address) = (mac.to_owned(), address.to_owned());
    ImportedLease { mac, address, state: None, expires: Some(expires), hostname }
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
fn what_the_list_writes_is_read_again_without_what_rests() {
    let text = r#"[{"mac":"52:54:00:00:00:01","address":"10.1.1.40","subnet":"10.1.0.0/16","state":"leased",
        "expires":1800000600,"expires_at":"2027-01-15T08:10:00Z","name":"node1"},
        {"mac":"52:54:00:00:00:01","address":"10.1.1.41","subnet":"10.1.0.0/16","state":"resting",
        "expires":1800000600,"expires_at":"2027-01-15T08:10:00Z","name":"node1"}]"#;
    let wanted = ImportedLease {
        state: Some("leased".to_owned()),
        ..lease("52:54:00:00:00:01", "10.1.1.40", 1_800_000_600, Some("node1"))
    };
    let parsed = read(text).unwrap();
    assert_eq!(leases(&parsed), [wanted]);
    assert_eq!(parsed.skipped, [("entry 2".to_owned(), "10.1.1.41 is on hold".to_owned())]);
}

fn named(lines: &[(String, String)], wanted: &[(&str, &str)]) {
    assert_eq!(lines.len(), wanted.len(), "{lines:?}");
    for ((line, why), (at, reason)) in lines.iter().zip(wanted) {
        assert!(line == at && why.contains(reason), "{line}: {why}");
    }
}

#[test]
fn bad_lines_of_dnsmasq_are_named_and_the_others_are_read() {
    let text = "1800000600 52:54:00:00:00:01 10.1.1.40 node1 *\n\
        1800000600 52:54:00:00:00 10.1.1.41 * *\n\
        soon 52:54:00:00:00:03 10.1.1.42 * *\n\
        1800000600 52:54:00:00:00:04 10.1.1 * *\n\
        1800000600\n\
        1800000600 20-00:11:22:33:44:55:66:77 10.1.1.43 * *\n\
        1800000600 52:54:00:00:00:05 10.1.1.45 * *\n";
    let parsed = read(text).unwrap();
    let wanted =
        [("52:54:00:00:00:01", "10.1.1.40", Some("node1")), ("52:54:00:00:00:05", "10.1.1.45", None)];
    assert_eq!(leases(&parsed), wanted.map(|(mac, ip, name)| lease(mac, ip, 1_800_000_600, name)));
    named(&parsed.skipped, &[("line 6", "no Ethernet")]);
    let bad =
        [("line 2", "is no MAC"), ("line 3", "is no time"), ("line 4", "is no IP"), ("line 5", "not a line")];
    named(&parsed.bad, &bad);
}

#[test]
fn bad_entries_of_isc_are_named_and_those_behind_them_are_read() {
    let good = |last: u8| {
        format!(
            "lease 10.1.1.{last} {{\n  ends never; binding state active;\n  hardware ethernet 52:54:00:00:00:{last};\n}}\n"
        )
    };
    let bad = [
        "lease 10.1.1.50 { ends never; binding state active; hardware ethernet 52:54:zz; }\n",
        "lease 10.1.1.51 { ends some time; binding state active; hardware ethernet 52:54:00:00:00:51; }\n",
        "lease 10.1.1.52 { ends some time; binding state free; }\n",
        "lease fd00::1 { ends never; }\n",
        "lease 10.1.1.53 { uid \"\n",
        // Overrides the good one before.
        "lease 10.1.1.40 { ends never }\n",
        "lease 10.1.1.54 { ends never;\n",
    ];
    let text: String = std::iter::once(good(40))
        .chain((41..).zip(bad).map(|(last, bad)| format!("{bad}{}", good(last))))
        .collect();
    let parsed = read(&text).unwrap();
    let wanted: Vec<_> = (41..48)
        .map(|last| lease(&format!("52:54:00:00:00:{last}"), &format!("10.1.1.{last}"), 0, None))
        .collect();
    assert_eq!(leases(&parsed), wanted);
    named(&parsed.skipped, &[("line 15", "10.1.1.52 is free")]);
    let bad = [
        ("line 5", "\"52:54:zz\" is no MAC"),
        ("line 10", "no time"),
        ("line 20", "\"fd00::1\" is no IPv4"),
        ("line 25", "a quotation"),
        ("line 30", "; is expected"),
        ("line 35", "a { without"),
    ];
    named(&parsed.bad, &bad);
}

const KEA: &str = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id
10.1.1.40,52:54:00:00:00:01,01:52:54:00:00:00:01,600,1800000100,1,0,0,,0,,0
10.1.1.41,52:54:00:00:00:02,,4294967295,1800000100,1,0,0,node2.example.,0,{ \"a\": 1&#x2c \"b\": 2 },0
10.1.1.42,52:54:00:00:00:03,,600,1800000600,1,0,0,,0,,0
10.1.1.43,,,86400,1800080000,1,0,0,,1,,0
10.1.1.44,52:54:00:00:00:05,,600,1700000000,1,0,0,,2,,0
10.1.1.45,52:54:zz,,600,1800000600,1,0,0,,0,,0
10.1.1.46,00:11:22:33:44:55:66:77,,600,1800000600,1,0,0,,0,,0
10.1.1,52:54:00:00:00:06,,600,1800000600,1,0,0,,0,,0
10.1.1.47,52:54:00:00:00:07,,long,1800000600,1,0,0,,0,,0
10.1.1.48,52:54:00:00:00:08,,600,1800000600,1,0,0,,9,,0
10.1.1.40,52:54:00:00:00:01,01:52:54:00:00:00:01,600,1800000600,1,0,0,node1,0,,0
10.1.1.42,52:54:00:00:00:03,,0,1800000600,1,0,0,,0,,0
10.1.1.49,52:54:00:00:00:09,,600,1799999999,1,0,0,,0,,0
";

#[test]
fn kea_s_leases_are_a_journal() {
    let parsed = read(KEA).unwrap();
    let wanted = [
        lease("52:54:00:00:00:02", "10.1.1.41", 0, Some("node2.example")),
        lease("52:54:00:00:00:01", "10.1.1.40", 1_800_000_600, Some("node1")),
    ];
    assert_eq!(leases(&parsed), wanted);
    let skipped =
        [("line 5", "declined"), ("line 6", "expired"), ("line 8", "no Ethernet"), ("line 14", "ended")];
    named(&parsed.skipped, &skipped);
    let bad =
        [("line 7", "no MAC"), ("line 9", "no IPv4"), ("line 10", "no lifetime"), ("line 11", "no state")];
    named(&parsed.bad, &bad);
}

#[test]
fn kea_s_columns_are_found_by_their_names() {
    let old = "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state\n\
        10.1.1.40,52:54:00:00:00:01,,600,1800000600,1,0,0,node1,0\n";
    assert_eq!(
        leases(&read(old).unwrap()),
        [lease("52:54:00:00:00:01", "10.1.1.40", 1_800_000_600, Some("node1"))]
    );
    let without = parse("address,hwaddr,expire\n10.1.1.40,52:54:00:00:00:01,1800000600\n", Format::Auto, NOW);
    assert_eq!(without.unwrap_err(), "line 1: no column \"valid_lifetime\"");
}

#[test]
fn a_machine_keeps_its_lease_in_every_subnet() {
    // Of the two in one subnet it keeps the one that ends last.
    let has = [("10.1.1.40", 1_800_000_600), ("10.2.1.40", 1_800_000_700), ("10.1.1.41", 1_800_000_500)];
    let kea = |(address, ends): (&str, u64)| format!("{address},52:54:00:00:00:01,,600,{ends},1,0,0,,0\n");
    let dnsmasq = |(address, ends): (&str, u64)| format!("{ends} 52:54:00:00:00:01 {address} * *\n");
    let isc = |(address, ends): (&str, u64)| {
        format!(
            "lease {address} {{ ends epoch {ends}; binding state active; hardware ethernet 52:54:00:00:00:01; }}\n"
        )
    };
    let files =
        [format!("{KEA_HEAD}{}", has.map(kea).concat()), has.map(dnsmasq).concat(), has.map(isc).concat()];
    let wanted = [has[0], has[1]].map(|(address, ends)| lease("52:54:00:00:00:01", address, ends, None));
    for text in files {
        let parsed = read(&text).unwrap();
        assert_eq!(leases(&parsed), wanted, "{text}");
        assert_eq!(parsed.skipped.len(), 1, "{:?}", parsed.skipped);
        assert!(
            parsed.skipped[0].1.contains("has 10.1.1.40 for longer than 10.1.1.41"),
            "{:?}",
            parsed.skipped
        );
    }
}

#[test]
fn an_empty_file_has_no_leases() {
    assert_eq!(read("").unwrap(), Parsed::default());
}

const HOSTS: &str = r#"host node1.example.com {
  dynamic;
  hardware ethernet 52:54:00:00:00:01;
  fixed-address 10.1.1.50;
        supersede server.filename = "pxelinux.0";
        supersede server.next-server = c0:a8:00:01;
        supersede host-name = "node1";
}
lease 10.1.1.40 { ends never; binding state active; hardware ethernet 52:54:00:00:00:02; }
host node3 { dynamic; hardware ethernet 52:54:00:00:00:03; uid "\001RT"; fixed-address 10.1.1.53, 10.1.1.54; }
host node4 { dynamic; hardware ethernet 52:54:00:00:00:04; fixed-address 10.1.1.55; }
host node4 { dynamic; deleted; }
host node5 { dynamic; uid "\005"; }
host node6 { dynamic; hardware ethernet 52:54:zz; }
host node7 { dynamic; hardware ethernet 52:54:00:00:00:07; }
group g1 { dynamic; filename "x"; }
host node3 { dynamic; hardware ethernet 52:54:00:00:00:03; fixed-address 10.1.1.57; }
"#;

#[test]
fn hosts_of_isc_are_reservations_for_the_configuration() {
    let parsed = read(HOSTS).unwrap();
    assert_eq!(leases(&parsed), [lease("52:54:00:00:00:02", "10.1.1.40", 0, None)]);
    let said: Vec<(&str, String)> =
        parsed.reservations.iter().map(|(place, reserved)| (place.as_str(), reserved.to_string())).collect();
    let wanted = [
        (
            "line 1",
            "[[machine]]\nmac = \"52:54:00:00:00:01\"\nname = \"node1\"\nip = \"10.1.1.50\"\n\
             # left out: supersede server.filename = pxelinux.0\n\
             # left out: supersede server.next-server = c0:a8:00:01\n",
        ),
        ("line 15", "[[machine]]\nmac = \"52:54:00:00:00:07\"\nname = \"node7\"\n"),
        ("line 17", "[[machine]]\nmac = \"52:54:00:00:00:03\"\nname = \"node3\"\nip = \"10.1.1.57\"\n"),
    ];
    assert_eq!(said, wanted.map(|(place, text)| (place, text.to_owned())));
    let skipped = [("line 13", "host node5 has no Ethernet"), ("line 16", "group g1 is neither")];
    named(&parsed.skipped, &skipped);
    named(&parsed.bad, &[("line 14", "is no MAC")]);
    // The blocks are a configuration's.
    let base = "[[interface]]\nname = 'eth1'\n[[subnet]]\ncidr = '10.1.0.0/16'\n";
    let machines: String = said.iter().map(|(_, text)| text.as_str()).collect();
    let config = boot_engine::config::parse(&format!("{base}{machines}"), "test").unwrap();
    assert!(parsed.reservations.iter().all(|(_, reserved)| reserved.is_in(&config)));
}

#[test]
fn only_hosts_are_isc_s_too_and_what_cannot_be_read_ends_none_of_them() {
    let parsed = read(
        "host a { hardware ethernet 52:54:00:00:00:01 }\nhost b { hardware ethernet 52:54:00:00:00:02; }\n",
    );
    let parsed = parsed.unwrap();
    named(&parsed.bad, &[("line 1", "; is expected")]);
    assert_eq!(parsed.reservations.len(), 1);
}

const KEA_HEAD: &str =
    "address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state\n";

/// Writes Kea's files, one lease in each: the last number of its address and MAC.
fn kea_files(dir: &Path, files: &[(&str, u8)]) -> PathBuf {
    let path = dir.join("kea-leases4.csv");
    for (ending, last) in files {
        let lease = format!("10.1.1.{last},52:54:00:00:00:{last},,600,1800000600,1,0,0,,0");
        std::fs::write(dir.join(format!("kea-leases4.csv{ending}")), format!("{KEA_HEAD}{lease}\n")).unwrap();
    }
    path
}

#[test]
fn the_files_that_kea_s_clean_up_leaves_are_read_as_kea_reads_them() {
    let read = |files: &[(&str, u8)]| {
        let dir = tempfile::tempdir().unwrap();
        let path = kea_files(dir.path(), files);
        let parsed =
            super::parse(&Source::read(&path, Format::Auto).unwrap(), Format::Auto, &[], NOW).unwrap();
        let places =
            parsed.leases.iter().map(|(place, lease)| format!("{place} {}", lease.address)).collect();
        let left_out: Vec<String> = parsed.skipped.into_iter().map(|(name, _)| name).collect();
        let places: Vec<String> = places;
        (places, left_out)
    };
    let place = |file: &str, last: u8| format!("kea-leases4.csv{file}: line 2 10.1.1.{last}");
    let none: [String; 0] = [];
    assert_eq!(read(&[("", 41)]), (vec!["line 2 10.1.1.41".to_owned()], none.to_vec()));
    let all = read(&[("", 41), (".1", 42), (".2", 43), (".output", 44)]);
    let wanted = vec![place(".2", 43), place(".1", 42), place("", 41)];
    assert_eq!(all, (wanted, vec!["kea-leases4.csv.output".to_owned()]));
    let completed = read(&[("", 41), (".1", 42), (".2", 43), (".completed", 45)]);
    let left_out = [".2", ".1"].map(|ending| format!("kea-leases4.csv{ending}"));
    assert_eq!(completed, (vec![place(".completed", 45), place("", 41)], left_out.to_vec()));
}

#[test]
fn what_kea_s_file_says_overrides_what_was_cleaned_up_before() {
    let dir = tempfile::tempdir().unwrap();
    let path = kea_files(dir.path(), &[(".2", 41), (".1", 42)]);
    let gone = "10.1.1.41,52:54:00:00:00:41,,0,1800000600,1,0,0,,0\n";
    let with_pool = KEA_HEAD.replace("state", "state,user_context,pool_id");
    std::fs::write(
        &path,
        format!("{with_pool}10.1.1.42,52:54:00:00:00:42,,600,1800000900,1,0,0,,0,,0\n{gone}"),
    )
    .unwrap();
    let parsed = super::parse(&Source::read(&path, Format::Auto).unwrap(), Format::Auto, &[], NOW).unwrap();
    assert_eq!(leases(&parsed), [lease("52:54:00:00:00:42", "10.1.1.42", 1_800_000_900, None)]);
}

fn formats() -> impl Strategy<Value = Format> {
    prop::sample::select(vec![Format::Auto, Format::Dnsmasq, Format::Isc, Format::Kea, Format::Json])
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
    fn a_cut_table_is_a_panic_nowhere(end in 0..KEA.len()) {
        parse(&KEA[..end], Format::Kea, NOW).ok();
    }

    #[test]
    fn a_cut_journal_is_a_panic_nowhere(end in 0..ISC.len()) {
        parse(&ISC[..end], Format::Isc, NOW).ok();
    }
}
