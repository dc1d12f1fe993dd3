//! Relays that cannot be.

use super::elsewhere::told;
use super::*;

const RELAY: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 9);

fn through(giaddr: Ipv4Addr, message: Message, sub_options: &[u8]) -> Vec<u8> {
    let mut bytes = relayed(message, giaddr).to_vec().unwrap();
    let end = bytes.iter().rposition(|byte| *byte == 255).unwrap();
    let length = u8::try_from(sub_options.len()).unwrap();
    bytes.splice(end.., [&[82, length][..], sub_options, &[255]].concat());
    bytes
}

#[test]
fn a_relay_that_cannot_be_is_refused_with_a_line_and_one_that_names_a_network_is_not() {
    let from = SocketAddrV4::new(RELAY, 67);
    let impossible = [
        (SERVER, &[1, 1, 7][..]),
        (Ipv4Addr::new(10, 1, 0, 0), &[1, 1, 7]),
        (Ipv4Addr::new(10, 1, 255, 255), &[1, 1, 7]),
        (RELAY, &[5, 4, 255, 255, 255, 255]),
        (RELAY, &[5, 4, 0, 0, 0, 0]),
        (RELAY, &[5, 4, 127, 0, 0, 1]),
        (RELAY, &[11, 4, 255, 255, 255, 255]),
        (RELAY, &[11, 4, 0, 0, 0, 0]),
    ];
    for (giaddr, sub_options) in impossible {
        for mac in [NODE1, UNKNOWN] {
            let mut lab = Lab::new(CONFIG);
            for message in [discover(mac), request(mac, Ipv4Addr::new(10, 1, 1, 33), Some(SERVER))] {
                let bytes = through(giaddr, message, sub_options);
                assert!(lab.send_bytes(&bytes, 67, from).is_none(), "{giaddr} {sub_options:?} {mac}");
            }
            assert_eq!(lab.engine.counter(Reason::BadRelay), 2, "{giaddr} {sub_options:?} {mac}");
            let events = told(&mut lab);
            let [(Some(who), Step::Dropped { reason: Reason::BadRelay, fault, .. }), _] = &events[..] else {
                panic!("{events:?}")
            };
            assert_eq!((*who, *fault), (mac, Fault::Relay { relay: giaddr, station: None }));
        }
    }
    // RFC 3527 and RFC 3011: a link may be named by its network's number.
    for sub_options in [&[5, 4, 10, 1, 0, 0][..], &[5, 4, 10, 1, 0, 1], &[11, 4, 10, 1, 0, 9]] {
        let mut lab = Lab::new(CONFIG);
        assert!(
            lab.send_bytes(&through(RELAY, discover(NODE1), sub_options), 67, from).is_some(),
            "{sub_options:?}"
        );
    }
}
