use proptest::prelude::*;

use super::*;

const PORT: [u8; 6] = [0, 0x1c, 0x73, 0, 0, 9];

fn bpdu(to: Mac, llc: &[u8], version: u8, kind: u8, flags: u8) -> Vec<u8> {
    let mut frame = [&to.0[..], &PORT, &[0, 39], llc, &[0, 0, version, kind, flags]].concat();
    frame.extend([0; 8 + 4 + 8 + 2]); // Root, cost, bridge, port.
    frame.extend([0, 0, 20, 0, 2, 0, 15, 0]); // Age, most age, hello, forward delay.
    frame
}

fn tlv(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind << 1, u8::try_from(value.len()).unwrap()], value].concat()
}

#[test]
fn spanning_trees_are_read() {
    let station = Mac(PORT);
    let stp = bpdu(TREES[0], &[0x42, 0x42, 3], 0, 0, 0);
    let expected = SwitchFrame::Tree { station, version: 0, forward_delay: 15, forwards: None };
    assert_eq!(SwitchFrame::parse(&stp), Some(expected));
    let rstp = bpdu(TREES[0], &[0x42, 0x42, 3], 2, 2, 0x3c);
    let expected = SwitchFrame::Tree { station, version: 2, forward_delay: 15, forwards: Some(true) };
    assert_eq!(SwitchFrame::parse(&rstp), Some(expected));
    let pvst = bpdu(TREES[1], &[0xaa, 0xaa, 3, 0, 0, 0x0c, 1, 0x0b], 2, 2, 0);
    let expected = SwitchFrame::Tree { station, version: 2, forward_delay: 15, forwards: Some(false) };
    assert_eq!(SwitchFrame::parse(&pvst), Some(expected));
    assert_eq!(SwitchFrame::parse(&stp[..40]), None, "cut off");
    assert_eq!(SwitchFrame::parse(&bpdu(TREES[0], &[0x42, 0x42, 3], 0, 0x80, 0)), None, "a change");
}

#[test]
fn lldp_is_read() {
    let frame = |port: &[u8], described: &[u8]| {
        let head = [&NEIGHBOURS.0[..], &PORT, &LLDP.to_be_bytes()].concat();
        let chassis = tlv(1, &[4, 0, 0x1c, 0x73, 0, 0, 1]);
        [head, chassis, tlv(2, port), tlv(3, &[0, 120]), tlv(4, described), tlv(5, b"leaf7"), tlv(0, &[])]
            .concat()
    };
    let found = |port: &str| {
        let (station, switch) = (Mac(PORT), "leaf7".into());
        Some(SwitchFrame::Lldp { station, switch, port: port.into() })
    };
    assert_eq!(SwitchFrame::parse(&frame(b"\x05Ethernet9", b"node7")), found("Ethernet9"));
    assert_eq!(SwitchFrame::parse(&frame(b"\x03\x00\x1c\x73\x00\x00\x09", b"to node7")), found("to node7"));
    assert_eq!(SwitchFrame::parse(&frame(b"\x05a\nb", b"")), found("a\\nb"), "one line");
}

#[test]
fn a_switch_without_a_name_is_called_by_its_id_and_one_without_ids_is_none() {
    let said = |tlvs: &[Vec<u8>]| {
        let head = [&NEIGHBOURS.0[..], &PORT, &LLDP.to_be_bytes()].concat();
        match SwitchFrame::parse(&[head, tlvs.concat()].concat())? {
            SwitchFrame::Lldp { switch, port, .. } => Some(format!("{switch}, {port}")),
            SwitchFrame::Tree { .. } => None,
        }
    };
    let chassis = tlv(1, &[4, 0, 0x1c, 0x73, 0, 0, 1]);
    let port = tlv(2, &[3, 0, 0x1c, 0x73, 0, 0, 7]);
    let expected = |says: &str| Some(says.to_owned());
    let both = [chassis.clone(), port.clone(), tlv(5, b" \0")];
    assert_eq!(said(&both), expected("00:1c:73:00:00:01, 00:1c:73:00:00:07"));
    let local = [tlv(1, b"\x07rack 7"), tlv(2, b"\x0712")];
    assert_eq!(said(&local), expected("rack 7, 12"));
    let network = [tlv(1, &[5, 1, 10, 0, 0, 1]), tlv(2, &[4, 1, 10, 0, 0, 1])];
    assert_eq!(said(&network), expected("00:1c:73:00:00:09, 00:1c:73:00:00:09"), "the station");
    for none in [
        vec![],
        vec![chassis.clone()],
        vec![port.clone()],
        vec![chassis, tlv(2, &[3])],
        vec![tlv(5, b"leaf7")],
    ] {
        assert_eq!(said(&none), None, "{none:?}");
    }
}

proptest! {
    #[test]
    fn whatever_a_frame_contains_reading_it_ends(frame in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(SwitchFrame::parse(&frame));
        let head = [&NEIGHBOURS.0[..], &PORT, &LLDP.to_be_bytes(), &frame].concat();
        drop(SwitchFrame::parse(&head));
    }
}
