use super::*;
use crate::host::link::{find, lab};

fn in_runtime<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

fn foreign_socket(device: Option<&str>, share: bool, port: u16) -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.set_reuse_address(share).unwrap();
    socket.set_reuse_port(share).unwrap();
    socket.bind_device(device.map(str::as_bytes)).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)).into()).unwrap();
    socket
}

#[test]
#[ignore = "needs root for a network namespace"]
fn two_interfaces_have_one_port_each_and_share_with_nobody() {
    lab::in_namespace(lab::PAIR, || {
        in_runtime(async {
            let (a, b) = (find("srv0").unwrap(), find("cli0").unwrap());
            let first = UdpSocket::bind(&a, 67).unwrap();
            let second = UdpSocket::bind(&b, 67).unwrap();
            assert!(matches!(UdpSocket::bind(&a, 67), Err(BindError::InUse { port: 67, .. })));
            let late = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
            late.set_reuse_address(true).unwrap();
            late.set_reuse_port(true).unwrap();
            assert!(late.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, 67)).into()).is_err());
            drop((first, second));

            for (device, share, free) in [
                (None, false, false),
                (None, true, false),
                (Some("srv0"), true, false),
                (Some("cli0"), true, true),
            ] {
                let other = foreign_socket(device, share, 67);
                assert_eq!(UdpSocket::bind(&a, 67).is_ok(), free, "{device:?} {share}");
                drop(other);
            }
        });
    });
}

#[test]
#[ignore = "needs root for a network namespace, and dnsmasq"]
fn names_the_server_that_has_the_port() {
    lab::in_namespace(lab::PAIR, || {
        in_runtime(async {
            let mut dnsmasq = std::process::Command::new("dnsmasq")
                .args(
                    "--keep-in-foreground --conf-file=/dev/null --port=0 --pid-file= --leasefile-ro"
                        .split(' '),
                )
                .args(["--dhcp-range=10.9.0.10,10.9.0.20", "--interface=cli0"])
                .spawn()
                .unwrap();
            for _ in 0..200 {
                let table = fs::read_to_string("/proc/thread-self/net/udp").unwrap();
                if !sockets_on(67, &table).is_empty() {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            let said = UdpSocket::bind(&find("srv0").unwrap(), 67).unwrap_err().to_string();
            dnsmasq.kill().unwrap();
            let expected = format!(
                "port 67 on srv0 is already in use (by dnsmasq, pid {}): stop that server, or set dhcp = \"off\" \
                 for this interface and let it do DHCP alone",
                dnsmasq.id()
            );
            dnsmasq.wait().unwrap();
            assert_eq!(said, expected);
        });
    });
}

#[test]
#[ignore = "needs root to lose it"]
fn names_the_missing_capability() {
    // Only a child without capabilities can show it: setpriv(1) runs this same test binary.
    if std::env::var_os("XPXE_NO_CAPS").is_some() {
        let link =
            Link { index: 1, name: "lo".into(), mac: Default::default(), addresses: vec![], mtu: 65536 };
        let error = in_runtime(async { UdpSocket::bind(&link, 67) }).unwrap_err().to_string();
        let expected = "opening port 67 needs the capability CAP_NET_BIND_SERVICE: run as root or through the systemd unit";
        assert_eq!(error, expected);
        return;
    }
    let done = std::process::Command::new("setpriv")
        .args(["--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "io::udp::tests::names_the_missing_capability"])
        .env("XPXE_NO_CAPS", "1")
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

#[test]
#[ignore = "needs root for a network namespace"]
fn broadcasts_leave_and_arrive_on_the_one_interface() {
    lab::in_namespace(lab::PAIR, || {
        // Both ends are ours here, which the kernel otherwise takes for spoofing.
        fs::write("/proc/sys/net/ipv4/conf/srv0/accept_local", "1").unwrap();
        in_runtime(async {
            let server = UdpSocket::bind(&find("srv0").unwrap(), 67).unwrap();
            let peer = UdpSocket::bind(&find("cli0").unwrap(), 68).unwrap();
            let mut buf = [0; 1500];
            for to in [Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 9, 0, 255)] {
                peer.try_send(b"hello", SocketAddrV4::new(to, 67), [10, 9, 0, 2].into()).unwrap();
                let got = server.recv(&mut buf).await.unwrap();
                assert_eq!((got.len, got.wire_len, got.to), (5, 5, to));
                assert_eq!(got.from, SocketAddrV4::new([10, 9, 0, 2].into(), 68));
            }
        });
    });
}

#[test]
#[ignore = "needs root for a network namespace"]
fn loopback_round_trip_and_hostile_peers() {
    lab::in_namespace(&["link set lo up", "address add 10.9.0.1/32 dev lo"], || {
        in_runtime(async {
            let link = find("lo").unwrap();
            let server = UdpSocket::bind(&link, 69).unwrap();
            let peer = UdpSocket::bind(&link, 5000).unwrap();
            let mut buf = [0; 3];
            assert_eq!(server.try_recv(&mut buf).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            for to in [[10, 9, 0, 1], [127, 0, 0, 1], [127, 255, 255, 255]] {
                peer.try_send(b"hello", SocketAddrV4::new(to.into(), 69), [127, 0, 0, 1].into()).unwrap();
                server.readable().await.unwrap();
                let got = server.try_recv(&mut buf).unwrap();
                assert_eq!((got.len, got.wire_len, got.is_truncated()), (3, 5, true));
                assert_eq!(got.to, Ipv4Addr::from(to));
                assert_eq!(got.from, SocketAddrV4::new([127, 0, 0, 1].into(), 5000));
                assert_eq!(&buf, b"hel");
            }
            server
                .try_send(b"from", SocketAddrV4::new([127, 0, 0, 1].into(), 5000), [10, 9, 0, 1].into())
                .unwrap();
            assert_eq!(
                peer.recv(&mut [0; 100]).await.unwrap().from,
                SocketAddrV4::new([10, 9, 0, 1].into(), 69)
            );
            server
                .try_send(b"", SocketAddrV4::new([127, 0, 0, 1].into(), 5000), Ipv4Addr::UNSPECIFIED)
                .unwrap();
            assert_eq!(peer.recv(&mut [0; 100]).await.unwrap().len, 0);

            for (to, from) in [
                (SocketAddrV4::new([127, 0, 0, 1].into(), 0), [127, 0, 0, 1]),
                (SocketAddrV4::new([127, 0, 0, 1].into(), 1), [192, 0, 2, 1]),
            ] {
                assert!(server.try_send(b"x", to, from.into()).is_err(), "{to}");
            }
            let too_long = vec![0; 70_000];
            assert!(
                server
                    .try_send(&too_long, SocketAddrV4::new([127, 0, 0, 1].into(), 1), [127, 0, 0, 1].into())
                    .is_err()
            );
        });
    });
}

#[test]
fn reads_the_kernels_socket_table() {
    let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
        \x20 67: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4711 2 0 0\n\
        \x20 68: 0100007F:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 4712 2 0 0\n\
        \x20 67: 0100007F:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 0 2 0 0\n\
        \x20 cut";
    assert_eq!(sockets_on(67, table), ["socket:[4711]"]);
    assert!(sockets_on(67, "").is_empty());
}

#[test]
#[ignore = "needs root for a network namespace"]
fn hosts_that_are_not_there_leave_room_for_what_goes_to_others() {
    lab::in_namespace(lab::PAIR, || {
        in_runtime(async {
            let server = UdpSocket::bind(&find("srv0").unwrap(), 69).unwrap();
            // More than fits into the usual buffer, and more than the kernel lets wait for one host.
            for host in 100..200 {
                for _ in 0..100 {
                    let to = SocketAddrV4::new([10, 9, 0, host].into(), 2000);
                    server.try_send(&[0; 1400], to, [10, 9, 0, 1].into()).unwrap();
                }
            }
        });
    });
}
