use proptest::prelude::*;

use super::*;

const UUID: [u8; 16] =
    [0x4c, 0x4c, 0x45, 0x44, 0, 0x42, 0x35, 0x10, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4e, 0x31, 0x32];

fn port(circuit_id: &[u8], remote_id: Option<&[u8]>) -> Identity {
    Identity::SwitchPort(RelayPort {
        circuit_id: circuit_id.to_vec(),
        remote_id: remote_id.map(<[u8]>::to_vec),
    })
}

#[test]
fn identities_are_read_by_people_and_by_the_store() {
    let mac = Identity::Mac(Mac([0x52, 0x54, 0, 0, 0, 1]));
    for (identity, text, said) in [
        (mac, "mac 52:54:00:00:00:01", "the MAC address 52:54:00:00:00:01"),
        (
            Identity::Uuid(UUID),
            "uuid 4c4c4544-0042-3510-8052-b4c04f4e3132",
            "the UUID 4c4c4544-0042-3510-8052-b4c04f4e3132",
        ),
        (port(b"eth1/7", None), "port 657468312f37", "the switch port \"eth1/7\""),
        (port(b"\x00 7", Some(b"sw")), "port 002037 7377", "the switch port \"\\x00 7\" of \"sw\""),
    ] {
        assert_eq!((identity.to_text().as_str(), identity.to_string().as_str()), (text, said));
        assert_eq!(text.parse(), Ok(identity));
    }
    for broken in
        ["", "mac", "mac 52:54", "uuid 4c4c", "port 6", "port 6x", "port 61 6", "port 61 62 63", "serial 7"]
    {
        assert_eq!(broken.parse::<Identity>(), Err(NotAnIdentity), "{broken}");
    }
}

proptest! {
    #[test]
    fn any_switch_port_is_read_back(circuit_id in prop::collection::vec(any::<u8>(), 1..254), remote_id: Option<[u8; 3]>) {
        let identity = port(&circuit_id, remote_id.as_ref().map(<[u8; 3]>::as_slice));
        prop_assert_eq!(identity.to_text().parse(), Ok(identity));
    }
}
