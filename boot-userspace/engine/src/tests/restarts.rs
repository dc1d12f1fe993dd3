//! A daemon that begins where another one has ended, and interfaces that do.

use boot_common::memory::Memory;
use boot_common::respond::respond;
use boot_common::scratch::Scratch;

use super::promises::THIRD;
use super::*;
use crate::dhcp::packet;

/// The kernel's tables as this engine fills them in one go.
fn kernel_of(engine: &mut Engine) -> Memory {
    let mut kernel = Memory::default();
    kernel.links.extend(engine.link_entries());
    engine.take_commands().into_iter().for_each(|command| apply(&mut kernel, command));
    kernel
}

fn apply(kernel: &mut Memory, command: Command) {
    match command {
        Command::PutHost(key, host) => drop(kernel.hosts.insert(key, host)),
        Command::DeleteHost(key) => drop(kernel.hosts.remove(&key)),
        Command::PutAnswer(key, answer) => drop(kernel.answers.insert(key, *answer)),
        Command::DeleteAnswer(key) => drop(kernel.answers.remove(&key)),
        Command::Persist(_) | Command::Probe { .. } | Command::Send { .. } => {}
    }
}

/// The time server that the kernel half tells a machine, if it answers at all.
fn time_server(kernel: &Memory, mac: Mac) -> Option<Option<DhcpOption>> {
    let bytes = discover(mac).to_vec().unwrap();
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let incoming = Incoming { ifindex: 7, port: 67, from, to: Ipv4Addr::BROADCAST, payload: &bytes };
    let mut frame = packet::frame(&incoming, &kernel.links[&7]).unwrap();
    respond(&mut frame, &mut Scratch::new(), kernel, 7, || 0).ok()?;
    let offer = Message::from_bytes(payload(&frame.0)).unwrap();
    Some(offer.opts().get(OptionCode::NtpServers).cloned())
}

#[test]
fn no_machine_gets_another_s_options_while_the_tables_are_filled_anew() {
    let machine = |mac: Mac, last: u8| {
        format!(
            "[[machine]]\nmac = \"{mac}\"\nip = \"10.1.1.{last}\"\noptions = [{{ code = 42, ip = \"10.9.9.{last}\" }}]\n"
        )
    };
    let before = format!("{CONFIG}\n{}", machine(UNKNOWN, 60));
    let after = format!("{CONFIG}\n{}{}", machine(OTHER, 61), machine(UNKNOWN, 60));
    let fresh = |config: &str| Lab::unfilled(config, &[], DhcpRole::Server).engine;
    let mut kernel = kernel_of(&mut fresh(&before));
    let [own, other] =
        [60, 61].map(|last| Some(Some(DhcpOption::NtpServers(vec![Ipv4Addr::new(10, 9, 9, last)]))));
    assert_eq!(time_server(&kernel, UNKNOWN), own);

    let mut engine = fresh(&after);
    let sets = [UNKNOWN, OTHER].map(|mac| engine.entries.host(mac).unwrap().answer_set);
    let reused = kernel.hosts.get(&HostKey::from(UNKNOWN)).unwrap().answer_set;
    assert_eq!(reused, sets[1], "the number of a set is another machine's now");
    kernel.answers.retain(|key, answer| engine.has_answer(key, answer));
    let (machines, answers) = engine.take_first_commands();
    for command in machines.into_iter().chain(answers) {
        apply(&mut kernel, command);
        for (mac, own) in [(UNKNOWN, &own), (OTHER, &other)] {
            let told = time_server(&kernel, mac);
            assert!(told.is_none() || told == *own, "{mac}: {told:?}");
        }
    }
    assert_eq!([UNKNOWN, OTHER].map(|mac| time_server(&kernel, mac)), [own, other]);
}

#[test]
fn a_wall_clock_that_was_wrong_at_the_start_makes_no_longer_promise() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let Some(Change::Put(lease)) = lab.changes.first() else { panic!("nothing stored") };
    let key = HostKey::from(UNKNOWN);
    let promised = |lab: &Lab| {
        let until = lab.engine.entries.host(key.mac).unwrap().durable_until;
        Duration::from_nanos(until).saturating_sub(lab.now.boot).as_secs()
    };
    let kernel = *lab.engine.entries.host(key.mac).unwrap();

    // A month too early: the lease of ten minutes was stored for twenty.
    let early = lease.clone().later_by(30 * 86_400);
    let mut again = Lab::with_leases(CONFIG, &[early], DhcpRole::Server);
    assert_eq!(promised(&again), 1199);
    again.engine.adopt(&[(key, kernel)], again.now);
    again.leased(OTHER);
    assert!(again.send(&discover(THIRD)).is_none(), "the pool has two");
    again.later(1201);
    assert_eq!(promised(&again), 0);
    assert_eq!(again.offered(THIRD), address, "nobody has it any more");

    // A month too late: the lease seems to have run out, and the kernel half knows that it has not.
    let late = lease.clone().later_by(-30 * 86_400);
    let mut again = Lab::with_leases(CONFIG, &[late], DhcpRole::Server);
    again.engine.adopt(&[(key, kernel)], again.now);
    assert_ne!(again.leased(OTHER), address);
    assert!(again.send(&discover(THIRD)).is_none(), "the pool has two");
    assert_eq!(again.send(&renewal(UNKNOWN, address)).unwrap().kind(), MessageType::Ack);
}

#[test]
fn who_is_not_served_any_more_keeps_what_it_was_promised_over_a_restart() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let Some(Change::Put(lease)) = lab.changes.last().cloned() else { panic!("{:?}", lab.changes) };
    // Now only machines of the file are served, and a second one has no address of its own.
    let others = format!(
        "[default]\nunknown = \"ignore\"\n[[machine]]\nmac = \"{OTHER}\"\n[[machine]]\nmac = \"{THIRD}\"\n"
    );
    let config = format!("{CONFIG}{others}");
    let mut again = Lab::with_leases(&config, std::slice::from_ref(&lease), DhcpRole::Server);
    assert!(again.send(&renewal(UNKNOWN, address)).is_none(), "it is ignored");
    assert_ne!(again.leased(OTHER), address);
    assert!(again.send(&discover(THIRD)).is_none(), "the pool has two");
    again.later(1201);
    assert_eq!(again.offered(THIRD), address, "the promise is over");
}

fn link(ifindex: u32, own: Ipv4Addr) -> ServedLink {
    ServedLink {
        ifindex,
        name: "eth1".into(),
        mac: Mac([2, 0, 0, 0, 0, 9]),
        addresses: vec![format!("{own}/16").parse().unwrap()],
        role: DhcpRole::Server,
        http: SocketAddrV4::new(own, 8080),
    }
}

#[test]
fn an_interface_that_was_made_again_keeps_machines_and_answers() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    let host = |lab: &Lab| *lab.engine.entries.host(UNKNOWN).unwrap();
    let (before, answers) = (host(&lab), lab.engine.answers.keys().count());
    assert_eq!(lab.engine.rebind(ServedLink { name: "eth2".into(), ..link(9, SERVER) }, lab.now), None);
    assert_eq!(lab.engine.rebind(link(9, SERVER), lab.now), Some(7));
    assert!(lab.engine.has_link(9) && !lab.engine.has_link(7));
    assert_eq!((host(&lab), lab.engine.answers.keys().count()), (before, answers));
    assert!(lab.engine.take_commands().is_empty());
    assert_eq!(lab.engine.link_entries().next().map(|(_, link)| link.mac), Some(Mac([2, 0, 0, 0, 0, 9])));
}

#[test]
fn an_interface_with_another_address_answers_with_it() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    lab.send(&relayed(discover(OTHER), Ipv4Addr::new(10, 2, 0, 1))).expect("an offer");
    let mut kernel = kernel_of(&mut Lab::unfilled(CONFIG, &[], DhcpRole::Server).engine);
    let promised = lab.engine.entries.host(UNKNOWN).unwrap().durable_until;

    let new = Ipv4Addr::new(10, 1, 0, 3);
    assert_eq!(lab.engine.rebind(link(7, new), lab.now), Some(7));
    kernel.answers.retain(|key, answer| lab.engine.has_answer(key, answer));
    assert!(kernel.answers.is_empty(), "they all named the old address");
    let (machines, answers) = lab.engine.take_first_commands();
    machines.into_iter().chain(answers).for_each(|command| apply(&mut kernel, command));
    let host = *kernel.hosts.get(&HostKey::from(UNKNOWN)).unwrap();
    assert_eq!((Ipv4Addr::from(host.address), host.durable_until), (address, promised));
    assert!(!kernel.hosts.contains_key(&HostKey::from(OTHER)), "it is behind a relay, which has to be heard");
    let named = kernel.answers.iter().filter(|(key, _)| key.set == host.answer_set);
    let named: Vec<_> = named.map(|(_, answer)| Ipv4Addr::from(answer.server_id)).collect();
    assert!(!named.is_empty() && named.iter().all(|server| *server == new), "{named:?}");

    let offer = lab.send(&discover(UNKNOWN)).unwrap();
    assert_eq!(offer.option(OptionCode::ServerIdentifier), Some(&DhcpOption::ServerIdentifier(new)));
    let ack = lab.send(&request(UNKNOWN, address, Some(new))).unwrap();
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, address));
}

#[test]
fn an_interface_that_leaves_and_one_that_gets_an_unrelated_address_keep_machines_and_answers() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    lab.engine.rebind(link(7, SERVER), lab.now);
    lab.engine.take_commands();
    let host = |lab: &Lab| *lab.engine.entries.host(UNKNOWN).unwrap();
    let before = host(&lab);

    assert_eq!(lab.engine.unlink("eth2"), None);
    assert_eq!(lab.engine.unlink("eth1"), Some(7));
    assert_eq!(lab.engine.unlink("eth1"), None, "it is gone already");
    assert!(!lab.engine.has_link(7));
    let mut more = link(7, SERVER);
    more.addresses.push("10.78.0.1/24".parse().unwrap());
    assert_eq!(lab.engine.rebind(more, lab.now), Some(7));
    assert!(lab.engine.has_link(7));
    assert!(lab.engine.take_commands().is_empty());
    assert_eq!(host(&lab), before);
}

#[test]
fn an_address_that_is_ours_no_longer_is_given_out() {
    let mut lab = Lab::new(CONFIG);
    let of_the_pool = Ipv4Addr::new(10, 1, 1, 33);
    let mut more = link(7, SERVER);
    more.addresses.push(format!("{of_the_pool}/16").parse().unwrap());
    lab.engine.rebind(more, lab.now);
    assert_ne!(lab.offered(UNKNOWN), of_the_pool);
    lab.engine.rebind(link(7, SERVER), lab.now);
    assert_eq!(lab.offered(OTHER), of_the_pool);
}

#[test]
fn stored_leases_are_kept_over_a_restart() {
    let mut lab = Lab::new(CONFIG);
    let first = lab.leased(UNKNOWN);
    let second = lab.leased(OTHER);
    let leases: Vec<Lease> = lab
        .changes
        .iter()
        .filter_map(|change| if let Change::Put(lease) = change { Some(lease.clone()) } else { None })
        .collect();
    let mut lab = Lab::with_leases(CONFIG, &leases, DhcpRole::Server);
    assert_eq!(lab.offered(OTHER), second);
    assert_eq!(lab.offered(UNKNOWN), first);
    assert_eq!(lab.send(&renewal(OTHER, second)).unwrap().kind(), MessageType::Ack);
}

#[test]
fn an_address_that_a_machine_was_promised_before_it_got_a_reserved_one_rests_over_a_restart() {
    let mut lab = Lab::new(CONFIG);
    let before = lab.leased(UNKNOWN);
    let Some(Change::Put(lease)) = lab.changes.pop() else { panic!("nothing stored") };
    let reserved = format!("{CONFIG}\n[[machine]]\nmac = \"{UNKNOWN}\"\nip = \"10.1.1.60\"\n");
    let mut lab = Lab::with_leases(&reserved, &[lease], DhcpRole::Server);
    assert_eq!(lab.offered(UNKNOWN), Ipv4Addr::new(10, 1, 1, 60));
    lab.engine.change_leases(&[Change::Delete(UNKNOWN, before)], lab.now);
    assert!(lab.engine.has_host(&HostKey::from(UNKNOWN)), "the old lease's row is not the reservation");
    let second = lab.leased(OTHER);
    assert_ne!(second, before);
    let third = Mac([0x52, 0x54, 0, 0, 0, 0x97]);
    assert!(lab.send(&discover(third)).is_none(), "the pool has no third one");
    lab.later(24 * 3600);
    assert_eq!(lab.leased(third), before);
}

#[test]
fn what_the_kernel_offered_last_is_adopted() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.offered(UNKNOWN);
    let key = HostKey::from(UNKNOWN);
    let host = *lab.engine.entries.host(key.mac).unwrap();
    let mut lab = Lab::new(CONFIG);
    assert_eq!(lab.engine.adopt(&[(key, host)], lab.now), 1);
    let ack = lab.send(&request(UNKNOWN, address, Some(SERVER))).unwrap();
    assert_eq!(ack.kind(), MessageType::Ack, "no NAK because of a restart between OFFER and REQUEST");
}
