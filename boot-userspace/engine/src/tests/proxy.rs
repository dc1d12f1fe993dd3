//! Boot files beside another server that gives the addresses.

use super::*;

#[test]
fn a_proxy_adds_boot_files_and_never_an_address() {
    let mut lab = Lab::with_leases(CONFIG, &[], DhcpRole::Proxy);
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "no PXE client");
    let offer = lab.send(&pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007:UNDI:003000")).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::UNSPECIFIED);
    assert_eq!(offer.message.siaddr(), SERVER);
    assert!(offer.option(OptionCode::AddressLeaseTime).is_none());
    let for_the_other_server = request(UNKNOWN, Ipv4Addr::new(10, 1, 4, 4), Some(Ipv4Addr::new(10, 1, 0, 9)));
    assert!(lab.send(&pxe(for_the_other_server, 7, "PXEClient:Arch:00007:UNDI:003000")).is_none());
    let client = SocketAddrV4::new(Ipv4Addr::new(10, 1, 4, 4), 4011);
    let asks = pxe(renewal(UNKNOWN, *client.ip()), 7, "PXEClient:Arch:00007:UNDI:003000");
    let ack = lab.send_to(&asks, 4011, client).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(ack.message.ciaddr(), *client.ip());
    assert_eq!(ack.message.fname(), Some(&b"snponly.efi\0"[..]));
    assert_eq!(ack.via, Via::Socket { to: client, source: SERVER, port: 4011 });
}

#[test]
fn a_proxy_s_entries_for_strangers_make_room_for_newer_ones() {
    use crate::machines::MOST_UNKNOWN;
    // A rule by maker: each unknown machine is looked at before the kernel half answers it.
    let config = format!("[[boot_file]]\noui = \"52:54:00\"\nfile = \"special.efi\"\n{CONFIG}");
    let mut lab = Lab::with_leases(&config, &[], DhcpRole::Proxy);
    let before = lab.engine.entries.hosts().count();
    let unknown = |number: usize| {
        let [.., a, b, c] = number.to_be_bytes();
        Mac([0x52, 0x54, 1, a, b, c])
    };
    for number in 0..=MOST_UNKNOWN {
        let offer = lab.send(&pxe(discover(unknown(number)), 7, "PXEClient:Arch:00007:UNDI:003000"));
        assert!(offer.is_some(), "{number}");
    }
    assert_eq!(lab.engine.entries.hosts().count(), before + MOST_UNKNOWN);
    let has = |lab: &Lab, mac: Mac| lab.engine.has_host(&HostKey::from(mac));
    assert!(has(&lab, NODE1) && has(&lab, unknown(1)) && !has(&lab, unknown(0)));
    assert!(lab.send(&pxe(discover(unknown(0)), 7, "PXEClient:Arch:00007:UNDI:003000")).is_some());
    assert!(has(&lab, unknown(0)) && !has(&lab, unknown(1)));
}
