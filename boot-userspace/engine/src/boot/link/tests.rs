use super::*;

const PATH: &str = "/files/talos/vm linuz";

fn signer() -> Signer {
    Signer {
        key: LinkKey::new([7; 32]),
        holder: Some("52:54:00:00:00:01".parse().unwrap()),
        client: "10.1.1.50".parse().unwrap(),
        until: 1_000_000,
    }
}

fn check(path: &str, query: &str, client: &str, holder: Option<&str>, now: u64) -> Result<(), BadLink> {
    let holder = holder.map(|mac| mac.parse().unwrap());
    LinkKey::new([7; 32]).check(path, Some(query), (client.parse().unwrap(), holder), now)
}

#[test]
fn a_link_is_for_one_path_one_machine_and_a_while() {
    let query = signer().query(PATH);
    let own = Some("52:54:00:00:00:01");
    assert_eq!(check(PATH, &query, "10.1.1.50", own, 999_999), Ok(()));
    assert_eq!(check(PATH, &query, "10.1.1.50", None, 1_000_000), Ok(()), "nobody knows who has it");
    let of_another = |who: &str| Err(BadLink::OfAnother(who.to_owned()));
    assert_eq!(check(PATH, &query, "10.1.1.51", own, 0), of_another("10.1.1.50"));
    let other = Some("52:54:00:00:00:02");
    assert_eq!(check(PATH, &query, "10.1.1.50", other, 0), of_another("52:54:00:00:00:01"));
    assert_eq!(check(PATH, &query, "10.1.1.50", own, 1_000_005), Err(BadLink::Expired { seconds: 5 }));
    assert_eq!(check("/files/other", &query, "10.1.1.50", own, 0), Err(BadLink::Changed));
    let key = LinkKey::new([8; 32]);
    let client = "10.1.1.50".parse().unwrap();
    assert_eq!(key.check(PATH, Some(&query), (client, None), 0), Err(BadLink::Changed));
    assert_eq!(key.check(PATH, None, (client, None), 0), Err(BadLink::Unsigned));
}

#[test]
fn whatever_byte_of_a_link_is_changed_it_is_refused() {
    let query = signer().query(PATH);
    for at in 0..query.len() {
        for byte in [b'0', b'1', b'a', b'&', b'='] {
            let mut changed = query.clone().into_bytes();
            if changed[at] == byte {
                continue;
            }
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            let said = check(PATH, &changed, "10.1.1.50", None, 0);
            assert!(matches!(said, Err(BadLink::Changed | BadLink::Unsigned)), "{changed}: {said:?}");
        }
    }
    for odd in ["", "signature=", "signature=zz", "signature=0", "signature=é", &query[..query.len() - 2]] {
        assert!(check(PATH, odd, "10.1.1.50", None, 0).is_err(), "{odd}");
    }
    // The first of two counts, for the signature as for the rest.
    let twice = format!("until=9000000&{query}");
    assert_eq!(check(PATH, &twice, "10.1.1.50", None, 0), Err(BadLink::Changed));
}

/// By another implementation: `printf … | openssl dgst -sha256 -mac HMAC -macopt hexkey:0707…`
#[test]
fn a_signature_is_an_hmac_of_all_that_the_link_says() {
    let query = signer().query(PATH);
    let (said, signature) = query.split_once("&signature=").unwrap();
    assert_eq!(said, "until=1000000&address=10.1.1.50&machine=52-54-00-00-00-01");
    assert_eq!(signature, EXPECTED);
}

const EXPECTED: &str = "000105c1ceed392b5c001de6908fc627974c18d00800b74debf2d4e36b7ce7f7";
