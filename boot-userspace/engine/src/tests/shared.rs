//! The cards of a machine share its reserved address. When they are not one machine's any more, one of them has it.

use super::kept::{reload, with};
use super::promises::{THIRD, store_after};
use super::*;
use crate::config::Machine;
use crate::lifecycle::State;

const RESERVED: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 50);
const SECOND_RESERVED: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 51);

/// [`CONFIG`] with one machine, whose cards are NODE1 and OTHER.
fn together() -> String {
    format!("{}[[machine]]\nmac = [\"{NODE1}\", \"{OTHER}\"]\nip = \"{RESERVED}\"\n", with(&[]))
}

/// Each of them is a machine of its own.
fn apart() -> String {
    with(&[(NODE1, RESERVED), (OTHER, SECOND_RESERVED)])
}

fn is_refused(lab: &mut Lab, message: &Message) -> bool {
    lab.send(message).expect("an answer").kind() == MessageType::Nak
}

#[test]
fn a_card_that_is_another_machine_now_keeps_the_address_that_it_was_promised() {
    for renews in [false, true] {
        let mut lab = Lab::new(&together());
        assert_eq!(lab.leased(OTHER), RESERVED);
        reload(&mut lab, &apart());
        assert!(!lab.engine.has_host(&HostKey::from(NODE1)), "the kernel half must not offer it");
        assert!(is_refused(&mut lab, &renewal(NODE1, RESERVED)));
        assert_ne!(lab.offered(NODE1), RESERVED, "two machines with one address");
        if renews {
            assert!(!is_refused(&mut lab, &renewal(OTHER, RESERVED)), "offers are honoured");
            lab.later(OFFER_HOLDS + 1);
            assert_ne!(lab.offered(NODE1), RESERVED, "two machines with one address");
            assert!(is_refused(&mut lab, &renewal(OTHER, RESERVED)), "it is to have its own");
        } else {
            lab.later(1202);
        }
        assert_eq!([OTHER, NODE1].map(|mac| lab.leased(mac)), [SECOND_RESERVED, RESERVED], "{renews}");
    }
}

#[test]
fn a_card_that_is_taken_out_keeps_the_address_that_it_was_promised() {
    for (card, rest) in [(NODE1, OTHER), (OTHER, NODE1)] {
        let mut lab = Lab::new(&together());
        assert_eq!(lab.leased(card), RESERVED);
        reload(&mut lab, &with(&[(rest, RESERVED)]));
        assert!(!lab.engine.has_host(&HostKey::from(rest)), "the kernel half must not offer it");
        assert_ne!(lab.offered(rest), RESERVED, "two machines with one address");
        assert!(!is_refused(&mut lab, &renewal(card, RESERVED)), "offers are honoured");
        lab.later(OFFER_HOLDS + 1);
        assert_ne!(lab.offered(rest), RESERVED, "two machines with one address");
        assert!(is_refused(&mut lab, &renewal(card, RESERVED)));
        assert_eq!(lab.leased(rest), RESERVED, "{card} has left it");
        assert_ne!(lab.leased(card), RESERVED);
    }
}

#[test]
fn a_card_that_is_taken_out_of_a_machine_of_the_registry_keeps_its_address_too() {
    let of = |macs: &[Mac]| Machine {
        name: Some("node1".to_owned()),
        macs: macs.to_vec(),
        ip: Some(RESERVED),
        ..Machine::default()
    };
    for (card, rest) in [(NODE1, OTHER), (OTHER, NODE1)] {
        let mut lab = Lab::new(&with(&[]));
        let id = lab.put(None, &of(&[NODE1, OTHER]), State::Discovered);
        assert_eq!(lab.leased(card), RESERVED);
        lab.put(Some(id), &of(&[rest]), State::Discovered);
        let commands = lab.engine.take_commands();
        let is_its = |command: &Command| matches!(command, Command::DeleteHost(key) if key.mac == rest);
        assert!(commands.iter().any(is_its), "{commands:?}");
        assert_ne!(lab.offered(rest), RESERVED, "two machines with one address");
        lab.later(1202);
        assert_eq!(lab.leased(rest), RESERVED);
    }
}

#[test]
fn whichever_card_was_promised_the_address_keeps_it_when_it_is_reserved_no_longer() {
    for (card, other) in [(NODE1, OTHER), (OTHER, NODE1)] {
        let mut lab = Lab::new(&together());
        assert_eq!(lab.leased(card), RESERVED);
        reload(&mut lab, &with(&[]));
        assert!(!is_refused(&mut lab, &renewal(card, RESERVED)), "as long as it was promised");
        assert_ne!(lab.offered(other), RESERVED, "two machines with one address");
        lab.later(OFFER_HOLDS + 3);
        reload(&mut lab, &with(&[(THIRD, RESERVED)]));
        assert_ne!(lab.offered(THIRD), RESERVED, "two machines with one address");
        lab.later(1202);
        assert_eq!(lab.offered(THIRD), RESERVED);
    }
}

/// Its first card owned it, and is a stranger by now.
#[test]
fn the_card_that_is_left_has_the_address_against_the_next_machine() {
    let mut lab = Lab::new(&together());
    reload(&mut lab, &with(&[(OTHER, RESERVED)]));
    assert_eq!(lab.leased(OTHER), RESERVED);
    reload(&mut lab, &with(&[(THIRD, RESERVED)]));
    assert_ne!(lab.offered(THIRD), RESERVED, "two machines with one address");
    lab.later(1202);
    assert_eq!(lab.offered(THIRD), RESERVED);
}

#[test]
fn of_two_cards_that_were_promised_the_address_the_last_one_keeps_it() {
    for [first, last] in [[NODE1, OTHER], [OTHER, NODE1]] {
        let mut lab = Lab::new(&together());
        assert_eq!(lab.leased(first), RESERVED);
        lab.later(2);
        assert_eq!(lab.leased(last), RESERVED);
        reload(&mut lab, &apart());
        assert!(is_refused(&mut lab, &renewal(first, RESERVED)));
        assert!(!is_refused(&mut lab, &renewal(last, RESERVED)));
        assert_ne!(lab.offered(first), RESERVED, "two machines with one address");
    }
}

#[test]
fn what_the_kernel_confirms_to_a_card_while_a_reload_parts_them_is_offered_to_no_other() {
    let mut lab = Lab::new(&together());
    reload(&mut lab, &with(&[]));
    lab.engine.kernel_answered(&confirmed(&lab, OTHER, RESERVED), lab.now);
    lab.engine.take_commands();
    assert!(is_refused(&mut lab, &request(NODE1, RESERVED, Some(SERVER))));
    assert!(lab.engine.bindings.is_on_hold(RESERVED, lab.now.seconds() + 599));
}

#[test]
fn what_a_card_was_promised_behind_a_relay_before_a_restart_is_kept_when_they_part() {
    let relay = Ipv4Addr::new(10, 2, 0, 1);
    let far = Ipv4Addr::new(10, 2, 0, 50);
    let near = |text: String| text.replace(&RESERVED.to_string(), &far.to_string());
    let mut before = Lab::new(&near(together()));
    let offer = before.send(&relayed(discover(OTHER), relay)).expect("an offer");
    assert_eq!(offer.message.yiaddr(), far);
    let ack = before.send(&relayed(request(OTHER, far, Some(SERVER)), relay)).expect("an answer");
    assert_eq!(ack.kind(), MessageType::Ack);
    let mut lab = Lab::with_leases(&near(together()), &store_after(&before.changes), DhcpRole::Server);
    reload(&mut lab, &near(apart()));
    let offer = lab.send(&relayed(discover(NODE1), relay)).expect("an offer");
    assert_ne!(offer.message.yiaddr(), far, "two machines with one address");
}

#[test]
fn a_card_that_gives_the_address_back_ends_no_lease_of_the_other_one() {
    let mut before = Lab::new(&together());
    for mac in [NODE1, OTHER] {
        assert_eq!(before.leased(mac), RESERVED);
        before.later(2);
    }
    assert!(before.send(&release(OTHER, RESERVED)).is_none());
    let text = with(&[(THIRD, RESERVED)]);
    let restarted = Lab::with_leases(&text, &store_after(&before.changes), DhcpRole::Server);
    reload(&mut before, &text);
    for mut lab in [before, restarted] {
        assert_ne!(lab.offered(THIRD), RESERVED, "two machines with one address");
    }
}

/// The address moves with the machine, and neither card is to have the old one any more.
#[test]
fn a_machine_whose_address_is_another_leaves_the_old_one_to_nobody_before_its_lease_ends() {
    let mut lab = Lab::new(&together());
    assert_eq!(lab.leased(OTHER), RESERVED);
    let moved = together().replace(&RESERVED.to_string(), &SECOND_RESERVED.to_string());
    reload(&mut lab, &format!("{moved}[[machine]]\nmac = \"{THIRD}\"\nip = \"{RESERVED}\"\n"));
    assert_ne!(lab.offered(THIRD), RESERVED, "two machines with one address");
    assert_eq!([OTHER, NODE1].map(|mac| lab.leased(mac)), [SECOND_RESERVED; 2]);
    assert_eq!(lab.offered(THIRD), RESERVED);
}
