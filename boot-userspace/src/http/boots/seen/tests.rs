//! What was seen of machines, without a network.

use std::time::Instant;

use boot_agent_protocol::Inventory;
use boot_common::class::{Class, Firmware, Stage};
use boot_engine::diagnosis::{Boot, By, Given, Timed, What};
use boot_engine::lifecycle::State;
use boot_engine::machines::Life;

use super::*;

const FIRST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const SECOND: Mac = Mac([2, 0, 0, 0, 0, 2]);
const RESERVED: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 50);
const LEASED: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 99);

fn boot(mac: Mac, at: u64) -> Boot {
    let class = Class { firmware: Firmware::EfiX64, stage: Stage::Rom }.key();
    let answered = |given| What::Answered { given, class, address: LEASED };
    let sent = |file: &str| What::TftpSent { file: file.into(), bytes: 1, millis: 1, confirmed: true };
    let mut steps = vec![answered(Given::Offer), answered(Given::Ack), sent("snponly.efi")];
    steps.extend((0..9).map(|number| sent(&format!("modules/{number}"))));
    let timed = |what| Timed { at, last: at, count: 1, by: By::Xdp, secs: 0, what };
    let steps = steps.into_iter().map(timed).collect();
    Boot { mac, link: None, relay: None, opened: at, is_over: false, steps, more: 0, beside: Vec::new() }
}

fn machine(macs: &[Mac], ip: Option<Ipv4Addr>) -> Arc<Machine> {
    Arc::new(Machine { macs: macs.to_vec(), ip, ..Machine::default() })
}

#[tokio::test]
async fn a_machine_was_seen_if_any_of_its_cards_or_its_agent_was() {
    let history = History::empty();
    let seen = |machine: &Arc<Machine>| {
        history.machines.add(Arc::clone(machine)).ok();
        history.seen(std::slice::from_ref(machine)).pop().unwrap()
    };
    let both = machine(&[FIRST, SECOND], Some(RESERVED));
    history.machines.put(RESERVED, FIRST);
    let Seen { never, address, last_seen, .. } = seen(&both);
    assert_eq!((never, last_seen, address.as_deref()), (true, None, Some("10.1.1.50")), "a reservation");
    let nowhere = machine(&[Mac([4; 6])], None);
    assert_eq!(history.count_never_seen(&[nowhere]), Some(2), "with one that is not served");
    history.boots.timelines().put(boot(FIRST, 1_000_000));
    history.boots.timelines().put(boot(SECOND, 2_000_000));
    history.machines.put(LEASED, SECOND);
    let Seen { never, address, last_seen, boot, .. } = seen(&both);
    assert_eq!(
        (never, last_seen, address.as_deref()),
        (false, Some(2000), Some("10.1.1.99")),
        "the newest card's"
    );
    let boot = boot.unwrap();
    assert_eq!(
        (boot.mac.as_str(), boot.began, boot.firmware.as_deref()),
        ("02:00:00:00:00:02", 2000, Some("efi-x64"))
    );
    assert_eq!(boot.file.as_deref(), Some("modules/8"));
    // One that has a lease was heard, though its boots are forgotten.
    let leased = machine(&[Mac([2; 6])], None);
    history.machines.put([10, 1, 1, 98].into(), Mac([2; 6]));
    assert!(!seen(&leased).never && seen(&leased).last_seen.is_none());
    let inventory = Inventory { taken: 1234, ..Inventory::default() };
    let reported =
        Machine { macs: vec![Mac([6; 6])], inventory: Some(inventory.into()), ..Machine::default() };
    assert_eq!(seen(&Arc::new(reported)).last_seen, Some(1234));
    assert!(seen(&machine(&[Mac([8; 6])], None)).never);
}

/// Anybody can make up MACs, and boots of those that have only asked are the first that are forgotten.
#[tokio::test]
async fn a_machine_that_is_there_because_it_asked_was_seen() {
    let history = History::empty();
    let strangers = [(1234, Mac([2; 6])), (0, Mac([4; 6]))].map(|(heard, mac)| {
        let machine = machine(&[mac], None);
        let (record, state, says) = (1, State::Discovered, "a test".into());
        let (is_written, since, is_overdue, run, is_unserved, is_chosen) = (false, 0, false, 0, false, false);
        let life =
            Life { record, state, says, is_written, since, is_overdue, run, is_unserved, heard, is_chosen };
        history.machines.put_alive(None, Arc::clone(&machine), life).unwrap();
        machine
    });
    let seen = history.seen(&strangers).into_iter().map(|seen| (seen.never, seen.last_seen));
    assert_eq!(seen.collect::<Vec<_>>(), [(false, Some(1234)), (true, None)]);
    assert_eq!(history.count_never_seen(&[]), Some(1));
}

/// `cargo test --release -p boot-userspace --lib seen::tests::a_page -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
async fn a_page_of_many_machines() {
    let history = History::empty();
    let mut all = Vec::new();
    for number in 0..100_000_u32 {
        let [a, b, c, d] = number.to_be_bytes();
        let mac = Mac([2, 7, a, b, c, d]);
        all.push(machine(&[mac], None));
        history.machines.add(Arc::clone(&all[number as usize])).unwrap();
        history.boots.timelines().put(boot(mac, 1_000_000 + u64::from(number)));
    }
    for count in [1, 100, 1000] {
        let page = &all[all.len() - count..];
        let start = Instant::now();
        assert_eq!(history.seen(page).iter().filter(|seen| seen.boot.is_some()).count(), count);
        println!("{count}: {:?}", start.elapsed());
    }
    let start = Instant::now();
    println!("{:?} never seen: {:?}", history.count_never_seen(&[]), start.elapsed());
}
