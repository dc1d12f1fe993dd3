//! Secret documents: once per boot, for the token in that boot's script.

use std::time::Duration;

use boot_engine::boot::script::ScriptWriter;
use boot_engine::boot::token::NoSecret;
use boot_engine::config::{Source, TextFile, parse_files_with};
use boot_engine::events::{BootEvent, Document as End, Sink};
use tokio::net::TcpSocket;
use tokio::sync::mpsc;

use super::*;

const CONFIG: &str = r#"
    [http]
    fronts = ["matchbox", "bss", "pixiecore", "sidero"]
    inventory_clients = ["10.1.1.0/24"]
    [[interface]]
    name = "eth1"
    [[subnet]]
    cidr = "10.1.0.0/16"
    pool = ["10.1.1.33-10.1.1.40"]
    [[profile]]
    name = "linux"
    kernel = "vmlinuz"
    args = "ds=nocloud;s={{ documents }}"
    [profile.documents]
    user-data = { file = "user-data", secret = true }
    ignition = { file = "ignition", secret = true }
    talos = "talos"
    [default]
    profile = "linux"
    unknown = "ignore"
    [[machine]]
    mac = "52:54:00:00:00:01"
    name = "node1"
    [[machine]]
    mac = "52:54:00:00:00:02"
    [[machine]]
    mac = "52:54:00:00:00:03"
"#;
const NODE1: &str = "52-54-00-00-00-01";
const USER_DATA: &str = "#cloud-config\npassword: of-node1\n";
/// More than a small receive buffer takes.
const LARGE: usize = 200_000;

struct Told(mpsc::UnboundedSender<BootEvent>);

impl Sink for Told {
    fn emit(&self, event: BootEvent) {
        self.0.send(event).ok();
    }
}

struct Secrets {
    rig: Rig,
    told: mpsc::UnboundedReceiver<BootEvent>,
}

impl Secrets {
    async fn new() -> Self {
        let read = |name: &str| {
            let text = match name {
                "user-data" => "#cloud-config\npassword: of-{{ machine.name }}\n".to_owned(),
                "talos" => "version: v1alpha1\nmachine: {seed: \"{{ documents }}\"}\n".to_owned(),
                _ => format!(
                    "{{\"ignition\": {{\"version\": \"3.3.0\"}}, \"x\": \"{}\"}}\n",
                    "x".repeat(LARGE)
                ),
            };
            Ok(TextFile { name: name.to_owned(), text })
        };
        let source = Source { name: "test".to_owned(), bytes: CONFIG.into() };
        let config = parse_files_with(&[source], &read).unwrap();
        let machines = Machines::new(config.machines.iter().cloned()).unwrap();
        machines.put(Ipv4Addr::new(10, 1, 1, 50), NODE1.parse().unwrap());
        machines.put(Ipv4Addr::new(10, 1, 1, 51), "52:54:00:00:00:02".parse().unwrap());
        let (sender, told) = mpsc::unbounded_channel();
        let scripts = Arc::new(ScriptWriter::new(config).unwrap());
        Self { rig: rig_with(scripts, machines, Arc::new(Told(sender))).await, told }
    }

    /// A request of the machine with this address.
    async fn ask(&self, from: &str, request: &str) -> Answer {
        self.rig.ask(&format!("{request}\nX-Forwarded-For: {from}")).await
    }

    async fn text(&self, from: &str, request: &str) -> (u16, String) {
        let answer = self.ask(from, request).await;
        (answer.status, String::from_utf8(answer.body).unwrap())
    }

    async fn get(&self, from: &str, seed: &str, name: &str) -> (u16, String) {
        self.text(from, &format!("GET {seed}{name}")).await
    }

    /// The path below which the documents of this boot are, as the script has it.
    async fn boot(&self, request: &str) -> String {
        let (status, script) = self.text("10.1.1.50", request).await;
        assert_eq!(status, 200, "{request}: {script}");
        let at = script.find("s=http://").unwrap_or_else(|| panic!("no seed in {script}"));
        let url = script[at..].split([' ', '"', '\'', '\n']).next().unwrap();
        url[url.find("/documents/").unwrap()..].to_owned()
    }

    /// Why the last document was refused.
    fn refused(&mut self) -> (BootEvent, NoSecret) {
        let mut last = None;
        while let Ok(event) = self.told.try_recv() {
            if let Step::Document { end: End::None(NoDocument::Secret(why)), .. } = &event.step {
                last = Some((*why, event));
            }
        }
        let (why, event) = last.expect("an event about a refused document");
        (event, why)
    }
}

fn script() -> String {
    format!("GET /ipxe/boot.ipxe?mac={NODE1}")
}

#[tokio::test]
async fn a_secret_document_is_given_once_per_boot() {
    let mut secrets = Secrets::new().await;
    let seed = secrets.boot(&script()).await;
    let token = seed.trim_end_matches('/').rsplit('/').next().unwrap().to_owned();
    assert!(token.starts_with("t-") && token.len() == 34, "{seed}");
    // Looking does not use it up, and what is no secret is given as often as it is wanted.
    for _ in 0..2 {
        let head = secrets.ask("10.1.1.50", &format!("HEAD {seed}user-data")).await;
        assert_eq!((head.status, head.header("content-length")), (200, USER_DATA.len().to_string().as_str()));
        assert_eq!(secrets.get("10.1.1.50", &seed, "meta-data").await.0, 200);
    }
    let first = secrets.ask("10.1.1.50", &format!("GET {seed}user-data")).await;
    assert_eq!(
        (first.status, first.header("connection"), first.header("cache-control")),
        (200, "close", "no-store")
    );
    assert_eq!(first.body, USER_DATA.as_bytes());
    let (status, said) = secrets.get("10.1.1.50", &seed, "user-data").await;
    assert!(status == 410 && said.starts_with("it was given already"), "{status} {said}");
    let (event, why) = secrets.refused();
    assert_eq!(
        (event.machine.and_then(|machine| machine.name), why),
        (Some("node1".into()), NoSecret::Given)
    );
    let Step::Document { client, path, .. } = event.step else { panic!() };
    assert_eq!(
        (client.to_string(), path),
        ("10.1.1.50".to_owned(), format!("/documents/{NODE1}/t-…/user-data"))
    );
    assert_eq!(secrets.ask("10.1.1.50", &format!("HEAD {seed}user-data")).await.status, 410);
    // The other secret of the same boot.
    assert_eq!(secrets.get("10.1.1.50", &seed, "ignition").await.0, 200);
    assert_eq!(secrets.get("10.1.1.50", &seed, "ignition").await.0, 410);
    // A script whose length is asked for begins no new boot; one that is fetched does.
    secrets.ask("10.1.1.50", &script().replace("GET", "HEAD")).await;
    assert_eq!(secrets.get("10.1.1.50", &seed, "user-data").await.0, 410);
    let next = secrets.boot(&script()).await;
    assert_ne!(next, seed);
    assert_eq!(secrets.get("10.1.1.50", &seed, "user-data").await.0, 403, "the token of the boot before");
    assert_eq!(secrets.refused().1, NoSecret::NotValid);
    assert_eq!(secrets.get("10.1.1.50", &next, "user-data").await, (200, USER_DATA.to_owned()));
    // A document that names others has this boot's token, too.
    let (_, talos) = secrets.get("10.1.1.50", &next, "talos").await;
    assert!(talos.contains(&next), "{talos}");
}

#[tokio::test]
async fn nobody_else_gets_a_secret_document() {
    let mut secrets = Secrets::new().await;
    let seed = secrets.boot(&script()).await;
    let bare = format!("/documents/{NODE1}/");
    let forged = format!("{bare}t-{}/", "0".repeat(32));
    let (token, _) = seed[bare.len()..].split_once('/').unwrap();
    let others = format!("/documents/52-54-00-00-00-02/{token}/");
    let of_self = format!("/documents/self/{token}/");
    for (from, seed, status, why) in [
        ("10.1.1.50", &bare, 403, NoSecret::NoToken),
        ("10.1.1.50", &forged, 403, NoSecret::NotValid),
        ("10.1.1.51", &others, 403, NoSecret::NotValid),
        ("10.1.1.51", &of_self, 403, NoSecret::NotValid),
    ] {
        let (found, said) = secrets.get(from, seed, "user-data").await;
        assert_eq!((found, said), (status, format!("{why}\n")), "{from} {seed}");
        assert_eq!(secrets.refused().1, why, "{from} {seed}");
    }
    // A machine that has no address yet is anybody's to name, also of one with a lease of its own.
    for from in ["10.1.1.99", "10.1.1.51"] {
        let (status, script) = secrets.text(from, "GET /ipxe/boot.ipxe?mac=52-54-00-00-00-03").await;
        assert!(status == 200 && script.contains("documents/52-54-00-00-00-03/ "), "{from}: {script}");
        assert_eq!(secrets.get(from, "/documents/52-54-00-00-00-03/", "user-data").await.0, 403);
    }
    // The machine's own address comes before its token.
    let (status, said) = secrets.get("10.1.1.51", &seed, "user-data").await;
    assert!(status == 403 && said.contains("has another address"), "{said}");
    // Somebody else has the address by now.
    secrets.rig.site.machines.put(Ipv4Addr::new(10, 1, 1, 50), "52:54:00:00:00:02".parse().unwrap());
    assert_eq!(secrets.get("10.1.1.50", &seed, "user-data").await.0, 403);
    secrets.rig.site.machines.put(Ipv4Addr::new(10, 1, 1, 50), NODE1.parse().unwrap());
    // What is encoded is no token, or the log would show it.
    let encoded = seed.replacen("t-", "t%2D", 1);
    assert_eq!(secrets.get("10.1.1.50", &encoded, "user-data").await.0, 403);
    // The paths of fronts have no token, and the list of all machines ends none.
    for path in [format!("/ignition?mac={NODE1}"), format!("/cloud?mac={NODE1}")] {
        assert_eq!(secrets.text("10.1.1.50", &format!("GET {path}")).await.0, 403, "{path}");
    }
    let (status, list) = secrets.text("10.1.1.50", "GET /boot/v1/bootparameters").await;
    assert!(status == 200 && list.contains(&bare) && !list.contains("t-"), "{list}");
    assert_eq!(secrets.get("10.1.1.50", &seed, "user-data").await, (200, USER_DATA.to_owned()));
}

#[tokio::test]
async fn every_way_to_boot_has_a_token() {
    let secrets = Secrets::new().await;
    for request in [
        format!("GET /files/grub/grub.cfg-01-{NODE1}"),
        format!("GET /files/pxelinux.cfg/01-{NODE1}"),
        format!("GET /ipxe?mac={NODE1}"),
        format!("GET /grub?mac={NODE1}"),
        format!("GET /boot/v1/bootscript?mac={NODE1}&arch=x86_64"),
        format!("GET /v1/boot/{NODE1}"),
    ] {
        let seed = secrets.boot(&request).await;
        assert_eq!(secrets.get("10.1.1.50", &seed, "user-data").await.0, 200, "{request} {seed}");
        assert_eq!(secrets.get("10.1.1.50", &seed, "user-data").await.0, 410, "{request}");
    }
}

/// A client whose cable is pulled out has not got it.
#[tokio::test]
async fn a_transfer_that_broke_is_none() {
    let secrets = Secrets::new().await;
    let seed = secrets.boot(&script()).await;
    let mut went_away = Vec::new();
    for is_reset in [true, false] {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let mut stream = socket.connect(secrets.rig.address).await.unwrap();
        let request = format!("GET {seed}ignition HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.1.1.50\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        // Without that the connection stays open, and nobody reads.
        went_away.extend((!is_reset).then_some(stream));
    }
    let got = tokio::time::timeout(Duration::from_secs(20), secrets.get("10.1.1.50", &seed, "ignition"))
        .await
        .unwrap();
    assert!(got.0 == 200 && got.1.len() > LARGE, "{} {}", got.0, got.1.len());
    assert_eq!(secrets.get("10.1.1.50", &seed, "ignition").await.0, 410);
}
