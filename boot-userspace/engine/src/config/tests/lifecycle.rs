//! `[lifecycle]`, and machines of the registry.

use std::time::Duration;

use super::*;

const REST: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    router = "10.1.0.1"
    pool = ["10.1.1.33-10.1.1.34"]
    [[profile]]
    name = "agent"
    kernel = "k"
    [[group]]
    name = "rack1"
    match = { mac = "52:54:00" }
"#;

#[test]
fn the_section_is_read_and_its_mistakes_are_named() {
    let config = parse(REST, "test").unwrap();
    assert_eq!(config.lifecycle, Lifecycle::default());
    let section = "[lifecycle]\nagent = \"agent\"\nwipe = false\naccept = \"rack1\"\nlive = [\"agent\"]\n\
                   limits = { installing = \"2h\", running = \"1d\" }\n";
    let read = parse(&format!("{REST}{section}"), "test").unwrap().lifecycle;
    assert_eq!((read.agent.as_deref(), read.wipe, read.live.len()), (Some("agent"), false, 1));
    assert_eq!(read.accept, Accept::Groups(vec!["rack1".to_owned()]));
    assert_eq!(read.limits.get("installing"), Some(&Duration::from_secs(7200)));
    assert_eq!(read.limits.get("allocated"), Some(&Duration::from_secs(1800)));
    let all = parse(&format!("{REST}[lifecycle]\naccept = \"all\"\n"), "test").unwrap();
    assert_eq!(all.lifecycle.accept, Accept::All);
    let wrong = "[lifecycle]\nagent = \"agnet\"\naccept = [\"rack2\"]\nlimits = { ignored = \"1h\", ready = \"0s\" }\n";
    let problems = parse(&format!("{REST}{wrong}"), "test").unwrap_err().to_string();
    for expected in [
        "there is no profile \"agnet\"",
        "there is no group \"rack2\"",
        "limits.ignored",
        "\"0s\" is too short",
    ] {
        assert!(problems.contains(expected), "{expected} is not in {problems}");
    }
}

#[test]
fn a_machine_of_the_registry_goes_by_the_rules_of_the_file() {
    let config = parse(REST, "test").unwrap();
    let good = Registered {
        name: Some("node1".to_owned()),
        macs: vec!["52-54-00-00-00-01".to_owned()],
        ip: Some("10.1.1.50".to_owned()),
        profile: Some("agent".to_owned()),
        ..Registered::default()
    };
    let machine = good.check(&config).unwrap();
    assert_eq!(machine.macs, [boot_common::Mac([0x52, 0x54, 0, 0, 0, 1])]);
    let bad = Registered {
        name: Some("node.1".to_owned()),
        macs: vec!["52:54".to_owned()],
        ip: Some("10.1.0.1".to_owned()),
        profile: Some("none".to_owned()),
        args: "two\nlines".to_owned(),
        ..good.clone()
    };
    let wrong = bad.check(&config).unwrap_err();
    let keys: Vec<&str> = wrong.iter().filter_map(|text| text.split(':').next()).collect();
    assert_eq!(keys, ["mac", "name", "ip", "profile", "args"], "{wrong:?}");
    assert!(Registered::default().check(&config).is_err(), "nothing tells it from others");
    let image = |url: &str, sha256: &str| crate::config::DiskImage {
        url: url.to_owned(),
        sha256: sha256.to_owned(),
        disk: Some("S 1".to_owned()),
    };
    let imaged = |image| Registered { image: Some(image), ..good.clone() };
    let wrong = imaged(image("http://elsewhere/x", "12")).check(&config).unwrap_err();
    let keys: Vec<&str> = wrong.iter().filter_map(|text| text.split(':').next()).collect();
    assert_eq!(keys, ["image.url", "image.sha256", "image.disk"], "{wrong:?}");
    for url in ["images/a.img", "image:debian"] {
        let right = crate::config::DiskImage { disk: None, ..image(url, &"a".repeat(64)) };
        assert_eq!(imaged(right.clone()).check(&config).unwrap().image.as_deref(), Some(&right));
    }
    assert!(
        imaged(crate::config::DiskImage { disk: None, ..image("../x", &"a".repeat(64)) })
            .check(&config)
            .is_err()
    );
    let agent = "[agent]\nwipe = \"overwrite\"\nthen = \"power-off\"\n";
    let read = parse(&format!("{REST}{agent}"), "test").unwrap().agent;
    assert_eq!(
        (format!("{:?}", read.wipe), format!("{:?}", read.then)),
        ("Overwrite".into(), "PowerOff".into())
    );
    let problems = parse(&format!("{REST}[agent]\nwipe = \"burn\"\n"), "test").unwrap_err().to_string();
    assert!(problems.contains("agent.wipe"), "{problems}");
    let elsewhere = Registered { ip: Some("192.168.0.1".to_owned()), ..good };
    assert_eq!(elsewhere.check(&config).unwrap_err(), ["ip: 192.168.0.1 is in no [[subnet]]"]);
}
