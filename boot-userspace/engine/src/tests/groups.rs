//! Options and boot files by group.

use super::*;

/// What the offer has in option 42, and in 67.
fn told(lab: &mut Lab, message: Message) -> (Option<u8>, Option<String>) {
    let offer = lab.send(&message).expect("an offer");
    let time = match offer.option(OptionCode::NtpServers) {
        Some(DhcpOption::NtpServers(servers)) => servers.first().map(|server| server.octets()[3]),
        _ => None,
    };
    let file = match offer.option(OptionCode::BootfileName) {
        Some(DhcpOption::BootfileName(name)) => {
            Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned())
        }
        _ => None,
    };
    (time, file)
}

fn rom(mac: Mac, arch: u16) -> Message {
    pxe(discover(mac), arch, &format!("PXEClient:Arch:{arch:05}:UNDI:003000"))
}

fn ntp(last: u8) -> String {
    format!("options = [{{ code = 42, ip = \"10.1.0.{last}\", always = true }}]\n")
}

#[test]
fn options_are_the_machines_before_those_of_the_last_group_before_those_of_the_first() {
    let groups = format!(
        "[[group]]\nname = \"all\"\nmatch = {{}}\n{}[[group]]\nname = \"card\"\nmatch = {{ mac = \"52:54\" }}\n{}\
         [[group]]\nname = \"worker\"\nmatch = {{ labels = {{ role = \"worker\" }} }}\n{}\
         [[group]]\nname = \"bios\"\nmatch = {{ arch = \"bios\", labels = {{ role = \"worker\" }} }}\n{}",
        ntp(1),
        ntp(2),
        ntp(3),
        ntp(4)
    );
    let machines = format!(
        "[[machine]]\nmac = \"52:54:00:00:00:02\"\nlabels = {{ role = \"worker\" }}\n\
         [[machine]]\nmac = \"52:54:00:00:00:03\"\nlabels = {{ role = \"worker\" }}\n{}",
        ntp(5)
    );
    let mut lab =
        Lab::new(&format!("{}{machines}{groups}", CONFIG.replace("1.33-10.1.1.34", "1.33-10.1.1.44")));
    for (mac, arch, time) in [
        (Mac([2, 0, 0, 0, 0, 7]), 7, 1),
        (NODE1, 7, 2),
        (UNKNOWN, 0, 2),
        (Mac([0x52, 0x54, 0, 0, 0, 2]), 7, 3),
        (Mac([0x52, 0x54, 0, 0, 0, 2]), 0, 4),
        (Mac([0x52, 0x54, 0, 0, 0, 3]), 0, 5),
    ] {
        assert_eq!(told(&mut lab, rom(mac, arch)).0, Some(time), "{mac} {arch}");
    }
}

#[test]
fn a_group_by_subnet_or_switch_port_gives_its_profiles_boot_file() {
    let profiles = "[[profile]]\nname = \"one\"\nkernel = \"k\"\nboot_file = \"one.efi\"\n[[profile]]\nname = \"two\"\nkernel = \"k\"\n\
        boot_file = \"two.efi\"\n[default]\nprofile = \"one\"\n";
    let groups = "[[group]]\nname = \"second\"\nmatch = { subnet = \"10.2.0.0/24\" }\nprofile = \"two\"\n[[group]]\nname = \"switch\"\n\
        match = { remote_id = \"sw7\" }\noptions = [{ code = 67, text = \"port.efi\" }]\n";
    let own = CONFIG.replace("name = \"node1\"", "name = \"node1\"\nprofile = \"one\"");
    let mut lab = Lab::with_second_subnet(&format!("{own}{profiles}{groups}"));
    let file = |lab: &mut Lab, mac, relay: Option<Ipv4Addr>, switch: Option<&str>| {
        let mut message = rom(mac, 7);
        if let Some(switch) = switch {
            let mut info = relay::RelayAgentInformation::default();
            info.insert(relay::RelayInfo::AgentCircuitId(b"eth1".to_vec()));
            info.insert(relay::RelayInfo::AgentRemoteId(switch.as_bytes().to_vec()));
            message.opts_mut().insert(DhcpOption::RelayAgentInformation(info));
        }
        let message = relay.map_or(message.clone(), |relay| relayed(message, relay));
        told(lab, message).1.unwrap()
    };
    let second = Some(Ipv4Addr::new(10, 2, 0, 1));
    assert_eq!(file(&mut lab, UNKNOWN, None, None), "one.efi");
    assert_eq!(file(&mut lab, UNKNOWN, second, None), "two.efi");
    assert_eq!(file(&mut lab, NODE1, None, Some("sw8")), "one.efi", "its own profile");
    assert_eq!(file(&mut lab, NODE1, None, Some("sw7")), "port.efi");
    assert_eq!(lab.engine.entries.host(NODE1).unwrap().port_decides, 1);
}
