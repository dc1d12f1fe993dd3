//! A certificate authority of a test, made by the openssl program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// RSA with 2048 bits.
    Rsa,
    /// The curve P-256.
    Ec,
}

impl Key {
    fn words(self) -> &'static [&'static str] {
        match self {
            Self::Rsa => &["-newkey", "rsa:2048"],
            Self::Ec => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
        }
    }
}

/// An authority: its files are in one directory.
#[derive(Clone, Debug)]
pub struct Authority {
    dir: PathBuf,
}

/// A certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// The key, in PEM.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one in a directory that is there.
    pub fn new(dir: &Path) -> Result<Self> {
        let this = Self { dir: dir.to_owned() };
        let mut words = vec!["req", "-x509", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-days", "3"];
        words.extend(Key::Rsa.words());
        words.extend(["-subj", "/CN=xpxe test CA", "-addext", "basicConstraints=critical,CA:TRUE"]);
        this.openssl(&words)?;
        Ok(this)
    }

    /// Its own certificate.
    #[must_use]
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// A certificate for names, such as `IP:10.77.0.1,DNS:boot.test`.
    pub fn issue(&self, name: &str, names: &str, key: Key) -> Result<Pair> {
        let file = |what: &str| format!("{name}.{what}");
        let (pem, private, request, extensions) = (file("pem"), file("key"), file("csr"), file("ext"));
        let mut words = vec!["req", "-nodes", "-keyout", &private, "-out", &request, "-subj", "/CN=xpxe"];
        words.extend(key.words());
        self.openssl(&words)?;
        fs::write(self.dir.join(&extensions), format!("subjectAltName={names}\n"))?;
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "2",
            "-extfile",
            &extensions,
            "-out",
            &pem,
        ])?;
        Ok(Pair { certificate: self.dir.join(pem), key: self.dir.join(private) })
    }

    /// Its certificate as firmware keeps those that it trusts: an EFI_SIGNATURE_LIST (UEFI 2.10 section 32.4.1).
    pub fn signature_list(&self) -> Result<Vec<u8>> {
        // EFI_CERT_X509_GUID, and an owner that is nobody.
        const X509: [u8; 16] =
            [0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72];
        let der = self.openssl(&["x509", "-in", "ca.pem", "-outform", "DER"])?;
        let entry = u32::try_from(16 + der.len())?;
        let mut list = X509.to_vec();
        for number in [28 + entry, 0, entry] {
            list.extend(number.to_le_bytes());
        }
        list.extend([0; 16]);
        list.extend(der);
        Ok(list)
    }

    fn openssl(&self, words: &[&str]) -> Result<Vec<u8>> {
        let output = Command::new("openssl").current_dir(&self.dir).args(words).output();
        let output = output.context("openssl, which `cargo xtask setup` installs")?;
        ensure!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }
}
