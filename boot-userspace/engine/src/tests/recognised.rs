//! Machines that are recognised by something else than one MAC.

use super::*;

#[test]
fn the_cards_of_a_machine_share_its_reserved_address_wherever_one_of_them_was() {
    // Two cards of one machine: the second has the reserved address while the first is elsewhere.
    let shared = CONFIG.replace("\"52:54:00:00:00:01\"", "[\"52:54:00:00:00:01\", \"52:54:00:00:00:02\"]");
    let (mut lab, card) = (Lab::new(&shared), Mac([0x52, 0x54, 0, 0, 0, 2]));
    let relay = Ipv4Addr::new(10, 2, 0, 1);
    let elsewhere = lab.send(&relayed(discover(NODE1), relay)).expect("an offer there").message.yiaddr();
    assert_eq!(lab.leased(card), Ipv4Addr::new(10, 1, 1, 50));
    assert_eq!(lab.leased(NODE1), Ipv4Addr::new(10, 1, 1, 50), "they share it");
    assert_eq!(lab.send(&relayed(discover(NODE1), relay)).unwrap().message.yiaddr(), elsewhere);
    lab.send(&relayed(discover(card), relay)).expect("an offer there");
    assert_eq!(lab.leased(NODE1), Ipv4Addr::new(10, 1, 1, 50));
}

#[test]
fn a_machine_is_recognised_by_its_uuid_or_its_switch_port() {
    let config = format!(
        "{CONFIG}\n[[machine]]\nuuid = \"00112233-4455-6677-8899-aabbccddeeff\"\nname = \"by-uuid\"\nip = \"10.1.1.60\"\n\
         [[machine]]\nrelay_port = \"port 7\"\nname = \"by-port\"\nip = \"10.1.1.61\"\n"
    );
    let mut lab = Lab::new(&config);
    let mut guid = vec![0];
    guid.extend([
        0x33, 0x22, 0x11, 0, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
    ]);
    let mut message = pxe(discover(UNKNOWN), 7, "PXEClient:Arch:00007:UNDI:003000");
    message.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(97), guid)));
    let offer = lab.send(&message).unwrap();
    assert_eq!(offer.message.yiaddr(), Ipv4Addr::new(10, 1, 1, 60));
    assert_eq!(offer.option(OptionCode::Hostname), Some(&DhcpOption::Hostname("by-uuid".to_owned())));
    assert_eq!(lab.offered(UNKNOWN), Ipv4Addr::new(10, 1, 1, 60), "its system does not show the UUID");
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(b"port 7".to_vec()));
    let mut message = relayed(discover(OTHER), Ipv4Addr::new(10, 1, 0, 3));
    message.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
    assert_eq!(lab.send(&message).unwrap().message.yiaddr(), Ipv4Addr::new(10, 1, 1, 61));
    // Who writes boot scripts knows it, too.
    let name = |mac| {
        let machine = lab.engine.machines.get(lab.engine.machines.recognised(mac)?)?;
        machine.name.clone()
    };
    assert_eq!(
        [UNKNOWN, OTHER, NODE1].map(name),
        [Some("by-uuid"), Some("by-port"), None].map(|name| name.map(str::to_owned))
    );

    // Recognised only after it had an offer from the pool: that is nobody's any more.
    let mut late = Lab::new(&config);
    assert_ne!(late.offered(OTHER), Ipv4Addr::new(10, 1, 1, 61));
    let mut reboot = relayed(request(OTHER, Ipv4Addr::new(10, 9, 9, 9), None), Ipv4Addr::new(10, 1, 0, 3));
    let mut info = relay::RelayAgentInformation::default();
    info.insert(relay::RelayInfo::AgentCircuitId(b"port 7".to_vec()));
    reboot.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
    late.send(&reboot);
    assert_eq!(late.offered(OTHER), Ipv4Addr::new(10, 1, 1, 61));
}

/// A machine without a MAC in the configuration is whoever shows its UUID or its switch port, not whoever had its address.
#[test]
fn who_had_an_address_before_it_was_reserved_is_not_the_machine_that_it_is_reserved_for() {
    let mut lab = Lab::new(CONFIG);
    let before = lab.leased(UNKNOWN);
    let Some(Change::Put(lease)) = lab.changes.pop() else { panic!("nothing stored") };
    let released = Lease { state: LeaseState::Released, ..lease.clone() };
    for identity in ["relay_port = \"port 7\"", "uuid = \"00112233-4455-6677-8899-aabbccddeeff\""] {
        let config = format!("{CONFIG}\n[[machine]]\n{identity}\nname = \"slot7\"\nip = \"{before}\"\n");
        for stored in [&lease, &released] {
            let mut lab = Lab::with_leases(&config, std::slice::from_ref(stored), DhcpRole::Server);
            assert_eq!(lab.engine.machines.recognised(UNKNOWN), None, "{identity}");
            let offer = lab.send(&discover(UNKNOWN)).expect("an offer");
            assert_eq!(offer.option(OptionCode::Hostname), None, "{identity}: another machine's name");
            assert_ne!(offer.message.yiaddr(), before, "{identity}: {:?}", stored.state);
        }
    }
}
