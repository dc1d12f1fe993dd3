use clap::Parser as _;

use super::*;
use crate::cli::Cli;

#[test]
fn it_says_that_there_is_one_machine_or_all() {
    let refused = |words: &str| {
        let words = words.split(' ').map(|word| word.trim_matches('\''));
        Cli::try_parse_from(words).err().map_or_else(String::new, |error| error.to_string())
    };
    let none = refused("xpxe why");
    assert!(none.contains("MAC|NAME|IP") && none.contains("--all"), "{none}");
    for wrong in ["xpxe why node1 --all", "xpxe why --all --boot 2"] {
        assert!(refused(wrong).contains("cannot be used with"), "{wrong}: {}", refused(wrong));
    }
    for empty in ["xpxe why ''", "xpxe boots show ''", "xpxe capture ''", "xpxe tokens revoke ''"] {
        assert!(refused(empty).contains("a value is required for"), "{empty}: {}", refused(empty));
    }
    for right in ["xpxe why node1 --boot 2", "xpxe why --all", "xpxe boots show node1"] {
        assert_eq!(refused(right), "", "{right}");
    }
}

#[test]
fn a_maker_is_found_by_the_beginning_of_a_mac() {
    let list =
        "00-16-3E   (hex)\t\tXensource, Inc.\n00163E     (base 16)\t\tXensource, Inc.\n\t\tPalo Alto  CA\n";
    assert_eq!(named_in(list, "00:16:3e"), Some("Xensource, Inc."));
    assert_eq!(named_in(list, "00:16:3f"), None);
}

#[test]
fn what_machines_share_is_one_sentence() {
    let shared = vec![crate::http::boots::ShownShare {
        kind: "relay".to_owned(),
        value: "10.1.0.1".to_owned(),
        members: 31,
        of: 32,
    }];
    let group = ShownGroup {
        cause: "no-subnet".to_owned(),
        says: "It asked.".to_owned(),
        did: "got no OFFER".to_owned(),
        remedy: String::new(),
        count: 31,
        since: 0,
        shared,
        machines: vec!["node1".to_owned()],
    };
    let said = fleet(&[group]);
    assert!(said.contains("\n  31 of 32 machines behind 10.1.0.1 got no OFFER since 1970-01-01"), "{said}");
}
