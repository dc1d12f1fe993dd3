//! Profiles that inherit, and groups.

use super::*;

const PROFILES: &str = r#"[[profile]]
name = "base"
console = "ttyS0"
args = "a=base"
arch.arm64 = { kernel = "arm/k", args = "arm=base", console = "ttyAMA0" }
options = [{ code = 42, ip = "10.1.0.5" }, { code = 26, u16 = 9000 }]
[[profile]]
name = "talos"
inherit = "base"
kernel = "talos/k"
initrd = ["talos/i"]
args = "a=talos"
arch.arm64 = { args = "arm=talos" }
boot_file = "talos.efi"
[[profile]]
name = "debug"
inherit = ["base", "talos"]
args = "debug"
initrd = []
console = "ttyS1"
options = [{ code = 42, ip = "10.1.0.6" }]
"#;

#[test]
fn a_profile_has_what_it_inherits_and_its_own_stands_before_it() {
    let config = good(&format!("[[interface]]\nname = 'eth1'\ndhcp = 'proxy'\n{PROFILES}"));
    assert_eq!(config.profiles.keys().collect::<Vec<_>>(), ["debug", "talos"], "base has no kernel");
    let [debug, talos] = ["debug", "talos"].map(|name| config.profiles.get(name).unwrap());
    assert_eq!((&*talos.kernel, talos.initrd.len()), ("talos/k", 1));
    assert_eq!(talos.args_of(None, "own"), "console=ttyS0 a=base a=talos own");
    let arm = Some(Arch::Arm64);
    assert_eq!(talos.args_of(arm, ""), "console=ttyAMA0 a=base a=talos arm=base arm=talos");
    assert_eq!((talos.kernel_of(arm), &*talos.boot_file.clone().unwrap()), ("arm/k", "talos.efi"));
    assert_eq!(
        (&*debug.kernel, debug.initrd.len()),
        ("talos/k", 0),
        "an empty list stands before what is inherited"
    );
    assert_eq!(debug.args_of(None, ""), "console=ttyS1 a=base a=talos debug", "the base is there once");
    assert_eq!(debug.boot_file.as_deref(), Some("talos.efi"));
    let of = |profile: &Profile| {
        profile.options.iter().map(|option| (option.code, option.data.clone())).collect::<Vec<_>>()
    };
    assert_eq!(of(talos), [(42, vec![10, 1, 0, 5]), (26, vec![0x23, 0x28])]);
    assert_eq!(of(debug), [(26, vec![0x23, 0x28]), (42, vec![10, 1, 0, 6])]);
}

#[test]
fn what_inherits_too_many_is_an_error_and_no_work() {
    let too_many = "inherits more than 64 profiles, with those that these inherit";
    let profile = |name: usize, inherit: &[usize]| {
        let inherit: Vec<String> = inherit.iter().map(|base| format!("\"p{base}\"")).collect();
        let inherit = format!("inherit = [{}]\n", inherit.join(", "));
        let inherit = if inherit.contains('"') { inherit.as_str() } else { "" };
        format!("[[profile]]\nname = \"p{name}\"\nkernel = \"k\"\n{inherit}")
    };
    // Each layer doubles the number of ways.
    let layers = |count: usize| -> String {
        let of = |nth: usize| if nth < 2 { vec![] } else { vec![nth / 2 * 2 - 2, nth / 2 * 2 - 1] };
        (0..count).map(|nth| profile(nth, &of(nth))).collect()
    };
    good(&format!("{BASE}{}", layers(66)));
    let too_many_in = |profiles: String| {
        let problems = parse(&format!("{BASE}{profiles}"), "xpxe.toml").expect_err("too many");
        assert!(problems.0.iter().all(|problem| problem.message.contains(too_many)), "{problems}");
        problems.0.iter().map(|problem| problem.key.clone()).collect::<Vec<_>>()
    };
    // Counted from 1.
    assert_eq!(too_many_in(layers(68)), ["profile[67].inherit", "profile[68].inherit"]);
    let chain = |count: usize| (0..count).map(|nth| profile(nth, &(nth.max(1) - 1..nth).collect::<Vec<_>>()));
    assert_eq!(too_many_in(chain(66).collect()), ["profile[66].inherit"]);
    assert_eq!(too_many_in(chain(3_000).collect()).len(), 3_000 - 65);
    let backwards: Vec<String> = chain(3_000).collect();
    assert_eq!(too_many_in(backwards.into_iter().rev().collect()).len(), 3_000 - 65);
    let all_before = |nth: usize| profile(nth, &(0..nth).collect::<Vec<_>>());
    assert_eq!(too_many_in((0..300).map(all_before).collect()).len(), 300 - 65);
}

#[test]
fn circles_and_what_is_not_there_are_named() {
    bad_after_base(
        "[[profile]]\nname = \"a\"\ninherit = \"c\"\n[[profile]]\nname = \"b\"\ninherit = [\"a\", \"talso\"]\nkernel = \"k\"\n\
         [[profile]]\nname = \"c\"\ninherit = [\"talos\", \"b\"]\n[[profile]]\nname = \"d\"\ninherit = \"d\"\nkernel = \"k\"\n",
        &[
            (6, "profile[2].inherit[1]", "there is no profile \"talso\" (did you mean \"talos\"?)"),
            (10, "profile[3].inherit[1]", "goes round in a circle: c inherits b inherits a inherits c"),
            (13, "profile[4].inherit", "goes round in a circle: d inherits d"),
        ],
    );
    bad_after_base(
        "[[profile]]\nname = \"base\"\nargs = \"x\"\n[[profile]]\nname = \"lost\"\n[[profile]]\nname = \"c\"\ninherit = \"base\"\n\
         [default]\nprofile = \"base\"\n",
        &[
            (4, "profile[2].kernel", "is missing; write kernel ="),
            (6, "profile[3].kernel", "or inherit a profile that has one"),
            (10, "default.profile", "has no kernel, so it can only be inherited"),
        ],
    );
    let long = "x".repeat(1500);
    bad_after_base(
        &format!(
            "[[profile]]\nname = \"a\"\nkernel = \"k\"\nargs = \"{long}\"\n[[profile]]\nname = \"b\"\ninherit = \"a\"\nargs = \"{long}\"\n"
        ),
        &[(6, "profile[2].name", "has 3001 bytes of arguments")],
    );
}

#[test]
fn a_group_says_whom_it_is_for() {
    let config = good(&format!(
        "{BASE}[[group]]\nname = 'all'\nmatch = {{}}\nargs = 'x'\n[[group]]\nname = 'some'\nprofile = 'talos'\n[group.match]\n\
         labels = {{ role = 'worker' }}\nmac = ['52:54', 'b8:27:eb']\ncircuit_id = 'eth1/7'\nremote_id = '0x7377'\n\
         subnet = '10.0.0.0/8'\narch = ['arm64', 'x64']\nserial = 'CZ 17'\n"
    ));
    let [all, some] = &config.groups[..] else { panic!("{:?}", config.groups) };
    assert!(!all.fits.is_of_machine() && !all.fits.is_of_boot());
    let labels = [("role".to_owned(), "worker".to_owned())].into();
    let known = Described {
        labels: Some(&labels),
        mac: Some(boot_common::Mac([0xb8, 0x27, 0xeb, 1, 2, 3])),
        switch_port: Some((b"eth1/7", Some(b"sw"))),
        inventory: None,
    };
    assert!(some.fits.fits_machine(&known) && all.fits.fits_machine(&Described::default()));
    let fewer = [("role".to_owned(), "worker ".to_owned())].into();
    for other in [
        Described { labels: Some(&fewer), ..known },
        Described { labels: None, ..known },
        Described { mac: Some(boot_common::Mac([0xb8, 0x27, 0xec, 1, 2, 3])), ..known },
        Described { mac: None, ..known },
        Described { switch_port: Some((b"eth1/7", None)), ..known },
        Described { switch_port: Some((b"eth1/8", Some(b"sw"))), ..known },
        Described { switch_port: None, ..known },
    ] {
        assert!(!some.fits.fits_machine(&other), "{other:?}");
    }
    let net = |text: &str| Some(text.parse().unwrap());
    assert!(some.fits.fits_subnet(net("10.1.0.0/16")) && !some.fits.fits_subnet(net("192.168.0.0/16")));
    assert!(!some.fits.fits_subnet(None) && all.fits.fits_subnet(None));
    assert!(some.fits.fits_arch(Some(Arch::X64)) && !some.fits.fits_arch(Some(Arch::Bios)));
    assert!(some.fits.fits_serial(Some("CZ_17")), "as machines' serial numbers are tamed");
    assert!(!some.fits.fits_serial(Some("CZ_18")) && !some.fits.fits_serial(None));
}

#[test]
fn mistakes_in_groups_are_named() {
    bad_after_base(
        "[[group]]\nname = \"a\"\n[[group]]\nname = \"a\"\nprofile = \"talso\"\n[group.match]\nmac = \"5254:00\"\n\
         subnet = \"10.1.1.0/24\"\narch = \"amd64\"\nserial = \"\"\nlabel = { a = \"b\" }\n[[group]]\nname = \"b\"\n\
         match = { serial = \"1\" }\noptions = [{ code = 42, ip = \"10.1.0.5\" }]\n",
        &[
            (1, "group[0].match", "is missing; write match ="),
            (4, "group[1].name", "group \"a\" is already at group[0].name"),
            (5, "group[1].profile", "did you mean \"talos\"?"),
            (7, "group[1].match.mac", "is not how MAC addresses begin"),
            (
                8,
                "group[1].match.subnet",
                "10.1.1.0/24 is a part of the subnet 10.1.0.0/16; write \"10.1.0.0/16\"",
            ),
            (9, "group[1].match.arch", "\"amd64\" is not known"),
            (10, "group[1].match.serial", "is no serial number"),
            (11, "group[1].match.label", "did you mean labels?"),
            (15, "group[2].options[0]", "DHCP tells no serial numbers"),
        ],
    );
    // Of machines only those count that are in the group.
    let long = "x".repeat(1990);
    bad_after_base(
        &format!(
            "[default]\nprofile = \"talos\"\n[[group]]\nname = \"a\"\nmatch = {{ labels = {{ a = \"b\" }} }}\nargs = \"{long}\"\n\
             [[machine]]\nmac = \"52:54:00:00:00:01\"\nargs = \"0123456789\"\n\
             [[machine]]\nmac = \"52:54:00:00:00:02\"\nargs = \"0123456789\"\nlabels = {{ a = \"b\" }}\n"
        ),
        &[(12, "machine[1].args", "has 2002 bytes with the arguments of its profile and its groups")],
    );
}

#[test]
fn a_group_by_inventory_is_of_machines_and_its_mistakes_are_named() {
    let config = good(&format!(
        "{BASE}[[group]]\nname = 'big'\noptions = [{{ code = 42, ip = \"10.1.0.5\" }}]\n[group.match]\nmemory = '>= 256G, < 1T'\n\
         nics = ['mlx5', 'ice']\ndisks = '>= 2'\n"
    ));
    let [big] = &config.groups[..] else { panic!("{:?}", config.groups) };
    assert!(big.fits.is_of_machine() && !big.fits.is_of_boot(), "DHCP's answers follow it");
    assert_eq!(big.fits.hardware.to_string(), "memory >= 256G, < 1T, disks >= 2, nics mlx5 or ice");
    assert!(!big.fits.fits_machine(&Described::default()), "nobody has reported");
    bad_after_base(
        "[[group]]\nname = \"a\"\n[group.match]\nmemory = \"256G\"\ncores = 32\ncpu = []\nmemroy = \"> 1G\"\n\
         disk_size = [\"> 1T\", \"1T\"]\nnics.mlx5 = true\n",
        &[
            (4, "group[0].match.memory", "write >=, >, <=, < or = before it, such as memory = \">= 256G\""),
            (5, "group[0].match.cores", "write cores = \">= 32\""),
            (6, "group[0].match.cpu", "the list is empty; write cpu = [\"EPYC\"]"),
            (7, "group[0].match.memroy", "did you mean memory?"),
            (8, "group[0].match.disk_size[1]", "such as disk_size = \">= 4T\""),
            (9, "group[0].match.nics", "write nics = \"mlx5_core\""),
        ],
    );
}
