//! Files that are wrong, and how it is said.

use super::*;

#[test]
fn five_mistakes_are_five_problems() {
    let text = EXAMPLE
        .replace("dhcp = \"server\"", "dhcp = \"sever\"")
        .replace("router = \"10.1.0.1\"", "router = \"10.2.0.1\"")
        .replace("kernel = ", "kernal = ")
        .replace("unknown = \"boot\"", "unknown = 5")
        .replace("mac = \"52:54:00:00:00:01\"", "mac = \"52:54:00:00:00\"");
    bad(
        &text,
        &[
            (8, "interface[0].dhcp", "write \"server\", \"proxy\" or \"off\" (did you mean \"server\"?)"),
            (13, "subnet[0].router", "10.2.0.1 is not in 10.1.0.0/16"),
            (19, "profile[0].kernal", "did you mean kernel?"),
            (24, "default.unknown", "has to be a text in quotes, not a number; write unknown = \"boot\""),
            (26, "machine[0].mac", "is not a MAC address"),
        ],
    );
    let problems = parse(&text, "/etc/xpxe.toml").expect_err("five").to_string();
    assert_eq!(problems.lines().count(), 5);
    assert!(
        problems.starts_with("/etc/xpxe.toml:8: interface[0].dhcp: \"sever\" is not known"),
        "{problems}"
    );
}

#[test]
fn bytes_that_are_not_text() {
    let not_utf8 = parse_bytes(b"a = 1\nb = \"\xff\"\n".to_vec(), "test").expect_err("not UTF-8");
    assert_eq!(not_utf8.0.first().and_then(|problem| problem.line), Some(2));
    assert!(parse_bytes(EXAMPLE.as_bytes().to_vec(), "test").is_ok());
}

#[test]
fn text_that_is_not_toml() {
    // The structure is lost: what comes behind would be misread.
    bad("[[interface]\nname = \"eth1\"\ndhcp = 5", &[(1, "", "this is not TOML: unclosed array table")]);
    bad("a = [1,\n2\nb = 3\n", &[(3, "", "this is not TOML: missing comma")]);
    bad("\n\nname 5", &[(3, "", "this is not TOML: key with no value")]);
    bad("a = \"\"\"abc\n\n", &[(3, "", "this is not TOML: invalid multi-line")]);
    // Only values are lost.
    bad_after_base(
        "[default]\nunknown = boot\n[[machine]]\nmac = 52:54:00:00:00:01\nip = 10.1.1.5\nname = \"x\n",
        &[
            (2, "default.unknown", "write \"boot\" instead of boot"),
            (4, "machine[0].mac", "write \"52:54:00:00:00:01\" instead of 52:54:00:00:00:01"),
            (5, "machine[0].ip", "write \"10.1.1.5\" instead of 10.1.1.5"),
            (6, "machine[0].name", "this is not TOML: invalid basic string"),
        ],
    );
    bad(
        "[[interface]]\nname = \"eth1\"\nrouter_advertisement = yes\n[[subnet]]\ncidr = 10.1.0.0/16\n\
         pool = [\"10.1.0.2-10.1.0.9\",\n 10.1.1.2-10.1.1.9]\nlease = 10m\nnonsense = nonsense",
        &[
            (3, "interface[0].router_advertisement", "write router_advertisement = true"),
            (5, "subnet[0].cidr", "write \"10.1.0.0/16\" instead"),
            (7, "subnet[0].pool[1]", "write \"10.1.1.2-10.1.1.9\" instead"),
            (8, "subnet[0].lease", "write \"10m\" instead"),
            (9, "subnet[0].nonsense", "there is no such key"),
            (9, "", "this is not TOML: "),
        ],
    );
    bad(
        &format!(
            "{BASE}[http]\nlisten = \"0.0.0.0:80\"\nlisten = \"0.0.0.0:81\"\n[http]\nadvertise = \"x\"\n"
        ),
        &[
            (12, "listen", "is written twice"),
            (13, "http", "is written twice"),
            (14, "http.advertise", "is not an address"),
        ],
    );
}

#[test]
fn keys_that_are_not_there() {
    bad(
        &format!(
            "colour = 1\nboot-dir = \"/x\"\n{BASE}[[machine]]\nmac = \"52:54:00:00:00:01\"\nstate_dir = \"/x\"\n"
        ),
        &[
            (1, "colour", "write state_dir, store,"),
            (2, "boot-dir", "did you mean boot_dir?"),
            (14, "machine[0].state_dir", "belongs at the top of the file"),
        ],
    );
    // A misspelled section is read all the same: nothing is missing, and its own mistakes show.
    bad(
        "[[interfaces]]\nname = \"eth1\"\ndhcp = \"x\"\n[[subnets]]\ncidr = \"10.1.0.0/16\"\n\"a b\" = 1",
        &[
            (1, "interfaces", "did you mean interface?"),
            (3, "interfaces[0].dhcp", "is not known"),
            (4, "subnets", "did you mean subnet?"),
            (6, "subnets[0].\"a b\"", "there is no such key"),
        ],
    );
    // Both spellings: the right one counts.
    bad_after_base(
        "[default]\nunknown = \"boot\"\nunknwon = 5\n",
        &[(3, "default.unknwon", "did you mean unknown?")],
    );
}

#[test]
fn values_of_the_wrong_type() {
    bad(
        "state_dir = 1\nhttp = 2\nipxe = [3]\nsubnet = 4\nprofile = [5]\nmachine = true\n\
         [[interface]]\nname = [\"eth1\"]\ndhcp = 1.5\nrouter_advertisement = \"true\"\n",
        &[
            (1, "state_dir", "has to be a text in quotes, not a number; write state_dir = \"/var/lib/xpxe\""),
            (2, "http", "has to be a section, not a number; write [http]"),
            (3, "ipxe", "has to be a section, not a list; write [ipxe]"),
            (4, "subnet", "has to be a section, not a number; write [[subnet]]"),
            (5, "profile[0]", "has to be a section, not a number; write [[profile]]"),
            (6, "machine", "has to be a section, not true or false; write [[machine]]"),
            (8, "interface[0].name", "not a list"),
            (9, "interface[0].dhcp", "not a number with a fraction"),
            (10, "interface[0].router_advertisement", "true or false, without quotes"),
        ],
    );
    bad_after_base(
        "[[machine]]\nmac = 5\nlabels = \"x\"\n[[machine]]\nmac = [1, \"x\"]\nlabels = { a = 1, b = \"b\" }\nip = 10.5\n\
         [[subnet]]\ncidr = 1979-05-27\npool = \"10.2.0.1-10.2.0.2\"\ndns = [{}]\n",
        &[
            (2, "machine[0].mac", "has to be a text in quotes, not a number"),
            (3, "machine[0].labels", "has to be a table, not a text; write labels = { role = \"worker\" }"),
            (5, "machine[1].mac[0]", "not a number"),
            (5, "machine[1].mac[1]", "is not a MAC"),
            (6, "machine[1].labels.a", "has to be a text in quotes, not a number"),
            (7, "machine[1].ip", "not a number with a fraction"),
            (9, "subnet[1].cidr", "not a date or time"),
            (10, "subnet[1].pool", "has to be a list, not a text; write pool = [\"10.1.1.33-10.1.1.233\"]"),
            (11, "subnet[1].dns[0]", "has to be a text in quotes, not a table"),
        ],
    );
    // Single and double brackets mixed up; what is inside is read.
    bad(
        "[interface]\nname = \"\"\ndhcp = \"off\"\n[[http]]\nlisten = \"x\"\n",
        &[
            (1, "interface", "write [[interface]] with double brackets"),
            (2, "interface[0].name", "is empty"),
            (4, "http", "write [http] with single brackets"),
            (5, "http[0].listen", "is not an address"),
        ],
    );
}

#[test]
fn values_that_have_to_be_there() {
    bad("", &[(0, "interface", "write an [[interface]] section with name = \"eth1\"")]);
    bad("interface = []", &[(0, "interface", "write an [[interface]] section")]);
    bad_after_base(
        "[[interface]]\n[[subnet]]\nlease = \"1h\"\n[[profile]]\nargs = \"a\"\n[[machine]]\nname = \"a\"\n\
         [[machine]]\nmac = []\n",
        &[
            (1, "interface[1].name", "is missing; write name = \"eth1\""),
            (2, "subnet[1].cidr", "is missing; write cidr = \"10.1.0.0/16\""),
            (4, "profile[1].name", "is missing"),
            (4, "profile[1].kernel", "is missing; write kernel = \"talos/vmlinuz\""),
            (6, "machine[0]", "nothing tells this machine from others; write mac ="),
            (9, "machine[1].mac", "the list is empty; write mac = [\"52:54:00:00:00:01\"]"),
        ],
    );
}

#[test]
fn texts_without_quotes_are_found_at_their_key() {
    for word in [
        "talos",
        "true1",
        "falsely",
        "ignore",
        "inf1",
        "node1",
        "nan1",
        "off",
        "tc",
        "_x",
        "-x",
        "+x",
        ".5",
        "5.",
        "1gbit",
        "2d",
        "10.1.0.0/16",
        "010.1.0.1",
        "0",
        "00",
        "0xg",
        "0o9",
        "0b2",
        "1e",
        "1_",
        "+0x1",
        "0X1",
        "1979-05",
        "1979-13-01",
        "25:00:00",
        "52:54:00:00:00:01",
        "52-54-00-00-00-01",
        "525400000001",
        "525400ab0001",
        "/var/lib",
        "a/b",
        "eth0.100",
        "http://10.1.0.1/x",
        "fd00::1",
        "é",
    ] {
        let text = format!("[[interface]]\nname = {word}\ndhcp = \"proxy\"\nfast_path = {word}\n");
        let problems = parse(&text, "xpxe.toml").expect_err(word);
        let places: Vec<_> = problems.0.iter().map(|p| (p.line, p.key.as_str())).collect();
        assert_eq!(
            places,
            [(Some(2), "interface[0].name"), (Some(4), "interface[0].fast_path")],
            "{problems}"
        );
    }
}

/// Edits the examples at random: whatever comes out, `parse` returns, and every problem has a line of the file.
#[test]
fn never_panics() {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % u64::try_from(below.max(1)).unwrap()).unwrap()
    };
    let snippets = [
        "\"",
        "'",
        "\"\"\"",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ",",
        ".",
        "\n",
        "\r",
        "\0",
        "#",
        "\\",
        "é",
        "\u{feff}",
        "-",
        "/",
        "99999999999999999999",
        "0x",
        "1e400",
        "nan",
        "true",
        "1979-05-27T07:32:00Z",
        "interface",
        "[http]",
        "[[http]]",
        "[[interface]]",
        "[[machine]]",
        "machine.mac.x = 1\n",
        "a.b.c = { d = [ { e = 1 } ] }\n",
        "255.255.255.255",
        "/0",
        "/32",
        "..",
        "18446744073709551615d",
        "[[boot_file]]",
        "[[machine.options]]",
        "{ code = 255, u8 = 256 }, ",
        "ip = [",
        "hex = ",
        "-1",
        "65536",
        "4294967296",
    ];
    let (mut accepted, mut refused) = (0, 0);
    for round in 0..12_000 {
        let example = if round % 2 == 0 { EXAMPLE } else { EXTENDED };
        let mut chars: Vec<char> = example.chars().collect();
        for _ in 0..=random(4) {
            let at = random(chars.len());
            match random(5) {
                0 => drop(chars.drain(at..(at + random(30)).min(chars.len()))),
                1 => drop(chars.splice(at..at, snippets[random(snippets.len())].chars())),
                2 => {
                    let other = random(chars.len());
                    chars.swap(at, other);
                }
                3 => {
                    let copy: Vec<char> =
                        chars.iter().skip(random(chars.len())).take(random(200)).copied().collect();
                    drop(chars.splice(at..at, copy));
                }
                _ => {
                    if let (Some(c), Some(b)) = (chars.get_mut(at), u8::try_from(random(128)).ok()) {
                        *c = char::from(b);
                    }
                }
            }
        }
        let text: String = chars.into_iter().collect();
        match parse(&text, "fuzz") {
            Ok(_) => accepted += 1,
            Err(problems) => {
                refused += 1;
                assert!(!problems.0.is_empty());
                let lines = text.matches('\n').count() + 1;
                assert!(
                    problems.0.iter().all(|p| p.line.is_none_or(|line| (1..=lines).contains(&line))),
                    "{text}"
                );
                assert_eq!(problems.to_string().lines().count(), problems.0.len(), "{problems}\n{text}");
            }
        }
    }
    assert!(accepted > 200 && refused > 2000, "{accepted} {refused}");
}

#[test]
fn a_serial_number_is_for_the_registry() {
    let machine = "[[machine]]\nmac = \"52:54:00:00:00:01\"\nserial = \"CZ12\"\n";
    bad_after_base(machine, &[(3, "machine[0].serial", "run xpxe machines import FILE")]);
}
