//! Boot parameters that BSS's clients write, and what machines boot then.

use boot_engine::boot::parameters::{BootParameters, Table};
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config;
use serde_json::{Value, json};

use super::fronts::{CONFIG, OWN, READER, Served, served_with};
use crate::daemon::request::{ParametersAsk, ParametersHandle};

const WRITER: &str = "\nX-Forwarded-For: 10.1.0.8";

/// A server at which 10.1.0.8 may write, and whose keeper keeps in memory.
async fn served() -> Served {
    let config = CONFIG.replace("[http]\n", "[http]\nbss_writers = [\"10.1.0.8/32\"]\n");
    served_of(&config).await
}

async fn served_of(config: &str) -> Served {
    let table = BootParameters::default();
    let (handle, mut asks) = ParametersHandle::new(table.clone());
    let boot_dir = config::parse(config, "test").unwrap().boot_dir;
    tokio::spawn(async move {
        while let Some(ParametersAsk { change, reply, .. }) = asks.recv().await {
            let after: Result<Table, _> = table.get().after(&change, &boot_dir);
            drop(reply.send(after.map(|after| table.replace(after)).map_err(Into::into)));
        }
    });
    served_with(config, |scripts: ScriptWriter| scripts.with_parameters(&handle.table), handle.clone()).await
}

impl Served {
    /// Status, referral token and body of what a writer sends.
    async fn write(&self, method: &str, body: &Value) -> (u16, String, String) {
        self.send(method, "/boot/v1/bootparameters", WRITER, &body.to_string()).await
    }

    async fn send(&self, method: &str, path: &str, from: &str, body: &str) -> (u16, String, String) {
        let length = body.len();
        let request = format!(
            "{method} {path}{from}\nContent-Type: application/json\nContent-Length: {length}\n\n{body}"
        );
        let answer = self.rig.ask(&request).await;
        let text = String::from_utf8(answer.body.clone()).unwrap();
        (answer.status, answer.header("bss-referral-token").to_owned(), text)
    }

    async fn json(&self, path: &str, from: &str) -> Value {
        serde_json::from_str(&self.text(&format!("GET {path}{from}")).await).unwrap()
    }
}

/// As `ochami bss boot params add` and `cray bss bootparameters create` send it, then what iPXE gets.
#[tokio::test]
async fn what_is_written_decides_the_script() {
    let served = served().await;
    let body = json!({
        "hosts": ["x1000c0s0b0n0"], "params": "console=ttyS0 initrd=initrd root=live:http://s3/rootfs",
        "kernel": "http://s3/boot-images/kernel", "initrd": "http://s3/boot-images/initrd",
        "cloud-init": { "meta-data": null, "user-data": null, "phone-home": { "hostname": "" } }
    });
    let (status, token, text) = served.write("POST", &body).await;
    assert_eq!((status, token.len(), text.as_str()), (201, 36, ""));
    let script = served.text(&format!("GET /boot/v1/bootscript?mac=52:54:00:00:00:01{OWN}")).await;
    let expected = format!(
        "#!ipxe\n\
        kernel --name kernel http://s3/boot-images/kernel initrd=initrd console=ttyS0 root=live:http://s3/rootfs \
        xname=x1000c0s0b0n0 nid=7 bss_referral_token={token} BOOTIF=01-52-54-00-00-00-01 \
        ds=nocloud-net;s=http://SERVER/ || goto boot_retry\n\
        initrd --name initrd http://s3/boot-images/initrd || goto boot_retry\n\
        boot || goto boot_retry\n\
        :boot_retry\n\
        sleep 30\n\
        chain http://SERVER/boot/v1/bootscript?mac=52:54:00:00:00:01&retry=1 || goto boot_retry\n\n"
    );
    assert_eq!(script, expected);
    // Every other way to boot says the same.
    let own = served.text(&format!("GET /ipxe/boot.ipxe?mac=52-54-00-00-00-01&arch=x86_64{OWN}")).await;
    assert!(
        own.contains("kernel --name kernel http://s3/boot-images/kernel initrd=initrd0 console=ttyS0 root="),
        "{own}"
    );
    let grub = served.text(&format!("GET /grub?mac=52-54-00-00-00-01&arch=x86_64{OWN}")).await;
    assert!(grub.contains("(http,s3)/boot-images/kernel"), "{grub}");
    let other = served.text("GET /boot/v1/bootscript?name=x1000c0s1b0n0").await;
    assert!(other.contains("/files/talos/vmlinuz"), "{other}");
    let program = served.json("/boot/v1/bootscript?mac=52:54:00:00:00:01&json=1", OWN).await;
    assert_eq!(program["kernel"]["path"], "http://s3/boot-images/kernel");
    assert!(program["params"].as_str().unwrap().starts_with("kernel initrd=initrd console=ttyS0 "));
}

#[tokio::test]
async fn put_patch_and_delete_as_their_clients_expect_them() {
    let served = served().await;
    let node = |more: Value| {
        let mut body = json!({ "hosts": ["x1000c0s0b0n0"] });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let first = node(json!({ "kernel": "k1", "initrd": "i1", "params": "a=1" }));
    assert_eq!(served.write("PUT", &first).await.0, 200);
    let (status, _, text) = served.write("POST", &first).await;
    assert!(status == 400 && text.contains("Bad Request: Already exists: x1000c0s0b0n0"), "{text}");
    assert_eq!(served.write("PATCH", &node(json!({ "params": "b=2" }))).await.0, 200);
    let found = served.json("/boot/v1/bootparameters?name=x1000c0s0b0n0", READER).await;
    let nobody = json!({
        "pub_key_dsa": "", "pub_key_rsa": "", "pub_key_ecdsa": "", "instance_id": "", "hostname": "", "fqdn": ""
    });
    let cloud_init = json!({ "meta-data": null, "user-data": null, "phone-home": nobody });
    let expected = json!([{
        "hosts": ["x1000c0s0b0n0"], "kernel": "k1", "initrd": "i1", "params": "b=2", "cloud-init": cloud_init
    }]);
    assert_eq!(found, expected);
    assert_eq!(served.json("/boot/v1/bootparameters?mac=52:54:00:00:00:01", OWN).await, expected);
    assert_eq!(served.write("PATCH", &json!({ "hosts": ["x9"], "params": "c=3" })).await.0, 404);
    // A MAC or a number of a host with a name means that name.
    let by_mac = json!({ "macs": ["52:54:00:00:00:01"], "kernel": "k2" });
    assert_eq!(served.write("PUT", &by_mac).await.0, 200);
    let found = served.json("/boot/v1/bootparameters?nid=7", READER).await;
    assert_eq!((&found[0]["hosts"][0], &found[0]["kernel"]), (&json!("x1000c0s0b0n0"), &json!("k2")));
    assert_eq!(served.write("DELETE", &json!({ "nids": [7] })).await.0, 200);
    let (status, _, text) = served.write("DELETE", &json!({ "nids": [7] })).await;
    assert!(status == 400 && text.contains("x1000c0s0b0n0"), "{text}");
    let found = served.json("/boot/v1/bootparameters?name=x1000c0s0b0n0", READER).await;
    assert_eq!(found[0]["kernel"], "http://SERVER/files/talos/vmlinuz");
    // Below the gateway's path, too.
    let (status, ..) =
        served.send("PUT", "/apis/bss/boot/v1/bootparameters", WRITER, &first.to_string()).await;
    assert_eq!(status, 200);
    for (method, body, status) in [
        ("PUT", "{}", 400),
        ("PUT", "[", 400),
        ("PUT", r#"{ "hosts": ["x1"], "kernel": "../k" }"#, 400),
        ("POST", r#"{ "macs": ["52:54"], "kernel": "k" }"#, 400),
        ("PUT", r#"{ "hosts": ["x1"], "params": "a\nboot" }"#, 400),
    ] {
        let (found, _, text) = served.send(method, "/boot/v1/bootparameters", WRITER, body).await;
        let problem: Value = serde_json::from_str(&text).unwrap();
        assert_eq!((found, &problem["status"]), (status, &json!(status)), "{method} {body}: {text}");
    }
    let large = format!(r#"{{ "hosts": ["{}"] }}"#, "x".repeat(1 << 20));
    assert_eq!(served.send("PUT", "/boot/v1/bootparameters", WRITER, &large).await.0, 413);
}

#[tokio::test]
async fn tags_and_roles_stand_for_their_machines() {
    let served = served().await;
    let of_unknown = "GET /boot/v1/bootscript?mac=52:54:00:00:00:99&arch=x86_64";
    for (host, kernel) in [("Default", "d"), ("Compute", "c"), ("Unknown-x86_64", "u")] {
        let body = json!({ "hosts": [host], "kernel": format!("http://s3/{kernel}"), "params": "" });
        assert_eq!(served.write("PUT", &body).await.0, 200);
    }
    let kernel = async |request: &str| {
        let script = served.text(request).await;
        script.lines().nth(1).unwrap().split(' ').nth(3).unwrap().to_owned()
    };
    let (compute, other) = (
        format!("GET /boot/v1/bootscript?nid=7{OWN}"),
        "GET /boot/v1/bootscript?name=x1000c0s1b0n0".to_owned(),
    );
    assert_eq!(kernel(&compute).await, "http://s3/c");
    assert_eq!(kernel(&other).await, "http://s3/d");
    assert_eq!(kernel(of_unknown).await, "http://s3/u");
    let dump = served.json("/boot/v1/dumpstate", READER).await;
    let hosts: Vec<&str> =
        dump["Params"].as_array().unwrap().iter().map(|entry| entry["hosts"][0].as_str().unwrap()).collect();
    assert_eq!(hosts, ["Compute", "Default", "Unknown-x86_64", "Unknown-arm64"]);
    // The arguments of a kernel go to all that boot it.
    assert_eq!(
        served.write("PUT", &json!({ "kernel": "http://s3/c", "params": "of_kernel=1" })).await.0,
        200
    );
    assert!(served.text(&compute).await.contains("http://s3/c of_kernel=1 xname="));
    // Its end is the end of all that have it.
    assert_eq!(served.write("DELETE", &json!({ "kernel": "http://s3/c" })).await.0, 200);
    assert_eq!(kernel(&compute).await, "http://s3/d");
    // What the configuration says of one machine goes before what is written for all.
    let own = CONFIG.replace("args = \"own=1\"", "args = \"own=1\"\nprofile = \"talos\"");
    let own = own.replace("[http]\n", "[http]\nbss_writers = [\"10.1.0.8\"]\n");
    let served = served_of(&own).await;
    let body = json!({ "hosts": ["Default", "Compute"], "kernel": "http://s3/d" });
    assert_eq!(served.write("PUT", &body).await.0, 200);
    assert!(served.text(&compute).await.contains("/files/talos/vmlinuz"));
}

#[tokio::test]
async fn nobody_else_writes() {
    let served = served().await;
    let body = r#"{ "hosts": ["Default"], "kernel": "http://evil/k" }"#;
    for method in ["PUT", "POST", "PATCH", "DELETE"] {
        for from in [OWN, READER, ""] {
            let (status, _, text) = served.send(method, "/boot/v1/bootparameters", from, body).await;
            assert!(status == 403 && text.contains("bss_writers"), "{method} {from}: {text}");
        }
    }
    assert_eq!(
        served.json("/boot/v1/bootparameters?name=x1000c0s1b0n0", READER).await[0]["params"],
        "console=ttyS0"
    );
    // Who may write may read.
    assert!(served.json("/boot/v1/dumpstate", WRITER).await["Params"].is_array());
}

/// As cloud-init asks where `ds=nocloud-net;s=` leads it.
#[tokio::test]
async fn cloud_init_gets_what_is_written_for_its_machine() {
    let served = served().await;
    assert_eq!(
        served.json("/meta-data", OWN).await,
        json!({ "Global": {}, "instance-id": "x1000c0s0b0n0", "local-hostname": "x1000c0s0b0n0", "shasta-role": "Compute" })
    );
    let data = |meta: Value, user: Value| json!({ "meta-data": meta, "user-data": user });
    for (host, cloud_init) in [
        ("x1000c0s0b0n0", data(json!({ "rack": { "row": 7 } }), json!({ "runcmd": ["own"] }))),
        (
            "Compute",
            data(
                json!({ "rack": { "row": 1, "of": "role" } }),
                json!({ "runcmd": ["role"], "packages": ["x"] }),
            ),
        ),
        ("Global", data(json!({ "site": "here" }), Value::Null)),
    ] {
        let body = json!({ "hosts": [host], "cloud-init": cloud_init });
        assert_eq!(served.write("PUT", &body).await.0, 200);
    }
    let meta = served.json("/meta-data", OWN).await;
    assert_eq!(
        (&meta["rack"], &meta["Global"]),
        (&json!({ "row": 7, "of": "role" }), &json!({ "site": "here" }))
    );
    assert_eq!(served.json("/apis/bss/meta-data?key=rack.row", OWN).await, json!(7));
    assert_eq!(served.status(&format!("GET /meta-data?key=rack.none{OWN}")).await, 404);
    let user = served.text(&format!("GET /user-data{OWN}")).await;
    let (first, rest) = user.split_once('\n').unwrap();
    let expected = json!({ "local-hostname": "x1000c0s0b0n0", "packages": ["x"], "runcmd": ["own"] });
    assert_eq!((first, serde_json::from_str::<Value>(rest).unwrap()), ("#cloud-config", expected));
    let history = served.json("/boot/v1/endpoint-history?endpoint=user-data", READER).await;
    assert_eq!(history[0]["name"], "x1000c0s0b0n0");
    // Another address is another machine's, and gets nothing of this one.
    let other = served.text("GET /user-data\nX-Forwarded-For: 10.1.1.51").await;
    assert!(!other.contains("own"), "{other}");
    // It still boots by the configuration: there is no kernel in what is written.
    assert!(
        served.text(&format!("GET /boot/v1/bootscript?nid=7{OWN}")).await.contains("/files/talos/vmlinuz")
    );
}

/// cloud-init of CSM posts an object, that of distributions a form.
#[tokio::test]
async fn a_machine_phones_home_by_json() {
    let served = served().await;
    let home = r#"{ "instance_id": "i-1", "hostname": "n1", "fqdn": "n1.mtl", "pub_key_rsa": "" }"#;
    for path in ["/phone-home", "/apis/bss/phone-home"] {
        assert_eq!(served.send("POST", path, OWN, home).await.0, 200, "{path}");
        assert_eq!(served.send("POST", path, OWN, "[").await.0, 400, "{path}");
    }
    assert_eq!(served.send("POST", "/boot/v1/hosts", "", "").await.0, 204);
    assert_eq!(
        served.send("POST", "/boot/v1/scn", "", r#"{ "Components": ["x0"], "State": "Off" }"#).await.0,
        200
    );
    assert_eq!(served.send("GET", "/boot/v1/scn", "", "").await.0, 405);
}

/// A page that somebody looks at on a host of `bss_writers` decides nothing.
#[tokio::test]
async fn what_a_browser_sends_is_refused() {
    let served = served().await;
    let body = json!({ "hosts": ["node2"], "kernel": "http://evil.example/vmlinuz" }).to_string();
    for header in ["Origin: http://evil.example", "Sec-Fetch-Site: cross-site"] {
        let from = format!("{WRITER}\n{header}");
        let (status, _, said) = served.send("POST", "/boot/v1/bootparameters", &from, &body).await;
        assert!(status == 403 && said.contains("browser"), "{header}: {status} {said}");
    }
}
