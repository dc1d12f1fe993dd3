use super::*;
use crate::host::link::{find, lab};
use boot_engine::machines::Machines;

const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);
const SERVER: Mac = Mac([2, 0, 0, 0, 0, 0x0a]);
/// From fe80::ff:fe00:b to ff02::2, with a source link-layer option; the checksum was added up cli0y hand.
const SOLICITATION: [u8; 70] = [
    0x33, 0x33, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0x0b, 0x86, 0xdd, // Ethernet
    0x60, 0, 0, 0, 0, 16, 58, 255, // IPv6
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0x0b, // source
    0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, // destination
    133, 0, 0x7b, 0x18, 0, 0, 0, 0, // ICMPv6
    1, 1, 2, 0, 0, 0, 0, 0x0b, // source link-layer address
];
const ADVERTISEMENT: [u8; 78] = [
    2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x0a, 0x86, 0xdd, // Ethernet
    0x60, 0, 0, 0, 0, 24, 58, 255, // IPv6
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0x0a, // source
    0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xfe, 0, 0, 0x0b, // destination
    134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, // ICMPv6; checksum below
    1, 1, 2, 0, 0, 0, 0, 0x0a, // source link-layer address
];

fn solicitation(change: impl FnOnce(&mut Vec<u8>)) -> Option<Solicitation> {
    let mut frame = SOLICITATION.to_vec();
    change(&mut frame);
    Solicitation::parse(&frame)
}

/// As `solicitation`, with lengths and checksum made right again, so that only `change` is judged.
fn rectified(change: impl FnOnce(&mut Vec<u8>)) -> Option<Solicitation> {
    solicitation(|frame| {
        change(frame);
        let payload_len = frame.len() - 54;
        frame[18..20].copy_from_slice(&(payload_len as u16).to_be_bytes());
        frame[56..58].fill(0);
        let (headers, icmp) = Headers::read_from_prefix(frame).unwrap();
        let checksum = !headers.sum(icmp);
        frame[56..58].copy_from_slice(&checksum.to_be_bytes());
    })
}

#[test]
fn reads_a_solicitation() {
    let expected = Solicitation { mac: CLIENT, address: "fe80::ff:fe00:b".parse().unwrap() };
    assert_eq!(solicitation(|_| {}), Some(expected));
    assert!(solicitation(|frame| frame.extend([0; 20])).is_some(), "Ethernet padding");
    assert!(rectified(|frame| frame.truncate(62)).is_some(), "no options");
    assert!(rectified(|frame| frame[62] = 200).is_some(), "an unknown option");
    let unspecified = rectified(|frame| {
        frame[22..38].fill(0);
        frame.truncate(62);
    });
    assert_eq!(unspecified, Some(Solicitation { mac: CLIENT, address: Ipv6Addr::UNSPECIFIED }));
}

#[test]
fn discards_what_rfc_4861_says() {
    for len in 0..SOLICITATION.len() {
        assert_eq!(solicitation(|frame| frame.truncate(len)), None, "cut to {len}");
    }
    for byte in 18..SOLICITATION.len() {
        assert_eq!(solicitation(|frame| frame[byte] ^= 1), None, "byte {byte}");
    }
    type Change = fn(&mut Vec<u8>);
    let changes: [(&str, Change); 11] = [
        ("not IPv6", |f| f[13] = 0),
        ("version 4", |f| f[14] = 0x40),
        ("a forwarded packet", |f| f[21] = 254),
        ("another protocol", |f| f[20] = 17),
        ("an advertisement", |f| f[54] = 134),
        ("a code", |f| f[55] = 1),
        ("shorter than its fixed part", |f| f.truncate(61)),
        ("an option of length 0", |f| f[63] = 0),
        ("an option past the end", |f| f[63] = 2),
        ("half an option", |f| f.push(1)),
        ("a MAC from nowhere", |f| f[22..38].fill(0)),
    ];
    for (what, change) in changes {
        assert_eq!(rectified(change), None, "{what}");
    }
    assert_eq!(rectified(|f| f[6] |= 1), None, "a multicast sender");
    assert_eq!(rectified(|f| f[22] = 0xff), None, "a multicast source");
}

#[test]
fn composes_the_advertisement_of_the_rfc() {
    let asked = Solicitation { mac: CLIENT, address: "fe80::ff:fe00:b".parse().unwrap() };
    let mut expected = ADVERTISEMENT;
    expected[56..58].copy_from_slice(&[0x7b, 0x8b]);
    assert_eq!(asked.advertisement(SERVER).as_bytes(), expected);

    let nameless = Solicitation { mac: CLIENT, address: Ipv6Addr::UNSPECIFIED }.advertisement(SERVER);
    assert_eq!(nameless.headers.destination, ALL_NODES.octets());
    assert_eq!(nameless.headers.destination_mac, CLIENT);
    assert_eq!(nameless.headers.sum(&nameless.as_bytes()[54..]), 0xffff);
}

fn try_receive(socket: &Socket) -> Option<Vec<u8>> {
    let mut frame = [0; 2000];
    let (len, _) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut frame).ok()?;
    Some(frame[..len].to_vec())
}

#[test]
#[ignore = "needs root for a network namespace"]
fn answers_a_client_and_nobody_else() {
    lab::in_namespace(lab::PAIR, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let machines = Machines::default();
            let serving =
                tokio::spawn(serve(find("srv0").unwrap(), machines.clone(), std::sync::Arc::new(())));
            let client = packet::open(&find("cli0").unwrap(), ETHERTYPE_IPV6).unwrap();
            let ask = async || -> Option<Vec<u8>> {
                client.send(&SOLICITATION).unwrap();
                for _ in 0..10 {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    while let Some(frame) = try_receive(&client) {
                        if frame.get(54) == Some(&ROUTER_ADVERTISEMENT) {
                            return Some(frame);
                        }
                    }
                }
                None
            };
            tokio::task::yield_now().await;
            assert_eq!(ask().await, None, "not a client");
            machines.put([10, 9, 0, 2].into(), CLIENT);
            let answer = ask().await.expect("an advertisement");
            assert_eq!(answer[..54], ADVERTISEMENT[..54]);
            fs::write("/proc/sys/net/ipv6/conf/srv0/forwarding", "1").unwrap();
            assert_eq!(ask().await, None, "a real router is at work");
            fs::write("/proc/sys/net/ipv6/conf/srv0/forwarding", "0").unwrap();
            serving.abort();
        });
    });
}

#[test]
#[ignore = "needs root for a network namespace"]
fn other_traffic_never_reaches_the_socket() {
    lab::in_namespace(lab::PAIR, || {
        let ours = open(&find("srv0").unwrap()).unwrap();
        let peer = packet::FrameSocket::open(&find("cli0").unwrap()).unwrap();
        while try_receive(&ours).is_some() {}
        let mut echo = SOLICITATION;
        echo[54] = 128;
        let mut for_another = SOLICITATION;
        for_another[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0x77]);
        for frame in [&echo[..], &ADVERTISEMENT, &for_another, &SOLICITATION[..50]] {
            peer.send(frame).unwrap();
            assert_eq!(try_receive(&ours), None);
        }
        peer.send(&SOLICITATION).unwrap();
        assert_eq!(try_receive(&ours).as_deref(), Some(&SOLICITATION[..]));
    });
}
