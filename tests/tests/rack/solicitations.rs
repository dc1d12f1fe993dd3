//! Router solicitations of booting machines.

use super::*;

#[test]
fn a_router_solicitation_of_a_known_machine_is_answered_with_no_router() -> Result<()> {
    let Some(place) = Place::build(&known())? else { return Ok(()) };
    let _xpxe = place.serve()?;
    let wire = place.client()?;
    let [alice, stranger] = [mac(ALICE.mac)?, mac(UNKNOWN)?];
    // In this order: when the second is answered, the first had its turn.
    for mac in [stranger, alice] {
        wire.send(&router_solicitation(mac))?;
    }
    let mut heard = Vec::new();
    while let Some((to, advertisement)) = wire.hear(SILENCE, router_advertisement)? {
        heard.push((to, advertisement));
    }
    let [(to, advertisement)] = &heard[..] else { panic!("one advertisement, not {heard:02x?}") };
    assert_eq!(*to, alice, "sent to another station: {advertisement:02x?}");
    // Type, code, checksum; hop limit, flags, router lifetime; reachable time, retransmission timer; options.
    assert_eq!(advertisement[4..16], [0; 12], "an empty advertisement: {advertisement:02x?}");
    let options: Vec<u8> = [&[1, 1][..], &mac(SERVER_MAC)?].concat();
    assert_eq!(advertisement[16..], options, "no prefix, only who it is: {advertisement:02x?}");
    Ok(())
}

const ALL_ROUTERS: Mac = [0x33, 0x33, 0, 0, 0, 2];

const ROUTER_SOLICITATION: u8 = 133;

const ROUTER_ADVERTISEMENT: u8 = 134;

fn link_local([a, b, c, d, e, f]: Mac) -> [u8; 16] {
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

fn router_solicitation(from: Mac) -> Vec<u8> {
    let to = [0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let mut icmp = vec![ROUTER_SOLICITATION, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    icmp.extend(from);
    let pseudo = [&link_local(from)[..], &to, &[0, 0, 0, 16, 0, 0, 0, 58], &icmp].concat();
    icmp[2..4].copy_from_slice(&(!sum(&pseudo)).to_be_bytes());
    let headers = [&ALL_ROUTERS[..], &from, &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 16, 58, 255]].concat();
    [&headers[..], &link_local(from), &to, &icmp].concat()
}

/// The receiver and the ICMPv6 part of a valid router advertisement; panics when its checksum is wrong.
fn router_advertisement(frame: &[u8]) -> Option<(Mac, Vec<u8>)> {
    let icmp = frame.get(54..)?;
    let is_one = frame[12..14] == [0x86, 0xdd] && frame[20] == 58 && *icmp.first()? == ROUTER_ADVERTISEMENT;
    if !is_one {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([frame[18], frame[19]]));
    let icmp = icmp.get(..length)?;
    let pseudo = [&frame[22..54], &(length as u32).to_be_bytes(), &[0, 0, 0, 58], icmp].concat();
    assert_eq!(sum(&pseudo), 0xffff, "wrong checksum: {frame:02x?}");
    Some((frame[..6].try_into().ok()?, icmp.to_vec()))
}
