//! Lease times, options by number and boot files.

use boot_common::class::Stage;

use super::*;

/// [`BASE`] with one option in its profile, in line 10.
#[track_caller]
fn bad_option(option: &str, key: &str, why: &str) {
    let key = format!("profile[0].options[0]{key}");
    bad_after_base(&format!("options = [{option}]\n"), &[(1, &key, why)]);
}

/// The data of one option, or of none.
fn data_of(option: &str) -> Vec<u8> {
    let config = good(&format!("{BASE}options = [{option}]\n"));
    let options = config.profiles.into_values().flat_map(|profile| profile.options);
    options.flat_map(|option| option.data).collect()
}

#[test]
fn the_extended_example() {
    let config = good(EXTENDED);
    let option = |code, data: &[u8], always| CustomOption { code, data: data.to_vec(), always, client: None };
    let subnet = config.subnets.first().unwrap();
    assert_eq!(subnet.boot_lease, Duration::from_secs(120));
    assert!(!subnet.probe);
    let options = [
        option(42, &[10, 1, 0, 5, 10, 1, 0, 6], false),
        option(28, &[255; 4], false),
        option(66, b"tftp.example", false),
        option(120, &[0, 255], false),
        option(23, &[64], false),
        option(26, &[0x23, 0x28], false),
        option(2, &[0, 0, 0x0e, 0x10], false),
        option(19, &[1], false),
        option(252, b"http://10.1.0.2/wpad.dat", true),
    ];
    assert_eq!(subnet.options, options);
    let profile = config.profiles.get("talos").unwrap();
    assert_eq!(profile.boot_file.as_deref(), Some("talos/uki.efi"));
    assert_eq!(profile.options, [option(12, b"someone", false), option(80, &[], false)]);
    let machine = config.machines.first().unwrap();
    assert_eq!(machine.boot_file.as_deref(), Some("https://10.1.0.2/uki.efi"));
    assert_eq!(machine.options, [option(43, &[1, 6], false)]);
    let rules = [
        BootFileRule { arch: vec![11], oui: Some([0xb8, 0x27, 0xeb]), file: "custom.efi".into() },
        BootFileRule { arch: vec![7, 9], oui: None, file: "http://10.1.0.2/custom.efi".into() },
    ];
    assert_eq!(config.boot_files, rules);
    assert_eq!(good(&EXTENDED.replace('\n', "\r\n")), config);
}

#[test]
fn boot_leases() {
    let subnet = |lines: &str| format!("{BASE}[[subnet]]\ncidr = \"10.2.0.0/16\"\n{lines}");
    for (lines, seconds) in [
        ("", 300),
        ("lease = '2m'\n", 120),
        ("lease = '1h'\n", 300),
        ("boot_lease = '10m'\n", 600),
        ("lease = '1h'\nboot_lease = '60m'\n", 3600),
        ("boot_lease = '60s'\n", 60),
    ] {
        let boot_lease = good(&subnet(lines)).subnets.last().map(|subnet| subnet.boot_lease);
        assert_eq!(boot_lease, Some(Duration::from_secs(seconds)), "{lines}");
    }
    let key = "subnet[0].boot_lease";
    for (lines, why) in [
        ("boot_lease = '59s'\n", "is too short; write at least \"60s\""),
        ("boot_lease = 'soon'\n", "is not a time"),
        ("boot_lease = '11m'\n", "\"11m\" is longer than the lease; write at most \"10m\""),
        ("boot_lease = '3m'\nlease = '2m'", "is longer than the lease; write at most \"2m\""),
        ("boot_lease = 5\n", "has to be a text in quotes, not a number; write boot_lease = \"5m\""),
    ] {
        bad(
            &format!(
                "[[interface]]\nname = \"a\"\n[[subnet]]\ncidr = \"10.1.0.0/16\"\npool = [\"10.1.0.9\"]\n{lines}"
            ),
            &[(6, key, why)],
        );
    }
    // A lease that could not be read is no limit.
    for lease in ["5", "'x'", "'30s'"] {
        bad_after_base(
            &format!("[[subnet]]\ncidr = \"10.2.0.0/16\"\nlease = {lease}\nboot_lease = '1h'\nprobe = 1\n"),
            &[(3, "subnet[1].lease", ""), (5, "subnet[1].probe", "write probe = true")],
        );
    }
}

#[test]
fn an_option_has_a_code_and_one_value() {
    let example = "write options = [{ code = 42, ip = [\"10.1.0.5\"] }]";
    for (value, key, why) in [
        ("5", "", "has to be a list of tables, not a number"),
        ("{ code = 42, u8 = 1 }", "", "there can be several"),
        ("[5]", "[0]", "has to be a list of tables, not a number"),
    ] {
        let key = format!("profile[0].options{key}");
        bad_after_base(&format!("options = {value}"), &[(1, &key, why)]);
        bad_after_base(&format!("options = {value}"), &[(1, &key, example)]);
    }
    let code = "has to be a whole number from 0 to 255, without quotes; write code = 42";
    bad_option("{ u8 = 1 }", ".code", "is missing; write code = 42");
    for wrong in ["\"42\"", "256", "-1", "4.2", "042", "99999999999999999999", "true", "[42]", "ntp"] {
        bad_option(&format!("{{ code = {wrong}, u8 = 1 }}"), ".code", code);
    }
    bad_option("{ code = 42 }", "", "has no value; write ip, text, hex, u8, u16, u32 or bool, such as");
    bad_option("{ code = 42, always = true }", "", "has no value");
    bad_option("{ code = 42, text = \"a\", hex = \"00\" }", "", "has several values; keep text or hex");
    bad_option("{ code = 42, u8 = 1, value = 5 }", ".value", "write code, ip, text,");
    bad_option("{ code = 42, hexx = \"00\" }", ".hexx", "did you mean hex?");
    bad_option("{ code = 42, u8 = 1, always = 1 }", ".always", "write always = true");
    good(&format!("{BASE}options = []\n"));
}

#[test]
fn values_of_options() {
    for (value, data) in [
        ("ip = '10.1.0.5'", &[10, 1, 0, 5][..]),
        ("ip = ['0.0.0.0', '10.1.0.1']", &[0, 0, 0, 0, 10, 1, 0, 1]),
        ("text = 'é'", "é".as_bytes()),
        ("hex = ''", &[]),
        ("hex = '0x00ff'", &[0, 255]),
        ("u8 = 255", &[255]),
        ("u16 = 65535", &[255, 255]),
        ("u16 = 0x0102", &[1, 2]),
        ("u32 = 4_294_967_295", &[255; 4]),
        ("u32 = 1", &[0, 0, 0, 1]),
        ("bool = true", &[1]),
        ("bool = false", &[0]),
    ] {
        assert_eq!(data_of(&format!("{{ code = 224, {value} }}")), data, "{value}");
    }
    for (value, key, why) in [
        ("ip = []", ".ip", "the list is empty; write ip = [\"10.1.0.5\"]"),
        ("ip = 10", ".ip", "has to be a text in quotes"),
        ("ip = ['10.1.0.1', 'ntp']", ".ip[1]", "\"ntp\" is not an IPv4 address"),
        ("ip = '::1'", ".ip", "is not an IPv4 address"),
        ("text = 5", ".text", "has to be a text in quotes, not a number"),
        ("text = ''", ".text", "write hex = \"\" for an option without data"),
        ("text = \"a\\u0000\"", ".text", "contains a control character; write hex"),
        ("hex = '0'", ".hex", "is not hexadecimal"),
        ("hex = 0xff", ".hex", "has to be a text in quotes"),
        ("u8 = 256", ".u8", "from 0 to 255, without quotes; write u8 = 1"),
        ("u16 = 65536", ".u16", "from 0 to 65535"),
        ("u32 = 4294967296", ".u32", "from 0 to 4294967295"),
        ("u16 = '9000'", ".u16", "without quotes"),
        ("bool = 1", ".bool", "has to be true or false"),
    ] {
        bad_option(&format!("{{ code = 224, {value} }}"), key, why);
    }
}

#[test]
fn options_that_the_server_manages() {
    for (code, instead) in [
        (0, "padding"),
        (1, "write cidr in [[subnet]]"),
        (50, "write ip in [[machine]]"),
        (51, "write lease in [[subnet]]"),
        (52, "remove it"),
        (53, "remove it"),
        (54, "remove it"),
        (55, "write always = true"),
        (57, "remove it"),
        (58, "write lease in [[subnet]]"),
        (59, "write lease in [[subnet]]"),
        (61, "write mac, uuid or relay_port in [[machine]]"),
        (82, "write relay_port in [[machine]]"),
        (255, "end of all options"),
    ] {
        bad_option(&format!("{{ code = {code}, u8 = 1 }}"), ".code", &format!("option {code} "));
        bad_option(&format!("{{ code = {code}, u8 = 1 }}"), ".code", instead);
    }
    for code in [2, 3, 6, 12, 15, 43, 56, 60, 62, 81, 83, 254] {
        assert_eq!(data_of(&format!("{{ code = {code}, u8 = 1 }}")), [1]);
    }
    let machine = |name: &str| {
        format!("[[machine]]\nmac = '52:54:00:00:00:01'\n{name}options = [{{ code = 12, text = 'a' }}]\n")
    };
    good(&format!("{BASE}{}", machine("")));
    let key = "machine[0].options[0].code";
    bad_after_base(&machine("name = 'b'\n"), &[(4, key, "is the name of this machine; remove it or name")]);
    bad_after_base(&machine("name = 5\n"), &[(3, "machine[0].name", ""), (4, key, "is the name")]);
}

#[test]
fn options_for_some_clients_only() {
    let list = "[{ code = 67, text = 'a' }, { code = 67, text = 'b', client = 'ipxe' }, { code = 67, hex = '6300', client = 'os' }]";
    let config = good(&format!("{BASE}options = {list}\n"));
    let options = &config.profiles.values().next().unwrap().options;
    let who: Vec<_> = options.iter().map(|option| (option.client, option.name())).collect();
    assert_eq!(who, [(None, Some("a")), (Some(Stage::Ipxe), Some("b")), (Some(Stage::Os), Some("c"))]);
    let is_for = |stage| options.iter().map(|option| option.is_for(stage)).collect::<Vec<_>>();
    assert_eq!(is_for(Stage::Rom), [true, false, false]);
    assert_eq!(is_for(Stage::Ipxe), [false, true, false], "what firmware boots is not for iPXE");
    assert_eq!(is_for(Stage::Os), [true, false, true]);
    bad_option(
        "{ code = 67, text = 'a', client = 'bios' }",
        ".client",
        "write \"firmware\", \"ipxe\" or \"os\"",
    );
    bad_after_base(
        "options = [\n{ code = 67, text = 'a', client = 'os' },\n{ code = 67, text = 'b', client = 'os' },\n]\n",
        &[(3, "profile[0].options[1].code", "option 67 is already at")],
    );
    for (option, example) in [
        ("{ code = 67, u8 = 1 }", "option 67 is a name; write text = \"custom.efi\""),
        ("{ code = 66, ip = '10.1.0.9' }", "option 66 is a name; write text = \"10.1.0.5\""),
        ("{ code = 67, hex = '00' }", "option 67 is a name"),
    ] {
        bad_option(option, "", example);
    }
    good(&format!("{BASE}options = [{{ code = 67, hex = '' }}]\n"));
}

#[test]
fn options_are_unique_in_one_list() {
    bad_after_base(
        "options = [\n{ code = 42, u8 = 1 },\n{ code = 43, u8 = 1 },\n{ code = 42, u8 = 2 },\n]\n\
         [[subnet]]\ncidr = '10.2.0.0/16'\noptions = [{ code = 42, u8 = 1 }, { code = 42, u8 = 1 }]\n\
         [[machine]]\nmac = '52:54:00:00:00:01'\n[[machine.options]]\ncode = 42\nu8 = 1\n[[machine.options]]\ncode = 42\n",
        &[
            (4, "profile[0].options[2].code", "option 42 is already at profile[0].options[0].code (line 11)"),
            (8, "subnet[1].options[1].code", "is already at subnet[1].options[0].code (line 17)"),
            (14, "machine[0].options[1]", "has no value"),
            (15, "machine[0].options[1].code", "is already at machine[0].options[0].code (line 21)"),
        ],
    );
}

#[test]
fn options_have_a_thousand_bytes_in_all() {
    let options = |last: usize| {
        format!(
            "options = [\n{{ code = 224, text = '{}' }},\n{{ code = 225, hex = '{}' }},\n{{ code = 226, u8 = 1 }},\n]\n",
            "x".repeat(600),
            "00".repeat(last)
        )
    };
    let config = good(&format!("{BASE}{}", options(399)));
    assert_eq!(config.profiles.values().map(|profile| profile.options.len()).collect::<Vec<_>>(), [3]);
    bad_after_base(&options(400), &[(4, "profile[0].options[2]", "up to here have 1001 bytes")]);
    // Once, where it becomes too much.
    bad_after_base(&options(401), &[(3, "profile[0].options[1]", "shorten them to at most 1000")]);
}

#[test]
fn boot_file_rules() {
    for (arch, numbers) in [("", &[][..]), ("arch = 0\n", &[0]), ("arch = [65535, 7]\n", &[65535, 7])] {
        let config = good(&format!("{BASE}[[boot_file]]\n{arch}file = 'a'\n"));
        assert_eq!(config.boot_files, [BootFileRule { arch: numbers.to_vec(), oui: None, file: "a".into() }]);
    }
    bad_after_base(
        "[[boot_file]]\narch = 65536\n[[boot_file]]\narch = []\noui = '01:00:5e'\nfile = '/x'\n\
         [[boot_file]]\narch = [7, 'x64', -1]\noui = 5\nfile = 'tftp://h/x'\n[[boot_file]]\narch = x64\nname = 'a'\nfile = ''\n",
        &[
            (1, "boot_file[0].file", "is missing; write file = \"custom.efi\""),
            (
                2,
                "boot_file[0].arch",
                "has to be a whole number from 0 to 65535, without quotes; write arch = 7",
            ),
            (4, "boot_file[1].arch", "the list is empty; write arch = [7]"),
            (5, "boot_file[1].oui", "begins group addresses"),
            (6, "boot_file[1].file", "is an absolute path"),
            (8, "boot_file[2].arch[1]", "from 0 to 65535"),
            (8, "boot_file[2].arch[2]", "write arch = [7]"),
            (9, "boot_file[2].oui", "has to be a text"),
            (10, "boot_file[2].file", "write an http:// or https:// URL"),
            (12, "boot_file[3].arch", "from 0 to 65535"),
            (13, "boot_file[3].name", "there is no such key"),
            (14, "boot_file[3].file", "does not name a file"),
        ],
    );
    bad_after_base("[boot_file]\nfile = 'a'\n", &[(1, "boot_file", "write [[boot_file]] with double")]);
}

#[test]
fn boot_file_rules_that_are_never_used() {
    let rules = |first: &str, second: &str| {
        format!("[[boot_file]]\nfile = 'a'\n{first}\n[[boot_file]]\nfile = 'b'\n{second}\n")
    };
    for (first, second) in [
        ("", ""),
        ("", "arch = 7\noui = 'b8:27:eb'"),
        ("arch = [7, 9]", "arch = 9"),
        ("arch = 7", "arch = 7\noui = 'b8:27:eb'"),
        ("oui = 'b8:27:eb'", "arch = 7\noui = 'B827EB'"),
        // Not assigned, and so not told apart; a Raspberry Pi's 0 is 41.
        ("arch = 99", "arch = 100"),
        ("arch = 41", "arch = 0\noui = 'b8:27:eb'"),
    ] {
        let why = "is never used, because boot_file[0] (line 10) is for all of its machines";
        bad_after_base(&rules(first, second), &[(4 + first.matches('\n').count(), "boot_file[1]", why)]);
    }
    for (first, second) in [
        ("arch = 7", ""),
        ("oui = 'b8:27:eb'", "arch = 7"),
        ("arch = 7", "arch = [7, 9]"),
        ("arch = 7", "arch = 9"),
        ("arch = 41", "arch = [2, 8, 33]"),
        ("arch = 0", "arch = 0\noui = 'b8:27:eb'"),
        ("arch = 41", "arch = 0"),
        ("arch = 7\noui = 'b8:27:eb'", "arch = 7"),
        ("oui = 'b8:27:eb'", "oui = 'b8:27:ec'"),
    ] {
        assert_eq!(good(&format!("{BASE}{}", rules(first, second))).boot_files.len(), 2);
    }
    // What could not be read is not for every machine.
    bad_after_base(
        &rules("arch = 'x'", "oui = 5"),
        &[(3, "boot_file[0].arch", "from 0 to 65535"), (6, "boot_file[1].oui", "has to be a text")],
    );
}

#[test]
fn boot_files_of_profiles_and_machines() {
    let long = "x".repeat(128);
    bad_after_base(
        &format!(
            "boot_file = '../x'\n[[machine]]\nmac = '52:54:00:00:00:01'\nboot_file = '{long}'\n[[machine]]\nmac = '52:54:00:00:00:02'\nboot_file = 5\n"
        ),
        &[
            (1, "profile[0].boot_file", "leaves boot_dir"),
            (4, "machine[0].boot_file", "has 128 bytes; firmware takes at most 127"),
            (7, "machine[1].boot_file", "has to be a text"),
        ],
    );
}
