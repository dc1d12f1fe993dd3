use boot_common::Mac;
use boot_common::class::{Class, Firmware};

use super::*;
use crate::diagnosis::{By, Timed};

fn boot(steps: impl IntoIterator<Item = (u64, What)>) -> Boot {
    let timed = |(at, what)| Timed { at, last: at, count: 1, by: By::Daemon, secs: 0, what };
    let steps: Vec<Timed> = steps.into_iter().map(timed).collect();
    Boot {
        mac: Mac([2; 6]),
        link: None,
        relay: None,
        opened: 1000,
        is_over: false,
        steps,
        more: 0,
        beside: Vec::new(),
    }
}

fn answered(stage: Stage, given: Given) -> What {
    let class = Class { firmware: Firmware::EfiX64, stage }.key();
    What::Answered { given, class, address: std::net::Ipv4Addr::new(10, 1, 0, 9) }
}

#[test]
fn a_boot_goes_forward_step_by_step() {
    let file = || What::FileAsked { file: "vmlinuz".into() };
    let mut steps = vec![(1000, answered(Stage::Rom, Given::Offer))];
    assert_eq!(Progress::of(&boot(steps.clone()), None), Progress::Address);
    steps.push((1001, What::TftpSent { file: "a".into(), bytes: 1, millis: 1, confirmed: true }));
    assert_eq!(Progress::of(&boot(steps.clone()), None), Progress::Loader);
    steps.push((1002, What::ScriptSent { uuid: None }));
    assert_eq!(Progress::of(&boot(steps.clone()), None), Progress::Script);
    steps.push((1003, file()));
    steps.push((1004, answered(Stage::Rom, Given::Ack)));
    assert_eq!(Progress::of(&boot(steps.clone()), None), Progress::System, "what it had it has");
    assert_eq!(Progress::of(&boot(steps), Some(Cause::Boots)), Progress::Up);
    let by_http = boot([(1000, answered(Stage::Rom, Given::Ack)), (1001, file())]);
    assert_eq!(Progress::of(&by_http, None), Progress::Loader, "HTTP Boot");
    assert_eq!(Progress::of(&boot([]), None), Progress::Silent);
}

#[test]
fn an_offer_at_once_is_one_that_the_firmware_takes() {
    let offer = || answered(Stage::Rom, Given::Offer);
    assert_eq!(boot([(1000, offer())]).is_answered_at_once(), Some(true));
    assert_eq!(boot([(5000, offer())]).is_answered_at_once(), Some(false), "too late for the first window");
    let mut again = boot([(1000, offer())]);
    again.steps[0].last = 5100;
    assert_eq!(again.is_answered_at_once(), Some(false), "the first one was lost");
    assert_eq!(boot([(1000, answered(Stage::Os, Given::Offer))]).is_answered_at_once(), None);
}

#[test]
fn what_is_nobodys_fault_is_not_wrong() {
    let fine: Vec<_> =
        Cause::ALL.iter().filter(|cause| !cause.is_wrong()).map(|cause| cause.name()).collect();
    let of_registry = ["not-allocated", "from-disk", "in-maintenance", "ignored"];
    assert_eq!(fine[..4], ["boots", "under-way", "out-of-sight", "never-asked"]);
    assert_eq!(fine[4..], of_registry);
}
