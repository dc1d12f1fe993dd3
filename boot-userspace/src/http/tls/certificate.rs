//! The certificate and key of HTTPS: read, checked, and read again when their files change.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use openssl::asn1::Asn1Time;
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private};
use openssl::sha::sha256;
use openssl::ssl::{
    ClientHelloResponse, SslAcceptor, SslContext, SslMethod, SslOptions, SslSessionCacheMode,
};
use openssl::x509::X509;
use tracing::{error, info, warn};

use super::hello::keep_hello;
use crate::host::live::Live;
use crate::host::regular;
use boot_engine::config::Tls as Settings;

/// How often the files are looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Firmware of before 2026 (OVMF of Debian 12 and 13) knows DHE and RSA only. What gives forward secrecy comes first, and the
/// server's order counts.
const CIPHERS: &str = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:\
    ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:DHE-RSA-AES128-GCM-SHA256:\
    DHE-RSA-AES256-GCM-SHA384:DHE-RSA-AES128-SHA256:DHE-RSA-AES256-SHA256:AES128-GCM-SHA256:AES256-GCM-SHA384:\
    AES128-SHA256:AES256-SHA256";

/// Why HTTPS cannot be spoken: a sentence with the file and the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// What a file was when it was read: another content has another one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    path: PathBuf,
    /// Length and time of change; none if it is not there.
    facts: Option<(u64, Option<SystemTime>)>,
}

impl Identity {
    fn of(path: &Path) -> Self {
        let facts = fs::metadata(path).ok().map(|facts| (facts.len(), facts.modified().ok()));
        Self { path: path.to_owned(), facts }
    }
}

fn identities(settings: &Settings) -> [Identity; 2] {
    [Identity::of(&settings.certificate), Identity::of(&settings.key)]
}

/// A certificate that fits its key, ready to be shown to clients.
pub struct Certificate {
    context: SslContext,
    own: X509,
    is_rsa: bool,
    public: Option<[u8; 32]>,
    files: [Identity; 2],
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads the files of a configuration.
    ///
    /// # Errors
    /// One of them cannot be read, has nothing of use in it, or they do not belong together.
    pub fn read(settings: &Settings) -> Result<Self, TlsError> {
        // Before they are read: what changes meanwhile is read again.
        let files = identities(settings);
        let Settings { certificate, key, .. } = settings;
        let chain = X509::stack_from_pem(&read("certificate", certificate)?).unwrap_or_default();
        let Some((own, issuers)) = chain.split_first() else {
            return Err(TlsError(format!(
                "{} has no certificate in PEM in it: write the server's own into it, and behind it those of its issuers",
                certificate.display()
            )));
        };
        // Without a callback OpenSSL would ask the terminal for a passphrase.
        let private = PKey::private_key_from_pem_callback(&read("key", key)?, |_| Ok(0)).map_err(|_| {
            TlsError(format!(
                "{} has no private key in PEM in it that can be read: write one without a passphrase",
                key.display()
            ))
        })?;
        if !own.public_key().is_ok_and(|public| public.public_eq(&private)) {
            return Err(TlsError(format!(
                "the key {} does not belong to the certificate {}: name two files of one pair in tls of [http]",
                key.display(),
                certificate.display()
            )));
        }
        let context = context(own, issuers, &private).map_err(|error| {
            TlsError(format!("the certificate {} cannot be used for HTTPS: {error}", certificate.display()))
        })?;
        let is_rsa = private.id() == Id::RSA;
        let public = own.public_key().and_then(|key| key.public_key_to_der()).ok();
        let public = public.map(|der| sha256(&der));
        Ok(Self { context, own: own.clone(), is_rsa, public, files })
    }

    /// Which it is, as a sentence.
    #[must_use]
    pub fn says(&self) -> String {
        let [certificate, _] = &self.files;
        format!(
            "HTTPS has the certificate {}, which ends on {}",
            certificate.path.display(),
            self.own.not_after()
        )
    }

    /// What an operator should hear of it, though it can be used.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let [certificate, _] = &self.files;
        let path = certificate.path.display();
        let mut warnings = Vec::new();
        let end = self.own.not_after();
        let soon = Asn1Time::days_from_now(WARN_DAYS);
        if Asn1Time::days_from_now(0).is_ok_and(|now| *end <= now) {
            warnings.push(format!(
                "the certificate {path} has ended on {end}: clients that know the date refuse it; replace it"
            ));
        } else if soon.is_ok_and(|soon| *end <= soon) {
            warnings.push(format!("the certificate {path} ends on {end}: replace it before that"));
        }
        if !self.is_rsa {
            warnings.push(format!(
                "the certificate {path} has no RSA key, and UEFI firmware of before 2026 can check no other: use RSA for such \
                 machines"
            ));
        }
        warnings
    }

    /// SHA-256 of the public key, which stays the same when the certificate is renewed with the same key.
    pub(super) fn key(&self) -> Option<[u8; 32]> {
        self.public
    }

    pub(super) fn context(&self) -> &SslContext {
        &self.context
    }
}

/// So many days before its end a certificate is talked about.
const WARN_DAYS: u32 = 14;

fn read(what: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    regular::read(path).map_err(|error| {
        TlsError(format!(
            "the {what} {} cannot be read: {error}; correct {what} in tls of [http], or the file",
            path.display()
        ))
    })
}

fn context(own: &X509, issuers: &[X509], key: &PKey<Private>) -> Result<SslContext, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    builder.set_cipher_list(CIPHERS)?;
    builder.set_options(SslOptions::CIPHER_SERVER_PREFERENCE | SslOptions::NO_RENEGOTIATION);
    // Machines boot once: what a session would keep is memory for nobody.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_certificate(own)?;
    builder.set_private_key(key)?;
    for issuer in issuers {
        builder.add_extra_chain_cert(issuer.clone())?;
    }
    builder.set_client_hello_callback(|ssl, _| {
        keep_hello(ssl);
        Ok(ClientHelloResponse::SUCCESS)
    });
    Ok(builder.build().into_context())
}

/// The certificate that is shown now, and its files. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tls(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    shown: Live<Certificate>,
    settings: Mutex<Settings>,
    /// The files as they were when they were of no use.
    refused: Mutex<Option<[Identity; 2]>>,
}

impl Tls {
    /// Shows a certificate.
    #[must_use]
    pub fn new(settings: &Settings, certificate: Certificate) -> Self {
        Self(Arc::new(Inner {
            shown: Live::new(certificate),
            settings: Mutex::new(settings.clone()),
            refused: Mutex::default(),
        }))
    }

    /// Shows another one from now on. Connections that there are keep theirs.
    pub fn replace(&self, settings: &Settings, certificate: Certificate) {
        *self.0.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings.clone();
        self.0.shown.replace(certificate);
    }

    pub(super) fn shown(&self) -> Arc<Certificate> {
        self.0.shown.get()
    }

    /// Reads the files again if they have changed. Where they are of no use, what was read before stays.
    fn look(&self) {
        let settings = self.0.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = identities(&settings);
        if self.0.shown.get().files == now {
            return;
        }
        let mut refused = self.0.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.as_ref() == Some(&now) {
            return;
        }
        match Certificate::read(&settings) {
            Ok(certificate) => {
                let warnings = certificate.warnings();
                *refused = None;
                self.0.shown.replace(certificate);
                info!("HTTPS has a new certificate: {}", settings.certificate.display());
                warnings.iter().for_each(|sentence| warn!("{sentence}"));
            }
            Err(why) => {
                *refused = Some(now);
                error!("HTTPS goes on with the certificate that it has: {why}");
            }
        }
    }

    /// Follows the files for ever.
    pub async fn follow(self) {
        let mut often = tokio::time::interval(LOOK_EVERY);
        loop {
            often.tick().await;
            let this = self.clone();
            tokio::task::spawn_blocking(move || this.look()).await.ok();
        }
    }
}
