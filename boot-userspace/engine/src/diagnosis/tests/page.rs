//! docs/troubleshooting.md: from what a console shows to a cause, and from a cause to what is to be done.
//!
//! `XPXE_WRITE_PAGE=1` writes the list of messages and the causes anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::*;

const PAGE: &str = include_str!("../../../../../docs/troubleshooting.md");
const MESSAGES: &str = "| the console shows | look at |\n| --- | --- |\n";
const CAUSES: &str = "## The causes\n\n";

/// What boards, cards and loaders show when they do not boot, and people search for.
const SEARCHED: [&str; 32] = [
    "PXE-E07:",
    "PXE-E11:",
    "PXE-E16:",
    "PXE-E18:",
    "PXE-E23:",
    "PXE-E32:",
    "PXE-E36:",
    "PXE-E3B:",
    "PXE-E51:",
    "PXE-E52:",
    "PXE-E53:",
    "PXE-E55:",
    "PXE-E61:",
    "PXE-E79:",
    "PXE-E99:",
    "PXE-M0F:",
    "PXE-T01:",
    "NBP filesize is 0 Bytes",
    // https://ipxe.org/ERROR
    "(040ee119)",
    "(2d03e13b)",
    "(2d0c613b)",
    "(2e008081)",
    "(38086193)",
    "(3e11618e)",
    "(4c0a6035)",
    "(4c126035)",
    "GRUB: error: file",
    "GRUB: error: couldn't autoconfigure",
    "GRUB: error: bad shim signature",
    "U-Boot: BOOTP broadcast",
    "U-Boot: TFTP error",
    "U-Boot: ARP Retry count exceeded",
];

fn is_good(cause: Cause) -> bool {
    matches!(cause, Cause::Boots | Cause::UnderWay)
}

fn messages() -> String {
    // The codes of PXE ROMs first.
    let mut causes: BTreeMap<(bool, String, &str), Vec<&str>> = BTreeMap::new();
    for cause in Cause::ALL {
        for line in cause.console() {
            causes
                .entry((!line.starts_with("PXE-"), line.to_lowercase(), line))
                .or_default()
                .push(cause.name());
        }
    }
    let row = |((.., line), causes): (&(bool, String, &str), &Vec<&str>)| {
        let links: Vec<String> = causes.iter().map(|name| format!("[{name}](#{name})")).collect();
        format!("| {line} | {} |\n", links.join(", "))
    };
    MESSAGES.to_owned() + &causes.iter().map(row).collect::<String>()
}

fn causes() -> String {
    let mut text = CAUSES.to_owned();
    for cause in Cause::ALL.iter().filter(|cause| !is_good(**cause)) {
        write!(text, "### {}\n\n{}\n\n", cause.name(), cause.says()).unwrap();
        let quoted: Vec<String> = cause.console().iter().map(|line| format!("“{line}”")).collect();
        if !quoted.is_empty() {
            write!(text, "Console: {}.\n\n", quoted.join("; ")).unwrap();
        }
        write!(text, "To do: {}\n\n", cause.remedy()).unwrap();
    }
    text.trim_end().to_owned() + "\n"
}

#[test]
fn the_page_leads_from_every_message_to_a_cause_and_from_there_to_a_remedy() {
    let (before, rest) = PAGE.split_once(MESSAGES).expect("the list of messages");
    let end = rest.find("\n\n").expect("the end of the list") + 1;
    let (between, _) = rest[end..].split_once(CAUSES).expect("the causes");
    let expected = [before, &messages(), between, &causes()].concat();
    if PAGE != expected && std::env::var_os("XPXE_WRITE_PAGE").is_some() {
        std::fs::write("../../docs/troubleshooting.md", &expected).unwrap();
        return;
    }
    let other = PAGE.lines().zip(expected.lines()).find(|(line, expected)| line != expected);
    assert!(
        PAGE == expected,
        "the page differs from the causes; XPXE_WRITE_PAGE=1 writes it anew: {other:#?}"
    );
    for message in SEARCHED {
        let row = PAGE.lines().find(|line| line.starts_with('|') && line.contains(message));
        assert!(row.is_some_and(|row| row.contains("](#")), "{message} leads nowhere");
    }
}

#[test]
fn every_cause_says_what_to_do_and_every_link_of_the_page_and_of_why_leads_somewhere() {
    let anchors: BTreeSet<String> = PAGE
        .lines()
        .filter_map(|line| Some(line.strip_prefix('#')?.trim_start_matches('#').trim().to_owned()))
        .collect();
    let anchors: BTreeSet<String> =
        anchors.iter().map(|heading| heading.to_lowercase().replace(' ', "-")).collect();
    for link in PAGE.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(anchors.contains(link), "#{link} is no heading of the page");
    }
    for cause in Cause::ALL {
        assert!(!cause.did().is_empty());
        assert_eq!(cause.remedy().is_empty(), is_good(*cause), "{}", cause.name());
        let verdict =
            Verdict { cause: *cause, sure: Sure::Certain, because: String::new(), evidence: Vec::new() };
        let page = verdict.page();
        let anchor = page.strip_prefix("docs/troubleshooting.md#").expect("the page");
        assert!(is_good(*cause) || anchors.contains(anchor), "{anchor} is no heading of the page");
    }
}
