//! HTTPS: an upstream with a certificate of the site's own, trusted and not.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use boot_engine::config::Upstream;

use super::*;

/// OpenSSL's own server; killed when dropped.
struct Tls {
    child: Child,
    url: String,
    certificate: PathBuf,
}

impl Tls {
    /// Serves `/k` with what it is given.
    fn start(dir: &Path, body: &[u8]) -> Result<Self> {
        let certificate = dir.join("cert.pem");
        let made = Command::new("openssl")
            .current_dir(dir)
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "key.pem", "-out", "cert.pem"])
            .args(["-days", "2", "-subj", "/CN=site", "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .output()
            .context("openssl, which `cargo xtask setup` installs")?;
        ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        fs::write(dir.join("k"), answer)?;
        let mut child = Command::new("openssl")
            .current_dir(dir)
            .args(["s_server", "-accept", "127.0.0.1:0", "-cert", "cert.pem", "-key", "key.pem"])
            .args(["-HTTP", "-http_server_binmode"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("stdout")?).lines();
        let accepts = lines.map_while(Result::ok).find(|line| line.starts_with("ACCEPT "));
        let address = accepts.context("openssl does not listen")?;
        let url = format!("https://{}/k", address.trim_start_matches("ACCEPT "));
        Ok(Self { child, url, certificate })
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn an_upstream_is_believed_by_its_certificate_only() -> Result<()> {
    let (dir, image) = (tempfile::tempdir()?, bytes(MIB, 70));
    let tls = Tls::start(dir.path(), &image)?;
    let served = |certificate: Option<PathBuf>| {
        Served::with(|config| {
            config.images.upstreams.push(Upstream {
                url: tls.url.trim_end_matches("/k").to_owned(),
                endpoint: None,
                region: String::new(),
                access_key_file: None,
                secret_key_file: None,
                certificate,
                presigned: None,
            });
        })
    };
    let stranger = served(None)?;
    stranger.know("k", &tls.url, None)?;
    ensure!(stranger.get("k")?.status == 502);
    let said = stranger.trouble("k")?;
    ensure!(said.contains(&tls.url) && said.to_lowercase().contains("certificate"), "{said}");
    let known = served(Some(tls.certificate.clone()))?;
    known.know("k", &tls.url, digest(&image))?;
    ensure!(known.get("k")?.body == image, "{:?}", known.trouble("k"));
    let wrong = served(Some(dir.path().join("key.pem")))?;
    wrong.know("k", &tls.url, None)?;
    ensure!(wrong.get("k")?.status == 502);
    let said = wrong.trouble("k")?;
    ensure!(said.contains("key.pem has no certificates in PEM"), "{said}");
    Ok(())
}
