use super::*;

const MAC: Mac = Mac([2; 6]);

fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

/// A DISCOVER and its repeat, a REQUEST and its repeat: whether each was given up.
fn round(reduced: &mut Reduced, mac: Mac, second: u64) -> [bool; 4] {
    let messages = [message::DISCOVER, message::DISCOVER, message::REQUEST, message::REQUEST];
    messages.map(|message| reduced.loops(mac, message, at(second)))
}

#[test]
fn the_third_round_is_the_last() {
    let mut reduced = Reduced::default();
    for (second, loops) in [(1, false), (2, false), (3, true), (4, true)] {
        assert_eq!(round(&mut reduced, MAC, second), [loops; 4], "{second}");
    }
    reduced.is_full(MAC);
    assert!(reduced.loops(MAC, 0, at(20)), "at the boot server's port");
    assert!(reduced.loops(MAC, message::DISCOVER, at(20)), "what it was taken for");
    assert!(!reduced.loops(MAC, message::DISCOVER, at(200)), "powered on anew");
}

#[test]
fn offers_that_nobody_takes_are_no_rounds() {
    let mut reduced = Reduced::default();
    for second in 0..9 {
        assert!(!reduced.loops(MAC, message::DISCOVER, at(second)), "{second}");
    }
    assert!(reduced.by_mac.is_empty());
}

#[test]
fn a_machine_that_boots_is_forgotten() {
    let mut reduced = Reduced::default();
    for second in 0..9 {
        assert_eq!(round(&mut reduced, MAC, second), [false; 4]);
        reduced.is_full(MAC);
    }
}

#[test]
fn so_many_are_watched() {
    let mut reduced = Reduced::default();
    let mac = |number: usize| {
        let [a, b] = u16::try_from(number).unwrap().to_be_bytes();
        Mac([2, 0, 0, 0, a, b])
    };
    for number in 0..=MOST_MACHINES {
        round(&mut reduced, mac(number), 1);
    }
    assert_eq!(reduced.by_mac.len(), MOST_MACHINES);
    assert_eq!(round(&mut reduced, mac(MOST_MACHINES), 1), [false; 4], "served all the same");
    round(&mut reduced, mac(MOST_MACHINES), 200);
    assert_eq!(reduced.by_mac.len(), 1, "those of before make room");
}
