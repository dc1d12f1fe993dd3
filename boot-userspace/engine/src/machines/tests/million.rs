//! What a million machines cost.

use std::time::Instant;

use super::*;

/// `cargo test --release -p boot-engine machines::tests::million -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn a_million_machines() {
    const MANY: u32 = 1_000_000;
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) / 256
    };
    let each = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        let mut uuid = UUID;
        uuid[12..].copy_from_slice(&[a, b, c, d]);
        let ip = Some(Ipv4Addr::from(0x0a00_0000 + number));
        // A switch has 32 ports, which have the same names on all.
        let port = at_port(
            &format!("node{number}"),
            &format!("Ethernet1/{}", number % 32),
            Some(&format!("sw{}", number / 32)),
        );
        Machine { macs: vec![Mac([2, 0, a, b, c, d])], uuid: Some(uuid), ip, ..port }
    };
    let empty = resident();
    let all: Vec<Arc<Machine>> = (0..MANY).map(|number| Arc::new(each(number))).collect();
    let (alone, start) = (resident(), Instant::now());
    let machines = Machines::new(all).unwrap();
    println!(
        "machines {} MiB, index {} MiB, built in {:?}",
        alone - empty,
        resident() - alone,
        start.elapsed()
    );
    for size in [100, MANY] {
        let few = if size == MANY {
            machines.clone()
        } else {
            Machines::new((0..size).map(|n| Arc::new(each(n)))).unwrap()
        };
        let ids: Vec<MachineId> = few.all().iter().take(100).map(|known| known.id).collect();
        let start = Instant::now();
        for round in 0..100 {
            for (number, id) in (0..).zip(&ids) {
                let args = format!("round={round}");
                few.change(*id, Arc::new(Machine { args, ..each(number) })).unwrap();
            }
        }
        let change = start.elapsed() / 10_000;
        let start = Instant::now();
        for number in 0..100_000u32 {
            let [a, b, c, d] = (number * 7919 % size).to_be_bytes();
            assert!(few.by_mac(Mac([2, 0, a, b, c, d])).is_some());
        }
        println!("of {size}: a change {change:?}, a look-up by MAC {:?}", start.elapsed() / 100_000);
    }
}
