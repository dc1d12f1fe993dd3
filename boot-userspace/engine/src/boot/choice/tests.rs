use super::*;

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    dhcp = "proxy"
    [[profile]]
    name = "one"
    kernel = "k"
    args = "one"
    [[profile]]
    name = "two"
    kernel = "k"
    args = "two"
    [default]
    profile = "one"
    [[group]]
    name = "all"
    match = {}
    args = "all"
    [[group]]
    name = "workers"
    match = { labels = { role = "worker" } }
    profile = "two"
    args = "worker"
    [[group]]
    name = "arm"
    match = { arch = "arm64", subnet = "10.1.0.0/16" }
    profile = "one"
    [[group]]
    name = "cz"
    match = { serial = ["CZ-17", "CZ-18"] }
    args = "serial"
    [[machine]]
    mac = "52:54:00:00:00:01"
    labels = { role = "worker", rack = "7" }
    args = "own"
    [[machine]]
    mac = "52:54:00:00:00:02"
    profile = "one"
    labels = { role = "worker" }
"#;

#[test]
fn default_then_groups_then_the_machine() {
    let config = crate::config::parse(CONFIG, "test").unwrap();
    let [first, second] = &config.machines[..] else { panic!() };
    let arm =
        Booting { arch: Some(Arch::Arm64), address: Some(Ipv4Addr::new(10, 1, 2, 3)), ..Booting::default() };
    let elsewhere = Some(Ipv4Addr::new(10, 2, 2, 3));
    for (booting, args) in [
        (Booting::default(), "one all"),
        (Booting { machine: Some(first), ..Booting::default() }, "two all worker own"),
        (Booting { machine: Some(second), ..Booting::default() }, "one all worker"),
        (Booting { machine: Some(first), ..arm }, "one all worker own"),
        (Booting { machine: Some(first), address: elsewhere, ..arm }, "two all worker own"),
        (Booting { serial: Some("CZ-18"), ..arm }, "one all serial"),
        (Booting { serial: Some("CZ-19"), ..arm }, "one all"),
    ] {
        let choice = Choice::new(&config, &booting);
        let (_, profile) = choice.profile.unwrap();
        assert_eq!(profile.args_of(booting.arch, &choice.own_args(booting.machine)), args, "{booting:?}");
    }
}
