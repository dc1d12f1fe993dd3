//! Scripts that start something else than a kernel.

use super::*;

const KINDS: &str = r#"
    [[interface]]
    name = "eth1"
    dhcp = "proxy"
    [[profile]]
    name = "esxi"
    esxi = "vm/esxi-8/"
    [[profile]]
    name = "winpe"
    wimboot = "winpe/wimboot"
    initrd = ["winpe/Boot/BCD", "winpe/boot.sdi", "http://other/boot.wim?v=2"]
    [[profile]]
    name = "cd"
    iso = "images/in staller.iso"
    [[profile]]
    name = "talos"
    kernel = "talos/vmlinuz"
    [[profile]]
    name = "choice"
    menu = ["talos", "cd", "local"]
    menu_default = "cd"
    menu_timeout = "30s"
    [[profile]]
    name = "forever"
    menu = ["local"]
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "esxi1"
    profile = "esxi"
    [[machine]]
    mac = "52:54:00:00:00:02"
    name = "win1"
    profile = "winpe"
    [[machine]]
    mac = "52:54:00:00:00:03"
    name = "cd1"
    profile = "cd"
    [[machine]]
    mac = "52:54:00:00:00:04"
    name = "desk1"
    profile = "choice"
    args = "own=1"
    [[machine]]
    mac = "52:54:00:00:00:05"
    name = "desk2"
    profile = "forever"
"#;

/// Before and behind what a machine does.
fn around(name: &str, profile: &str, does: &str) -> String {
    format!(
        "#!ipxe\necho xpxe: booting {name} ({profile})\n{does}:retry\n\
         echo xpxe: could not boot {name}, trying again in 10 seconds\nsleep 10\n\
         chain --replace http://10.1.0.2:8080/boot.ipxe || goto retry\n"
    )
}

fn script_of(mac: &str, more: impl FnOnce(Asked) -> Asked) -> Result<String, NoScript> {
    scripts(KINDS).script(&more(asked(mac)))
}

#[test]
fn esxi_is_started_by_mboot_with_the_machines_configuration() {
    let does = |loader: &str| {
        format!(
            "kernel http://10.1.0.2:8080/files/vm/esxi-8/{loader} \
             -c http://10.1.0.2:8080/files/vm/esxi-8/01-52-54-00-00-00-01/boot.cfg || goto retry\nboot || goto retry\n"
        )
    };
    let mac = "52:54:00:00:00:01";
    let script = script_of(mac, |asked| asked).unwrap();
    assert_eq!(script, around("esxi1", "esxi", &does("efi/boot/bootx64.efi")));
    let bios = script_of(mac, |asked| Asked {
        arch: Some("i386".to_owned()),
        platform: Some("pcbios".to_owned()),
        ..asked
    });
    assert_eq!(bios.unwrap(), around("esxi1", "esxi", &does("mboot.c32")));
}

#[test]
fn windows_gets_its_files_by_their_names() {
    let does = "initrd --name BCD http://10.1.0.2:8080/files/winpe/Boot/BCD BCD || goto retry\n\
        initrd --name boot.sdi http://10.1.0.2:8080/files/winpe/boot.sdi boot.sdi || goto retry\n\
        initrd --name boot.wim http://other/boot.wim?v=2 boot.wim || goto retry\n\
        kernel --name wimboot http://10.1.0.2:8080/files/winpe/wimboot  || goto retry\nboot || goto retry\n";
    assert_eq!(script_of("52:54:00:00:00:02", |asked| asked).unwrap(), around("win1", "winpe", does));
}

#[test]
fn a_disk_image_is_a_drive() {
    let does = "sanboot --no-describe http://10.1.0.2:8080/files/images/in%20staller.iso || goto retry\n";
    assert_eq!(script_of("52:54:00:00:00:03", |asked| asked).unwrap(), around("cd1", "cd", does));
}

#[test]
fn a_person_chooses_among_the_entries_and_nothing_else() {
    let mac = "52:54:00:00:00:04";
    let choose = |chosen: &str| {
        let chosen = Some(chosen.to_owned());
        script_of(mac, |asked| Asked { chosen, ..asked })
    };
    let menu = script_of(mac, |asked| asked).unwrap();
    let expected = "#!ipxe\n:menu\nmenu xpxe: what is desk1 to boot?\nitem talos talos\nitem cd cd\nitem local local\n\
        choose --default cd --timeout 30000 chosen || goto menu\n\
        chain --replace http://10.1.0.2:8080/ipxe/boot.ipxe?uuid=${uuid}&mac=${mac:hexhyp}&domain=${domain:uristring}\
        &hostname=${hostname:uristring}&serial=${serial:uristring}&arch=${buildarch}&platform=${platform}\
        &chosen=${chosen} ||\n\
        echo xpxe: no boot script from http://10.1.0.2:8080, trying again in 5 seconds\nsleep 5\ngoto menu\n";
    assert_eq!(menu, expected);
    let talos = "kernel --name kernel http://10.1.0.2:8080/files/talos/vmlinuz own=1 || goto retry\nboot || goto retry\n";
    assert_eq!(choose("talos").unwrap(), around("desk1", "talos", talos));
    assert!(choose("cd").unwrap().contains("sanboot"));
    assert!(matches!(choose("local"), Err(NoScript::NotForYou(why)) if why.contains("boots its disk")));
    // A profile of the configuration, and an attempt to write a line: neither is in the menu.
    for other in ["winpe", "x\nchain http://evil/", "${serial}", ""] {
        assert_eq!(choose(other).unwrap(), expected, "{other}");
    }
    let forever = script_of("52:54:00:00:00:05", |asked| asked).unwrap();
    assert!(forever.contains("\nchoose --default local chosen || goto menu\n"), "{forever}");
}

/// Who cannot ask a person gets the default; who can start only kernels is told.
#[test]
fn without_a_person_the_default_is_the_plan() {
    let Book { scripts, machines } = scripts(KINDS);
    let plan = |mac: &str| {
        let asker = machines.asker(asked(mac).client_ip, asked(mac).mac, None);
        scripts.planner().plan(&Asked { asker, ..asked(mac) })
    };
    let Ok(Plan::Boot(boot)) = plan("52:54:00:00:00:04") else { panic!() };
    assert_eq!((boot.profile.as_str(), boot.kind), ("cd", Kind::Iso));
    let told = Plan::Boot(boot).of_kernel().unwrap_err().to_string();
    assert!(told.contains("desk1 boots profile cd, which has iso instead of kernel"), "{told}");
    assert!(matches!(plan("52:54:00:00:00:05"), Err(NoScript::NotForYou(_))));
}
