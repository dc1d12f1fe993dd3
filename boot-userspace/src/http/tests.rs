//! Raw requests over a real connection.

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::symlink;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use boot_common::Mac;
use boot_engine::config::Config;

mod agent;
mod bss_writes;
mod documents;
mod echo;
mod files;
mod fronts;
mod loaders;
mod pixiecore;
mod refused;
mod secrets;
mod sending;

use echo::Echo;

struct Rig {
    dir: tempfile::TempDir,
    site: Site,
    address: SocketAddr,
}

struct Answer {
    status: u16,
    head: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

async fn rig() -> Rig {
    rig_with(Arc::new(Echo), Machines::default(), Arc::new(())).await
}

async fn rig_with(scripts: Arc<dyn Scripts + Send + Sync>, machines: Machines, events: Events) -> Rig {
    rig_writing(scripts, machines, events, ParametersHandle::none()).await
}

async fn rig_writing(
    scripts: Arc<dyn Scripts + Send + Sync>,
    machines: Machines,
    events: Events,
    boot_parameters: ParametersHandle,
) -> Rig {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("boot/talos")).unwrap();
    fs::write(dir.path().join("secret"), "secret").unwrap();
    fs::write(dir.path().join("boot/talos/vmlinuz"), big_file()).unwrap();
    fs::write(dir.path().join("boot/snponly.efi"), "0123456789").unwrap();
    fs::write(dir.path().join("boot/empty"), "").unwrap();
    symlink("../secret", dir.path().join("boot/link")).unwrap();
    let files = BootFiles::new(dir.path().join("boot"), BTreeMap::new()).with_system_dirs(Vec::new());
    let site = Site {
        files: Arc::new(files),
        images: Images::new(&Config::empty(), Arc::new(())),
        machines,
        scripts,
        trusted_proxies: Arc::new(["127.0.0.0/8".parse().unwrap()]),
        readiness: Readiness::default(),
        events,
        history: Arc::default(),
        tokens: Arc::default(),
        inventories: Arc::default(),
        registry: crate::daemon::request::RegistryHandle::none(),
        boot_parameters,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (routes, settings) = (router(site.clone()), Config::empty().http);
    tokio::spawn(async move { serve(listener, routes, &settings, Arc::default(), Arc::new(())).await });
    Rig { dir, site, address }
}

fn big_file() -> Vec<u8> {
    (0..1_000_003u32).map(|position| (position % 251) as u8).collect()
}

/// Sends one request on an open connection and reads exactly its answer.
async fn exchange(stream: &mut TcpStream, request: &str) -> Answer {
    let (request, sent) = request.split_once("\n\n").unwrap_or((request, ""));
    let (line, headers) = request.split_once('\n').unwrap_or((request, ""));
    let version = if line.contains(" HTTP/") { "" } else { " HTTP/1.1" };
    let headers: String = headers.lines().map(|header| format!("{header}\r\n")).collect();
    stream.write_all(format!("{line}{version}\r\nHost: x\r\n{headers}\r\n{sent}").as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    assert!(!headers.contains_key("transfer-encoding"), "{head}");
    let bodiless = line.starts_with("HEAD") || matches!(status, 204 | 304);
    let length = if bodiless { 0 } else { headers["content-length"].parse().unwrap() };
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    Answer { status, head, headers, body }
}

impl Rig {
    async fn ask(&self, request: &str) -> Answer {
        exchange(&mut TcpStream::connect(self.address).await.unwrap(), request).await
    }

    async fn script(&self, request: &str) -> String {
        let answer = self.ask(request).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, "text/plain"), "{}", answer.head);
        String::from_utf8(answer.body).unwrap()
    }
}

#[tokio::test]
async fn the_first_script_leads_back_to_the_address_that_was_reached() {
    let rig = rig().await;
    let url = format!("http://{}/ipxe/boot.ipxe?uuid=${{uuid}}&mac=${{mac:hexhyp}}&", rig.address);
    for path in ["/boot.ipxe", "/autoexec.ipxe", "/files/autoexec.ipxe", "/tftp/x64/autoexec.ipxe"] {
        let script = rig.script(&format!("GET {path}")).await;
        assert!(script.starts_with("#!ipxe\n") && script.contains(&url), "{path}: {script}");
        // With the firmware's network it asks for an address, whatever it has.
        assert_eq!(script.starts_with("#!ipxe\ngoto script\n"), path == "/boot.ipxe", "{path}: {script}");
    }
    fs::write(rig.dir.path().join("boot/autoexec.ipxe"), "#!ipxe\nshell\n").unwrap();
    assert_eq!(rig.script("GET /files/autoexec.ipxe").await, "#!ipxe\nshell\n");
}

#[tokio::test]
async fn a_script_is_asked_for_with_everything_the_machine_says() {
    let rig = rig().await;
    let query = "uuid=u-1&mac=52-54-00-00-00-01&domain=&hostname=n%201&serial=To+be&arch=x86_64";
    let script = rig.script(&format!("GET /ipxe/boot.ipxe?{query}")).await;
    for part in [
        "uuid: Some(\"u-1\")",
        "domain: None",
        "hostname: Some(\"n 1\")",
        "serial: Some(\"To be\")",
        "arch: Some(\"x86_64\")",
        &format!("mac: {:?}", Some(Mac([0x52, 0x54, 0, 0, 0, 1]))),
        &format!("server: {:?}", boot_engine::boot::Server::from(rig.address)),
    ] {
        assert!(script.contains(part), "{part}: {script}");
    }
    rig.site.machines.put(Ipv4Addr::LOCALHOST, Mac([2; 6]));
    for query in [
        "",
        "?",
        "?mac=nonsense",
        "?mac=ff:ff:ff:ff:ff:ff",
        "?mac=00-00-00-00-00-00",
        "?%zz=1&&=&mac",
        "?uuid=%ff%00",
    ] {
        let script = rig.script(&format!("GET /ipxe/boot.ipxe{query}")).await;
        assert!(script.contains(&format!("mac: {:?}", Some(Mac([2; 6])))), "{query}: {script}");
    }
}

#[tokio::test]
async fn what_writes_the_scripts_is_told_which_machine_asks() {
    let rig = rig().await;
    let config = "[[interface]]\nname = \"eth1\"\ndhcp = \"off\"\n\
        [[machine]]\nmac = \"52:54:00:00:00:01\"\nname = \"by-mac\"\n\
        [[machine]]\nuuid = \"4c4c4544-0042-3510-8052-b4c04f4e3132\"\nname = \"by-uuid\"\n";
    for machine in boot_engine::config::parse(config, "test").unwrap().machines {
        rig.site.machines.add(machine).unwrap();
    }
    let (by_mac, by_uuid) = ("mac=52-54-00-00-00-01", "uuid=44454c4c-4200-1035-8052-b4c04f4e3132");
    for (query, name) in [
        (by_mac, Some("by-mac")),
        (by_uuid, Some("by-uuid")),
        (&format!("{by_uuid}&{by_mac}"), Some("by-mac")),
        ("mac=52-54-00-00-00-99", None),
        ("uuid=nonsense", None),
    ] {
        let script = rig.script(&format!("GET /ipxe/boot.ipxe?{query}")).await;
        for other in ["by-mac", "by-uuid"] {
            let is_named = script.contains(&format!("name: Some({other:?})"));
            assert_eq!(is_named, name == Some(other), "{query}: {script}");
        }
        assert!(script.contains("elsewhere: None"), "{query}: {script}");
    }
    rig.site.machines.put(Ipv4Addr::LOCALHOST, Mac([0x52, 0x54, 0, 0, 0, 1]));
    assert!(rig.script("GET /ipxe/boot.ipxe").await.contains("name: Some(\"by-mac\")"), "by its address");
    let script = rig.script(&format!("GET /ipxe/boot.ipxe?{by_mac}\nX-Forwarded-For: 10.1.1.50")).await;
    assert!(script.contains("elsewhere: Some(127.0.0.1)"), "{script}");
}

#[tokio::test]
async fn a_proxy_that_is_trusted_speaks_for_its_client() {
    let rig = rig().await;
    rig.site.machines.put(Ipv4Addr::new(10, 1, 1, 50), Mac([2; 6]));
    let script = rig.script("GET /ipxe/boot.ipxe\nX-Forwarded-For: 10.9.9.9, 10.1.1.50").await;
    assert!(script.contains(&format!("mac: {:?}", Some(Mac([2; 6])))), "{script}");
    assert!(script.contains("client_ip: 10.1.1.50"), "{script}");
    assert!(rig.script("GET /ipxe/boot.ipxe").await.contains("client_ip: 127.0.0.1"));
}

#[tokio::test]
async fn a_script_that_is_another_machine_s_is_refused_without_a_hint() {
    let rig = rig().await;
    let answer = rig.ask("GET /ipxe/boot.ipxe?hostname=another").await;
    assert_eq!((answer.status, answer.header("content-type")), (403, "text/plain"));
    let text = String::from_utf8(answer.body).unwrap();
    assert_eq!(
        text,
        "node1 has another address: its script is for itself only; the server's log says more\n"
    );
}

#[tokio::test]
async fn no_script_is_an_error_with_a_reason() {
    let rig = rig().await;
    // One who is not to be booted goes on to its next boot entry, and does not ask for ever.
    let script = rig.script("GET /ipxe/boot.ipxe?hostname=ignored").await;
    assert_eq!(script, "#!ipxe\necho xpxe: not this one\nexit 1\n");
    let answer = rig.ask("GET /ipxe/boot.ipxe?hostname=broken").await;
    assert_eq!(answer.status, 500);
    assert!(!answer.body.is_empty());
}

#[tokio::test]
async fn files_come_whole_with_length_and_validators() {
    let rig = rig().await;
    for path in
        ["/files/talos/vmlinuz", "/tftp/talos/vmlinuz", "/files//TALOS/vmlinuz", "/files/t%61los/vmlinuz?x=y"]
    {
        let answer = rig.ask(&format!("GET {path}")).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.body == big_file(), "{path}");
        assert_eq!(answer.header("accept-ranges"), "bytes");
        assert!(answer.header("etag").starts_with('"') && answer.header("last-modified").ends_with(" GMT"));
    }
    assert_eq!(rig.ask("GET /files/empty").await.header("content-length"), "0");
    assert_eq!(rig.ask("GET /files/snponly.efi").await.header("content-type"), "application/efi");
    assert_eq!(rig.ask("GET /files/talos/vmlinuz HTTP/1.0").await.body.len(), 1_000_003);
}

#[tokio::test]
async fn head_has_the_headers_of_get() {
    let rig = rig().await;
    let without_date = |answer: Answer| {
        let mut headers = answer.headers;
        headers.remove("date");
        (answer.status, headers)
    };
    for path in
        ["/files/snponly.efi", "/files/empty", "/boot.ipxe", "/files/missing", "/healthz", "/ipxe/boot.ipxe"]
    {
        let get = without_date(rig.ask(&format!("GET {path}")).await);
        assert!(get.1.contains_key("content-length"));
        assert_eq!(without_date(rig.ask(&format!("HEAD {path}")).await), get, "{path}");
    }
}

/// What the client's socket gets until the server closes it.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut bytes = Vec::new();
    // A server that refuses a request without reading all of it resets the connection after its answer.
    drop(stream.read_to_end(&mut bytes).await);
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test]
async fn header_names_leave_in_title_case() {
    let rig = rig().await;
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(70_000));
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(500_000));
    let get = |path: &str, headers: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n")
    };
    for (request, status, names) in [
        (
            get("/files/snponly.efi", ""),
            200,
            &[
                "Content-Length",
                "Content-Type",
                "Accept-Ranges",
                "Last-Modified",
                "Etag",
                "Date",
                "Connection",
            ][..],
        ),
        (get("/files/snponly.efi", "Range: bytes=1-2\r\n"), 206, &["Content-Range"]),
        (get("/files/snponly.efi", "Range: bytes=10-\r\n"), 416, &["Content-Range", "Content-Length"]),
        (get("/files/snponly.efi", "If-None-Match: *\r\n"), 304, &["Etag", "Last-Modified"]),
        (get("/files/missing", ""), 404, &["Content-Length", "Content-Type"]),
        (get("/files/../secret", ""), 403, &["Content-Length"]),
        (get("/boot.ipxe", ""), 200, &["Content-Length", "Content-Type", "Cache-Control"]),
        (get("/ipxe/boot.ipxe?hostname=broken", ""), 500, &["Content-Length"]),
        (get("/nothing", ""), 404, &["Content-Length"]),
        (get("/readyz", ""), 503, &["Content-Length"]),
        (get("/boot.ipxe", "").replace("GET", "POST"), 405, &["Allow", "Content-Length"]),
        (get("/boot.ipxe", "").replace("GET", "HEAD"), 200, &["Content-Length", "Content-Type"]),
        (get("/boot.ipxe", "").replace("/1.1", "/1.0"), 200, &["Content-Length"]),
        // These are answered by hyper itself.
        ("nonsense\r\n\r\n".to_owned(), 400, &["Content-Length", "Connection", "Date"]),
        ("GET / HTTP/1.1\r\nHost : x\r\n\r\n".to_owned(), 400, &["Content-Length"]),
        ("GET / HTTP/3.7\r\n\r\n".to_owned(), 400, &["Content-Length"]),
        (long, 431, &["Content-Length"]),
        (large, 431, &["Content-Length"]),
    ] {
        let begin = request.get(..60).unwrap_or(&request).to_owned();
        let answer = raw(rig.address, request.as_bytes()).await;
        let (head, _) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{begin}: {answer:?}"));
        assert_eq!(head.split(' ').nth(1), Some(status.to_string().as_str()), "{begin}: {head}");
        for line in head.lines().skip(1) {
            let (name, _) = line.split_once(": ").unwrap();
            let is_title_case =
                name.split('-').all(|word| word.starts_with(|first: char| first.is_ascii_uppercase()));
            assert!(is_title_case, "{begin}: {line}");
        }
        for name in names {
            assert!(
                head.lines().any(|line| line.starts_with(&format!("{name}: "))),
                "{begin}: {name}\n{head}"
            );
        }
    }
}

/// BusyBox's wget, in Petitboot for example, shuts down its sending side after the request.
#[tokio::test]
async fn a_client_that_sends_no_more_is_served_to_the_end() {
    let rig = rig().await;
    let file = fs::File::create(rig.dir.path().join("boot/large")).unwrap();
    file.set_len(30_000_000).unwrap();
    for (path, length) in [
        ("/files/large", 30_000_000),
        ("/files/talos/vmlinuz", 1_000_003),
        ("/files/snponly.efi", 10),
        ("/boot.ipxe", 0),
    ] {
        for version in ["1.0", "1.1"] {
            let mut stream = TcpStream::connect(rig.address).await.unwrap();
            stream
                .write_all(format!("GET {path} HTTP/{version}\r\nHost: x\r\n\r\n").as_bytes())
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).await.unwrap();
            assert!(
                bytes.starts_with(b"HTTP/1.") && bytes.len() > length + 100,
                "{path}: {} bytes",
                bytes.len()
            );
        }
    }
    // Who says nothing and ends is not waited for.
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(stream.read_to_end(&mut Vec::new()).await.unwrap(), 0);
}

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let rig = rig().await;
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    for _ in 0..3 {
        assert_eq!(exchange(&mut stream, "GET /boot.ipxe").await.status, 200);
        assert_eq!(
            exchange(&mut stream, "HEAD /files/talos/vmlinuz").await.header("content-length"),
            "1000003"
        );
        assert_eq!(exchange(&mut stream, "GET /files/talos/vmlinuz").await.body.len(), 1_000_003);
        assert_eq!(exchange(&mut stream, "GET /files/missing").await.status, 404);
    }
}

#[tokio::test]
async fn other_methods_are_refused() {
    let rig = rig().await;
    for method in ["POST", "PUT", "DELETE"] {
        let answer = rig.ask(&format!("{method} /files/empty")).await;
        assert_eq!((answer.status, answer.header("allow")), (405, "GET,HEAD"), "{method}");
    }
}

#[tokio::test]
async fn readiness_is_what_the_daemon_says() {
    let rig = rig().await;
    assert_eq!(rig.ask("GET /readyz").await.status, 503);
    let readiness = &rig.site.readiness;
    readiness.set_started();
    assert_eq!(rig.ask("GET /readyz").await.body, b"ready\n");
    readiness.set_trouble("store", Some("the disk is full".to_owned()));
    readiness.set_trouble("eth1", Some("eth1 is down".to_owned()));
    let answer = rig.ask("GET /readyz").await;
    assert_eq!(answer.body, b"not ready: eth1 is down\nnot ready: the disk is full\n");
    assert_eq!(answer.status, 503);
    readiness.set_trouble("eth1", None);
    assert_eq!(rig.ask("GET /readyz").await.body, b"not ready: the disk is full\n");
    readiness.set_trouble("store", None);
    readiness.set_note("the store", Some("it is away".to_owned()));
    readiness.set_note("the fast path", Some("no fast path".to_owned()));
    readiness.set_note("the store", None);
    let answer = rig.ask("GET /readyz").await;
    assert_eq!((answer.status, answer.body), (200, b"ready\nnote: no fast path\n".to_vec()));
}

#[test]
fn a_path_in_the_log_is_short_and_turns_no_line_around() {
    let long = format!("{}\u{202e}small.txt", "x/../".repeat(3100));
    let shown = super::shown(&long);
    assert!(shown.len() <= 255 && long.starts_with(&shown), "{shown}");
    assert_eq!(super::shown("a\u{202e}b c\u{e4}"), "a\\u{202e}b c\u{e4}");
}
