//! Who asks and is no machine.

use super::*;
use crate::daemon::request::mac_of_preflight;

#[test]
fn what_preflight_invents_is_no_machine() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::start(dir.path(), CONFIG);
    let invented = [[0, 0], [0xff, 7]].map(mac_of_preflight);
    assert_eq!(invented[1].to_string(), "fe:78:70:78:65:07");
    // Nearly one of those.
    let stranger: Mac = "02:78:70:78:66:07".parse().unwrap();
    for mac in invented.into_iter().chain([stranger]) {
        rig.registry.sighted(mac, None);
    }
    rig.eventually("it is taken down", |rig| rig.machines.life_of(stranger));
    assert_eq!(invented.map(|mac| rig.machines.life_of(mac)), [None, None]);
    rig.kill();
}
