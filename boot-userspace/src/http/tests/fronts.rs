//! Requests as the clients of other systems make them, and the bytes of their answers.

use boot_engine::boot::script::ScriptWriter;
use boot_engine::config;

use super::*;
use crate::daemon::request::ParametersHandle;
use crate::host::live::Live;

pub(super) const CONFIG: &str = r#"
[http]
fronts = ["booter", "sidero", "bss", "matchbox", "pixiecore", "smee"]
inventory_clients = ["10.1.0.9"]
[[interface]]
name = "eth1"
[[subnet]]
cidr = "10.1.0.0/16"
pool = ["10.1.1.33-10.1.1.233"]
[[profile]]
name = "talos"
kernel = "talos/vmlinuz"
initrd = ["snponly.efi", "http://other/more.img"]
args = "console=ttyS0"
[default]
profile = "talos"
[[machine]]
mac = "52:54:00:00:00:01"
name = "x1000c0s0b0n0"
args = "own=1"
labels = { nid = "7", role = "Compute", "a.b" = "c" }
[[machine]]
uuid = "4c4c4544-0042-3510-8052-b4c04f4e3132"
name = "x1000c0s1b0n0"
"#;
/// What a machine's own address is, and where everything may be read.
pub(super) const OWN: &str = "\nX-Forwarded-For: 10.1.1.50";
pub(super) const READER: &str = "\nX-Forwarded-For: 10.1.0.9";

pub(super) struct Served {
    pub(super) rig: Rig,
    scripts: Live<ScriptWriter>,
}

async fn served(config: &str) -> Served {
    served_with(config, |scripts| scripts, ParametersHandle::none()).await
}

pub(super) async fn served_with(
    config: &str,
    scripts: impl FnOnce(ScriptWriter) -> ScriptWriter,
    parameters: ParametersHandle,
) -> Served {
    let config = config::parse(config, "test").unwrap();
    let machines = Machines::new(config.machines.iter().cloned()).unwrap();
    let scripts = Live::new(scripts(ScriptWriter::new(config).unwrap()));
    let rig = rig_writing(Arc::new(scripts.clone()), machines, Arc::new(()), parameters).await;
    rig.site.machines.put(Ipv4Addr::new(10, 1, 1, 50), Mac([0x52, 0x54, 0, 0, 0, 1]));
    Served { rig, scripts }
}

impl Served {
    /// Status, type and body, with `SERVER` for the server's address.
    async fn get(&self, request: &str) -> (u16, String, String) {
        let answer = self.rig.ask(request).await;
        let body = String::from_utf8(answer.body.clone()).unwrap();
        let body = body.replace(&self.rig.address.to_string(), "SERVER");
        (answer.status, answer.header("content-type").to_owned(), body)
    }

    pub(super) async fn text(&self, request: &str) -> String {
        let (status, _, body) = self.get(request).await;
        assert_eq!(status, 200, "{request}: {body}");
        body
    }

    pub(super) async fn status(&self, request: &str) -> u16 {
        self.get(request).await.0
    }
}

#[tokio::test]
async fn a_front_is_off_until_it_is_named_and_a_reload_changes_that() {
    let served = served(&CONFIG.replace("fronts = [\"booter\", \"sidero\", \"bss\", ", "fronts = [")).await;
    let (bss, matchbox) = ("GET /boot/v1/bootscript?mac=52:54:00:00:00:99", "GET /metadata");
    assert_eq!((served.status(bss).await, served.status(matchbox).await), (404, 200));
    let config = config::parse(&CONFIG.replace("\"matchbox\", ", ""), "test").unwrap();
    served.scripts.replace(ScriptWriter::new(config).unwrap());
    assert_eq!((served.status(bss).await, served.status(matchbox).await), (200, 404));
}

#[tokio::test]
async fn booter() {
    let served = served(CONFIG).await;
    let script = served.text("GET /ipxe/init.ipxe").await;
    assert!(
        script.starts_with("#!ipxe\n")
            && script.contains("\nchain --replace http://SERVER/ipxe/boot.ipxe?uuid="),
        "{script}"
    );
    // The request of its embedded script.
    let query = "uuid=4c4c4544-0042-3510-8052-b4c04f4e3139&mac=52-54-00-00-00-01&domain=&hostname=&serial=&arch=x86_64";
    let script = served.text(&format!("GET /ipxe/boot.ipxe?{query}{OWN}")).await;
    assert!(script.contains(" console=ttyS0 own=1 || goto retry\n"), "{script}");
    assert_eq!(served.text("GET /tftp/snp.efi").await, "0123456789");
    assert_eq!(served.status("GET /config?u=4c4c4544-0042-3510-8052-b4c04f4e3132").await, 404);
    assert_eq!(served.status("POST /config?u=x\nContent-Length: 0").await, 405);
}

#[tokio::test]
async fn sidero_metal() {
    let served = served(CONFIG).await;
    assert!(served.text("GET /boot.ipxe").await.starts_with("#!ipxe\n"));
    let query = "uuid=4c4c4544-0042-3510-8052-b4c04f4e3139&mac=52-54-00-00-00-01&domain=&hostname=&serial=&arch=x86_64";
    let script = served.text(&format!("GET /ipxe?{query}{OWN}")).await;
    assert!(script.contains(" own=1 ||"), "{script}");
    assert_eq!(served.status(&format!("GET /ipxe?{query}\nX-Forwarded-For: 10.1.1.51")).await, 403);
    assert_eq!(served.rig.ask("GET /env/talos/vmlinuz\nRange: bytes=0-9").await.body, big_file()[..10]);
    assert_eq!(served.text("GET /env/talos/initramfs.xz").await, "0123456789");
    for missing in ["/env/agent-amd64/vmlinuz", "/env/talos/other", "/configdata?uuid=x"] {
        assert_eq!(served.status(&format!("GET {missing}")).await, 404, "{missing}");
    }
}

#[tokio::test]
async fn bss_writes_the_script_that_its_machines_know() {
    let served = served(CONFIG).await;
    let expected = "#!ipxe\n\
        kernel --name kernel http://SERVER/files/talos/vmlinuz initrd=initrd initrd=initrd1 console=ttyS0 own=1 \
        xname=x1000c0s0b0n0 nid=7 BOOTIF=01-52-54-00-00-00-01 ds=nocloud-net;s=http://SERVER/ || goto boot_retry\n\
        initrd --name initrd http://SERVER/files/snponly.efi || goto boot_retry\n\
        initrd --name initrd1 http://other/more.img || goto boot_retry\n\
        boot || goto boot_retry\n\
        :boot_retry\n\
        sleep 30\n\
        chain http://SERVER/boot/v1/bootscript?mac=52:54:00:00:00:01&retry=1 || goto boot_retry\n\n";
    let (status, content_type, script) =
        served.get(&format!("GET /boot/v1/bootscript?mac=52:54:00:00:00:01{OWN}")).await;
    assert_eq!(
        (status, content_type.as_str(), script.as_str()),
        (200, "text/plain; charset=UTF-8", expected)
    );
    // As iPXE behind the gateway chains, for the third time.
    let script =
        served.text(&format!("GET /apis/bss/boot/v1/bootscript?mac=52:54:00:00:00:01&retry=2{OWN}")).await;
    let other = expected.replace(
        "/boot/v1/bootscript?mac=52:54:00:00:00:01&retry=1",
        "/apis/bss/boot/v1/bootscript?mac=52:54:00:00:00:01&retry=3",
    );
    assert_eq!(script, other);
    let script = served.text(&format!("GET /boot/v1/bootscript?name=X1000c0s0b0n0{OWN}")).await;
    assert_eq!(script, expected.replace(" BOOTIF=01-52-54-00-00-00-01", ""));
    assert_eq!(script, served.text(&format!("GET /boot/v1/bootscript?nid=7{OWN}")).await);
    let script = served.text("GET /boot/v1/bootscript?name=x1000c0s1b0n0").await;
    assert!(
        script.contains("chain http://SERVER/boot/v1/bootscript?name=x1000c0s1b0n0&retry=1 ||"),
        "{script}"
    );
    // An unknown machine says its architecture first.
    let unknown = "GET /boot/v1/bootscript?mac=52:54:00:00:00:99";
    let chain =
        "#!ipxe\nchain http://SERVER/boot/v1/bootscript?mac=52:54:00:00:00:99&arch=${buildarch}&retry=0\n\n";
    assert_eq!(served.text(unknown).await, chain);
    let script = served.text(&format!("{unknown}&arch=x86_64&ts=1")).await;
    assert!(script.contains(" console=ttyS0 BOOTIF=01-52-54-00-00-00-99 ds="), "{script}");
}

#[tokio::test]
async fn bss_refuses_as_its_clients_expect_it() {
    let served = served(CONFIG).await;
    for (request, status) in [
        ("GET /boot/v1/bootscript".to_owned(), 400),
        ("GET /boot/v1/bootscript?name=nobody".to_owned(), 404),
        (format!("GET /boot/v1/bootparameters?name={}", ["q"; 1000].join(",")), 404),
        (format!("GET /boot/v1/bootparameters?name={}", ["q"; 1001].join(",")), 400),
        ("GET /boot/v1/bootscript?mac=52:54:00:00:00:01\nX-Forwarded-For: 10.1.1.51".to_owned(), 403),
        ("GET /boot/v1/bootscript?nid=7\nX-Forwarded-For: 10.1.1.51".to_owned(), 403),
        ("GET /boot/v1/bootparameters?mac=52:54:00:00:00:01\nX-Forwarded-For: 10.1.1.51".to_owned(), 403),
        ("GET /boot/v1/hosts?name=x1000c0s0b0n0\nX-Forwarded-For: 10.1.1.51".to_owned(), 403),
        (format!("GET /boot/v1/hosts{OWN}"), 403),
        (format!("GET /boot/v1/dumpstate{OWN}"), 403),
        (format!("GET /boot/v1/bootparameters{OWN}"), 403),
        (format!("GET /boot/v1/endpoint-history{OWN}"), 403),
        ("POST /boot/v1/bootparameters\nContent-Length: 0".to_owned(), 403),
        ("DELETE /apis/bss/boot/v1/bootparameters\nContent-Length: 0".to_owned(), 403),
        ("POST /boot/v1/bootscript\nContent-Length: 0".to_owned(), 405),
    ] {
        let (found, content_type, body) = served.get(&request).await;
        assert_eq!((found, content_type.as_str()), (status, "application/problem+json"), "{request}: {body}");
        let problem: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(problem["status"], status, "{request}");
        assert!(!problem["detail"].as_str().unwrap().is_empty());
    }
    let ignore = CONFIG.replace("[default]", "[default]\nunknown = \"ignore\"");
    let served = self::served(&ignore).await;
    assert_eq!(served.status("GET /boot/v1/bootscript?mac=52:54:00:00:00:99&arch=x86_64").await, 404);
}

#[tokio::test]
async fn bss_lists_machines_for_those_who_may_read_all() {
    let served = served(CONFIG).await;
    let json = async |request: &str| -> serde_json::Value {
        serde_json::from_str(&served.text(&format!("GET /boot/v1/{request}{READER}")).await).unwrap()
    };
    let hosts = json("hosts").await;
    let node = serde_json::json!({
        "ID": "x1000c0s0b0n0", "Type": "Node", "Enabled": true, "Role": "Compute", "NID": 7, "FQDN": "",
        "MAC": ["52:54:00:00:00:01"], "EndpointEnabled": true
    });
    assert_eq!((&hosts[0], hosts.as_array().unwrap().len()), (&node, 2));
    assert_eq!(json("hosts?nid=7").await, serde_json::json!([node]));
    let parameters = json("bootparameters?name=x1000c0s0b0n0").await;
    assert_eq!(parameters[0]["hosts"], serde_json::json!(["x1000c0s0b0n0"]));
    assert_eq!(parameters[0]["params"], "console=ttyS0 own=1");
    assert_eq!(parameters[0]["kernel"], "http://SERVER/files/talos/vmlinuz");
    assert_eq!(parameters[0]["initrd"], "http://SERVER/files/snponly.efi");
    assert_eq!(
        parameters,
        serde_json::from_str::<serde_json::Value>(
            &served.text(&format!("GET /boot/v1/bootparameters?mac=52:54:00:00:00:01{OWN}")).await
        )
        .unwrap()
    );
    let all = json("dumpstate").await;
    assert_eq!(all["Components"], hosts);
    let names: Vec<&str> =
        all["Params"].as_array().unwrap().iter().map(|entry| entry["hosts"][0].as_str().unwrap()).collect();
    assert_eq!(names, ["Default", "Unknown-x86_64", "Unknown-arm64", "x1000c0s0b0n0", "x1000c0s1b0n0"]);
    assert_eq!(json("endpoint-history").await, serde_json::json!([]));
    served.text(&format!("GET /boot/v1/bootscript?mac=52:54:00:00:00:01{OWN}")).await;
    let history = json("endpoint-history?name=x1000c0s0b0n0&endpoint=bootscript").await;
    assert!(history[0]["last_epoch"].as_u64().unwrap() > 1_700_000_000, "{history}");
    assert_eq!(json("endpoint-history?endpoint=user-data").await, serde_json::json!([]));
    assert_eq!(json("service/status").await, serde_json::json!({ "bss-status": "running" }));
    assert_eq!(json("service/status/all").await["bss-storage-backend"]["status"], "connected");
}

#[tokio::test]
async fn matchbox() {
    let served = served(CONFIG).await;
    let query = "uuid=4c4c4544-0042-3510-8052-b4c04f4e3139&mac=52-54-00-00-00-01&domain=&hostname=&serial=&arch=x86_64";
    for path in ["/boot.ipxe", "/boot.ipxe.0"] {
        assert!(served.text(&format!("GET {path}")).await.starts_with("#!ipxe\n"), "{path}");
    }
    assert!(served.text(&format!("GET /ipxe?{query}{OWN}")).await.contains(" own=1 ||"));
    let grub = served.text(&format!("GET /grub?{query}{OWN}")).await;
    assert!(
        grub.contains("\nif linux '(http,SERVER)/files/talos/vmlinuz' 'console=ttyS0' 'own=1'; then\n"),
        "{grub}"
    );
    assert_eq!(served.text("GET /assets/snponly.efi").await, "0123456789");
    assert_eq!(served.status("GET /assets/../secret").await, 403);
    let request = "GET /metadata?mac=52-54-00-00-00-01&foo=bar%0AEVIL=1&gate=true";
    let (status, content_type, lines) = served.get(&format!("{request}{OWN}")).await;
    assert_eq!((status, content_type.as_str()), (200, "plain/text"));
    assert_eq!(
        lines,
        "A_B=c\nNID=7\nROLE=Compute\nNAME=x1000c0s0b0n0\nMAC=52:54:00:00:00:01\n\
         REQUEST_QUERY_MAC=52:54:00:00:00:01\nREQUEST_QUERY_FOO=barEVIL=1\nREQUEST_QUERY_GATE=true\n\
         REQUEST_RAW_QUERY=mac=52-54-00-00-00-01&foo=bar%0AEVIL=1&gate=true\n"
    );
    assert_eq!(served.status(&format!("{request}\nX-Forwarded-For: 10.1.1.51")).await, 403);
    for document in ["ignition", "cloud", "generic"] {
        assert_eq!(served.status(&format!("GET /{document}?mac=52-54-00-00-00-01{OWN}")).await, 404);
    }
}

#[tokio::test]
async fn pixiecore_s_api() {
    let served = served(&CONFIG.replace("own=1", "own=1 t={{ '{{ URL }}' }}")).await;
    let (status, content_type, body) = served.get(&format!("GET /v1/boot/52:54:00:00:00:01{OWN}")).await;
    assert_eq!((status, content_type.as_str()), (200, "application/json"));
    let found: serde_json::Value = serde_json::from_str(&body).unwrap();
    let expected = serde_json::json!({
        "kernel": "http://SERVER/files/talos/vmlinuz",
        "initrd": ["http://SERVER/files/snponly.efi", "http://other/more.img"],
        "cmdline": "console=ttyS0 own=1 t={{\"{{\"}} URL }}",
        "message": "xpxe: booting x1000c0s0b0n0 (talos)"
    });
    assert_eq!(found, expected);
    // pixiecore has an address of its own.
    let other = "\nX-Forwarded-For: 10.1.0.2";
    assert_eq!(served.status(&format!("GET /v1/boot/52:54:00:00:00:01{other}")).await, 403);
    let shared = CONFIG.replace("[http]", "[http]\nshared_addresses = [\"10.1.0.2\"]");
    let shared = self::served(&shared).await;
    assert_eq!(shared.status(&format!("GET /v1/boot/52:54:00:00:00:01{other}")).await, 200);
    assert_eq!(shared.status("GET /v1/boot/nonsense").await, 400);
    let discover = CONFIG.replace("[default]", "[default]\nunknown = \"discover\"");
    assert_eq!(self::served(&discover).await.status("GET /v1/boot/52:54:00:00:00:99").await, 404);
}

/// As cloud-init's EC2 source asks Tinkerbell: the list, then each key.
#[tokio::test]
async fn ec2_metadata_is_of_the_machine_that_asks() {
    let served = served(CONFIG).await;
    let get = async |path: &str| served.text(&format!("GET /2009-04-04/{path}{OWN}")).await;
    assert_eq!(get("").await, "meta-data/\nuser-data\n");
    let keys = get("meta-data/").await;
    assert_eq!(keys, "hostname\ninstance-id\nlocal-hostname\nlocal-ipv4\nmac\ntags");
    let mut values = Vec::new();
    for key in keys.lines() {
        values.push(get(&format!("meta-data/{key}")).await);
    }
    let name = "x1000c0s0b0n0";
    let expected = [name, name, name, "10.1.1.50", "52:54:00:00:00:01", "a.b=c\nnid=7\nrole=Compute"];
    assert_eq!(values, expected);
    // Nobody gets another machine's by saying that it is that one.
    let other = "\nX-Forwarded-For: 10.1.1.51";
    let path = "GET /2009-04-04/meta-data/hostname?mac=52:54:00:00:00:01";
    assert_eq!(served.status(&format!("{path}{other}")).await, 404);
    for missing in ["meta-data/iqn", "user-data", "dynamic"] {
        assert_eq!(served.status(&format!("GET /2009-04-04/{missing}{OWN}")).await, 404, "{missing}");
    }
    assert_eq!(served.status(&format!("POST /2009-04-04/meta-data/{OWN}")).await, 405);
    assert_eq!(served.status(&format!("GET /2009-04-041{OWN}")).await, 404);
}

#[tokio::test]
async fn smee() {
    let served = served(CONFIG).await;
    for name in ["snponly.efi", "snp-x86_64.efi", "52:54:00:00:00:01/snp.efi"] {
        assert_eq!(served.text(&format!("GET /ipxe/binary/{name}")).await, "0123456789", "{name}");
    }
    let own = served.text(&format!("GET /ipxe/script/52:54:00:00:00:01/auto.ipxe{OWN}")).await;
    assert!(own.contains(" own=1 ||"), "{own}");
    assert_eq!(own, served.text(&format!("GET /ipxe/script/auto.ipxe{OWN}")).await);
    assert_eq!(
        served.status("GET /ipxe/script/52:54:00:00:00:01/auto.ipxe\nX-Forwarded-For: 10.1.1.51").await,
        403
    );
    for other in ["52:54:00:00:00:01/other.ipxe", "x/auto.ipxe"] {
        assert_eq!(served.status(&format!("GET /ipxe/script/{other}")).await, 404, "{other}");
    }
    let ignore = self::served(&CONFIG.replace("[default]", "[default]\nunknown = \"ignore\"")).await;
    assert_eq!(ignore.status("GET /ipxe/script/52:54:00:00:00:99/auto.ipxe").await, 404);
}
