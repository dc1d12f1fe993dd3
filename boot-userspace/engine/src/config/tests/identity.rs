//! What tells machines from each other.

use boot_common::Mac;

use super::*;

fn port(circuit_id: &[u8], remote_id: Option<&[u8]>) -> Option<RelayPort> {
    Some(RelayPort { circuit_id: circuit_id.to_vec(), remote_id: remote_id.map(<[u8]>::to_vec) })
}

#[test]
fn macs_uuids_and_relay_ports() {
    let config = good(EXTENDED);
    let uuid = |last| {
        Some([0x4c, 0x4c, 0x45, 0x44, 0, 0x42, 0x35, 0x10, 0x80, 0x52, 0xb4, 0xc0, 0x4f, 0x4e, 0x31, last])
    };
    let identities: Vec<_> =
        config.machines.iter().map(|m| (m.macs.as_slice(), m.uuid, m.relay_port.clone())).collect();
    let expected = [
        (&[][..], uuid(0x32), None),
        (&[], None, port(b"Ethernet1/7", None)),
        (&[Mac([0x52, 0x54, 0, 0, 0, 1])], uuid(0x33), port(&[0, 4, 0, 10], Some(b"switch1"))),
    ];
    assert_eq!(identities, expected);
}

#[test]
fn a_machine_needs_something_that_tells_it() {
    let why = "nothing tells this machine from others; write mac = \"52:54:00:00:00:01\", uuid or relay_port";
    bad_after_base("[[machine]]\nname = 'a'\nip = '10.1.0.5'\n", &[(1, "machine[0]", why)]);
    // What could not be read is not missing as well.
    for (line, key) in
        [("mac = 5", "mac"), ("mac = []", "mac"), ("uuid = 5", "uuid"), ("relay_port = 5", "relay_port")]
    {
        bad_after_base(&format!("[[machine]]\n{line}\n"), &[(2, &format!("machine[0].{key}"), "")]);
    }
    bad_after_base(
        "[[machine]]\nuid = '4c4c4544'\n",
        &[(2, "machine[0].uid", "did you mean uuid?"), (2, "machine[0].uid", "is not a UUID")],
    );
}

#[test]
fn uuids_are_unique() {
    bad_after_base(
        "[[machine]]\nuuid = '4c4c4544-0042-3510-8052-b4c04f4e3132'\n\
         [[machine]]\nuuid = '4C4C4544-0042-3510-8052-B4C04F4E3132'\n\
         [[machine]]\nuuid = '4c4c4544004235108052b4c04f4e3132'\n\
         [[machine]]\nuuid = '00000000-0000-0000-0000-000000000000'\n\
         [[machine]]\nuuid = ['4c4c4544-0042-3510-8052-b4c04f4e3132']\n\
         [[machine]]\nuuid = '44454c4c-4200-1035-8052-b4c04f4e3132'\n",
        &[
            (4, "machine[1].uuid", "is already at machine[0].uuid (line 11); remove one"),
            (6, "machine[2].uuid", "write \"4c4c4544-0042-3510-8052-b4c04f4e3132\""),
            (8, "machine[3].uuid", "is what machines say that have no UUID"),
            (10, "machine[4].uuid", "has to be a text in quotes, not a list"),
            // In the other byte order it is the same board's.
            (12, "machine[5].uuid", "is already at machine[0].uuid (line 11); remove one"),
        ],
    );
}

#[test]
fn values_of_relay_ports() {
    let relay_port = |value: &str| {
        let config = good(&format!("{BASE}[[machine]]\nrelay_port = {value}\n"));
        config.machines.into_iter().next().and_then(|machine| machine.relay_port.clone())
    };
    assert_eq!(relay_port("'ge-0/0/1'"), port(b"ge-0/0/1", None));
    assert_eq!(relay_port("'0x0004000a'"), port(&[0, 4, 0, 10], None));
    assert_eq!(relay_port("{ circuit_id = 'a' }"), port(b"a", None));
    assert_eq!(relay_port("{ circuit_id = 'a', remote_id = '0x01' }"), port(b"a", Some(&[1])));
    for (value, key, why) in [
        ("''", "", "is empty"),
        ("'0x0'", "", "is not hexadecimal behind 0x"),
        ("5", "", "has to be a text in quotes, not a number; write relay_port = \"Ethernet1/7\""),
        ("['a']", "", "not a list"),
        ("{}", ".circuit_id", "is missing; write circuit_id = \"Ethernet1/7\""),
        ("{ circuit_id = 5 }", ".circuit_id", "has to be a text"),
        ("{ circuit_id = 'a', remote_id = '0x' }", ".remote_id", "is empty"),
        ("{ circuit_id = 'a', port = 'b' }", ".port", "write circuit_id or remote_id"),
    ] {
        let key = format!("machine[0].relay_port{key}");
        bad_after_base(&format!("[[machine]]\nrelay_port = {value}\n"), &[(2, &key, why)]);
    }
}

#[test]
fn relay_ports_are_unique() {
    let machines =
        |ports: [&str; 2]| ports.map(|port| format!("[[machine]]\nrelay_port = {port}\n")).concat();
    let key = "machine[1].relay_port";
    for (ports, why) in [
        (["'a'", "'0x61'"], "this relay port is already at machine[0].relay_port (line 11)"),
        (["'a'", "{ circuit_id = 'a' }"], "is already at machine[0].relay_port (line 11)"),
        (
            ["{ circuit_id = 'a', remote_id = 'b' }", "{ circuit_id = '0x61', remote_id = '0x62' }"],
            "is already at machine[0].relay_port (line 11)",
        ),
        (
            ["'a'", "{ circuit_id = 'a', remote_id = 'b' }"],
            "machine[0].relay_port (line 11) has the same circuit_id",
        ),
        (["{ circuit_id = 'a', remote_id = 'b' }", "'a'"], "write remote_id in both"),
    ] {
        bad_after_base(&machines(ports), &[(4, key, why)]);
    }
    for ports in [
        ["'a'", "'b'"],
        ["{ circuit_id = 'a', remote_id = 'b' }", "{ circuit_id = 'a', remote_id = 'c' }"],
        ["{ circuit_id = 'a', remote_id = 'b' }", "'b'"],
    ] {
        assert_eq!(good(&format!("{BASE}{}", machines(ports))).machines.len(), 2);
    }
    // A remote_id that could not be read is not left out.
    bad_after_base(
        &machines(["{ circuit_id = 'a', remote_id = 5 }", "{ circuit_id = 'a', remote_id = 'b' }"]),
        &[(2, "machine[0].relay_port.remote_id", "has to be a text")],
    );
}
