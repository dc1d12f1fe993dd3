use super::*;

#[test]
fn interfaces_follow_the_kernel() {
    for text in ["eth1", "enp0s31f6", "eth0.100", "br-lan", "abcdefghijklmno"] {
        assert_eq!(interface(text).as_deref(), Ok(text));
    }
    for (text, why) in [
        ("", "is empty"),
        ("abcdefghijklmnop", "16 bytes"),
        ("éééééééé", "16 bytes"),
        ("a b", "cannot be"),
        ("a/b", "cannot be"),
        ("a:b", "cannot be"),
        ("..", "cannot be"),
        ("a\0", "cannot be"),
    ] {
        assert!(interface(text).is_err_and(|told| told.contains(why)), "{text}: {why}");
    }
}

#[test]
fn machines_have_host_names() {
    let long = "a".repeat(MAX_LABEL);
    for text in ["a", "rack1-node1", "R2D2", "3com", "42", long.as_str()] {
        assert_eq!(machine(text).as_deref(), Ok(text));
    }
    let longer = "a".repeat(MAX_LABEL + 1);
    for (text, why) in [
        ("", "is not a host name"),
        ("-a", "is not a host name"),
        ("a-", "is not a host name"),
        ("a_b", "is not a host name"),
        ("a b", "is not a host name"),
        ("é", "is not a host name"),
        (longer.as_str(), "is not a host name"),
        ("node1.mtl", "write only \"node1\""),
        ("a..b", "is not a host name"),
        ("525400000001", "MAC address"),
        ("52-54-00-00-00-01", "MAC address"),
    ] {
        assert!(machine(text).is_err_and(|told| told.contains(why)), "{text}: {why}");
    }
}

#[test]
fn profiles_fit_into_urls() {
    for text in ["talos", "talos-1.9_x"] {
        assert_eq!(profile(text).as_deref(), Ok(text));
    }
    for text in ["", "a b", "a/b", "..", "-x", "é", "a\n", &"a".repeat(64)] {
        assert!(profile(text).is_err(), "{text}");
    }
}

#[test]
fn domains_are_labels_with_dots() {
    for text in ["mtl", "lab.example.net"] {
        assert_eq!(domain(text).as_deref(), Ok(text));
    }
    for text in ["", ".", "a.", ".a", "a..b", "a_b", "a b", &vec!["a".repeat(63); 4].join(".")] {
        assert!(domain(text).is_err(), "{text}");
    }
}
