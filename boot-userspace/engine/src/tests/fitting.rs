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
