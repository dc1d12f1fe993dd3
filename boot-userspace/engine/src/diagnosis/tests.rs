//! Boots as they are heard, and the one cause that each of them has.

use std::net::Ipv4Addr;
use std::time::Duration;

use boot_common::class::{Class, Firmware, Stage};
use boot_common::{Mac, Reason};

use super::*;

mod beside;
mod invented;
mod many;
mod page;
mod registry;
mod said;
mod states;

const MAC: Mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 50);
const NOWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 66);
/// Long after the last step of a boot.
const LATER: u64 = 600_000;

fn class(firmware: Firmware, stage: Stage) -> u8 {
    Class { firmware, stage }.key()
}

fn rom(given: Given) -> What {
    What::Answered { given, class: class(Firmware::EfiX64, Stage::Rom), address: ADDRESS }
}

fn ipxe(given: Given) -> What {
    What::Answered { given, class: class(Firmware::EfiX64, Stage::Ipxe), address: ADDRESS }
}

fn os(given: Given) -> What {
    What::Answered { given, class: Class::OS.key(), address: ADDRESS }
}

fn tftp(file: &str) -> What {
    What::TftpSent { file: file.into(), bytes: 300_000, millis: 90, confirmed: true }
}

fn http(file: &str) -> What {
    What::FileSent { file: file.into(), bytes: 8_000_000, millis: 200 }
}

fn script() -> What {
    What::ScriptSent { uuid: None }
}

/// The script of a machine that shows a UUID.
fn script_as(uuid: u8) -> What {
    What::ScriptSent { uuid: Some([uuid; 16].into()) }
}

/// A proxy's offer, which has no address.
fn proxied() -> What {
    What::Answered { given: Given::Offer, class: class(Firmware::EfiX64, Stage::Rom), address: NOWHERE }
}

fn elsewhere(stage: Stage) -> What {
    What::TookElsewhere { address: ADDRESS, server: OTHER, class: class(Firmware::None, stage) }
}

fn asked(file: &str) -> What {
    What::FileAsked { file: file.into() }
}

fn unanswered(reason: Reason, relay: Ipv4Addr) -> What {
    What::Unanswered { reason, relay }
}

fn stalled(bytes: u64, block: u64) -> What {
    What::TftpStalled { file: "snponly.efi".into(), bytes, size: 300_000, block }
}

fn note(mac: Mac, what: What) -> Note {
    Note {
        at: Duration::ZERO,
        mac: Some(mac),
        is_known: false,
        address: None,
        link: Some("eth1".into()),
        by: By::Daemon,
        what: Some(what),
        said: crate::events::Said::default(),
        heard: None,
    }
}

fn facts() -> Facts {
    Facts {
        name: Some("node1".to_owned()),
        profile: Some("debian".to_owned()),
        kernel: "debian/vmlinuz".to_owned(),
        initrds: vec!["debian/initrd.gz".to_owned()],
        stands: None,
    }
}

/// Timelines of one machine, with a step each second.
fn heard(steps: impl IntoIterator<Item = What>) -> Timelines {
    let mut timelines = Timelines::default();
    for (second, what) in (0..).zip(steps) {
        timelines.note(note(MAC, what), second * 1000);
    }
    timelines
}

fn verdict(timelines: &Timelines, facts: &Facts, after: u64) -> Verdict {
    verdict_beside(timelines, facts, after, None)
}

fn verdict_beside(timelines: &Timelines, facts: &Facts, after: u64, usual: Option<&Usual>) -> Verdict {
    let boots: Vec<&Boot> = timelines.boots(MAC).rev().collect();
    let (boot, before) = boots.split_first().unwrap();
    let now = boot.last() + after;
    let twins = timelines.twins(boot);
    judge(&Case { boot, before, facts, network: timelines.network(), usual, twins: &twins, now }).unwrap()
}

/// The cause of a boot with these steps, long after them.
fn cause(steps: impl IntoIterator<Item = What>) -> (Cause, Sure) {
    let found = verdict(&heard(steps), &facts(), LATER);
    assert!(!found.evidence.is_empty(), "{found:?}");
    (found.cause, found.sure)
}

fn with_loader() -> Vec<What> {
    vec![rom(Given::Offer), rom(Given::Ack), tftp("snponly.efi")]
}

fn with_script() -> Vec<What> {
    [with_loader(), vec![ipxe(Given::Offer), ipxe(Given::Ack), script()]].concat()
}

fn with_kernel() -> Vec<What> {
    [with_script(), vec![asked("debian/vmlinuz"), http("debian/vmlinuz"), http("debian/initrd.gz")]].concat()
}

#[test]
fn a_healthy_boot_boots() {
    let report = What::PhoneHome { success: true, says: "".into() };
    for end in [
        vec![os(Given::Offer), os(Given::Ack)],
        vec![What::DocumentSent { path: "/documents/x/user-data".into() }],
        vec![report],
    ] {
        assert_eq!(cause([with_kernel(), end].concat()), (Cause::Boots, Sure::Certain));
    }
    // Its kernel by TFTP, from PXELINUX or GRUB.
    let loader = vec![rom(Given::Offer), rom(Given::Ack), tftp("pxelinux.0"), tftp("ldlinux.c32"), script()];
    let system = vec![tftp("debian/vmlinuz"), tftp("debian/initrd.gz"), os(Given::Offer), os(Given::Ack)];
    assert_eq!(cause([loader, system].concat()).0, Cause::Boots);
}

#[test]
fn beside_another_server_a_healthy_boot_boots_too() {
    let firmware = vec![proxied(), elsewhere(Stage::Rom), tftp("snponly.efi")];
    let ipxe = vec![ipxe(Given::Offer), elsewhere(Stage::Ipxe), script()];
    let rest = vec![http("debian/vmlinuz"), http("debian/initrd.gz"), elsewhere(Stage::Os)];
    assert_eq!(cause([firmware, ipxe, rest].concat()), (Cause::Boots, Sure::Certain));
    // An operating system that asks the other server is no boot.
    assert_eq!(heard([elsewhere(Stage::Os)]).boots(MAC).count(), 0);
}

#[test]
fn every_cause_has_the_steps_that_show_it() {
    let likely = |cause| (cause, Sure::Likely);
    let certain = |cause| (cause, Sure::Certain);
    let took_other = What::ChoseOther { server: OTHER, address: ADDRESS, was_offered: true };
    let proxied = proxied();
    let missing = What::TftpMissing { file: "wrong.efi".into(), why: "no such file".into() };
    let no_kernel = What::FileMissing { file: "debian/vmlinuz".into(), why: "no such file".into() };
    let cut = What::FileCut {
        file: "debian/initrd.gz".into(),
        bytes: 9,
        whole: 99,
        by_machine: true,
        why: "".into(),
    };
    let addressed = || vec![rom(Given::Offer), rom(Given::Ack)];
    let cases: Vec<(Vec<What>, (Cause, Sure))> = vec![
        (vec![unanswered(Reason::UnknownHost, NOWHERE)], certain(Cause::NotAnswered)),
        (vec![rom(Given::Offer); 4], likely(Cause::OfferNotTaken)),
        (vec![rom(Given::Offer), took_other.clone()], certain(Cause::OtherServer)),
        (vec![rom(Given::Offer), unanswered(Reason::OtherServer, NOWHERE)], certain(Cause::OtherServer)),
        (vec![rom(Given::Offer), What::RefusedByOther { server: OTHER }], certain(Cause::RefusedByOther)),
        (vec![What::Refused { why: "it has another".into() }], certain(Cause::RefusedHere)),
        (vec![unanswered(Reason::NoSubnet, OTHER); 3], certain(Cause::NoSubnet)),
        (vec![unanswered(Reason::PoolExhausted, NOWHERE)], certain(Cause::PoolExhausted)),
        (vec![proxied.clone(); 3], likely(Cause::NoAddressFromOther)),
        (addressed(), likely(Cause::NoFileAsked)),
        (vec![proxied.clone(), elsewhere(Stage::Rom)], likely(Cause::NoFileAsked)),
        ([addressed(), vec![missing]].concat(), certain(Cause::FileMissing)),
        ([addressed(), vec![stalled(0, 0)]].concat(), likely(Cause::TftpNoAnswer)),
        ([addressed(), vec![stalled(0, 1)]].concat(), likely(Cause::TftpMtu)),
        ([addressed(), vec![stalled(0, 1); 2]].concat(), certain(Cause::TftpMtu)),
        ([addressed(), vec![stalled(90_000, 62)]].concat(), likely(Cause::TftpStalled)),
        (with_loader(), likely(Cause::LoaderSilent)),
        ([with_loader(), vec![ipxe(Given::Offer); 4]].concat(), likely(Cause::SecondDhcp)),
        ([with_loader(), vec![ipxe(Given::Offer), ipxe(Given::Ack)]].concat(), likely(Cause::NoScriptAsked)),
        (with_script(), likely(Cause::KernelNotAsked)),
        ([with_script(), vec![no_kernel.clone()]].concat(), certain(Cause::KernelMissing)),
        // The end of a transfer by the kernel half is heard late.
        ([with_script(), vec![no_kernel, tftp("snponly.efi")]].concat(), certain(Cause::KernelMissing)),
        ([with_script(), vec![What::NoTls { why: "".into() }]].concat(), certain(Cause::TlsFailed)),
        ([with_script(), vec![http("debian/vmlinuz"), cut]].concat(), certain(Cause::FileCutOff)),
        (with_kernel(), likely(Cause::SystemSilent)),
        (
            [with_kernel(), vec![What::PhoneHome { success: false, says: "disk".into() }]].concat(),
            certain(Cause::ReportedFailure),
        ),
        (
            [with_loader(), vec![What::NoScript { why: "not from here".into() }]].concat(),
            certain(Cause::NoScript),
        ),
        (vec![What::AddressInUse { address: ADDRESS, user: "x".into() }], certain(Cause::AddressInUse)),
        (vec![What::AddressInUse { address: ADDRESS, user: "".into() }], likely(Cause::AddressInUse)),
        (
            vec![rom(Given::Offer), rom(Given::Ack), What::NoLoader { why: "install ipxe".into() }],
            certain(Cause::NoLoader),
        ),
        (
            vec![
                What::NoLoader { why: "install ipxe".into() },
                unanswered(Reason::NoAnswer, NOWHERE),
                What::NoLoader { why: "install ipxe".into() },
            ],
            certain(Cause::NoLoader),
        ),
    ];
    for (steps, expected) in cases {
        assert_eq!(cause(steps.clone()), expected, "{steps:#?}");
    }
}

#[test]
fn what_a_machine_is_at_is_no_cause_yet() {
    let steps = with_kernel();
    let proxied = proxied();
    for length in 1..=steps.len() {
        let found = verdict(&heard(steps[..length].to_vec()), &facts(), 3000);
        assert_eq!(found.cause, Cause::UnderWay, "after {:?}", steps[length - 1]);
    }
    assert_eq!(verdict(&heard([proxied]), &facts(), 3000).cause, Cause::UnderWay);
}

#[test]
fn an_ipxe_that_is_given_itself_loops() {
    let round = [ipxe(Given::Offer), ipxe(Given::Ack), tftp("ipxe.efi")];
    let steps =
        [vec![rom(Given::Offer), rom(Given::Ack), tftp("ipxe.efi")], round.to_vec(), round.to_vec()].concat();
    assert_eq!(cause(steps), (Cause::LoaderLoop, Sure::Certain));
    // Firmware that fetches it three times, and iPXE once behind that, is none.
    let once =
        [vec![rom(Given::Offer), rom(Given::Ack)], vec![tftp("ipxe.efi"); 3], vec![ipxe(Given::Offer); 3]];
    assert_eq!(cause(once.concat()).0, Cause::SecondDhcp);
}

#[test]
fn a_machine_without_a_profile_waits() {
    let steps = [with_loader(), vec![ipxe(Given::Offer), ipxe(Given::Ack)], vec![script(); 5]].concat();
    let facts = Facts { profile: None, kernel: String::new(), initrds: Vec::new(), ..facts() };
    assert_eq!(verdict(&heard(steps), &facts, LATER).cause, Cause::Waiting);
    let elsewhere = Facts { kernel: "http://mirror/vmlinuz".to_owned(), ..super::tests::facts() };
    assert_eq!(verdict(&heard(with_script()), &elsewhere, LATER).cause, Cause::OutOfSight);
    let image = Facts { kernel: "image:http://10.9.0.1/vmlinuz".to_owned(), ..elsewhere };
    assert_eq!(
        verdict(&heard(with_script()), &image, LATER).cause,
        Cause::KernelNotAsked,
        "images come from here"
    );
}

#[test]
fn firmware_at_its_beginning_is_another_boot_and_an_operating_system_none() {
    let mut timelines = heard([with_kernel(), vec![os(Given::Ack)]].concat());
    // It renews its lease for a day.
    (1..48).for_each(|half| timelines.note(note(MAC, os(Given::Ack)), half * 1_800_000));
    assert_eq!(timelines.boots(MAC).count(), 1);
    let boot = timelines.boots(MAC).next().unwrap();
    assert_eq!(boot.steps.last().unwrap().count, 48);
    let day = 86_400_000;
    timelines.note(note(MAC, rom(Given::Offer)), day);
    timelines.note(note(MAC, rom(Given::Offer)), day + 4000);
    timelines.note(note(MAC, rom(Given::Ack)), day + 8000);
    timelines.note(note(MAC, tftp("snponly.efi")), day + 9000);
    assert_eq!(timelines.boots(MAC).count(), 2);
    // It was reset.
    timelines.note(note(MAC, rom(Given::Offer)), day + 20_000);
    assert_eq!(timelines.boots(MAC).count(), 3);
    assert!(timelines.boots(MAC).next().unwrap().is_over);
    // An operating system alone is no boot.
    timelines.note(note(Mac([2; 6]), os(Given::Ack)), day);
    assert_eq!(timelines.boots(Mac([2; 6])).count(), 0);
}

#[test]
fn a_machine_that_boots_over_and_over_does() {
    let mut timelines = Timelines::default();
    for round in 0..4 {
        for (second, what) in (0..).zip([with_kernel(), vec![os(Given::Ack)]].concat()) {
            timelines.note(note(MAC, what), round * 120_000 + second * 1000);
        }
        let expected = if round == 3 { Cause::BootLoop } else { Cause::Boots };
        assert_eq!(verdict(&timelines, &facts(), LATER).cause, expected, "boot {round}");
    }
}

#[test]
fn a_boot_that_takes_much_longer_than_before_is_slow_and_says_where() {
    let mut timelines = Timelines::default();
    for (round, wait) in [0, 0, 60_000].into_iter().enumerate() {
        for (second, what) in (0..).zip([with_kernel(), vec![os(Given::Ack)]].concat()) {
            let wait = if second > 5 { wait } else { 0 };
            timelines.note(note(MAC, what), round as u64 * 86_400_000 + second * 1000 + wait);
        }
    }
    let found = verdict(&timelines, &facts(), LATER);
    assert_eq!(found.cause, Cause::Slow);
    assert!(found.evidence[0].says.contains("boot script"), "{found:?}");
}

#[test]
fn whatever_is_heard_memory_is_bounded() {
    let mut timelines = Timelines::default();
    for number in 0..1000_u32 {
        timelines.note(note(MAC, tftp(&number.to_string())), 1);
    }
    let boot = timelines.boots(MAC).next().unwrap();
    assert_eq!((boot.steps.len(), boot.more as usize), (MOST_STEPS, 1000 - MOST_STEPS));
    let mut ask = |kind: u8, given: Given| {
        for number in 0..MOST_MACHINES as u32 + 100 {
            let [a, b, c, d] = number.to_be_bytes();
            timelines.note(note(Mac([2, kind, a, b, c, d]), rom(given)), 2);
        }
        (timelines.macs().len(), timelines.evicted(), timelines.boots(MAC).count())
    };
    // Who only asks makes room for who has booted.
    assert_eq!(ask(1, Given::Offer), (MOST_MACHINES, 101, 1));
    let (machines, evicted, _) = ask(3, Given::Ack);
    assert_eq!((machines, evicted), (MOST_MACHINES, 101 + MOST_MACHINES as u64 + 100));
    assert!(size_of::<Timed>() <= 112, "{}", size_of::<Timed>());
}

#[test]
fn a_boot_is_stored_when_it_is_silent_and_read_as_it_was() {
    let mut timelines = heard(with_kernel());
    let last = timelines.boots(MAC).next().unwrap().last();
    assert!(timelines.take_unsaved(last + 5000, false).is_empty(), "it goes on");
    let stored = timelines.take_unsaved(last + 11_000, false);
    assert_eq!(stored.len(), 1);
    assert!(timelines.take_unsaved(last + 20_000, false).is_empty(), "nothing is new");
    timelines.put_back(stored.clone());
    assert_eq!(timelines.take_unsaved(last + 20_000, false), stored, "the disk was full");
    let line = serde_json::to_string(&stored[0]).unwrap();
    assert!(line.contains("\"step\":\"tftp-sent\"") && line.contains("52:54:00:00:00:01"), "{line}");
    assert_eq!(serde_json::from_str::<Boot>(&line).unwrap(), stored[0]);
    let all = Reason::ALL.iter().map(|reason| unanswered(*reason, NOWHERE));
    for what in all {
        let text = serde_json::to_string(&what).unwrap();
        assert_eq!(serde_json::from_str::<What>(&text).unwrap(), what, "{text}");
    }
}

/// A machine that waits asks for its script every 30 s.
#[test]
fn a_mere_repetition_is_stored_with_the_next_step_or_at_the_end() {
    let mut timelines = heard(with_script());
    let last = timelines.boots(MAC).next().unwrap().last();
    assert_eq!(timelines.take_unsaved(last + 11_000, false).len(), 1);
    for round in 1..=3 {
        timelines.note(note(MAC, script()), last + round * 30_000);
        assert!(timelines.take_unsaved(last + round * 30_000 + 11_000, false).is_empty(), "{round}");
    }
    let stored = timelines.take_unsaved(last + 101_000, true);
    assert_eq!(stored.len(), 1);
    assert_eq!(stored[0].steps.last().unwrap().count, 4, "at the end");
    timelines.note(note(MAC, script()), last + 120_000);
    timelines.note(note(MAC, asked("debian/vmlinuz")), last + 121_000);
    assert!(timelines.take_unsaved(last + 122_000, false).is_empty(), "it goes on");
    assert_eq!(timelines.take_unsaved(last + 140_000, false).len(), 1, "with the next step");
    assert!(timelines.take_unsaved(last + 141_000, true).is_empty(), "all is stored");
}

#[test]
fn the_fleet_is_grouped_by_cause_and_what_is_shared_is_named() {
    let relay = Ipv4Addr::new(10, 2, 0, 1);
    let member = |number: u8, what: What| {
        let mac = Mac([0, 0x16, 0x3e, 0, 0, number]);
        let mut timelines = Timelines::default();
        timelines.note(note(mac, what), 7000);
        let boot = timelines.boots(mac).next().unwrap().clone();
        let case = Case {
            boot: &boot,
            before: &[],
            facts: &facts(),
            network: timelines.network(),
            usual: None,
            twins: &[],
            now: LATER,
        };
        let verdict = judge(&case).unwrap();
        Member { mac, name: None, verdict, traits: Vec::new(), since: boot.opened }.with_traits_of(&boot)
    };
    let mut members: Vec<Member> =
        (0..31).map(|number| member(number, unanswered(Reason::NoSubnet, relay))).collect();
    members.push(member(99, unanswered(Reason::UnknownHost, relay)));
    members.push(member(100, unanswered(Reason::UnknownHost, Ipv4Addr::new(10, 3, 0, 1))));
    let groups = grouped(members);
    assert_eq!((groups[0].cause, groups[0].members.len(), groups[0].since), (Cause::NoSubnet, 31, 7000));
    let [shared] = &groups[0].shared[..] else { panic!("{:?}", groups[0].shared) };
    assert_eq!((shared.kind, shared.value.as_str()), ("relay", "10.2.0.1"), "not what everybody has");
    assert_eq!((shared.members, shared.of), (31, 32));
}
