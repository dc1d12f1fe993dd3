use std::net::{Ipv4Addr, SocketAddr};

use super::super::plan::Planner;
use super::*;
use crate::config::{self, Config};
use crate::machines::Machines;

const CONFIG: &str = r#"
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.233"]
    [[profile]]
    name = "esxi"
    esxi = "vm/esxi-8"
    args = "ks={{ documents }}kickstart allowLegacyCPU=true"
    [[profile]]
    name = "talos"
    kernel = "k"
    [[profile]]
    name = "choice"
    menu = ["talos", "esxi"]
    [default]
    profile = "talos"
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "host1"
    profile = "esxi"
    args = "own=1"
    [[machine]]
    mac = "52:54:00:00:00:02"
    name = "host2"
    profile = "choice"
"#;

/// As it is on the installer's CD.
const OWN: &str = "bootstate=0\r\ntitle=Loading ESXi installer\r\ntimeout=5\r\nprefix=\r\nkernel=/b.b00\r\n\
    kernelopt=runweasel cdromBoot ks=cdrom:/KS.CFG\r\nmodules=/jumpstrt.gz --- /useropts.gz --- features.gz\r\nbuild=8.0.2\r\nupdated=0\r\n";

fn answer(name: &str, from: [u8; 4], way: Way) -> Option<Result<String, NoScript>> {
    let config: Config = config::parse(CONFIG, "test").unwrap();
    let machines = Machines::new(config.machines.iter().cloned()).unwrap();
    let planner = Planner::new(config).unwrap();
    let file = LoaderFile::named(name)?;
    let server = SocketAddr::from(([10, 1, 0, 2], 8080));
    let asked = file.asked(Ipv4Addr::from(from).into(), &machines, |_| server.into());
    let plan = file.esxi_plan(&asked, |asked| planner.offered(asked))?;
    Some(plan.and_then(|plan| {
        assert_eq!(own_config(&plan), "vm/esxi-8/boot.cfg");
        boot_cfg(&asked, way, &plan, OWN)
    }))
}

#[test]
fn mboot_gets_the_installers_file_with_the_machines_arguments_and_this_servers_directory() {
    let text = answer("/vm/esxi-8/efi/boot/01-52-54-00-00-00-01/boot.cfg", [10, 1, 1, 50], Way::Http);
    let expected = "bootstate=0\ntitle=Loading ESXi installer\ntimeout=5\nkernel=b.b00\n\
        modules=jumpstrt.gz --- useropts.gz --- features.gz\nbuild=8.0.2\nupdated=0\n\
        kernelopt=runweasel ks=http://10.1.0.2:8080/documents/52-54-00-00-00-01/kickstart allowLegacyCPU=true own=1\n\
        prefix=http://10.1.0.2:8080/files/vm/esxi-8\n";
    assert_eq!(text, Some(Ok(expected.to_owned())));
    let by_tftp = answer("01-52-54-00-00-00-01/boot.cfg", [10, 1, 1, 50], Way::Tftp).unwrap().unwrap();
    assert!(by_tftp.ends_with("\nprefix=vm/esxi-8\n"), "{by_tftp}");
}

#[test]
fn a_machine_that_boots_something_else_has_no_such_file() {
    assert_eq!(answer("vm/esxi-8/01-52-54-00-00-00-09/boot.cfg", [10, 1, 1, 50], Way::Http), None);
    assert_eq!(answer("boot.cfg", [10, 1, 1, 50], Way::Http), None);
    assert_eq!(LoaderFile::named("01-52-54/boot.cfg"), None);
}

#[test]
fn what_was_chosen_in_a_menu_is_known_by_its_directory() {
    let of_menu = answer("vm/esxi-8/01-52-54-00-00-00-02/boot.cfg", [10, 1, 1, 51], Way::Http);
    assert!(of_menu.unwrap().unwrap().contains("prefix=http://10.1.0.2:8080/files/vm/esxi-8\n"));
    assert_eq!(answer("other/01-52-54-00-00-00-02/boot.cfg", [10, 1, 1, 51], Way::Http), None);
}

#[test]
fn a_file_that_is_none_is_named() {
    let config: Config = config::parse(CONFIG, "test").unwrap();
    let machines = Machines::new(config.machines.iter().cloned()).unwrap();
    let planner = Planner::new(config).unwrap();
    let file = LoaderFile::named("01-52-54-00-00-00-01/boot.cfg").unwrap();
    let server = SocketAddr::from(([10, 1, 0, 2], 8080));
    let asked = file.asked(Ipv4Addr::new(10, 1, 1, 50).into(), &machines, |_| server.into());
    let plan = file.esxi_plan(&asked, |asked| planner.offered(asked)).unwrap().unwrap();
    let why = boot_cfg(&asked, Way::Http, &plan, "title=nothing\n").unwrap_err().to_string();
    assert!(why.contains("vm/esxi-8/boot.cfg has no kernel= line"), "{why}");
}
