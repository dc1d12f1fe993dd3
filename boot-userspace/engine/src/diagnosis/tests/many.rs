//! Boots of more steps than are kept: how they end is known all the same.

use super::*;

fn files(count: u32) -> Vec<What> {
    (0..count).map(|number| http(&format!("esx/module{number}"))).collect()
}

fn missing(count: u32) -> Vec<What> {
    let one =
        |number: u32| What::TftpMissing { file: format!("j{number}").into(), why: "it is not there".into() };
    (0..count).map(one).collect()
}

fn report(success: bool) -> Vec<What> {
    vec![What::PhoneHome { success, says: "".into() }]
}

#[test]
fn the_end_of_a_boot_with_many_files_is_known() {
    let found = |end: Vec<What>| {
        let timelines = heard([with_kernel(), files(90), end].concat());
        let boots: Vec<&Boot> = timelines.boots(MAC).collect();
        assert_eq!((boots.len(), boots[0].steps.len(), timelines.steps()), (1, MOST_STEPS, MOST_STEPS));
        verdict(&timelines, &facts(), LATER).cause
    };
    assert_eq!(found(report(true)), Cause::Boots);
    assert_eq!(found(report(false)), Cause::ReportedFailure);
    assert_eq!(found(vec![os(Given::Ack)]), Cause::Boots);
    assert_eq!(found(Vec::new()), Cause::SystemSilent);
}

#[test]
fn names_that_are_not_there_hide_nothing_that_comes_behind_them() {
    let address = vec![rom(Given::Offer), rom(Given::Ack)];
    let system = vec![script(), http("debian/vmlinuz"), http("debian/initrd.gz")];
    let steps = [address, missing(70), system, missing(200), report(true)].concat();
    let timelines = heard(steps);
    assert_eq!(verdict(&timelines, &facts(), LATER).cause, Cause::Boots);
    let boot = timelines.boots(MAC).next().unwrap();
    let has = |what: &What| boot.steps.iter().any(|step| step.what == *what);
    assert!(has(&rom(Given::Offer)) && has(&script()) && has(&http("debian/vmlinuz")), "{:#?}", boot.steps);
    assert!(boot.is_over, "its report came");
}

#[test]
fn a_boot_that_goes_on_for_long_is_not_silent() {
    let timelines = heard([with_kernel(), files(300)].concat());
    let boot = timelines.boots(MAC).next().unwrap();
    let all = boot.steps.len() as u64 + u64::from(boot.more);
    assert!(boot.last() > 300_000 && all > 300, "{} after {all} steps", boot.last());
}
