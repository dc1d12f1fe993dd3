//! MACs that somebody makes up: they take no room from machines that boot.

use super::*;

/// So many that differ for each kind.
fn flood(timelines: &mut Timelines, kind: u8, count: u32, what: &What, at: u64) {
    for number in 0..count {
        timelines.note(note(invented(kind, number), what.clone()), at);
    }
}

fn invented(kind: u8, number: u32) -> Mac {
    let [a, b, c, d] = number.to_be_bytes();
    Mac([2, kind, a, b, c, d])
}

#[test]
fn boots_that_made_room_for_others_are_not_sent_and_keep_no_other_from_it() {
    let mut timelines = heard(with_kernel());
    let all = u32::try_from(MOST_MACHINES).unwrap();
    flood(&mut timelines, 1, all + 100, &rom(Given::Offer), 2);
    timelines.note(note(MAC, What::PhoneHome { success: true, says: "".into() }), 20_000);
    assert_eq!(timelines.take_ended(20_000, 9), [(MAC, 0)]);
    assert_eq!((timelines.take_ended_forgotten(), timelines.ended_dropped()), (101, 0));
    // All have fallen silent and wait to be sent: then further ones push them out.
    assert!(timelines.take_ended(400_000, 0).is_empty());
    flood(&mut timelines, 2, all, &rom(Given::Offer), 400_000);
    assert!(timelines.take_ended(400_000, usize::MAX).is_empty());
    assert_eq!((timelines.take_ended_forgotten(), timelines.ended_dropped()), (u64::from(all), 0));
}

/// A site may have more machines than boots are kept of.
#[test]
fn when_a_machine_was_heard_last_is_known_though_its_boots_made_room() {
    let mut timelines = Timelines::default();
    let some = 1000;
    flood(&mut timelines, 1, some, &rom(Given::Ack), 1000);
    flood(&mut timelines, 2, some, &rom(Given::Offer), 1000);
    let all = u32::try_from(MOST_MACHINES).unwrap();
    flood(&mut timelines, 3, all + 3 * some, &rom(Given::Ack), 2000);
    let of = |kind: u8| (0..some).map(move |number| invented(kind, number));
    let made_room: Vec<Mac> = of(1).filter(|mac| timelines.boots(*mac).count() == 0).collect();
    assert!(!made_room.is_empty() && of(2).all(|mac| timelines.boots(mac).count() == 0));
    assert!(made_room.iter().all(|mac| timelines.heard_last(*mac) == Some(1000)));
    assert!(of(2).all(|mac| timelines.heard_last(mac).is_none()), "they have only asked: anybody can");
    for number in 0..300_000 {
        timelines.leave(invented(4, number), 3000 + u64::from(number));
    }
    assert!(made_room.iter().all(|mac| timelines.heard_last(*mac).is_none()), "memory is bounded");
    assert_eq!(timelines.heard_last(invented(4, 299_999)), Some(302_999));
}

#[test]
fn whoever_makes_up_macs_by_http_pushes_out_his_own() {
    let kept = |timelines: &Timelines, mac| timelines.boots(mac).count();
    let mut timelines = Timelines::default();
    timelines.note(Note { is_known: true, ..note(MAC, script()) }, 0);
    flood(&mut timelines, 1, 5000, &script(), 1000);
    // One that nobody has named before is heard all the same.
    let later = Mac([2; 6]);
    timelines.note(note(later, script()), 2000);
    assert_eq!((kept(&timelines, MAC), kept(&timelines, later)), (1, 1));
    assert_eq!((timelines.macs().len(), timelines.evicted()), (4097, 905));
    // Once it is heard itself, it is one of them no longer.
    timelines.note(note(later, rom(Given::Ack)), 3000);
    flood(&mut timelines, 2, 5000, &script(), 4000);
    assert_eq!((kept(&timelines, later), timelines.macs().len()), (1, 4098));
    // They have got a script, and make room for machines all the same.
    flood(&mut timelines, 3, u32::try_from(MOST_MACHINES).unwrap() - 2, &rom(Given::Ack), 5000);
    assert_eq!((kept(&timelines, MAC), kept(&timelines, later)), (1, 1));
    assert_eq!(kept(&timelines, invented(2, 4999)), 0);
}
