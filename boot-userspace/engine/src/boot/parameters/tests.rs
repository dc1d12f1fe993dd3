use std::path::Path;

use super::change::{MOST, card};
use super::*;

const BOOT_DIR: &str = "/var/lib/xpxe/boot";

fn parameters(kernel: &str, params: &str) -> Parameters {
    Parameters { kernel: kernel.to_owned(), params: params.to_owned(), ..Parameters::default() }
}

fn change(act: Act, targets: &[Target], parameters: Parameters) -> Change {
    Change { act, targets: targets.to_vec(), parameters }
}

fn after(table: &Table, change: &Change) -> Result<Table, Refused> {
    table.after(change, Path::new(BOOT_DIR))
}

fn table(hosts: &[(&str, &str)]) -> Table {
    hosts.iter().fold(Table::default(), |table, (host, kernel)| {
        after(&table, &change(Act::Set, &[Target::host(*host)], parameters(kernel, ""))).unwrap()
    })
}

fn machine(name: &str, labels: &[(&str, &str)]) -> Machine {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Machine { name: Some(name.to_owned()), macs: vec![Mac([2, 0, 0, 0, 0, 1])], labels, ..Machine::default() }
}

#[test]
fn the_more_specific_goes_first_and_what_is_written_before_the_configuration() {
    let node = machine("x1000c0s0b0n0", &[("role", "Compute"), ("nid", "7")]);
    let whose = Whose { machine: Some(&node), mac: Some(node.macs[0]), arch: Some("x86_64") };
    let all = [("Default", "d"), ("compute", "r"), ("X1000c0s0b0n0", "n"), ("Unknown-x86_64", "u")];
    let booted = |table: &Table, whose: &Whose<'_>, level| {
        table.boots(whose, level).map(|found| found.parameters.kernel.clone())
    };
    let levels = [Level::Machine, Level::Group, Level::Default];
    let of = |names: &[(&str, &str)]| levels.map(|level| booted(&table(names), &whose, level));
    let some = |kernels: [&str; 3]| {
        kernels.map(|kernel| Some(kernel.to_owned()).filter(|kernel| !kernel.is_empty()))
    };
    assert_eq!(of(&all), some(["n", "n", "n"]));
    assert_eq!(of(&[all[0], all[1], all[3]]), some(["", "r", "r"]));
    assert_eq!(of(&[all[0], all[3]]), some(["", "", "d"]));
    assert_eq!(of(&[all[3]]), some(["", "", "u"]));
    // A machine that nobody knows has no role and is not everybody.
    let unknown = Whose { machine: None, mac: Some(Mac([2, 0, 0, 0, 0, 9])), arch: Some("x86_64") };
    assert_eq!(booted(&table(&all), &unknown, Level::Default).as_deref(), Some("u"));
    assert_eq!(booted(&table(&all), &Whose { arch: None, ..unknown }, Level::Default), None);
    let by_card =
        after(&table(&all), &change(Act::Set, &[Target::Mac(Mac([2, 0, 0, 0, 0, 9]))], parameters("m", "")))
            .unwrap();
    assert_eq!(booted(&by_card, &unknown, Level::Machine).as_deref(), Some("m"));
    let by_number =
        after(&Table::default(), &change(Act::Set, &[Target::Nid(7)], parameters("7", ""))).unwrap();
    assert_eq!(booted(&by_number, &whose, Level::Machine).as_deref(), Some("7"));
}

#[test]
fn each_change_does_what_its_request_says_or_nothing() {
    let (one, two) = (Target::host("one"), Target::host("two"));
    let both = [one.clone(), two.clone()];
    let first = after(&Table::default(), &change(Act::Add, &both, parameters("k", "a=1"))).unwrap();
    assert_eq!(first.of(&one), first.of(&two));
    assert_eq!(
        after(&first, &change(Act::Add, &[Target::host("three"), one.clone()], parameters("k", ""))),
        Err(Refused::Exists("one".to_owned()))
    );
    let changed =
        after(&first, &change(Act::Update, std::slice::from_ref(&two), parameters("", "b=2"))).unwrap();
    assert_eq!(*changed.of(&two).unwrap().clone(), parameters("k", "b=2"));
    assert_eq!(changed.of(&one), first.of(&one));
    let missing = change(Act::Update, &[Target::host("three")], parameters("k", ""));
    assert_eq!(after(&first, &missing), Err(Refused::Missing("three".to_owned())));
    assert_eq!(
        after(&first, &Change { act: Act::Remove, ..missing }),
        Err(Refused::Missing("three".to_owned()))
    );
    assert_eq!(after(&first, &change(Act::Set, &[], Parameters::default())), Err(Refused::Nothing));
    // The arguments of a kernel go to all who boot it, and its end is theirs.
    let kernel = Target::Kernel("k".to_owned());
    let with_more =
        after(&changed, &change(Act::Set, std::slice::from_ref(&kernel), parameters("k", "of_kernel=1")))
            .unwrap();
    let found = with_more.found(two.clone()).unwrap();
    assert_eq!(found.parameters.args(&found.more), "b=2 of_kernel=1");
    let gone = after(&with_more, &change(Act::Remove, &[kernel], Parameters::default())).unwrap();
    assert_eq!(gone.found(two), None);
}

#[test]
fn cloud_init_s_data_is_patched_and_a_role_s_goes_before_a_node_s() {
    let cloud = |text: &str| Parameters {
        cloud_init: Some(serde_json::from_str(text).unwrap()),
        ..Parameters::default()
    };
    let one = [Target::host("n1")];
    let first = cloud(r#"{ "meta-data": { "a": { "b": 1, "c": 2 }, "d": 1 }, "user-data": null }"#);
    let table = after(&Table::default(), &change(Act::Set, &one, first)).unwrap();
    let second = cloud(r#"{ "meta-data": { "a": { "b": null, "e": 3 } }, "user-data": { "x": 1 } }"#);
    let table = after(&table, &change(Act::Update, &one, second)).unwrap();
    let table =
        after(&table, &change(Act::Set, &[Target::host("Compute")], cloud(r#"{ "meta-data": { "r": 1 } }"#)))
            .unwrap();
    let node = machine("n1", &[("role", "Compute")]);
    let found = table.cloud_init(&Whose { machine: Some(&node), ..Whose::default() });
    let data: Vec<String> =
        found.iter().map(|of| serde_json::to_string(of.meta_data.as_ref().unwrap()).unwrap()).collect();
    assert_eq!(data, [r#"{"r":1}"#, r#"{"a":{"c":2,"e":3},"d":1}"#]);
}

#[test]
fn what_cannot_be_booted_is_refused_and_nothing_grows_without_end() {
    let set = |host: &str, parameters| {
        after(&Table::default(), &change(Act::Set, &[Target::host(host)], parameters)).map(drop)
    };
    for (host, kernel, params, why) in [
        ("n1", "a b\n", "", "control character"),
        ("n1", "ftp://h/k", "", "not fetched"),
        ("n1", "../../etc/shadow", "", "leaves boot_dir"),
        ("n1", "s3://bucket", "", "names no object"),
        ("n1", "image:http://127.0.0.1:7777/meta", "", "fetches only s3://"),
        ("n1", "k", "a=1\nboot", "one line"),
        ("n1", "k", "a=\u{1b}[31m", "control character"),
        ("n 1", "k", "", "is no host"),
        ("", "k", "", "is no host"),
    ] {
        let said = set(host, parameters(kernel, params)).unwrap_err().to_string();
        assert!(said.contains(why), "{kernel:?} {params:?}: {said}");
    }
    for kernel in ["k", "/boot/k", "http://h/k", "https://h/k", "s3://bucket/k", "s3:///bucket/k"] {
        assert_eq!(set("n1", parameters(kernel, "")), Ok(()), "{kernel}");
    }
    assert_eq!(parameters("s3:///bucket/k", "").kernel(), "image:s3://bucket/k");
    assert_eq!(parameters("/boot/k", "").kernel(), "boot/k");
    let data = format!(r#"{{ "user-data": {{ "x": "{}" }} }}"#, "x".repeat(64 << 10));
    let large =
        Parameters { cloud_init: Some(serde_json::from_str(&data).unwrap()), ..Parameters::default() };
    assert!(matches!(set("n1", large), Err(Refused::Full(_))));
    let many: Vec<Target> = (0..=MOST).map(|number| Target::Nid(u32::try_from(number).unwrap())).collect();
    let full = after(&Table::default(), &change(Act::Set, &many, parameters("k", "")));
    assert!(matches!(full, Err(Refused::Full(_))));
    assert!(card("52:54:00:00:00:0g").is_err());
}

#[test]
fn what_is_kept_is_read_as_it_was_and_the_same_stands_once() {
    let targets =
        [Target::host("Default"), Target::host("n1"), Target::Mac(Mac([2, 0, 0, 0, 0, 1])), Target::Nid(7)];
    let token = Parameters { token: "t".to_owned(), ..parameters("s3://b/k", "a=1") };
    let table = after(&Table::default(), &change(Act::Set, &targets, token)).unwrap();
    let table = after(
        &table,
        &change(
            Act::Set,
            &[Target::Initrd("i".to_owned())],
            Parameters { initrd: "i".to_owned(), ..parameters("", "x=1") },
        ),
    )
    .unwrap();
    let kept = table.kept();
    assert_eq!(kept.len(), 2);
    let text = serde_json::to_string(&kept).unwrap();
    assert!(text.contains(r#""hosts":["Default","n1"],"macs":["02:00:00:00:00:01"],"nids":[7],"params":"a=1","kernel":"s3://b/k","referral-token":"t""#), "{text}");
    assert_eq!(Table::read(serde_json::from_str(&text).unwrap()), Ok(table));
    // As Go writes what is not there.
    let null: Written = serde_json::from_str(r#"{ "hosts": null, "macs": null, "params": null, "cloud-init": { "meta-data": null, "user-data": null } }"#).unwrap();
    assert_eq!((null.hosts.len(), null.parameters.params.as_str()), (0, ""));
}
