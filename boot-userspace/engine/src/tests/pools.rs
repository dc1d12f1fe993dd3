//! Pools that have nothing left.

use super::*;
use crate::leases::Pool;

fn machine(last: u8) -> Mac {
    Mac([2, 0, 0, 0, 1, last])
}

fn pool(lab: &Lab) -> Pool {
    lab.engine.pools(lab.now)[0]
}

#[test]
fn a_pool_is_counted_without_what_is_never_given_out() {
    // 10.1.0.1 is the router's, 10.1.0.2 our own, 10.1.0.7 reserved.
    let config = CONFIG.replace("10.1.1.33-10.1.1.34", "10.1.0.1-10.1.0.10").replace("10.1.1.50", "10.1.0.7");
    let mut lab = Lab::new(&config);
    let expected = Pool { subnet: "10.1.0.0/16".parse().unwrap(), size: 7, used: 0, resting: 0, refused: 0 };
    assert_eq!(pool(&lab), expected);
    assert_eq!(lab.engine.pools(lab.now)[1].size, 11);
    lab.leased(NODE1);
    assert_eq!(pool(&lab).used, 0, "a reserved one is not of the pool");
    lab.leased(UNKNOWN);
    lab.offered(OTHER);
    assert_eq!((pool(&lab).used, pool(&lab).free()), (2, 5));
    lab.later(OFFER_HOLDS + 1);
    assert_eq!(pool(&lab).used, 1);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    assert!(lab.send(&discover(machine(1))).is_none());
    assert_eq!((pool(&lab).used, pool(&lab).resting, pool(&lab).free()), (1, 3, 3));
    lab.later(24 * 3600);
    assert_eq!((pool(&lab).used, pool(&lab).resting, pool(&lab).free()), (0, 0, 7));
}

#[test]
fn who_is_turned_away_is_counted_and_said_once_a_minute() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    lab.leased(OTHER);
    // What is left to be said: the machines that were turned away since the last line.
    let waiting = |lab: &Lab| lab.engine.turned_away.waiting(0);
    for last in 1..=3 {
        assert!(lab.send(&discover(machine(last))).is_none());
        assert!(lab.send(&discover(machine(last))).is_none());
    }
    assert_eq!(pool(&lab).refused, 6);
    assert_eq!(waiting(&lab), (true, 3), "the first one was said at once, and has asked again");
    lab.later(59);
    assert_eq!(waiting(&lab), (true, 3));
    lab.later(1);
    assert_eq!(waiting(&lab), (true, 0), "said");
    lab.later(60);
    assert_eq!(waiting(&lab), (true, 0), "still full");
    lab.later(24 * 3600);
    assert_eq!(waiting(&lab), (false, 0), "there is room again");
    assert_eq!(pool(&lab).refused, 6);
    lab.offered(machine(1));
}

#[test]
fn pools_exclude_the_router_and_our_own_address() {
    let config = CONFIG.replace("10.1.1.33-10.1.1.34", "10.1.0.1-10.1.0.3");
    let mut lab = Lab::new(&config);
    assert_eq!(lab.offered(UNKNOWN), Ipv4Addr::new(10, 1, 0, 3));
    assert!(lab.send(&discover(OTHER)).is_none());
}
