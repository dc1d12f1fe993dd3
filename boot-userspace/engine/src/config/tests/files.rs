//! Configurations of several files.

use super::*;

fn parsed(files: &[(&str, &str)]) -> Result<Config, Problems> {
    let source =
        |(name, text): &(&str, &str)| Source { name: (*name).to_owned(), bytes: text.as_bytes().to_vec() };
    parse_files(&files.iter().map(source).collect::<Vec<_>>())
}

const MAIN: &str = "[http]\nlisten = '0.0.0.0:81'\n[[interface]]\nname = 'eth1'\n[[subnet]]\ncidr = '10.1.0.0/16'\n\
    pool = ['10.1.1.33-10.1.1.233']\n";

#[test]
fn what_further_files_say_comes_behind() {
    let more = "[default]\nprofile = 'talos'\n[[profile]]\nname = 'talos'\nkernel = 'k'\n";
    let machines =
        "[http]\nthreads = 3\n[[machine]]\nmac = '52:54:00:00:00:01'\nip = '10.1.1.50'\nprofile = 'talos'\n";
    let parts = parsed(&[("xpxe.toml", MAIN), ("10.toml", machines), ("20.toml", more)]).unwrap();
    let (http, rest) = MAIN.split_once("[[interface]]").unwrap();
    let whole =
        format!("{http}threads = 3\n[[interface]]{rest}{}{more}", machines.split_once("3\n").unwrap().1);
    assert_eq!(parts, parse(&whole, "xpxe.toml").unwrap());
    assert_eq!(parts.machines.len(), 1);
}

#[test]
fn upstreams_of_images_may_be_in_any_file() {
    let [one, two] = ["one", "two"].map(|name| format!("[[images.upstream]]\nurl = 's3://{name}'\n"));
    let parts = parsed(&[("a", MAIN), ("b", &one), ("c", &format!("[images]\nsize = '1G'\n{two}"))]).unwrap();
    assert_eq!((parts.images.size, parts.images.upstreams.len()), (1 << 30, 2));
    let said = parsed(&[("a", MAIN), ("b", &one), ("c", &one)]).unwrap_err().to_string();
    assert!(said.contains("c:2: images.upstream[0].url: upstream \"s3://one\" is already at"), "{said}");
}

#[test]
fn mistakes_name_both_files() {
    let machine = "[[machine]]\nmac = '52:54:00:00:00:01'\nname = 'node1'\n";
    let again = format!("[http]\nlisten = '0.0.0.0:82'\n{machine}[[subnet]]\ncidr = '10.1.2.0/24'\n");
    let main = format!("{MAIN}{machine}");
    let problems = parsed(&[("xpxe.toml", &main), ("more.toml", &again)]).unwrap_err().to_string();
    let expected = "more.toml:2: http.listen: is already set by http.listen (line 2 of xpxe.toml); write it in one of these \
        files only\n\
        more.toml:4: machine[0].mac: MAC address \"52:54:00:00:00:01\" is already at machine[0].mac (line 9 of xpxe.toml); \
        remove one\n\
        more.toml:5: machine[0].name: machine \"node1\" is already at machine[0].name (line 10 of xpxe.toml); remove one\n\
        more.toml:7: subnet[0].cidr: 10.1.2.0/24 overlaps 10.1.0.0/16 of subnet[0].cidr (line 6 of xpxe.toml); write \
        subnets that do not";
    assert_eq!(problems, expected);
}

#[test]
fn every_key_that_may_be_there_once_is_refused_twice() {
    for text in [
        "state_dir = '/a'",
        "boot_dir = '/a'",
        "pin_dir = '/a'",
        "fast_path_memory = '1M'",
        "boots = false",
        "[http]\nlisten = '0.0.0.0:81'",
        "[http]\nadvertise = '10.1.0.2:81'",
        "[http]\nconnections_per_address = 5",
        "[http]\nthreads = 5",
        "[http]\ntrusted_proxies = ['10.1.0.5']",
        "[http]\nshared_addresses = ['10.1.0.5']",
        "[http]\ntls = { listen = '0.0.0.0:8443', certificate = '/c', key = '/k' }",
        "[http]\nsigned_links = true",
        "[images]\nsize = '1G'",
        "[images]\ncheck = '1m'",
        "[tftp]\nwindowsize = 4",
        "[tftp]\nsingle_port = false",
        "[tftp]\nclients = 'any'",
        "[ipxe]\nx64 = '/a'",
        "[default]\nunknown = 'ignore'",
    ] {
        let interface = "[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n";
        let problems = parsed(&[("a", interface), ("b", text), ("c", text)]).unwrap_err();
        let line = text.lines().count();
        let said = problems.to_string();
        assert!(
            said.starts_with(&format!("c:{line}: ")) && said.contains(&format!("(line {line} of b)")),
            "{said}"
        );
        assert_eq!(problems.0.len(), 1, "{said}");
    }
}

#[test]
fn files_that_cannot_be_read_are_all_named() {
    let files = [("a", "[[interface\n"), ("b", "[http]\nlisten = 5\n"), ("c", "[[[\n")];
    let problems = parsed(&files).unwrap_err();
    let named: Vec<(&str, Option<usize>)> =
        problems.0.iter().map(|one| (one.file.as_str(), one.line)).collect();
    assert_eq!(named, [("a", Some(1)), ("b", Some(2)), ("c", Some(1))], "{problems}");
    let not_utf8 = [
        Source { name: "a".to_owned(), bytes: b"\n\xff".to_vec() },
        Source { name: "b".to_owned(), bytes: MAIN.into() },
    ];
    let problems = parse_files(&not_utf8).unwrap_err().to_string();
    assert!(problems.starts_with("a:2: this line is not UTF-8"), "{problems}");
}
