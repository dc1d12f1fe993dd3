use std::sync::Arc;

use super::*;
use crate::config::Machine;
use crate::machines::{Asker, Client, Life, Machines};

const KIND: DocumentKind = DocumentKind::UserData;
const NOW: Duration = Duration::from_secs(100);

fn asked(client: &str, mac: u8, holder: Option<u8>) -> Asked {
    let client_ip = client.parse().unwrap();
    let client = holder.map(|last| Client { mac: Mac([2, 0, 0, 0, 0, last]), name: None });
    Asked {
        uuid: None,
        mac: Some(Mac([2, 0, 0, 0, 0, mac])),
        asker: Asker { client, ..Asker::default() },
        domain: None,
        chosen: None,
        hostname: None,
        platform: None,
        serial: None,
        arch: None,
        client_ip,
        told: None,
        server: std::net::SocketAddr::from(([10, 1, 0, 2], 8080)).into(),
    }
}

#[test]
fn a_token_is_text_in_urls_and_nowhere_else() {
    let token = Token::new([0xa5; LENGTH]);
    let text = token.in_urls();
    assert_eq!(text, format!("t-{}", "a5".repeat(16)));
    assert!(text.parse::<Token>().unwrap().is(&token));
    assert!(text.to_uppercase().replace('T', "t").parse::<Token>().unwrap().is(&token));
    assert_eq!(format!("{token:?}"), "Token");
    for wrong in ["", "t-", &text[..33], &format!("{text}0"), &text.replace('a', "+"), &text[2..], "t-é"] {
        assert!(wrong.parse::<Token>().is_err(), "{wrong}");
    }
    assert_eq!(Token::hide(&format!("/documents/self/{text}/user-data")), "/documents/self/t-…/user-data");
    assert_eq!(Token::hide("/files/t-x/y"), "/files/t-x/y");
    assert_eq!(Token::hide(&format!("/documents/self/{text}%2Fa/t-{text}")), "/documents/self/t-…%2Fa/t-t-…");
}

#[test]
fn each_document_is_given_once_and_a_new_script_begins_anew() {
    let mut tokens = Tokens::default();
    let (first, second) = (Token::new([1; LENGTH]), Token::new([2; LENGTH]));
    let me = asked("10.1.1.50", 1, Some(1));
    assert_eq!(tokens.begin(&me, None, KIND, NOW), Err(NoSecret::NoToken));
    assert_eq!(tokens.begin(&me, Some(&first), KIND, NOW), Err(NoSecret::NotValid), "none is issued");
    tokens.issue(&me, first, NOW);
    assert_eq!(tokens.begin(&me, Some(&second), KIND, NOW), Err(NoSecret::NotValid), "forged");
    let broken = tokens.begin(&me, Some(&first), KIND, NOW).unwrap();
    assert_eq!(tokens.check(&me, Some(&first), KIND, NOW), Ok(true), "it is under way");
    tokens.end(broken, false);
    assert_eq!(tokens.check(&me, Some(&first), KIND, NOW), Ok(false), "it may be tried again");
    let whole = tokens.begin(&me, Some(&first), KIND, NOW).unwrap();
    tokens.end(whole, true);
    assert_eq!(tokens.begin(&me, Some(&first), KIND, NOW), Err(NoSecret::Given));
    let other = tokens.begin(&me, Some(&first), DocumentKind::VendorData, NOW);
    tokens.end(other.unwrap(), true);
    tokens.issue(&me, second, NOW);
    assert_eq!(tokens.begin(&me, Some(&first), KIND, NOW), Err(NoSecret::NotValid), "it ended");
    // An attempt of the boot before says nothing of this one.
    tokens.end(whole, true);
    let begun = tokens.begin(&me, Some(&second), KIND, NOW).unwrap();
    // Two at once: whichever comes to its end, it was given.
    let again = tokens.begin(&me, Some(&second), KIND, NOW).unwrap();
    tokens.end(again, false);
    assert_eq!(tokens.check(&me, Some(&second), KIND, NOW), Ok(false));
    let again = tokens.begin(&me, Some(&second), KIND, NOW).unwrap();
    tokens.end(begun, true);
    tokens.end(again, false);
    assert_eq!(tokens.begin(&me, Some(&second), KIND, NOW), Err(NoSecret::Given));
}

#[test]
fn a_token_is_for_one_machine_one_address_and_an_hour() {
    let mut tokens = Tokens::default();
    let token = Token::new([1; LENGTH]);
    let me = asked("10.1.1.50", 1, Some(1));
    tokens.issue(&me, token, NOW);
    let check = |tokens: &Tokens, asked: &Asked, now| tokens.check(asked, Some(&token), KIND, now);
    // A client of no known machine is its address.
    assert_eq!(check(&tokens, &asked("10.1.1.51", 1, Some(1)), NOW), Err(NoSecret::NotValid));
    assert_eq!(check(&tokens, &asked("10.1.1.50", 1, Some(2)), NOW), Err(NoSecret::OfAnother));
    assert_eq!(check(&tokens, &asked("10.1.1.50", 2, Some(1)), NOW), Err(NoSecret::OfAnother));
    assert_eq!(check(&tokens, &asked("10.1.1.50", 1, None), NOW), Ok(false), "nobody knows who has it");
    let late = NOW + Duration::from_secs(VALID);
    assert_eq!(check(&tokens, &me, late), Ok(false));
    assert_eq!(check(&tokens, &me, late + Duration::from_secs(1)), Err(NoSecret::Expired));
}

#[test]
fn the_token_of_an_agent_that_asks_does_not_expire() {
    let mut tokens = Tokens::default();
    let token = Token::new([1; LENGTH]);
    let me = asked("10.1.1.50", 1, Some(1));
    tokens.issue(&me, token, NOW);
    let mut now = NOW;
    for _ in 0..5 {
        now += Duration::from_secs(VALID);
        assert_eq!(tokens.admit(&me, Some(&token), now), Ok(()));
    }
    assert_eq!(tokens.admit(&me, None, now), Err(NoSecret::NoToken));
    assert_eq!(tokens.admit(&me, Some(&Token::new([2; LENGTH])), now), Err(NoSecret::NotValid));
    assert_eq!(tokens.admit(&asked("10.1.1.50", 1, Some(2)), Some(&token), now), Err(NoSecret::OfAnother));
    let late = now + Duration::from_secs(VALID + 1);
    assert_eq!(tokens.admit(&me, Some(&token), late), Err(NoSecret::Expired));
}

#[test]
fn a_report_is_of_what_the_agent_was_told_last() {
    use State::{Accepted, Allocated, Discovered, Installing, Ready, Released};
    let machines = Machines::default();
    let me = asked("10.1.1.50", 1, None);
    let mut id = None;
    let mut at = |state, since| {
        let machine = Arc::new(Machine { macs: me.mac.into_iter().collect(), ..Machine::default() });
        let (record, says, is_written) = (1, "a test".into(), false);
        let (is_overdue, run, is_unserved, heard, is_chosen) = (false, 0, false, 0, false);
        let life =
            Life { record, state, says, is_written, since, is_overdue, run, is_unserved, heard, is_chosen };
        id = Some(machines.put_alive(id, machine, life).unwrap().0);
        Asked { asker: machines.asker(me.client_ip, me.mac, None), ..me.clone() }
    };
    let (mut tokens, token) = (Tokens::default(), Token::new([1; LENGTH]));
    let said = |tokens: &Tokens, asked: &Asked| tokens.check_report(asked, Some(&token), NOW);
    let late = Err(NoSecret::OfOtherWork);
    tokens.issue(&at(Discovered, 1), token, NOW);
    // It has waited until it was accepted, and asks again then.
    let accepted = at(Accepted, 2);
    assert_eq!(said(&tokens, &accepted), late);
    tokens.tell(&accepted, Some(&Token::new([2; LENGTH])));
    assert_eq!(said(&tokens, &accepted), late, "that was told to another boot");
    tokens.tell(&accepted, Some(&token));
    assert_eq!(said(&tokens, &accepted), Ok(()));
    assert_eq!(said(&tokens, &at(Ready, 3)), Ok(()), "once more, because no answer came");
    assert_eq!(said(&tokens, &at(Released, 4)), late, "the same once more, after another order");
    assert_eq!(said(&tokens, &at(Accepted, 5)), late);
    let allocated = at(Allocated, 6);
    assert_eq!(said(&tokens, &allocated), late);
    // A system that asks for no task was told by its script.
    tokens.issue(&allocated, token, NOW);
    assert_eq!(said(&tokens, &at(Installing, 7)), Ok(()));
    assert_eq!(said(&tokens, &at(Allocated, 8)), late, "it is to be installed anew");
}

#[test]
fn a_request_that_comes_twice_has_one_token() {
    let mut tokens = Tokens::default();
    let token = Token::new([1; LENGTH]);
    let me = asked("10.1.1.50", 1, Some(1));
    assert_eq!(tokens.unused(&me, NOW), None);
    tokens.issue(&me, token, NOW);
    assert_eq!(tokens.unused(&me, NOW + Duration::from_secs(9)), Some(token));
    assert_eq!(tokens.unused(&me, NOW + Duration::from_secs(10)), None);
    assert_eq!(tokens.unused(&asked("10.1.1.50", 1, Some(2)), NOW), None);
    tokens.begin(&me, Some(&token), KIND, NOW).unwrap();
    assert_eq!(tokens.unused(&me, NOW), None);
}

#[test]
fn they_are_bounded_and_the_oldest_makes_room() {
    let mut tokens = Tokens { most: 2, ..Tokens::default() };
    let token = Token::new([1; LENGTH]);
    let [a, b, c] = ["10.1.1.1", "10.1.1.2", "10.1.1.3"].map(|client| asked(client, 1, None));
    for asked in [&a, &b, &a, &a, &c] {
        tokens.issue(asked, token, NOW);
    }
    assert_eq!(tokens.counts(), (2, 1));
    assert_eq!(tokens.check(&a, Some(&token), KIND, NOW), Ok(false));
    assert_eq!(tokens.check(&b, Some(&token), KIND, NOW), Err(NoSecret::NotValid));
    // Whatever machines it says that it is.
    for mac in 0..100 {
        tokens.issue(&asked("10.1.1.3", mac, None), token, NOW);
    }
    assert_eq!(tokens.counts(), (2, 1));
}
