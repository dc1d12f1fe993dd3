//! New addresses are looked for on the network before they are offered.

use super::*;

#[test]
fn a_new_address_is_looked_for_on_the_network_once() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    assert_eq!(lab.probes, [address]);
    lab.leased(UNKNOWN);
    lab.leased(NODE1);
    assert_eq!(lab.probes, [address], "neither one's own address nor a reserved one");
}

#[test]
fn an_address_that_somebody_uses_rests_and_the_next_one_is_tried() {
    let mut lab = Lab::new(CONFIG);
    lab.squatter = Some("02:00:00:00:00:77".to_owned());
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "all are used");
    assert_eq!(lab.probes, [Ipv4Addr::new(10, 1, 1, 33), Ipv4Addr::new(10, 1, 1, 34)]);
    lab.squatter = None;
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "they rest");
    lab.later(QUARANTINE + 1);
    assert!(lab.send(&discover(UNKNOWN)).is_some());
}

#[test]
fn who_gets_no_answer_behind_a_probe_is_in_the_log_too() {
    let name = "a".repeat(60);
    let config = format!("{CONFIG}\n[[machine]]\nmac = \"{UNKNOWN}\"\nname = \"{name}\"\n");
    let mut lab = Lab::new(&config);
    let mut message = discover(UNKNOWN);
    message.opts_mut().insert(DhcpOption::MaxMessageSize(576));
    message.opts_mut().insert(DhcpOption::ClientIdentifier(vec![7; 250]));
    let guid = UnknownOption::new(OptionCode::Unknown(97), vec![0; 17]);
    message.opts_mut().insert(DhcpOption::Unknown(guid));
    assert!(lab.send(&message).is_none());
    assert_eq!(lab.probes.len(), 1);
    let told = elsewhere::told(&mut lab);
    let too_big =
        |step: &Step| matches!(step, Step::Dropped { reason: Reason::ReplyTooBig, fault: Fault::NoRoom, .. });
    assert!(matches!(&told[..], [(Some(UNKNOWN), step)] if too_big(step)), "{told:?}");
}
