//! Causes that are beside the machine: other servers' files, addresses, two machines that are one, neighbours, switches.

use super::super::network::Heard;
use super::*;
use crate::events::SwitchFrame;

fn beside(heard: Heard) -> Note {
    Note { mac: None, what: None, heard: Some(heard), ..note(MAC, script()) }
}

fn addressed() -> Vec<What> {
    vec![rom(Given::Offer), rom(Given::Ack)]
}

#[test]
fn another_server_s_file_is_the_cause_if_the_machine_follows_it() {
    let named = What::OtherFile { server: OTHER, file: "pxelinux.0".into() };
    let missing = |file: &str| What::TftpMissing { file: file.into(), why: "no such file".into() };
    let with = |more: Vec<What>| [addressed(), vec![named.clone()], more].concat();
    assert_eq!(cause(with(vec![])), (Cause::ConflictingFile, Sure::Likely));
    assert_eq!(cause(with(vec![missing("/pxelinux.0")])), (Cause::ConflictingFile, Sure::Certain));
    assert_eq!(cause(with(vec![missing("other.efi")])), (Cause::FileMissing, Sure::Certain));
    assert_eq!(cause(with(with_script())).0, Cause::KernelNotAsked, "it followed this server");
    // What it says to others within the hour it says to this one.
    let mut timelines = heard(addressed());
    let server = Heard::Server { server: OTHER, station: None, file: Some("pxelinux.0".into()), link: None };
    timelines.note(beside(server), 3000);
    let found = verdict(&timelines, &facts(), LATER);
    assert_eq!((found.cause, found.sure), (Cause::ConflictingFile, Sure::Likely));
    assert!(found.evidence.iter().any(|sign| sign.at == 3000), "{found:?}");
}

#[test]
fn an_answer_from_another_address_than_was_asked_is_the_cause_if_no_offer_is_taken() {
    let relay = Ipv4Addr::new(10, 2, 0, 1);
    let source = What::ReplySource { relay, asked: OTHER, from: ADDRESS };
    let round = [source.clone(), rom(Given::Offer)];
    assert_eq!(
        cause([round.clone(), round.clone(), round.clone()].concat()),
        (Cause::ReplySource, Sure::Likely)
    );
    let taken = [round.to_vec(), vec![rom(Given::Ack)]].concat();
    assert_eq!(cause(taken).0, Cause::NoFileAsked, "this relay does not mind");
}

#[test]
fn two_machines_with_one_mac_are_seen_by_their_uuids() {
    let twice = [with_loader(), vec![ipxe(Given::Ack), script_as(1), script_as(2), script_as(1)]].concat();
    assert_eq!(cause(twice), (Cause::DuplicateIdentity, Sure::Certain));
    // Firmware and iPXE disagree about the byte order.
    let (one, swapped) =
        ([1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 9, 9, 9, 9, 9], [4, 3, 2, 1, 6, 5, 8, 7, 9, 9, 9, 9, 9, 9, 9, 9]);
    let shown = [one, swapped].map(|uuid| What::ScriptSent { uuid: Some(uuid.into()) });
    assert_eq!(
        cause([with_loader(), vec![ipxe(Given::Ack)], shown.to_vec()].concat()).0,
        Cause::KernelNotAsked
    );
    let once = [with_loader(), vec![ipxe(Given::Ack), script_as(1), script_as(1)]].concat();
    assert_eq!(cause(once).0, Cause::KernelNotAsked);
    let shared = What::SharedIdentity { address: ADDRESS, holder: Mac([2; 6]) };
    assert_eq!(cause([vec![shared], with_loader()].concat()), (Cause::DuplicateIdentity, Sure::Certain));
}

#[test]
fn two_cards_with_one_uuid_are_two_machines_only_if_they_boot_at_the_same_time() {
    let other = Mac([0x52, 0x54, 0, 0, 0, 2]);
    let mut at_once = heard([with_loader(), vec![ipxe(Given::Ack), script_as(1)]].concat());
    let last = at_once.boots(MAC).next().unwrap().last();
    at_once.note(note(other, ipxe(Given::Ack)), last);
    at_once.note(note(other, script_as(1)), last + 1000);
    at_once.note(note(MAC, tftp("again.efi")), last + 2000);
    let found = verdict(&at_once, &facts(), LATER);
    assert_eq!((found.cause, found.sure), (Cause::DuplicateIdentity, Sure::Likely));
    assert!(found.evidence.iter().any(|sign| sign.says.contains(&other.to_string())), "{found:?}");
    // A second card of the same machine is tried when the first one has led to nothing.
    let mut in_turn = heard([with_loader(), vec![ipxe(Given::Ack), script_as(1)]].concat());
    in_turn.note(note(other, ipxe(Given::Ack)), last + 20_000);
    in_turn.note(note(other, script_as(1)), last + 21_000);
    assert_eq!(verdict(&in_turn, &facts(), LATER).cause, Cause::KernelNotAsked);
}

#[test]
fn a_boot_is_slow_beside_its_neighbours_and_the_part_is_named() {
    let boot = |wait: u64| {
        let mut timelines = Timelines::default();
        for (second, what) in (0..).zip([with_kernel(), vec![os(Given::Ack)]].concat()) {
            let wait = if second > 5 { wait } else { 0 };
            timelines.note(note(MAC, what), second * 1000 + wait);
        }
        timelines
    };
    let neighbours: Vec<Boot> = (0..6).map(|_| boot(0).boots(MAC).next().unwrap().clone()).collect();
    let usual = Usual::of(&neighbours);
    let found = verdict_beside(&boot(60_000), &facts(), LATER, Some(&usual));
    assert_eq!(found.cause, Cause::Slow);
    for part in ["other machines of its profile", "the kernel and its initrds took 6"] {
        assert!(found.because.contains(part), "{}", found.because);
    }
    let few = Usual::of(&neighbours[..3]);
    assert_eq!(verdict_beside(&boot(60_000), &facts(), LATER, Some(&few)).cause, Cause::Boots);
    assert_eq!(verdict_beside(&boot(5000), &facts(), LATER, Some(&usual)).cause, Cause::Boots);
}

#[test]
fn the_parts_of_a_boot_are_its_length_and_are_counted_once() {
    let timelines = heard([with_kernel(), vec![os(Given::Offer), os(Given::Ack), os(Given::Ack)]].concat());
    let boot = timelines.boots(MAC).next().unwrap();
    let took: Vec<(Part, u64)> = parts(boot).iter().map(|took| (took.part, took.millis)).collect();
    let expected = [
        (Part::Address, 1000),
        (Part::Loader, 1000),
        (Part::Ipxe, 2000),
        (Part::Script, 1000),
        (Part::Kernel, 3000),
        (Part::System, 2000),
    ];
    assert_eq!(took, expected);
    let (below, all, sum) = timelines.took().of(Part::Kernel);
    assert_eq!((all, sum), (1, 3000), "a renewal is no second boot");
    assert_eq!(below.iter().filter(|count| **count == 0).count(), 5, "{below:?}: at most 5 s");
}

#[test]
fn a_boot_file_that_is_none_is_the_cause_once_it_was_fetched() {
    let file =
        |is_wrong| Heard::File { file: "snponly.efi".into(), says: "it is for arm64".into(), is_wrong };
    let mut timelines = heard(with_loader());
    timelines.note(beside(file(true)), 100);
    let found = verdict(&timelines, &facts(), LATER);
    assert_eq!((found.cause, found.sure), (Cause::WrongFile, Sure::Certain));
    assert!(found.evidence.iter().any(|sign| sign.at == 100 && sign.says.contains("arm64")), "{found:?}");
    timelines.note(beside(file(false)), 200);
    assert_eq!(verdict(&timelines, &facts(), LATER).cause, Cause::LoaderSilent, "a right one is there now");
}

#[test]
fn a_spanning_tree_beside_the_server_is_a_sign_for_a_port_that_forwards_late() {
    let mut timelines = heard([with_loader(), vec![ipxe(Given::Offer); 4]].concat());
    let station = Mac([0, 0x1c, 0x73, 0, 0, 9]);
    let tree = SwitchFrame::Tree { station, version: 0, forward_delay: 15, forwards: None };
    let name = SwitchFrame::Lldp { station, switch: "leaf7".into(), port: "Ethernet9".into() };
    for frame in [tree, name] {
        timelines.note(beside(Heard::Switch { frame, link: Some("eth1".into()) }), 500);
    }
    let found = verdict(&timelines, &facts(), LATER);
    assert_eq!(found.cause, Cause::SecondDhcp);
    let sign = found.evidence.iter().find(|sign| sign.at == 500).unwrap();
    assert!(sign.says.contains("leaf7, port Ethernet9") && sign.says.contains("for 30 s"), "{}", sign.says);
}
