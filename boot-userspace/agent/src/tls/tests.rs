//! A server of OpenSSL, whose certificate nobody has signed but itself.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::http::{Answer, Origin, request};

use super::*;

struct Server {
    process: Child,
    host: String,
    key: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Serves a folder on a port of its own.
fn server(kind: &[&str], version: &str) -> Server {
    let dir = tempfile::tempdir().unwrap().keep();
    let of = |name: &str| dir.join(name).display().to_string();
    let (key, certificate) = (of("key.pem"), of("certificate.pem"));
    let mut make = Command::new("openssl");
    make.args(["req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=another.name", "-newkey"]);
    run(make.args(kind).args(["-keyout", &key, "-out", &certificate]));
    let public = run(Command::new("openssl").args(["pkey", "-in", &key, "-pubout", "-outform", "DER"]));
    let digest: String = Sha256::digest(&public).iter().map(|byte| format!("{byte:02x}")).collect();
    std::fs::write(dir.join("answer"), "HTTP/1.0 200 OK\r\ncontent-length: 3\r\n\r\nyes").unwrap();
    let mut serve = Command::new("openssl");
    serve.args(["s_server", "-accept", "127.0.0.1:0", "-HTTP", version, "-key", &key, "-cert", &certificate]);
    serve.current_dir(&dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = serve.spawn().unwrap();
    let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
    // "ACCEPT 127.0.0.1:41234"
    let host = lines.find_map(|line| line.unwrap().strip_prefix("ACCEPT ").map(str::to_owned)).unwrap();
    std::thread::spawn(move || lines.for_each(drop));
    Server { process, host, key: format!("sha256:{digest}") }
}

fn ask(server: &Server, key: &str) -> Result<String> {
    let origin = Origin { host: server.host.clone(), tls: Some(config(key)?) };
    request(&origin, "/answer", None).and_then(Answer::text)
}

#[test]
fn the_server_is_who_has_the_key_whatever_its_certificate_says() {
    for (kind, version) in [
        (&["rsa:2048"][..], "-tls1_2"),
        (&["rsa:2048"], "-tls1_3"),
        (&["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "-tls1_3"),
    ] {
        let server = server(kind, version);
        assert_eq!(ask(&server, &server.key).unwrap(), "yes", "{kind:?} {version}");
        let other = format!("sha256:{}", "0".repeat(64));
        let error = ask(&server, &other).unwrap_err();
        assert!(error.is::<OtherKey>(), "{error:#}");
    }
}

#[test]
fn who_speaks_no_tls_is_nobody() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let plain = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
    });
    let tls = Some(config(&format!("sha256:{}", "0".repeat(64))).unwrap());
    let error = request(&Origin { host, tls }, "/", None).and_then(Answer::text).unwrap_err();
    assert!(format!("{error:#}").contains("begin HTTPS"), "{error:#}");
    plain.join().unwrap();
}
