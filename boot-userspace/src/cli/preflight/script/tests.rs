use super::*;

#[test]
fn what_scripts_fetch_is_found() {
    let mut settings = Settings::of(Mac([2, 0, 0, 0, 0, 1]), "10.0.0.1");
    let script = "#!ipxe\nset base http://h/dir\nisset ${ip} || dhcp\n:retry\n\
        chain --replace /ipxe?mac=${mac:hexhyp}&uuid=${uuid} ||\ninitrd --name a initrd.img || goto retry\n\
        kernel --name kernel ${base}/vmlinuz initrd=a console=ttyS0 || goto retry\nsanboot --no-describe http://h/x.iso\nboot\n";
    let found = settings.fetches(script, "http://10.0.0.1:8080/boot/boot.ipxe?x=/y");
    let expected = [
        Fetch::Chain("http://10.0.0.1:8080/ipxe?mac=02-00-00-00-00-01&uuid=".to_owned()),
        Fetch::Initrd("http://10.0.0.1:8080/boot/initrd.img".to_owned()),
        Fetch::Kernel("http://h/dir/vmlinuz".to_owned()),
        Fetch::Disk("http://h/x.iso".to_owned()),
    ];
    assert_eq!(found, expected);
    assert_eq!(absolute("a", "tftp://10.0.0.1"), "tftp://10.0.0.1/a");
}

#[test]
fn nothing_is_fetched_that_may_be_a_report_or_is_given_once() {
    let fetches = |script: &str| {
        Settings::of(Mac([2, 0, 0, 0, 0, 1]), "10.0.0.1").fetches(script, "http://h/ipxe/boot.ipxe?x=1")
    };
    // The script of docs/documents.md.
    let script = "#!ipxe\n\ninitrd --name initrd0 http://h/files/initrd || goto failed\n\n\
        kernel --name kernel http://h/files/vmlinuz initrd=initrd0 a=b || goto failed\nboot || goto failed\n:failed\n\
        imgfetch http://h/phone-home?mac=02-00-00-00-00-01&status=failure&text=no%20boot ||\nsleep 10\n\
        chain --replace http://h/boot.ipxe || goto failed\n";
    let report = "http://h/phone-home?mac=02-00-00-00-00-01&status=failure&text=no%20boot";
    let expected = [
        Fetch::Initrd("http://h/files/initrd".to_owned()),
        Fetch::Kernel("http://h/files/vmlinuz".to_owned()),
        Fetch::Aside(report.to_owned()),
        Fetch::Chain("http://h/boot.ipxe".to_owned()),
    ];
    assert_eq!(fetches(script), expected);
    // Whatever fetches it, and by whatever name.
    for line in [
        "initrd http://h/phone-home?status=failure ||",
        "chain /agent/02-00-00-00-00-01/report?status=done || goto failed",
        "module http://h/documents/02-00-00-00-00-01/token/user-data",
        "kernel http://h/phone-home",
        "echo http://h/phone-home\nimgfetch http://other/report?status=failure ||",
        "imgfetch --name r http://h/phone-home\nimgselect r\nboot r",
    ] {
        assert!(matches!(*fetches(line), [Fetch::Aside(_)]), "{line}: {:?}", fetches(line));
    }
    // What is used later is a file.
    for line in [
        "imgfetch --name k http://h/agent.efi a=b\nboot k",
        "imgfetch http://h/agent.efi || goto failed\nimgselect agent.efi && boot",
        "kernel --name=k http://h/agent.efi\nimgselect k\nboot ||",
    ] {
        assert_eq!(fetches(line), [Fetch::Kernel("http://h/agent.efi".to_owned())], "{line}");
    }
}

#[test]
fn a_script_cannot_double_a_value_without_an_end() {
    let mut settings = Settings::of(Mac([2, 0, 0, 0, 0, 1]), "10.0.0.1");
    let doubled = "set a ${a}${a}\n".repeat(64);
    let many: String = (0..2 * MOST_SETTINGS).map(|number| format!("set s{number} x\n")).collect();
    let kernels: String =
        (0..1000).map(|number| format!("kernel ${{a}}${{a}}${{a}}${{a}}/{number}\n")).collect();
    let script = format!("#!ipxe\nset a 0123456789abcdef\n{doubled}{many}{kernels}");
    let found = settings.fetches(&script, "http://10.0.0.1/");
    assert_eq!(found.len(), MOST_FETCHES);
    let Some(Fetch::Kernel(url)) = found.first() else { panic!("{found:?}") };
    assert!((4096..3 * LONGEST_LINE).contains(&url.len()), "{}", url.len());
    assert!(settings.0.len() <= MOST_SETTINGS);
    assert!(settings.0.values().all(|value| value.len() <= LONGEST_VALUE));
}
