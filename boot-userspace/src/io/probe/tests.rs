use std::io::Read as _;
use std::process::Command;
use std::sync::mpsc;
use std::time::Instant;

use socket2::{Domain, SockAddr, Type};
use tokio::task::JoinSet;
use tokio::time::sleep;
use zerocopy::FromBytes as _;

use super::super::packet::FrameSocket;
use super::arp::*;
use super::channel::*;
use super::icmp::*;
use super::*;
use crate::host::link::{find, lab};

const SERVER: Mac = Mac([2, 0, 0, 0, 0, 0x0a]);
const NEIGHBOUR: Mac = Mac([2, 0, 0, 0, 0, 0x0b]);
const CLIENT: Mac = Mac([2, 0, 0, 0, 0, 0x0c]);
const SHORT: Duration = Duration::from_millis(150);
const TAKEN: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const UNUSED: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);

/// The neighbour says to the server that it has 10.9.0.2.
const ANSWER: [u8; 42] = [
    2, 0, 0, 0, 0, 0x0a, 2, 0, 0, 0, 0, 0x0b, 8, 6, // Ethernet
    0, 1, 8, 0, 6, 4, 0, 2, // ARP
    2, 0, 0, 0, 0, 0x0b, 10, 9, 0, 2, // sender
    2, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, // target
];

fn claim(change: impl FnOnce(&mut Vec<u8>)) -> Option<Claim> {
    let mut frame = ANSWER.to_vec();
    change(&mut frame);
    Arp::claim(&frame)
}

#[test]
fn composes_the_probe_of_the_rfc() {
    let expected = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0a, 8, 6, // Ethernet
        0, 1, 8, 0, 6, 4, 0, 1, // ARP
        2, 0, 0, 0, 0, 0x0a, 0, 0, 0, 0, // sender
        0, 0, 0, 0, 0, 0, 10, 9, 0, 2, // target
    ];
    assert_eq!(Arp::probe(SERVER, TAKEN).as_bytes(), expected);
    assert_eq!(Arp::claim(&expected), None, "a probe claims nothing");
}

#[test]
fn reads_replies_and_announcements() {
    let expected = Some(Claim { address: TAKEN, verdict: Verdict::UsedBy(NEIGHBOUR) });
    assert_eq!(claim(|_| {}), expected);
    assert_eq!(claim(|frame| frame.extend([0; 18])), expected, "Ethernet padding");
    assert_eq!(claim(|frame| frame[21] = 1), expected, "a request");
}

#[test]
fn discards_what_claims_no_address() {
    for len in 0..ANSWER.len() {
        assert_eq!(claim(|frame| frame.truncate(len)), None, "cut to {len}");
    }
    for byte in 12..20 {
        assert_eq!(claim(|frame| frame[byte] ^= 1), None, "byte {byte}");
    }
    assert_eq!(claim(|frame| frame[21] = 3), None, "reverse ARP");
    assert_eq!(claim(|frame| frame[22] |= 1), None, "a group for a sender");
    assert_eq!(claim(|frame| frame[28..32].fill(0)), None, "no address");
}

/// As the kernel hands it out: with an IP header, here with 4 bytes of options.
fn echo_reply(secret: &Secret, from: Ipv4Addr) -> Vec<u8> {
    let mut packet = vec![0x46, 0, 0, 40, 0, 0, 0, 0, 64, 1, 0, 0];
    packet.extend(from.octets());
    packet.extend([10, 9, 0, 1, 1, 1, 1, 0]);
    packet.extend(Echo { kind: ECHO_REPLY, ..secret.request(from) }.as_bytes());
    packet
}

#[test]
fn an_echo_request_has_a_right_checksum() {
    let request = Secret::default().request(TAKEN);
    assert_eq!(request.as_bytes()[..2], [8, 0]);
    assert_eq!(sum(request.as_bytes()), 0xffff);
    assert_eq!(sum(&[0xff, 0xff, 0xff, 0xff, 0, 1]), 1, "the carry's carry");
}

#[test]
fn reads_the_replies_to_its_own_echo_requests() {
    let secret = Secret::default();
    let packet = echo_reply(&secret, TAKEN);
    assert_eq!(secret.claim(&packet), Some(Claim { address: TAKEN, verdict: Verdict::Answers }));
    for len in 0..packet.len() {
        assert_eq!(secret.claim(&packet[..len]), None, "cut to {len}");
    }
    // The sequence number and the checksum do not matter.
    for byte in [0, 12, 15, 24, 25, 28, 29, 32, 39] {
        let mut changed = packet.clone();
        changed[byte] ^= 1;
        assert_eq!(secret.claim(&changed), None, "byte {byte}");
    }
    assert_eq!(Secret::default().claim(&packet), None, "of another process");
}

#[test]
fn the_asker_s_own_answer_is_only_passed_over_for_itself() {
    let waiting = Waiting::default();
    let mut neighbour = waiting.enter(TAKEN, NEIGHBOUR);
    let mut client = waiting.enter(TAKEN, CLIENT);
    let mut elsewhere = waiting.enter(UNUSED, CLIENT);
    waiting.hear(Claim { address: TAKEN, verdict: Verdict::UsedBy(NEIGHBOUR) });
    assert!(neighbour.answer.try_recv().is_err());
    assert_eq!(client.answer.try_recv(), Ok(Verdict::UsedBy(NEIGHBOUR)));
    assert!(elsewhere.answer.try_recv().is_err());
    waiting.hear(Claim { address: TAKEN, verdict: Verdict::UsedBy(SERVER) });
    assert_eq!(neighbour.answer.try_recv(), Ok(Verdict::UsedBy(SERVER)));
    drop((neighbour, client));
    assert_eq!(waiting.lock().keys().collect::<Vec<_>>(), [&UNUSED]);
    drop(elsewhere);
    assert!(waiting.lock().is_empty());
}

#[test]
fn an_old_error_is_passed_over_and_a_lasting_one_is_not() {
    let mut said = [Err(libc::ENETDOWN), Ok(1)].into_iter();
    let mut call = || said.next().unwrap().map_err(io::Error::from_raw_os_error);
    assert_eq!(past_an_old_error(&mut call).unwrap(), 1);
    let lasting = past_an_old_error(|| Err::<(), _>(io::Error::from_raw_os_error(libc::ENETDOWN)));
    assert!(lasting.is_err());
}

fn ip(line: &str) {
    assert!(Command::new("ip").args(line.split(' ')).status().unwrap().success(), "ip {line}");
}

/// Runs `test` where `srv0` (10.9.0.1/16) leads to a neighbour in another network namespace, which has
/// 10.9.0.2, all of 10.9.4.0/22, and 10.20.0.0/24 behind a route.
fn beside_a_neighbour<F: Future<Output = ()> + Send>(test: impl FnOnce() -> F + Send) {
    const THERE: [&str; 6] = [
        "link set lo up",
        "link set cli0 address 02:00:00:00:00:0b up",
        "address add 10.9.0.2/16 dev cli0",
        "route add local 10.9.4.0/22 dev lo",
        "route add local 10.20.0.0/25 dev lo",
        "route add unreachable 10.20.0.128/25",
    ];
    let (say_tid, tid) = mpsc::channel();
    let (say_moved, moved) = mpsc::channel::<()>();
    let (say_ready, ready) = mpsc::channel();
    let (say_over, over) = mpsc::channel::<()>();
    let neighbour = move || {
        say_tid.send(nix::unistd::gettid()).unwrap();
        moved.recv().unwrap();
        THERE.into_iter().for_each(ip);
        say_ready.send(()).unwrap();
        // Until the test has ended, well or badly.
        assert!(over.recv().is_err());
    };
    std::thread::scope(|scope| {
        scope.spawn(move || lab::in_namespace(&[], neighbour));
        let tid = tid.recv().unwrap();
        lab::in_namespace(&["link set lo up"], move || {
            let _over = say_over;
            ip("link add srv0 address 02:00:00:00:00:0a type veth peer name cli0");
            ip(&format!("link set cli0 netns {tid}"));
            ip("address add 10.9.0.1/16 dev srv0");
            ip("link set srv0 up");
            ip("route add 10.20.0.0/24 via 10.9.0.2");
            say_moved.send(()).unwrap();
            ready.recv().unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(test());
        });
    });
}

#[test]
#[ignore = "needs root for network namespaces"]
fn finds_who_has_an_address() {
    beside_a_neighbour(async || {
        let prober = Prober::open(&find("srv0").unwrap()).unwrap();
        let start = Instant::now();
        assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::UsedBy(NEIGHBOUR));
        assert!(start.elapsed() < WAIT, "{:?}", start.elapsed());

        for (address, asker, why) in
            [(UNUSED, CLIENT, "nobody has it"), (TAKEN, NEIGHBOUR, "the asker has it")]
        {
            let start = Instant::now();
            assert_eq!(prober.in_use(address, true, asker, WAIT).await, Verdict::Free, "{why}");
            assert!(start.elapsed() >= WAIT, "{why}");
        }
        let own = Ipv4Addr::new(10, 9, 0, 1);
        for on_link in [true, false] {
            assert_eq!(prober.in_use(own, on_link, CLIENT, WAIT).await, Verdict::UsedBy(SERVER));
        }
        assert!(prober.arp.waiting.lock().is_empty());
    });
}

#[test]
#[ignore = "needs root for a network namespace"]
fn hears_an_announcement_but_the_asker_s() {
    lab::in_namespace(lab::PAIR, || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let prober = Prober::open(&find("srv0").unwrap()).unwrap();
            let peer = FrameSocket::open(&find("cli0").unwrap()).unwrap();
            let announce = async |who: Mac| {
                sleep(Duration::from_millis(20)).await;
                let announcement = Arp { sender: UNUSED.octets(), ..Arp::probe(who, UNUSED) };
                peer.send(announcement.as_bytes()).unwrap();
            };
            let others = async {
                announce(CLIENT).await;
                announce(NEIGHBOUR).await;
            };
            let (verdict, ()) = tokio::join!(prober.in_use(UNUSED, true, CLIENT, WAIT), others);
            assert_eq!(verdict, Verdict::UsedBy(NEIGHBOUR));
        });
    });
}

#[test]
#[ignore = "needs root for a network namespace"]
fn other_arp_never_reaches_the_socket() {
    lab::in_namespace(lab::PAIR, || {
        let link = find("srv0").unwrap();
        let socket = arp::open(&link).unwrap();
        let peer = FrameSocket::open(&find("cli0").unwrap()).unwrap();
        let receive = || receive_arp(&socket, link.index, &mut [0; 128]);
        while receive().is_ok() {}

        let answer = Arp::read_from_bytes(&ANSWER).unwrap();
        let probe = Arp::probe(NEIGHBOUR, UNUSED);
        for other in [
            probe,
            Arp { destination_mac: CLIENT, ..answer },
            Arp { operation: 4.into(), ..answer },
            Arp { sender: [0; 4], ..answer },
        ] {
            peer.send(other.as_bytes()).unwrap();
            assert_eq!(receive().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        }
        let announcement = Arp { sender: UNUSED.octets(), ..probe };
        for (frame, address) in [(answer, TAKEN), (announcement, UNUSED)] {
            peer.send(frame.as_bytes()).unwrap();
            let expected = Claim { address, verdict: Verdict::UsedBy(NEIGHBOUR) };
            assert_eq!(receive().unwrap(), Some(expected));
        }
    });
}

#[test]
#[ignore = "needs root for network namespaces"]
fn asks_behind_relays_by_icmp() {
    beside_a_neighbour(async || {
        let prober = Prober::open(&find("srv0").unwrap()).unwrap();
        let ask = async |address: [u8; 4]| prober.in_use(address.into(), false, CLIENT, WAIT).await;
        assert_eq!(ask([10, 20, 0, 5]).await, Verdict::Answers);
        let start = Instant::now();
        assert_eq!(ask([10, 20, 0, 200]).await, Verdict::Free);
        assert!(start.elapsed() >= WAIT);
        let start = Instant::now();
        assert_eq!(ask([192, 0, 2, 1]).await, Verdict::Free, "no route");
        assert_eq!(ask([255, 255, 255, 255]).await, Verdict::Free, "not allowed");
        assert!(start.elapsed() < WAIT);
        assert!(prober.icmp().unwrap().channel.waiting.lock().is_empty());
    });
}

#[test]
#[ignore = "needs root for a network namespace"]
fn other_icmp_never_reaches_the_socket() {
    lab::in_namespace(&["link set lo up"], || {
        let secret = Secret::default();
        let mut socket = icmp_socket(secret.id()).unwrap();
        let to = SockAddr::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
        let ours = secret.request(Ipv4Addr::LOCALHOST);
        let mut of_another = Echo { id: (!secret.id()).into(), checksum: 0.into(), ..ours };
        of_another.checksum = (!sum(of_another.as_bytes())).into();
        // The socket would hear both the request and the kernel's reply.
        socket.send_to(of_another.as_bytes(), &to).unwrap();
        let mut buf = [0; 128];
        assert_eq!(socket.read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        socket.send_to(ours.as_bytes(), &to).unwrap();
        let len = socket.read(&mut buf).unwrap();
        assert!(secret.claim(&buf[..len]).is_some());
        assert_eq!(socket.read(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    });
}

#[test]
#[ignore = "needs root for network namespaces"]
fn a_storm_of_probes_runs_at_once() {
    beside_a_neighbour(async || {
        let prober = Arc::new(Prober::open(&find("srv0").unwrap()).unwrap());
        for on_link in [true, false] {
            let mut probes = JoinSet::new();
            let start = Instant::now();
            for number in 0..1000u32 {
                let network = if on_link { [10, 9, 4, 0] } else { [10, 20, 0, 0] };
                // Half of them are taken: /22 of 1,000 on the link, or half a /24 with several askers each.
                let at = if on_link { 512 + number } else { number % 256 };
                let address = Ipv4Addr::from(u32::from_be_bytes(network) + at);
                let prober = Arc::clone(&prober);
                probes.spawn(async move { (address, prober.in_use(address, on_link, CLIENT, WAIT).await) });
            }
            for (address, verdict) in probes.join_all().await {
                let [_, _, third, fourth] = address.octets();
                let expected = match (on_link, third, fourth) {
                    (true, 4..8, _) => Verdict::UsedBy(NEIGHBOUR),
                    (false, _, 0..128) => Verdict::Answers,
                    _ => Verdict::Free,
                };
                assert_eq!(verdict, expected, "{address}");
            }
            assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
            assert_eq!(prober.skipped(), 0);
        }
    });
}

#[test]
#[ignore = "needs root for network namespaces"]
fn what_goes_beyond_the_bound_is_free_at_once() {
    beside_a_neighbour(async || {
        let prober = Arc::new(Prober::open(&find("srv0").unwrap()).unwrap());
        let mut probes = JoinSet::new();
        for number in 0..5000u32 {
            let prober = Arc::clone(&prober);
            let address = Ipv4Addr::from(u32::from_be_bytes([10, 9, 16, 0]) + number);
            let wait = Duration::from_secs(1);
            probes.spawn(async move { prober.in_use(address, true, CLIENT, wait).await });
        }
        let start = Instant::now();
        let verdicts = probes.join_all().await;
        assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Free));
        assert_eq!(prober.skipped(), 5000 - AT_ONCE as u64);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
        assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::UsedBy(NEIGHBOUR));
    });
}

#[test]
#[ignore = "needs root for network namespaces"]
fn an_interface_may_go_down_and_come_back() {
    beside_a_neighbour(async || {
        let prober = Prober::open(&find("srv0").unwrap()).unwrap();
        ip("link set srv0 down");
        let start = Instant::now();
        assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::Free);
        assert!(start.elapsed() < WAIT, "{:?}", start.elapsed());
        for _ in 0..3 {
            ip("link set srv0 down");
            ip("link set srv0 up");
            assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::UsedBy(NEIGHBOUR));
        }
        ip("link delete srv0");
        assert_eq!(prober.in_use(TAKEN, true, CLIENT, WAIT).await, Verdict::Free);
    });
}

#[test]
#[ignore = "needs root for network namespaces"]
fn a_dropped_probe_leaves_nothing_behind() {
    beside_a_neighbour(async || {
        let prober = Prober::open(&find("srv0").unwrap()).unwrap();
        assert!(timeout(SHORT, prober.in_use(UNUSED, true, CLIENT, WAIT)).await.is_err());
        assert!(prober.arp.waiting.lock().is_empty());
        assert_eq!(prober.slots.available_permits(), AT_ONCE);
        let reader = prober.arp.reader.clone();
        drop(prober);
        while !reader.is_finished() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
#[ignore = "needs root to lose it"]
fn without_the_capability_everything_behind_relays_is_free() {
    // Only a child without capabilities can show it: setpriv(1) runs this same test binary.
    if std::env::var_os("XPXE_NO_CAPS").is_some() {
        let link = Link { index: 1, name: "lo".into(), mac: SERVER, addresses: vec![], mtu: 65536 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            assert_eq!(Prober::open(&link).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            let stand_in = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            stand_in.set_nonblocking(true).unwrap();
            let prober = Prober::over(stand_in, &link).unwrap();
            let start = Instant::now();
            for _ in 0..2 {
                let verdict = prober.in_use(Ipv4Addr::LOCALHOST, false, CLIENT, WAIT).await;
                assert_eq!(verdict, Verdict::Free);
            }
            assert!(start.elapsed() < WAIT);
            assert!(matches!(*prober.behind_relays.lock().unwrap(), BehindRelays::NotPermitted));
            assert!(prober.was_just_refused() && !prober.was_just_refused(), "it is told once");
        });
        return;
    }
    let done = Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args([
            "--ignored",
            "--exact",
            "io::probe::tests::without_the_capability_everything_behind_relays_is_free",
        ])
        .env("XPXE_NO_CAPS", "1")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}
