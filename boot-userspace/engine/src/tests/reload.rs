//! Another configuration while machines are served.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::policy::{Differences, Loaders, loaders};
use crate::reload::may_restore;

fn loaders_of_the_lab() -> Loaders {
    loaders(|firmware| match firmware {
        Firmware::EfiArm64 | Firmware::HttpArm64 => Err("install ipxe for arm64".to_owned()),
        _ => Ok("snponly.efi".to_owned()),
    })
}

impl Lab {
    /// Gives what the kernel's tables are told.
    fn reload(&mut self, text: &str) -> Vec<Command> {
        let config = Arc::new(config::parse(text, "test").unwrap());
        let is_needed = may_restore(self.engine.policy.config(), &config);
        let leases = if is_needed { self.stored() } else { Vec::new() };
        self.engine.reload(config, loaders_of_the_lab(), &leases, self.now);
        self.engine.take_commands()
    }

    /// What the store has.
    fn stored(&self) -> Vec<Lease> {
        let mut rows: Vec<Lease> = Vec::new();
        for change in &self.changes {
            match change {
                Change::Put(lease) => {
                    rows.retain(|row| {
                        row.address != lease.address && (row.mac != lease.mac || row.subnet != lease.subnet)
                    });
                    rows.push(lease.clone());
                }
                Change::Delete(mac, address) => rows.retain(|row| (row.mac, row.address) != (*mac, *address)),
                Change::Lift(address) => rows.retain(|row| row.address != *address),
            }
        }
        rows
    }

    /// A start with this configuration, on what the store has.
    fn restarted(&self, text: &str, role: DhcpRole) -> Self {
        let mut lab = Self::unfilled(text, &[], role);
        let policy = Policy::new(
            config::parse(text, "test").unwrap(),
            machines(&config::parse(text, "test").unwrap()),
            self.engine.policy.links().to_vec(),
            |firmware| loaders_of_the_lab().get(&firmware).cloned().unwrap(),
        );
        lab.now = self.now;
        lab.engine = Engine::new(policy, &self.stored(), self.now);
        lab
    }

    /// Whether a machine or an interface has a set, or a stranger may get it. With `never`, also machines that the kernel
    /// offers nothing: those wait for what another one was promised, and a start may have forgotten what they had.
    fn uses(&self, number: u32, never: bool) -> bool {
        let Engine { entries, answers, .. } = &self.engine;
        let now = self.now.nanos();
        let is_for_strangers = answers.set(number).unwrap().differences == Differences::default();
        is_for_strangers
            || entries.hosts().any(|(_, host)| {
                host.answer_set == number && (never || host.bound_until > now || host.address == [0; 4])
            })
            || entries.links().any(|(_, link)| link.proxy_set == number)
    }

    /// What the tables say, without the numbers that sets have and the times that pass.
    fn picture(&self) -> BTreeMap<String, String> {
        let engine = &self.engine;
        let set = |number: u32| {
            let set = engine.answers.set(number).unwrap();
            let subnet = set.subnet.and_then(|index| engine.policy.subnets().get(index));
            let machine = set.differences.machine().and_then(|id| engine.machines.get(id));
            let machine = machine.map(|machine| machine.macs.clone());
            let differences = format!("{:?}", set.differences);
            let rest = differences.rsplit_once("is_own_profile: ").unwrap().1.to_owned();
            let cidr = subnet.map(|subnet| subnet.cidr);
            format!("{cidr:?} {} {machine:?} {:?} {rest}", set.server, set.differences.profile())
        };
        let now = self.now.nanos();
        let mut picture = BTreeMap::new();
        for (ifindex, link) in engine.entries.links() {
            let says =
                format!("{:?} {} {} {}", link.address, link.role, link.unknown_ask, set(link.proxy_set));
            picture.insert(format!("link {ifindex}"), says);
        }
        for (mac, host) in
            engine.entries.hosts().filter(|(_, host)| host.bound_until > now || host.address == [0; 4])
        {
            let kind = match host.bound_until {
                u64::MAX => "always",
                _ => "for a while",
            };
            let plain =
                boot_common::tables::Host { answer_set: 0, durable_until: 0, bound_until: 0, ..*host };
            picture.insert(format!("host {mac}"), format!("{kind} {} {plain:?}", set(host.answer_set)));
        }
        for key in engine.answers.keys().filter(|key| self.uses(key.set, false)) {
            let answer = engine.answers.get(key).unwrap();
            let place = format!("answer {} {} {} {}", set(key.set), key.class, key.message, key.wanted);
            picture.insert(place, format!("{answer:?}"));
        }
        picture
    }
}

/// With room in the first pool.
fn wide() -> String {
    CONFIG.replace("10.1.1.33-10.1.1.34", "10.1.1.33-10.1.1.40")
}

fn hosts(commands: &[Command]) -> usize {
    commands.iter().filter(|one| matches!(one, Command::PutHost(..) | Command::DeleteHost(_))).count()
}

#[test]
fn a_reservation_outside_of_the_pools_that_moves_waits_for_the_lease_that_runs() {
    let to_other = CONFIG.replace("52:54:00:00:00:01", &OTHER.to_string()).replace("node1", "node2");
    let mut lab = Lab::new(CONFIG);
    let reserved = lab.leased(NODE1);
    lab.reload(&to_other);
    for later in [1, 100, 100] {
        lab.later(later);
        assert_ne!(lab.offered(OTHER), reserved, "two machines with one address");
    }
    lab.later(1200);
    assert_eq!(lab.offered(OTHER), reserved, "the lease is over");
}

#[test]
fn the_same_configuration_writes_nothing() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    lab.leased(NODE1);
    lab.later(7);
    let said: Vec<Command> = lab.reload(CONFIG);
    assert!(said.is_empty(), "{said:?}");
}

#[test]
fn only_what_changes_is_written() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    lab.leased(NODE1);
    // Another machine.
    let more = format!("{CONFIG}[[machine]]\nmac = '52:54:00:00:00:02'\nip = '10.1.1.51'\n");
    let commands = lab.reload(&more);
    assert_eq!((commands.len(), hosts(&commands)), (1, 1), "{commands:?}");
    // Its name.
    let named = more.replace("ip = '10.1.1.51'", "ip = '10.1.1.51'\nname = 'node2'");
    let commands = lab.reload(&named);
    assert_eq!((commands.len(), hosts(&commands)), (1, 1), "{commands:?}");
    // A subnet's answers, and no machine.
    let commands = lab.reload(&named.replace("domain = \"mtl\"", "domain = \"tlm\""));
    assert_eq!(hosts(&commands), 0, "{commands:?}");
    let domain = |answer: &boot_common::tables::Answer| {
        zerocopy::IntoBytes::as_bytes(answer).windows(3).any(|three| three == b"tlm")
    };
    for command in &commands {
        let Command::PutAnswer(_, answer) = command else { panic!("{command:?}") };
        assert!(domain(answer));
    }
    // And it is gone, when no offer of its address can be open any more.
    let commands = lab.reload(CONFIG);
    assert!(
        matches!(&commands[..], [.., Command::PutHost(_, host)] if host.bound_until == 0),
        "{commands:?}"
    );
    lab.later(OFFER_HOLDS);
    let commands = lab.engine.take_commands();
    assert!(matches!(&commands[..], [Command::DeleteHost(_)]), "{commands:?}");
}

#[test]
fn a_new_machine_has_its_address_at_once() {
    let mut lab = Lab::new(CONFIG);
    let more = format!("{CONFIG}[[machine]]\nmac = '{UNKNOWN}'\nip = '10.1.1.51'\n");
    lab.reload(&more);
    assert_eq!(lab.leased(UNKNOWN), Ipv4Addr::new(10, 1, 1, 51));
}

/// Firmware does not survive a NAK: who was offered something gets it, and has the other one from the next time on.
#[test]
fn an_open_offer_is_honoured() {
    let mut lab = Lab::new(&wide());
    let first = lab.offered(UNKNOWN);
    let more = format!("{}[[machine]]\nmac = '{UNKNOWN}'\nip = '10.1.1.51'\n", wide());
    lab.reload(&more);
    let ack = lab.send(&request(UNKNOWN, first, Some(SERVER))).expect("an answer");
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, first));
    assert_eq!(lab.leased(UNKNOWN), Ipv4Addr::new(10, 1, 1, 51), "asked again");

    // The address of an offer is reserved for somebody else.
    let mut lab = Lab::new(&wide());
    let first = lab.offered(UNKNOWN);
    let taken = format!("{}[[machine]]\nmac = '{OTHER}'\nip = '{first}'\n", wide());
    lab.reload(&taken);
    assert_ne!(lab.offered(OTHER), first, "it is still offered to somebody");
    let ack = lab.send(&request(UNKNOWN, first, Some(SERVER))).expect("an answer");
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_ne!(lab.leased(UNKNOWN), first, "asked again");
    // When no offer can be open any more, the configuration has its way.
    lab.later(OFFER_HOLDS + 1);
    assert_eq!(lab.leased(OTHER), first);

    // It was reserved for the machine, and is no longer.
    let mut lab = Lab::new(&wide());
    let first = lab.offered(NODE1);
    lab.reload(&wide().replace("ip = \"10.1.1.50\"", ""));
    let ack = lab.send(&request(NODE1, first, Some(SERVER))).expect("an answer");
    assert_eq!((ack.kind(), ack.message.yiaddr()), (MessageType::Ack, first));
    assert_eq!(lab.offered(NODE1), Ipv4Addr::new(10, 1, 1, 33), "asked again");

    // It is in no pool any more.
    let mut lab = Lab::new(&wide());
    let first = lab.offered(UNKNOWN);
    let other_pool = wide().replace("10.1.1.33-10.1.1.40", "10.1.1.43-10.1.1.44");
    lab.reload(&other_pool);
    let ack = lab.send(&request(UNKNOWN, first, Some(SERVER))).expect("an answer");
    assert_eq!(ack.kind(), MessageType::Ack);
    assert_eq!(lab.offered(UNKNOWN), Ipv4Addr::new(10, 1, 1, 43), "asked again");
}

#[test]
fn what_was_promised_is_nobody_elses() {
    let mut lab = Lab::new(&wide());
    let first = lab.leased(UNKNOWN);
    let more = format!("{}[[machine]]\nmac = '{UNKNOWN}'\nip = '10.1.1.51'\n", wide());
    lab.reload(&more);
    let renewed = lab.send(&renewal(UNKNOWN, first)).expect("an answer");
    assert_eq!(renewed.kind(), MessageType::Ack, "it goes on");
    lab.later(OFFER_HOLDS + 1);
    let renewed = lab.send(&renewal(UNKNOWN, first)).expect("an answer");
    assert_eq!(renewed.kind(), MessageType::Nak, "as after a restart");
    assert_eq!(lab.leased(UNKNOWN), Ipv4Addr::new(10, 1, 1, 51));
    let [other, third] = [lab.leased(OTHER), lab.offered(Mac([2, 0, 0, 0, 0, 3]))];
    assert!(other != first && third != first, "{first} was promised: {other} {third}");
}

#[test]
fn who_asked_anew_in_vain_is_not_confirmed_what_is_another_s_now() {
    let mut lab = Lab::new(CONFIG);
    let [mine, other] = [UNKNOWN, OTHER].map(|mac| lab.leased(mac));
    lab.reload(&format!("{CONFIG}\n[[machine]]\nmac = \"{OTHER}\"\nip = \"{mine}\"\n"));
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "there is no other address");
    let ack = |lab: &mut Lab, mac, address| {
        let reply = lab.send(&request(mac, address, None));
        reply.is_some_and(|reply| reply.kind() == MessageType::Ack)
    };
    assert!(!ack(&mut lab, UNKNOWN, mine), "it was given up");
    assert_eq!(lab.leased(OTHER), mine, "and was {other} before");
    assert!(!ack(&mut lab, UNKNOWN, mine));
}

#[test]
fn a_declined_address_is_not_offered_while_it_is_looked_for() {
    let mut lab = Lab::new(CONFIG);
    let address = lab.leased(UNKNOWN);
    let bytes = decline(UNKNOWN, address).to_vec().unwrap();
    let from = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 68);
    let incoming = Incoming { ifindex: 7, port: 67, from, to: Ipv4Addr::BROADCAST, payload: &bytes };
    lab.engine.handle(&incoming, lab.now);
    let commands = lab.engine.take_commands();
    assert!(commands.iter().any(|command| matches!(command, Command::Probe { .. })));
    let told = lab.reload(CONFIG);
    assert_eq!(hosts(&told), 0, "the machine has no entry until the probe has ended: {told:?}");
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "the answer waits");
}

#[test]
fn a_machine_with_a_new_card_keeps_its_address() {
    let mut lab = Lab::new(CONFIG);
    lab.reload(&CONFIG.replace(&NODE1.to_string(), &UNKNOWN.to_string()));
    assert_eq!(lab.leased(UNKNOWN), Ipv4Addr::new(10, 1, 1, 50));
    assert_eq!(lab.leased(NODE1), Ipv4Addr::new(10, 1, 1, 33));
}

#[test]
fn a_reservation_that_ends_is_a_lease() {
    let mut lab = Lab::new(&CONFIG.replace("10.1.1.50", "10.1.1.34"));
    assert_eq!(lab.leased(NODE1), Ipv4Addr::new(10, 1, 1, 34));
    let commands = lab.reload(&CONFIG.replace("ip = \"10.1.1.50\"", ""));
    assert_eq!(hosts(&commands), 1, "{commands:?}");
    assert_eq!(lab.leased(UNKNOWN), Ipv4Addr::new(10, 1, 1, 33));
    assert!(lab.send(&discover(OTHER)).is_none(), "the other one is still promised");
    let renewed = lab.send(&renewal(NODE1, Ipv4Addr::new(10, 1, 1, 34))).expect("an answer");
    assert_eq!(renewed.kind(), MessageType::Ack);
}

#[test]
fn a_subnet_comes_back_with_its_leases() {
    let mut lab = Lab::with_second_subnet(CONFIG);
    let relay = Ipv4Addr::new(10, 2, 0, 1);
    let offer = lab.send_to(&relayed(discover(UNKNOWN), relay), 67, SocketAddrV4::new(relay, 67)).unwrap();
    let address = offer.message.yiaddr();
    let ask = relayed(request(UNKNOWN, address, Some(SERVER)), relay);
    assert_eq!(lab.send_to(&ask, 67, SocketAddrV4::new(relay, 67)).unwrap().kind(), MessageType::Ack);
    let home = lab.leased(NODE1);
    // The first subnet is gone, so the other one has its index.
    let (head, rest) = CONFIG.split_once("[[subnet]]").unwrap();
    let (first, second) = rest.split_once("[[subnet]]").unwrap();
    let (second, machine) = second.split_once("[[machine]]").unwrap();
    lab.reload(&format!("{head}[[subnet]]{second}"));
    let again = lab.send_to(&ask, 67, SocketAddrV4::new(relay, 67)).unwrap();
    assert_eq!((again.kind(), again.message.yiaddr()), (MessageType::Ack, address));
    // Now it is the second one.
    lab.reload(&format!("{head}[[subnet]]{second}[[subnet]]{first}[[machine]]{machine}"));
    let again = lab.send_to(&ask, 67, SocketAddrV4::new(relay, 67)).unwrap();
    assert_eq!((again.kind(), again.message.yiaddr()), (MessageType::Ack, address));
    let renewed = lab.send(&renewal(NODE1, home)).expect("an answer");
    assert_eq!(renewed.kind(), MessageType::Ack);
    assert_eq!(renewed.option(OptionCode::DomainName), Some(&DhcpOption::DomainName("mtl".to_owned())));
}

#[test]
fn a_machine_by_its_uuid_is_recognised_though_the_kernel_knew_its_mac() {
    let mut lab = Lab::new(CONFIG);
    lab.leased(UNKNOWN);
    let more =
        format!("{CONFIG}[[machine]]\nuuid = '4c4c4544-0042-3510-8052-b4c04f4e3132'\nip = '10.1.1.51'\n");
    let commands = lab.reload(&more);
    assert!(commands.iter().any(|one| matches!(one, Command::DeleteHost(key) if key.mac == UNKNOWN)));
    let mut message = discover(UNKNOWN);
    let guid = [&[0][..], &config::parse_uuid("4c4c4544-0042-3510-8052-b4c04f4e3132").unwrap()].concat();
    message.opts_mut().insert(DhcpOption::Unknown(UnknownOption::new(OptionCode::Unknown(97), guid)));
    assert_eq!(lab.send(&message).unwrap().message.yiaddr(), Ipv4Addr::new(10, 1, 1, 51));
}

/// Configurations that have some of everything in common.
fn any_config() -> impl Strategy<Value = String> {
    let subnet = |cidr: &'static str, pools: [&'static str; 2]| {
        let options = prop_oneof![
            Just(""),
            Just("options = [{ code = 42, ip = '10.9.9.9' }, { code = 12, text = 'x' }]\n")
        ];
        let domain = prop_oneof![Just(""), Just("domain = 'a'\n"), Just("domain = 'b'\nlease = '20m'\n")];
        let pool = prop::sample::select(pools.to_vec());
        prop::option::weighted(0.8, (pool, domain, options)).prop_map(move |some| {
            some.map(|(pool, domain, options)| {
                format!("[[subnet]]\ncidr = '{cidr}'\npool = ['{pool}']\n{domain}{options}")
            })
        })
    };
    let subnets = (
        subnet("10.1.0.0/16", ["10.1.1.33-10.1.1.36", "10.1.1.34-10.1.1.40"]),
        subnet("10.2.0.0/24", ["10.2.0.33-10.2.0.36", "10.2.0.34-10.2.0.40"]),
        subnet("10.3.0.0/24", ["10.3.0.33-10.3.0.36", "10.3.0.34-10.3.0.40"]),
        any::<bool>(),
    );
    let machine = |number: u8| {
        let ip = prop::option::of(prop_oneof![Just(50), Just(35), Just(34)]);
        let extra = prop_oneof![
            Just(""),
            Just("boot_file = 'own.efi'\n"),
            Just("options = [{ code = 43, hex = '01' }]\n"),
            Just("profile = 'two'\n"),
            Just("labels = { role = 'worker' }\n"),
        ];
        let named = any::<bool>();
        prop::option::of((ip, extra, named)).prop_map(move |some| {
            let (ip, extra, named) = some?;
            // No two machines have the same address.
            let ip = ip.map_or_else(String::new, |last: u8| format!("ip = '10.1.{number}.{last}'\n"));
            let name = if named { format!("name = 'node{number}'\n") } else { String::new() };
            Some((number, format!("[[machine]]\nmac = '02:00:00:00:00:0{number}'\n{ip}{name}{extra}")))
        })
    };
    let machines = (machine(1), machine(2), machine(3), machine(4));
    let profile = |name: &'static str| {
        let extra = prop_oneof![
            Just(""),
            Just("boot_file = 'p.efi'\n"),
            Just("options = [{ code = 66, text = 'q' }]\n")
        ];
        extra.prop_map(move |extra| format!("[[profile]]\nname = '{name}'\nkernel = 'k'\n{extra}"))
    };
    let default =
        prop_oneof![Just(""), Just("profile = 'one'\n"), Just("profile = 'two'\nunknown = 'ignore'\n")];
    let rules = prop_oneof![
        Just(""),
        Just("[[boot_file]]\narch = 7\nfile = 'rule.efi'\n"),
        Just("[[boot_file]]\noui = '02:00:00'\nfile = 'rule.efi'\n")
    ];
    let group = prop_oneof![
        Just("match = { labels = { role = 'worker' } }\noptions = [{ code = 43, hex = '02' }]\n"),
        Just("match = { labels = { role = 'worker' } }\nprofile = 'two'\n"),
        Just("match = { mac = '02:00:00' }\nargs = 'x'\n"),
        Just(
            "match = { mac = ['02:00:00:00:00:01', '02:00:00:00:00:05'] }\noptions = [{ code = 66, text = 'g' }]\n"
        ),
        Just("match = { arch = 'x64' }\nprofile = 'one'\n"),
        Just("match = { subnet = '10.2.0.0/24' }\noptions = [{ code = 67, text = 'g.efi' }]\n"),
    ];
    let groups = prop::collection::vec(group, 0..3).prop_map(|groups| {
        let numbered = groups.iter().enumerate();
        numbered.map(|(number, text)| format!("[[group]]\nname = 'g{number}'\n{text}")).collect::<String>()
    });
    (subnets, machines, profile("one"), profile("two"), default, (rules, groups)).prop_map(
        |((a, b, c, reversed), (m, n, o, p), one, two, default, (rules, groups))| {
            let mut subnets: Vec<String> = [a, b, c].into_iter().flatten().collect();
            if subnets.is_empty() {
                subnets.push("[[subnet]]\ncidr = '10.4.0.0/24'\npool = ['10.4.0.9-10.4.0.10']\n".to_owned());
            }
            if reversed {
                subnets.reverse();
            }
            let has_first = subnets.iter().any(|subnet| subnet.contains("10.1.0.0"));
            let machines: Vec<String> = [m, n, o, p]
                .into_iter()
                .flatten()
                .map(|(_, text)| match has_first {
                    true => text,
                    false => text
                        .lines()
                        .filter(|line| !line.starts_with("ip"))
                        .fold(String::new(), |all, line| all + line + "\n"),
                })
                .collect();
            let (subnets, machines) = (subnets.concat(), machines.concat());
            format!("[[interface]]\nname = 'eth1'\n{subnets}{one}{two}[default]\n{default}{rules}{groups}{machines}")
        },
    )
}

fn same_as_a_start(first: &str, second: &str, asking: &[u8], role: DhcpRole) -> Result<(), TestCaseError> {
    let mut lab = Lab::with_leases(first, &[], role);
    lab.engine.policy.add_address(7, SECOND);
    lab.engine.reload(Arc::clone(lab.engine.policy.config()), loaders_of_the_lab(), &[], lab.now);
    lab.engine.take_commands();
    for last in asking {
        let mac = Mac([2, 0, 0, 0, 0, *last]);
        if let Some(offer) = lab.send(&discover(mac)) {
            lab.send(&request(mac, offer.message.yiaddr(), Some(offer_server(&offer))));
        }
    }
    lab.reload(second);
    // No offer is open any more.
    lab.later(OFFER_HOLDS + 1);
    lab.engine.take_commands();
    let unused = lab.engine.answers.keys().filter(|key| !lab.uses(key.set, true)).count();
    prop_assert_eq!(unused, 0, "answers that nobody gets: {}\nbecame {}", first, second);
    let start = lab.restarted(second, role);
    let (reloaded, started) = (lab.picture(), start.picture());
    for (key, says) in &started {
        prop_assert_eq!(reloaded.get(key), Some(says), "{} of {}\nbecame {}", key, first, second);
    }
    let more: Vec<&String> = reloaded.keys().filter(|key| !started.contains_key(*key)).collect();
    prop_assert!(more.is_empty(), "{:?} of {}\nbecame {}", more, first, second);
    Ok(())
}

fn offer_server(offer: &Reply) -> Ipv4Addr {
    match offer.option(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(server)) => *server,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_reload_makes_of_the_tables_what_a_start_does(
        first in any_config(),
        second in any_config(),
        asking in prop::collection::vec(1..7_u8, 0..6),
        proxy in prop::bool::weighted(0.2),
    ) {
        let role = if proxy { DhcpRole::Proxy } else { DhcpRole::Server };
        same_as_a_start(&first, &second, &asking, role)?;
    }
}

/// A BMC that the configuration or the list of machines names is expected, whatever becomes of strangers.
#[test]
fn the_bmc_of_a_machine_gets_an_address_where_strangers_are_ignored() {
    let ignoring = CONFIG.replace("[[machine]]", "[default]\nunknown = \"ignore\"\n[[machine]]");
    let bmc = format!("{ignoring}bmc = {{ mac = \"{UNKNOWN}\" }}\n");
    let mut lab = Lab::new(&bmc);
    assert!(lab.send(&discover(OTHER)).is_none());
    let address = lab.leased(UNKNOWN);
    assert!(lab.engine.has_host(&HostKey::from(UNKNOWN)), "the kernel renews it");
    let name = lab.engine.policy.machines().client(UNKNOWN).name;
    assert!(name.as_ref().is_some_and(|name| name.ends_with(" (BMC)")), "{name:?}");
    // Nobody's BMC any more.
    lab.reload(&ignoring);
    assert!(!lab.engine.has_host(&HostKey::from(UNKNOWN)));
    assert!(lab.send(&discover(UNKNOWN)).is_none(), "{address}");
}
