//! What HTTP says of scripts and files.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use boot_common::Mac;
use boot_engine::boot::plan::Plan;
use boot_engine::boot::token::NoSecret;
use boot_engine::config::{self, Config, DocumentKind};
use boot_engine::events::{
    BootEvent, Events, Http, Machine, PhoneHome, RefusedRequest, Sink as _, Step, WhyEnded,
};
use boot_engine::machines::Machines;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::daemon::log;
use crate::files::BootFiles;
use crate::http::{self, Asked, Document, NoDocument, NoScript, Readiness, Scripts, Site};
use crate::images::Images;

struct Book;

impl Scripts for Book {
    fn script(&self, asked: &Asked) -> Result<String, NoScript> {
        match asked.hostname.as_deref() {
            Some("ignored") => Err(NoScript::NotForYou("not this one".to_owned())),
            Some("another") => {
                Err(NoScript::OfAnother { machine: "node1".to_owned(), address: Ipv4Addr::new(10, 1, 1, 50) })
            }
            Some("broken") => Err(NoScript::Broken("no such profile".to_owned())),
            _ => Ok("#!ipxe\n".to_owned()),
        }
    }

    fn document(&self, _: &Asked, name: &str) -> Result<Document, NoDocument> {
        match name {
            "user-data" => Ok(Document {
                kind: DocumentKind::UserData,
                text: "#cloud-config\n".to_owned(),
                is_secret: false,
            }),
            "ignition" => {
                let address = Ipv4Addr::new(10, 1, 1, 50);
                Err(NoDocument::OfAnother { machine: "node1".to_owned(), address })
            }
            "talos" => {
                Err(NoDocument::Broken("talos of node1 cannot be written: undefined value".to_owned()))
            }
            "kickstart" => Err(NoDocument::Secret(NoSecret::Given)),
            _ => Err(NoDocument::Nothing("there is none".to_owned())),
        }
    }

    fn check_asker(&self, asked: &Asked) -> Result<(), NoScript> {
        match asked.mac {
            Some(Mac([.., 9])) => {
                Err(NoScript::OfAnother { machine: "node9".to_owned(), address: Ipv4Addr::new(10, 1, 1, 59) })
            }
            _ => Ok(()),
        }
    }

    fn plan(&self, _: &Asked) -> Result<Plan, NoScript> {
        Ok(Plan::Wait("no profile".to_owned()))
    }

    fn config(&self) -> Arc<Config> {
        Arc::new(Config::empty())
    }
}

pub(super) fn all() {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(ask_for_everything());
}

async fn ask_for_everything() {
    let dir = tempfile::tempdir().unwrap();
    let boot = dir.path().join("boot");
    std::fs::create_dir_all(boot.join("directory")).unwrap();
    std::fs::write(boot.join("snponly.efi"), "0123456789").unwrap();
    let files = BootFiles::new(boot, BTreeMap::new()).with_system_dirs(Vec::new());
    let known = "[[interface]]\nname = \"eth0\"\ndhcp = \"off\"\n[[machine]]\nmac = \"52:54:00:00:00:01\"\nname = \"node1\"\n";
    let machines = Machines::new(config::parse(known, "test").unwrap().machines).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = Config { state_dir: dir.path().join("state"), ..Config::empty() };
    let events: Events = Arc::new(log::events());
    let site = Site {
        files: Arc::new(files),
        images: Images::new(&config, Arc::clone(&events)),
        machines: machines.clone(),
        scripts: Arc::new(Book),
        trusted_proxies: Arc::new([]),
        readiness: Readiness::default(),
        events,
        history: Arc::default(),
        tokens: Arc::default(),
        inventories: Arc::default(),
        registry: crate::daemon::request::RegistryHandle::none(),
        boot_parameters: crate::daemon::request::ParametersHandle::none(),
    };
    let (routes, settings) = (http::router(site), Config::empty().http);
    let stats = Arc::<http::ConnectionStats>::default();
    let counts = Arc::clone(&stats);
    let events: Events = Arc::new(log::events());
    let server = tokio::spawn(async move { http::serve(listener, routes, &settings, counts, events).await });
    for request in [
        "GET /boot.ipxe",
        "GET /ipxe/boot.ipxe?mac=52:54:00:00:00:02",
        "GET /files/snponly.efi",
        "GET /files/nothing%0a",
    ] {
        ask(address, request, "").await;
    }
    let mac = Mac([0x52, 0x54, 0, 0, 0, 1]);
    machines.put(Ipv4Addr::LOCALHOST, mac);
    for request in [
        "GET /boot.ipxe",
        "HEAD /boot.ipxe",
        "GET /ipxe/boot.ipxe?hostname=ignored",
        "GET /ipxe/boot.ipxe?hostname=another",
        "GET /ipxe/boot.ipxe?hostname=broken",
        "GET /ipxe/boot.ipxe?mac=52:54:00:00:00:02",
        "GET /documents/self/user-data",
        "HEAD /documents/52-54-00-00-00-01/user-data",
        "GET /documents/52-54-00-00-00-02/nothing%0a",
        "GET /documents/self/ignition",
        "GET /documents/self/talos",
        "GET /documents/self/t-0123456789abcdef0123456789abcdef/kickstart",
        "POST /documents/self/t-0123456789abcdef0123456789abcdef/kickstart",
        "GET /t-0123456789abcdef0123456789abcdef",
        "GET /phone-home",
        "GET /phone-home?status=failure&text=no%20root%0a%1b[31m",
        "GET /phone-home?mac=52-54-00-00-00-09&status=success",
        "GET /files/snponly.efi",
        "HEAD /files/snponly.efi",
        "GET /files/nothing",
        "GET /files/../secret",
        "GET /files/%2e%2e/secret",
        "GET /somewhere/else",
        "GET /images/vmlinuz",
        "GET /images/%2e%2e",
        "GET /files/autoexec.ipxe",
        "POST /boot.ipxe",
        "GET /files/%zz",
        "nonsense",
    ] {
        ask(address, request, "").await;
    }
    ask(address, "GET /files/snponly.efi", "Range: bytes=2-4\r\n").await;
    // One that leaves before it has the file, and one whose file is cut meanwhile.
    for is_cut in [false, true] {
        std::fs::write(dir.path().join("boot/vmlinuz"), vec![7; 30_000_000]).unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /files/vmlinuz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.read_exact(&mut [0; 100]).await.unwrap();
        if is_cut {
            let file = std::fs::File::options().write(true).open(dir.path().join("boot/vmlinuz")).unwrap();
            file.set_len(1_000).unwrap();
            stream.read_to_end(&mut Vec::new()).await.ok();
        }
        drop(stream);
        let ends = async {
            while stats.open() > 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ends).await.unwrap();
    }
    server.abort();
    let tell = |http| {
        let step = Step::Http(Ipv4Addr::LOCALHOST.into(), http);
        let event = BootEvent::new(Duration::from_secs(1), step).of(Machine::from(machines.client(mac)));
        log::events().emit(event);
    };
    for why in [WhyEnded::Stalled(60), WhyEnded::MadeRoom, WhyEnded::Stopped] {
        let (bytes, whole, took) = (4096, 30_000_000, Duration::from_secs(70));
        tell(Http::Ended { file: "initrd".into(), bytes, whole, took, why });
    }
    tell(Http::Refused(RefusedRequest::TooSlow));
    let (method, path) = ("PUT".to_owned(), "/boot/v1/bootparameters".to_owned());
    tell(Http::Refused(RefusedRequest::Status { method, path, status: 403 }));
    let late = Step::PhoneHome(Ipv4Addr::LOCALHOST.into(), PhoneHome::OfEarlierRun);
    let event = BootEvent::new(Duration::from_secs(1), late).of(Machine::from(machines.client(mac)));
    log::events().emit(event);
}

async fn ask(address: SocketAddr, request: &str, headers: &str) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text = format!("{request} HTTP/1.1\r\nHost: x\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
}
