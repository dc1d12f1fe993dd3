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
    name = "talos"
    kernel = "talos/vm linuz"
    initrd = ["talos/a,b.xz", "c"]
    args = "console=ttyS0"
    [default]
    profile = "talos"
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "node1"
    args = "own=1"
"#;
const MAC: &str = "01-52-54-00-00-00-01";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 1, 1, 50);

struct Server {
    planner: Planner,
    machines: Machines,
    port: u16,
}

impl Server {
    fn new(config: &str) -> Self {
        let config: Config = config::parse(config, "test").unwrap();
        let machines = Machines::new(config.machines.iter().cloned()).unwrap();
        Self { planner: Planner::new(config).unwrap(), machines, port: 8080 }
    }

    fn ask_by(&self, way: Way, name: &str, from: Ipv4Addr) -> Option<Result<String, NoScript>> {
        let file = LoaderFile::named(name).unwrap();
        let server = SocketAddr::from(([10, 1, 0, 2], self.port));
        let asked = file.asked(from.into(), &self.machines, |_| server.into());
        file.text(&asked, way, |asked| self.planner.offered(asked))
    }

    fn text(&self, name: &str) -> String {
        self.ask_by(Way::Tftp, name, ADDRESS).unwrap().unwrap()
    }
}

/// What one architecture has not must not keep the others from booting.
#[test]
fn grub_waits_on_an_architecture_without_a_kernel() {
    let none = "[profile.arch.arm64]\nkernel = \"\"\n[default]";
    let text = Server::new(&CONFIG.replace("[default]", none)).text(&format!("/grub/grub.cfg-{MAC}"));
    let (arm64, usual) = text.split_once("else\n").unwrap();
    assert!(arm64.contains("arm64-efi") && arm64.contains("has no kernel for arm64"), "{text}");
    assert!(
        !arm64.contains("linux '") && usual.contains("linux '(tftp,10.1.0.2)/talos/vm%20linuz'"),
        "{text}"
    );
}

#[test]
fn grub_boots_by_the_way_it_came_and_asks_again_for_ever() {
    let server = Server::new(CONFIG);
    let expected = "echo 'xpxe: booting node1 (talos)'\n\
        if linux '(tftp,10.1.0.2)/talos/vm%20linuz' 'console=ttyS0' 'own=1'; then\n\
        if initrd '(tftp,10.1.0.2)/talos/a%2Cb.xz' '(tftp,10.1.0.2)/c'; then boot; fi\n\
        fi\n\
        echo 'xpxe: could not boot node1, trying again in 10 seconds'\n";
    let again =
        "while true; do\nsleep 10\nsource (tftp,10.1.0.2)/grub/grub.cfg-again-01-52-54-00-00-00-01\ndone\n";
    assert_eq!(server.text(&format!("/grub/grub.cfg-{MAC}")), format!("{expected}{again}"));
    assert_eq!(server.text(&format!("/grub/grub.cfg-again-{MAC}")), expected);
    let by_http = |port, device: &str| {
        let server = Server { port, ..Server::new(CONFIG) };
        let text = server.ask_by(Way::Http, &format!("grub/grub.cfg-{MAC}"), ADDRESS).unwrap().unwrap();
        let files = format!("({device})/files");
        let expected = expected.replace("(tftp,10.1.0.2)", &files);
        let (first, rest) = expected.split_once('\n').unwrap();
        let again = again.replace("(tftp,10.1.0.2)", &files);
        assert_eq!(text, format!("{first}\n{}{rest}{again}", grub::HTTP));
    };
    by_http(8080, "http,10.1.0.2:8080");
    // What GRUB 2.06 can read.
    by_http(80, "http,10.1.0.2");
}

#[test]
fn a_grub_whose_address_is_nobodys_asks_by_its_mac() {
    let server = Server::new(CONFIG);
    let text = server.text("/grub/x86_64-efi/grub.cfg");
    let source = "source (tftp,10.1.0.2)/grub/x86_64-efi/grub.cfg-01-$net_default_mac\n";
    assert!(
        text.starts_with("while true; do\n") && text.contains(source) && text.ends_with("done\n"),
        "{text}"
    );
    server.machines.put(ADDRESS, "52:54:00:00:00:01".parse().unwrap());
    assert_eq!(server.text("/grub/grub.cfg"), server.text(&format!("/grub/grub.cfg-{MAC}")));
}

#[test]
fn nothing_in_a_plan_is_grub_s_language() {
    let args = r#"a=$x b='c' "d=e f" g=${h} i=j;k |l >m {n} o\p q="r s" #t"#;
    let escaped = args.replace('\\', "\\\\").replace('"', "\\\"");
    let server = Server::new(&CONFIG.replace("own=1", &escaped));
    let text = server.text(&format!("grub.cfg-{MAC}"));
    let line = text.lines().find(|line| line.starts_with("if linux")).unwrap();
    let expected = r"'a=$x' 'b='\''c'\''' 'd=e f' 'g=${h}' 'i=j;k' '|l' '>m' '{n}' 'o\p' 'q=r s' '#t'; then";
    assert!(line.ends_with(expected), "{line}\n{expected}");
    // A directory is what the client says.
    let text = Server::new(CONFIG).text("x;$(y) 'z/grub.cfg");
    assert!(text.contains("(tftp,10.1.0.2)/x%3B%24%28y%29%20%27z/grub.cfg-01-$net_default_mac\n"), "{text}");
}

#[test]
fn grub_boots_the_kernel_of_its_architecture() {
    let arch = "[profile.arch.arm64]\nkernel = \"arm64\"\ninitrd = []\n[profile.arch.bios]\nargs = \"bios=1\"\n[default]";
    let text = Server::new(&CONFIG.replace("[default]", arch)).text(&format!("grub.cfg-again-{MAC}"));
    let (bios, rest) = text
        .strip_prefix("if [ \"$grub_cpu-$grub_platform\" = i386-pc ]; then\n")
        .unwrap()
        .split_once("elif [ \"$grub_cpu-$grub_platform\" = arm64-efi ]; then\n")
        .unwrap();
    let (arm64, usual) = rest.split_once("else\n").unwrap();
    assert!(bios.contains("bios=1") && !usual.contains("bios=1"), "{text}");
    assert!(
        arm64.contains("if linux '(tftp,10.1.0.2)/arm64' 'console=ttyS0' 'own=1'; then\nboot\nfi\n"),
        "{text}"
    );
    assert!(usual.contains("vm%20linuz") && usual.ends_with("seconds'\nfi\n"), "{text}");
}

#[test]
fn what_a_loader_cannot_fetch_is_said_on_its_console() {
    let with = |kernel: &str| Server::new(&CONFIG.replace("talos/vm linuz", kernel));
    let name = format!("grub.cfg-again-{MAC}");
    let text = with("https://other/vmlinuz").text(&name);
    assert_eq!(
        text,
        "echo 'xpxe: cannot boot node1: GRUB cannot fetch https://other/vmlinuz: name a file in boot_dir, or an http:// URL'\n"
    );
    let text = with("http://other:80/vmlinuz").text(&name);
    let wanted = format!("\n{}if linux '(http,other)/vmlinuz' ", grub::HTTP);
    assert!(text.contains(&wanted), "{text}");
    let text = with("http://other:81/v").text(&name);
    assert!(text.contains("\nif linux '(http,other:81)/v' "), "{text}");
    let long = CONFIG.replace("own=1", &"x".repeat(1975)).replace("vm linuz", &"v".repeat(60));
    let long = Server::new(&long);
    let text = long.text(&format!("pxelinux.cfg/{MAC}"));
    assert!(
        text.starts_with("SAY xpxe: cannot boot node1: ") && text.contains("2047; shorten args"),
        "{text}"
    );
    assert!(!text.contains("  LINUX"), "{text}");
}

#[test]
fn pxelinux_boots_and_asks_again_for_ever() {
    let server = Server::new(CONFIG);
    let rest = "  APPEND console=ttyS0 own=1\nLABEL again\n  CONFIG pxelinux.cfg/01-52-54-00-00-00-01\n";
    let head =
        "SAY xpxe: booting node1 (talos)\nDEFAULT boot\nPROMPT 0\nTIMEOUT 100\nONTIMEOUT again\nLABEL boot\n";
    let text = server.text(&format!("pxelinux.cfg/{MAC}"));
    assert_eq!(text, format!("{head}  LINUX talos/vm%20linuz\n  INITRD talos/a%2Cb.xz,c\n{rest}"));
    let text = server.text(&format!("bios/pxelinux.cfg/{MAC}"));
    assert_eq!(text, format!("{head}  LINUX ::talos/vm%20linuz\n  INITRD ::talos/a%2Cb.xz,::c\n{rest}"));
    let text = server.ask_by(Way::Http, &format!("pxelinux.cfg/{MAC}"), ADDRESS).unwrap().unwrap();
    let files = "http://10.1.0.2:8080/files";
    let lines = format!("  LINUX {files}/talos/vm%20linuz\n  INITRD {files}/talos/a%2Cb.xz,{files}/c\n");
    assert_eq!(text, format!("{head}{lines}{rest}"));
    let bios = CONFIG.replace("[default]", "[profile.arch.bios]\nkernel = \"bios\"\n[default]");
    assert!(Server::new(&bios).text("pxelinux.cfg/default").contains("  LINUX bios\n"));
}

#[test]
fn pxelinux_s_names_lead_to_the_machine() {
    let uuid = "4c4c4544-0042-3510-8052-b4c04f4e3132";
    let server =
        Server::new(&CONFIG.replace("name = \"node1\"", &format!("name = \"node1\"\nuuid = {uuid:?}")));
    let by_uuid = server.text(&format!("pxelinux.cfg/{uuid}"));
    assert!(
        by_uuid.contains("own=1") && by_uuid.ends_with(&format!("CONFIG pxelinux.cfg/{uuid}\n")),
        "{by_uuid}"
    );
    let other = "pxelinux.cfg/4c4c4544-0042-3510-8052-b4c04f4e3139";
    assert_eq!(server.ask_by(Way::Tftp, other, ADDRESS), None, "it says its MAC next");
    server.machines.put(ADDRESS, "52:54:00:00:00:01".parse().unwrap());
    for name in ["pxelinux.cfg/0A010132", "pxelinux.cfg/default", other] {
        assert!(server.text(name).contains("own=1"), "{name}");
    }
}

#[test]
fn no_configuration_ends_and_each_is_for_its_own_machine() {
    let waits = CONFIG.replace("[default]\n    profile = \"talos\"", "");
    let server = Server::new(&waits);
    let text = server.text(&format!("grub.cfg-{MAC}"));
    assert!(
        text.starts_with("echo 'xpxe: 52:54:00:00:00:01 has no profile: ") && text.contains("\nsleep 30\n"),
        "{text}"
    );
    let text = server.text(&format!("pxelinux.cfg/{MAC}"));
    assert!(
        text.contains(" has no profile: ") && text.contains("DEFAULT again\nPROMPT 1\nTIMEOUT 300\n"),
        "{text}"
    );
    let ignore = Server::new(&CONFIG.replace("[default]", "[default]\nunknown = \"ignore\""));
    let unknown = "01-52-54-00-00-00-99";
    let text = ignore.text(&format!("grub.cfg-{unknown}"));
    assert!(text.contains("unknown = \"ignore\"'\n") && text.ends_with("\nexit 1\n"), "{text}");
    assert!(ignore.text(&format!("pxelinux.cfg/{unknown}")).ends_with("  LOCALBOOT -1\n"));
    let server = Server::new(CONFIG);
    server.machines.put(ADDRESS, "52:54:00:00:00:01".parse().unwrap());
    for name in [format!("grub.cfg-{MAC}"), format!("pxelinux.cfg/{MAC}")] {
        let other = server.ask_by(Way::Tftp, &name, Ipv4Addr::new(10, 1, 1, 51)).unwrap();
        assert!(matches!(other, Err(NoScript::OfAnother { .. })), "{name}: {other:?}");
    }
}

const CHOICE: &str = r#"
    [[profile]]
    name = "rescue"
    kernel = "r"
    arch.arm64.kernel = "arm/r"
    [[profile]]
    name = "cd"
    iso = "x.iso"
    [[profile]]
    name = "esxi"
    esxi = "vm/esxi-8"
    [[profile]]
    name = "choice"
    menu = ["rescue", "cd", "esxi", "local"]
    menu_default = "local"
    menu_timeout = "30s"
    [[group]]
    name = "desks"
    match = { mac = "52:54" }
    profile = "choice"
"#;

#[test]
fn grub_shows_a_menu_in_a_file_of_its_own() {
    let server = Server::new(&format!("{CONFIG}{CHOICE}"));
    let opens = "configfile (tftp,10.1.0.2)/grub/grub.cfg-menu-01-52-54-00-00-00-01\n";
    assert_eq!(server.text(&format!("grub/grub.cfg-{MAC}")), opens);
    let again = |body: &str| format!("while true; do\n{body}sleep 10\ndone\n");
    let boots = |kernel: &str| {
        format!(
            "echo 'xpxe: booting node1 (rescue)'\nif linux '(tftp,10.1.0.2)/{kernel}' 'own=1'; then\nboot\nfi\n\
             echo 'xpxe: could not boot node1, trying again in 10 seconds'\n"
        )
    };
    let rescue = format!(
        "if [ \"$grub_cpu-$grub_platform\" = 'arm64-efi' ]; then\n{}else\n{}fi\n",
        boots("arm/r"),
        boots("r")
    )
    .replace("'arm64-efi'", "arm64-efi");
    let not = |what: &str, key: &str| {
        format!(
            "echo 'xpxe: cannot boot node1: GRUB starts nothing of {what} (key {key} of its profile): let this machine \
             boot iPXE'\n"
        )
    };
    let expected = format!(
        "set default='local'\nset timeout=30\nmenuentry 'rescue' {{\n{}}}\nmenuentry 'cd' {{\n{}}}\n\
         menuentry 'esxi' {{\n{}}}\nmenuentry 'local' {{\n\
         echo 'xpxe: node1 boots its disk, as its menu has it'\nsleep 3\nexit 1\n}}\n",
        again(&rescue),
        again(&not("x.iso", "iso")),
        again(&not("vm/esxi-8", "esxi")),
    );
    assert_eq!(server.text(&format!("grub/grub.cfg-menu-{MAC}")), expected);
}

#[test]
fn pxelinux_says_what_there_is_to_choose() {
    let server = Server::new(&format!("{CONFIG}{CHOICE}"));
    let expected = "SAY xpxe: what is node1 to boot? Type one of these names\nSAY   rescue\n\
        SAY   cd: not now: cannot boot node1: PXELINUX starts nothing of x.iso (key iso of its profile); let it boot iPXE\n\
        SAY   esxi\nSAY   local\nDEFAULT local\nPROMPT 1\nTIMEOUT 300\nONTIMEOUT local\n\
        LABEL rescue\n  LINUX r\n  APPEND own=1\n\
        LABEL esxi\n  KERNEL vm/esxi-8/mboot.c32\n  APPEND -c vm/esxi-8/01-52-54-00-00-00-01/boot.cfg\n\
        LABEL local\n  LOCALBOOT -1\n";
    assert_eq!(server.text(&format!("pxelinux.cfg/{MAC}")), expected);
}
