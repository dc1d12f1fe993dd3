//! The options that a client asks for, as far as it has room for them.

use super::*;

#[test]
fn a_request_list_is_obeyed_and_the_kernel_learns_it() {
    let mut lab = Lab::new(CONFIG);
    let mut message = discover(NODE1);
    message
        .opts_mut()
        .insert(DhcpOption::ParameterRequestList(vec![OptionCode::DomainName, OptionCode::SubnetMask]));
    let offer = lab.send(&message).unwrap();
    assert!(offer.option(OptionCode::DomainName).is_some());
    assert!(offer.option(OptionCode::Router).is_none());
    let before = lab.engine.answers.keys().count();
    let again = lab.send(&message).unwrap();
    assert_eq!(again.frame, offer.frame);
    assert_eq!(lab.engine.answers.keys().count(), before, "from the tables");
    assert!(lab.engine.answers.keys().any(|key| key.wanted == boot_common::facts::wanted(&[15, 1])));
}

/// One host can invent a thousand of them; what clients really ask for is learned again once those are old.
#[test]
fn invented_request_lists_hold_their_place_for_ten_minutes() {
    let mut lab = Lab::new(CONFIG);
    let ask = |lab: &mut Lab, [first, second, third]: [u8; 3]| {
        let list = [first, second, third];
        let mut message = discover(NODE1);
        let codes = list.iter().map(|code| OptionCode::from(*code)).collect();
        message.opts_mut().insert(DhcpOption::ParameterRequestList(codes));
        lab.send(&message).unwrap();
        let hash = boot_common::facts::wanted(&list);
        lab.engine.answers.keys().any(|key| key.wanted == hash)
    };
    let most = |lab: &Lab| lab.engine.answers.keys().filter(|key| key.wanted != 0).count();
    assert!(ask(&mut lab, [15, 1, 3]), "the first is learned");
    for number in 0..1100u16 {
        let [high, low] = number.to_be_bytes();
        ask(&mut lab, [high + 100, low.max(1), 6]);
    }
    assert_eq!(most(&lab), 1024);
    lab.later(60);
    assert!(!ask(&mut lab, [12, 15, 1]), "there is no room yet");
    assert!(ask(&mut lab, [15, 1, 3]), "nor has the useful one gone");
    lab.later(600);
    assert!(ask(&mut lab, [12, 15, 1]), "the oldest have made room");
    assert!(ask(&mut lab, [15, 1, 3]), "what is asked for again is learned again");
    assert_eq!(most(&lab), 1024);
}

#[test]
fn small_clients_get_answers_that_fit() {
    let options = "options = [{ code = 224, hex = \"";
    let config = CONFIG.replacen(
        "domain = \"mtl\"",
        &format!("domain = \"mtl\"\n{options}{}\" }}]", "ab".repeat(230)),
        1,
    );
    let mut lab = Lab::new(&config);
    let mut message = discover(NODE1);
    message.opts_mut().insert(DhcpOption::MaxMessageSize(576));
    message.opts_mut().insert(DhcpOption::ClientIdentifier(vec![7; 200]));
    let offer = lab.send(&message).unwrap();
    assert!(offer.frame.len() - 14 <= 576, "{}", offer.frame.len());
    assert!(offer.option(OptionCode::SubnetMask).is_some());
    message.opts_mut().insert(DhcpOption::MaxMessageSize(1400));
    assert!(lab.send(&message).unwrap().option(OptionCode::Unknown(224)).is_some());
}
