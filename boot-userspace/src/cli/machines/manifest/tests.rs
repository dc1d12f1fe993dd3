//! Lists of machines as they are read and written.

use super::*;
use crate::http::boots::{LastBoot, Seen};
use boot_engine::diagnosis::Progress;

fn machine() -> Machine {
    let labels = [("role", "worker"), ("rack", "7, \"left\""), ("note", "k;2\\;group=b;\\")]
        .map(|(key, value)| (key.to_owned(), value.to_owned()));
    let spec = Spec {
        name: Some("node1".to_owned()),
        mac: vec!["52:54:00:00:00:01".to_owned(), "52:54:00:00:00:02".to_owned()],
        ip: Some("10.1.1.50".to_owned()),
        labels: labels.into(),
        bmc: Some(RegisteredBmc {
            address: Some("10.9.0.50".to_owned()),
            mac: Some("52:54:00:00:09:01".to_owned()),
            driver: Some("ipmi".to_owned()),
            user: Some("admin".to_owned()),
            ..RegisteredBmc::default()
        }),
        ..Spec::default()
    };
    Machine {
        source: "configuration".to_owned(),
        id: None,
        version: None,
        revision: None,
        spec,
        status: None,
        seen: None,
        inventory: None,
    }
}

#[test]
fn what_is_exported_is_imported_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for format in [Format::Json, Format::Csv] {
        let file = dir.path().join("machines");
        std::fs::write(&file, export(&[machine()], format).unwrap()).unwrap();
        assert_eq!(read(&file).unwrap().specs, [machine().spec], "{format:?}");
    }
}

#[test]
fn blanks_at_the_ends_of_a_value_are_exported_and_imported_too() {
    let labels = [("q", " tra il "), ("r", "\u{a0}"), ("s", "a;  b "), ("t", "plain")];
    let labels: BTreeMap<String, String> =
        labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    for serial in [" \"quoted\" ", "ZZ1\u{a0}", "ZZ1"] {
        let spec = Spec { labels: labels.clone(), serial: Some(serial.to_owned()), ..machine().spec };
        let exported = csv(&[Machine { spec: spec.clone(), ..machine() }]);
        assert_eq!(from_csv(&exported).unwrap().specs, [spec], "{exported}");
    }
    let by_hand = from_csv("name, serial ,labels\n n1 , \" Z 1\" ,\"a=1; b=2\"\nn2,,a=1 ; b=2 \n").unwrap();
    let [first, second] = &by_hand.specs[..] else { panic!("{by_hand:?}") };
    assert_eq!((first.name.as_deref(), first.serial.as_deref()), (Some("n1"), Some(" Z 1")));
    assert_eq!(first.labels, second.labels);
}

/// An inventory that names a machine only is of no use where nobody resolves its name.
#[test]
fn a_machine_without_a_reservation_is_reached_by_the_address_that_it_has() {
    let boot = LastBoot {
        mac: "52:54:00:00:00:01".to_owned(),
        began: 1_700_000_000,
        began_at: "2023-11-14T22:13:20Z".to_owned(),
        firmware: Some("efi-x64".to_owned()),
        file: None,
        progress: Progress::Up,
        cause: Some("boots".to_owned()),
        says: None,
        wrong: false,
    };
    let seen = Seen { address: Some("10.1.1.99".to_owned()), boot: Some(boot), ..Seen::default() };
    let mut leased = Machine { seen: Some(seen), ..machine() };
    leased.spec.ip = None;
    let of = |format| export(std::slice::from_ref(&leased), format).unwrap();
    let ansible: Value = serde_json::from_str(&of(Format::Ansible)).unwrap();
    assert_eq!(ansible["_meta"]["hostvars"]["node1"]["ansible_host"], "10.1.1.99");
    let prometheus: Value = serde_json::from_str(&of(Format::PrometheusSd)).unwrap();
    assert_eq!(prometheus[0]["targets"][0], "10.1.1.99");
    let nowhere = Machine { spec: Spec { ip: None, ..machine().spec }, ..machine() };
    assert_eq!(export(&[nowhere], Format::PrometheusSd).unwrap(), "[]\n");
    let csv = of(Format::Csv);
    assert!(csv.ends_with(",10.1.1.99,,2023-11-14T22:13:20Z,boots\n"), "{csv}");
    assert_eq!(from_csv(&csv).unwrap().specs, [leased.spec], "what was seen is not written of it");
}

#[test]
fn a_machine_has_nothing_that_an_earlier_one_of_the_list_has() {
    let text = "name,mac,ip\na,52:54:00:00:00:01,\nb,52-54-00-00-00-01,\nA,52:54:00:00:00:02,\nc,,10.1.1.5\n\
        d,,10.1.1.6\ne,,10.1.1.5\n";
    let twice = from_csv(text).unwrap().twice();
    let expected = [(1, "52-54-00-00-00-01"), (2, "A"), (5, "10.1.1.5")];
    assert_eq!(twice, expected.map(|(position, what)| (position, what.to_owned())));
}

#[test]
fn a_backslash_in_a_csv_file_is_its_own_unless_it_keeps_something() {
    assert_eq!(labels_of("a=C:\\x; b=1\\;2 ;c=\\\\", false), ["a=C:\\x", "b=1;2", "c=\\"]);
}

#[test]
fn what_a_csv_file_has_no_column_for_stays() {
    let before = Spec { args: "quiet".to_owned(), uuid: Some("of old".to_owned()), ..machine().spec };
    let imported = |text: &str| from_csv(text).unwrap().items().unwrap()[0].over(Some(&before)).unwrap();
    let whole = Machine { spec: before.clone(), ..machine() };
    assert_eq!(imported(&csv(&[whole])), before, "what is exported");
    let moved = imported("name,ip,profile\nnode1,10.1.1.51,\n");
    assert_eq!(moved, Spec { ip: Some("10.1.1.51".to_owned()), ..before.clone() }, "an IP alone");
    let bare = imported("name,uuid,labels\nnode1,,\n");
    assert_eq!(bare, Spec { uuid: None, labels: BTreeMap::new(), ..before.clone() }, "empty cells are said");
    let list = from_json("[{\"name\": \"node1\"}]").unwrap();
    let item = &list.items().unwrap()[0];
    assert_eq!(item.over(Some(&before)).unwrap(), list.specs[0], "JSON says all");
    let bare = imported("name,bmc_address,bmc_mac,bmc_driver,bmc_user\nnode1,,,,\n");
    assert_eq!(bare, Spec { bmc: None, ..before.clone() }, "a BMC of which nothing is said");
}

#[test]
fn passwords_of_a_list_are_read_and_belong_to_no_spec() {
    let csv = from_csv("name,mac,bmc_address,bmc_password\nn1,,10.9.0.1,\nn2,,10.9.0.2,pa ss\n").unwrap();
    assert_eq!(csv.passwords, [(1, "pa ss".to_owned())].into());
    let json = from_json("[{\"name\": \"n1\", \"bmc_password\": \"pa ss\"}]").unwrap();
    assert_eq!(json.passwords, [(0, "pa ss".to_owned())].into());
    for list in [csv, json] {
        assert!(!format!("{:?}", list.specs).contains("pa ss"));
    }
}

#[test]
fn a_manifest_may_be_toml() {
    let dir = tempfile::tempdir().unwrap();
    let text = "# rack 7\n[[machine]]\nname = \"node1\"\nmac = \"52:54:00:00:00:01\"\nip = \"10.1.1.50\"\n\
        labels = { role = \"worker\" }\nbmc_password = \"pa ss\"\n[machine.bmc]\naddress = \"10.9.0.50\"\n\n\
        [[machine]]\nmac = [\"52:54:00:00:00:02\", \"52:54:00:00:00:03\"]\n";
    for name in ["rack7.toml", "rack7"] {
        let file = dir.path().join(name);
        std::fs::write(&file, text).unwrap();
        let list = read(&file).unwrap();
        let [first, second] = &list.specs[..] else { panic!("{:?}", list.specs) };
        assert_eq!((first.mac.len(), second.mac.len()), (1, 2));
        assert_eq!((first.labels["role"].as_str(), second.name.as_deref()), ("worker", None));
        assert_eq!(first.bmc.as_ref().and_then(|bmc| bmc.address.as_deref()), Some("10.9.0.50"));
        assert_eq!(list.passwords, [(0, "pa ss".to_owned())].into());
    }
    for (text, says) in [
        ("[[machine]]\nname = \"a\"\n[[machine]]\nnmae = \"b\"\n", "line 3: machine 2: unknown field `nmae`"),
        ("[[machine]]\nname = 7\n", "line 1: machine 1: invalid type"),
        ("[[machine]]\nname = a\n", "line 2"),
        ("[[machines]]\n", "unknown field `machines`"),
        ("[[machine]]\nip = \"10.1.1.5\"\n", "machine 1 has no name, MAC, UUID or serial number"),
    ] {
        let file = dir.path().join("wrong.toml");
        std::fs::write(&file, text).unwrap();
        let said = format!("{:#}", read(&file).unwrap_err());
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn mistakes_of_a_list_are_named_with_their_line() {
    for (text, says) in [
        ("name,nmae\n", "there is no column \"nmae\""),
        ("\u{feff}name,mac\nnode1\n", "line 2: 1 columns"),
        ("name,mac\nnode1\n", "line 2: 1 columns"),
        ("name,labels\nnode1,worker\n", "line 2: \"worker\" is no list"),
        ("[{\"nmae\": 1}]", "machine 1: unknown field `nmae`"),
        ("[{}, {\"spec\": {\"name\": \"n2\", \"ip\": 7}}]", "machine 2 (n2): invalid type: integer `7`"),
        ("[{\"mac\": [\"02:00:00:00:00:01\", 7]}]", "machine 1 (02:00:00:00:00:01): invalid type"),
        ("[{\"mac\": \"02:00:00:00:00:01\"}]", "machine 1 (02:00:00:00:00:01): invalid type: string"),
        ("[{\"name\": 7, \"uuid\": \"\\u001b[2J\"}]", "machine 1 (\\u{1b}[2J): invalid type"),
        ("[7]", "machine 1: invalid type: integer `7`"),
    ] {
        let read = if text.starts_with('[') { from_json(text) } else { from_csv(text) };
        let said = format!("{:#}", read.unwrap_err());
        assert!(said.contains(says), "{said}");
    }
}

#[test]
fn other_programs_get_their_own_formats() {
    let ansible: Value = serde_json::from_str(&export(&[machine()], Format::Ansible).unwrap()).unwrap();
    assert_eq!(ansible["role_worker"]["hosts"][0], "node1");
    assert_eq!(ansible["_meta"]["hostvars"]["node1"]["ansible_host"], "10.1.1.50");
    let prometheus: Value =
        serde_json::from_str(&export(&[machine()], Format::PrometheusSd).unwrap()).unwrap();
    assert_eq!(prometheus[0]["targets"][0], "10.1.1.50");
    assert_eq!(prometheus[0]["labels"]["__meta_xpxe_label_role"], "worker");
}
