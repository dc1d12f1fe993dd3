//! HTTPS as clients see it: real TLS clients, those that speak something else, and those that say nothing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use boot_engine::boot::script::ScriptWriter;
use boot_engine::config::{Config, Http, Tls as Settings};
use boot_engine::events::{BootEvent, Events, Http as HttpEvent, NoTls, Sink, Step};
use boot_engine::machines::Machines;
use boot_tests::certificates::{Authority, Key, Pair};
use boot_tests::wait::{eventually, eventually_some};
use boot_userspace::files::BootFiles;
use boot_userspace::http::{self, Certificate, Https, Listeners, Readiness, Site, Tls};
use boot_userspace::images::Images;
use tempfile::TempDir;
use tokio::runtime::Runtime;

mod agent;
mod links;
mod live;
mod secrets;

const SOON: Duration = Duration::from_secs(30);
const NAMES: &str = "IP:127.0.0.1,DNS:boot.test";

/// What was said about clients that were not understood.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<NoTls>>>);

impl Sink for Said {
    fn emit(&self, event: BootEvent) {
        if let Step::Http(_, HttpEvent::NoTls(why)) = event.step {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(why);
        }
    }
}

/// The HTTP server with HTTPS beside it, in this process.
struct Served {
    dir: TempDir,
    authority: Authority,
    http: SocketAddr,
    https: SocketAddr,
    said: Said,
    _runtime: Runtime,
}

impl Served {
    fn new(key: Key) -> Result<Self> {
        Self::with(key, &Http::default())
    }

    fn with(key: Key, settings: &Http) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let authority = Authority::new(dir.path())?;
        let Pair { certificate, key } = authority.issue("server", NAMES, key)?;
        let tls = Settings { listen: SocketAddr::from(([127, 0, 0, 1], 0)), certificate, key };
        let config = Config {
            state_dir: dir.path().join("state"),
            boot_dir: dir.path().join("boot"),
            ..Config::empty()
        };
        fs::create_dir_all(&config.boot_dir)?;
        let said = Said::default();
        let events: Events = Arc::new(said.clone());
        let site = Site {
            files: Arc::new(BootFiles::configured(&config)),
            images: Images::new(&config, Arc::new(())),
            machines: Machines::default(),
            scripts: Arc::new(ScriptWriter::new(config)?),
            trusted_proxies: Arc::new([]),
            readiness: Readiness::default(),
            history: Arc::default(),
            tokens: Arc::default(),
            inventories: Arc::default(),
            registry: boot_userspace::daemon::request::RegistryHandle::none(),
            boot_parameters: boot_userspace::daemon::request::ParametersHandle::none(),
            events: Arc::new(()),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listen = || runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let (plain, encrypted) = (listen()?, listen()?);
        let (http, https) = (plain.local_addr()?, encrypted.local_addr()?);
        let tls = Tls::new(&tls, Certificate::read(&tls)?);
        let https_side = Https { listener: encrypted, tls, events };
        let listeners = Listeners { http: plain, https: Some(https_side) };
        let settings = settings.clone();
        runtime.spawn(async move {
            http::serve(listeners, http::router(site), &settings, Arc::default(), Arc::new(())).await;
        });
        Ok(Self { dir, authority, http, https, said, _runtime: runtime })
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        Ok(fs::write(self.dir.path().join("boot").join(name), bytes)?)
    }

    /// curl with these words, which trusts the authority.
    fn curl(&self, words: &[&str], path: &str) -> Result<Output> {
        let mut command = Command::new("curl");
        command.args(["-sS", "--max-time", "20", "--cacert"]).arg(self.authority.certificate());
        command.args(words).arg(format!("https://{}{path}", self.https));
        command.output().context("curl")
    }

    fn told(&self, wanted: impl Fn(&NoTls) -> bool) -> Result<NoTls> {
        let find = || {
            let said = self.said.0.lock().unwrap_or_else(PoisonError::into_inner);
            said.iter().find(|why| wanted(why)).cloned()
        };
        eventually_some(SOON, "an event about it", find)
    }

    /// OpenSSL's client with these words; what it writes.
    fn s_client(&self, words: &[&str]) -> Result<String> {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &self.https.to_string(), "-ign_eof"])
            .args(["-CAfile"])
            .arg(self.authority.certificate())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let request = b"GET /files/small HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        // One that was refused has no use for it.
        client.stdin.take().context("stdin")?.write_all(request).ok();
        let Output { stdout, stderr, .. } = client.wait_with_output()?;
        Ok(String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
    }
}

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8).collect()
}

#[test]
fn files_come_by_every_version_and_key_exchange() -> Result<()> {
    let served = Served::new(Key::Rsa)?;
    let large = bytes(5_000_003);
    served.put("large", &large)?;
    // The last two are all that OVMF of Debian 12 and 13 has.
    for words in [
        &["--tlsv1.3"][..],
        &["--tls-max", "1.2"],
        &["--tls-max", "1.2", "--ciphers", "ECDHE-RSA-AES128-GCM-SHA256"],
        &["--tls-max", "1.2", "--ciphers", "DHE-RSA-AES256-GCM-SHA384"],
        &["--tls-max", "1.2", "--ciphers", "AES256-GCM-SHA384"],
        &["--tls-max", "1.2", "--ciphers", "AES256-SHA256"],
    ] {
        let got = served.curl(words, "/files/large")?;
        ensure!(got.stdout == large, "{words:?}: {}", String::from_utf8_lossy(&got.stderr));
    }
    let part = served.curl(&["-r", "1000000-1000009", "-i"], "/files/large")?.stdout;
    let text = String::from_utf8_lossy(&part).into_owned();
    ensure!(text.starts_with("HTTP/1.1 206 ") && text.contains("\r\nContent-Length: 10\r\n"), "{text}");
    ensure!(part.ends_with(&large[1_000_000..1_000_010]));
    let parts = served.curl(&["-r", "0-1,5-6"], "/files/large")?.stdout;
    ensure!(parts.windows(2).any(|two| two == &large[5..7]));
    // One connection, several requests.
    let url = format!("https://{}/files/large", served.https);
    let twice = served
        .curl(&["-w", "%{num_connects}", "-o", "/dev/null", "-o", "/dev/null", &url], "/files/large")?;
    ensure!(twice.stdout == b"10", "{}", String::from_utf8_lossy(&twice.stdout));
    Ok(())
}

#[test]
fn clients_are_served_whatever_name_they_ask_for() -> Result<()> {
    let served = Served::new(Key::Rsa)?;
    served.put("small", b"small file")?;
    for words in [&["-noservername"][..], &["-servername", "boot.test"], &["-servername", "other.test"]] {
        let said = served.s_client(words)?;
        ensure!(said.contains("HTTP/1.1 200 OK") && said.contains("small file"), "{words:?}: {said}");
        ensure!(said.contains("Verify return code: 0 (ok)"), "{said}");
    }
    Ok(())
}

#[test]
fn scripts_lead_back_to_where_they_came_from() -> Result<()> {
    let served = Served::new(Key::Rsa)?;
    let by_address = String::from_utf8(served.curl(&[], "/boot.ipxe")?.stdout)?;
    ensure!(
        by_address.contains(&format!("chain --replace https://{}/ipxe/boot.ipxe?", served.https)),
        "{by_address}"
    );
    ensure!(!by_address.contains("http://"), "{by_address}");
    let port = served.https.port();
    let mut command = Command::new("curl");
    command.args([
        "-sS",
        "--max-time",
        "20",
        "--resolve",
        &format!("boot.test:{port}:127.0.0.1"),
        "--cacert",
    ]);
    command.arg(served.authority.certificate()).arg(format!("https://boot.test:{port}/files/autoexec.ipxe"));
    let by_name = String::from_utf8(command.output()?.stdout)?;
    ensure!(
        by_name.contains(&format!("chain --replace https://boot.test:{port}/ipxe/boot.ipxe?")),
        "{by_name}"
    );
    // A name that is none is not repeated.
    let odd = served.curl(&["-H", "Host: x/y z"], "/boot.ipxe")?;
    let odd = String::from_utf8(odd.stdout)?;
    ensure!(odd.contains(&format!("https://{}/ipxe", served.https)) || odd.contains("400"), "{odd}");
    let plain = Command::new("curl").args(["-sS", &format!("http://{}/boot.ipxe", served.http)]).output()?;
    let plain = String::from_utf8(plain.stdout)?;
    ensure!(plain.contains(&format!("chain --replace http://{}/ipxe", served.http)), "{plain}");
    Ok(())
}

#[test]
fn what_is_no_tls_of_ours_is_told() -> Result<()> {
    let served = Served::new(Key::Rsa)?;
    served.put("small", b"small file")?;
    let plain =
        Command::new("curl").args(["-sS", "-i", &format!("http://{}/boot.ipxe", served.https)]).output()?;
    let plain = String::from_utf8(plain.stdout)?;
    ensure!(plain.starts_with("HTTP/1.1 400 ") && plain.contains("this port speaks HTTPS"), "{plain}");
    served.told(|why| *why == NoTls::Http)?;
    served.s_client(&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"])?;
    served.told(|why| *why == NoTls::OldVersion)?;
    for version in [&["--tlsv1.3"][..], &["--tls-max", "1.2"]] {
        let before = served.said.0.lock().unwrap_or_else(PoisonError::into_inner).len();
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "20"])
            .args(version)
            .arg(format!("https://{}/files/small", served.https));
        ensure!(!command.output()?.status.success());
        eventually(SOON, "an event about the certificate", || {
            let said = served.said.0.lock().unwrap_or_else(PoisonError::into_inner);
            matches!(said.get(before), Some(NoTls::Distrusted(alert)) if alert.contains("unknown ca"))
        })
        .with_context(|| format!("{version:?}"))?;
    }
    let mut garbage = TcpStream::connect(served.https)?;
    garbage.write_all(b"\x16\x03\x01\x00\x05hello")?;
    garbage.set_read_timeout(Some(SOON))?;
    garbage.read_to_end(&mut Vec::new()).ok();
    served.told(|why| matches!(why, NoTls::Other(_)))?;
    // Who leaves after the certificate was shown is told, as firmware that does not trust it.
    let mut hello = TcpStream::connect(served.https)?;
    hello.write_all(&hello_of_openssl()?)?;
    hello.read_exact(&mut [0; 100])?;
    drop(hello);
    served.told(|why| *why == NoTls::Left)?;
    // Who only looks whether the port is open is no news.
    drop(TcpStream::connect(served.https)?);
    let good = served.curl(&[], "/files/small")?;
    ensure!(good.stdout == b"small file");
    ensure!(served.said.0.lock().unwrap_or_else(PoisonError::into_inner).len() == 6);
    Ok(())
}

/// The first thing that OpenSSL's client says.
fn hello_of_openssl() -> Result<Vec<u8>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let mut client = Command::new("openssl")
        .args(["s_client", "-tls1_2", "-connect", &listener.local_addr()?.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let (mut stream, _) = listener.accept()?;
    let mut head = [0; 5];
    stream.read_exact(&mut head)?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([head[3], head[4]]))];
    stream.read_exact(&mut rest)?;
    drop(stream);
    client.wait()?;
    Ok([&head[..], &rest].concat())
}

#[test]
fn firmware_that_fits_no_certificate_is_told_by_what_it_offers() -> Result<()> {
    let served = Served::new(Key::Ec)?;
    served.put("small", b"small file")?;
    ensure!(served.curl(&[], "/files/small")?.stdout == b"small file");
    let ciphers = "AES256-GCM-SHA384:DHE-RSA-AES256-GCM-SHA384";
    ensure!(!served.curl(&["--tls-max", "1.2", "--ciphers", ciphers], "/files/small")?.status.success());
    let why = served.told(|why| matches!(why, NoTls::NoCipher { .. }))?;
    ensure!(why == NoTls::NoCipher { offered: "TLS_DHE_RSA, TLS_RSA".to_owned() }, "{why:?}");
    Ok(())
}

#[test]
fn a_handshake_that_never_ends_is_ended() -> Result<()> {
    let served = Served::new(Key::Rsa)?;
    let began = Instant::now();
    let [mut silent, mut half] = [TcpStream::connect(served.https)?, TcpStream::connect(served.https)?];
    // The beginning of a hello of 512 bytes.
    half.write_all(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")?;
    for stream in [&mut silent, &mut half] {
        stream.set_read_timeout(Some(SOON))?;
        let mut rest = Vec::new();
        ensure!(stream.read_to_end(&mut rest).is_ok(), "nothing has ended it");
    }
    ensure!(began.elapsed() < SOON);
    served.told(|why| *why == NoTls::Late)?;
    Ok(())
}

#[test]
fn connections_count_before_their_handshake_and_with_those_of_http() -> Result<()> {
    let settings = Http { connections_per_address: 4, ..Http::default() };
    let served = Served::with(Key::Rsa, &settings)?;
    served.put("small", b"small file")?;
    let ended = |stream: &mut TcpStream| stream.read(&mut [0]).is_ok_and(|read| read == 0);
    let mut silent = Vec::new();
    for _ in 0..4 {
        let stream = TcpStream::connect(served.https)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        silent.push(stream);
    }
    let _fifth = TcpStream::connect(served.https)?;
    ensure!(ended(&mut silent[0]), "the longest idle one makes room for another");
    let _plain = TcpStream::connect(served.http)?;
    ensure!(ended(&mut silent[1]), "one over HTTP is another one, too");
    ensure!(served.curl(&[], "/files/small")?.stdout == b"small file", "those who speak are served");
    Ok(())
}

/// Where a file of a test is.
fn text(path: &Path) -> String {
    path.display().to_string()
}
