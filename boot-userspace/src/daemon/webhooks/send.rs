//! One request to a receiver, signed as Standard Webhooks 1.0 has it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use boot_engine::config::Webhook;
use openssl::base64::{decode_block, encode_block};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, StatusCode, Url};
use ring::hmac::{HMAC_SHA256, Key, sign};
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use super::journal::Delivery;
use crate::host::{clock, regular};

/// For a whole request, the receiver's answer included.
const WITHIN: Duration = Duration::from_secs(10);
/// Of it for the connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// How a secret in base64 begins.
const ENCODED: &str = "whsec_";
/// Bytes of the shortest secret.
const SHORTEST: usize = 16;

/// A client, and the bytes of the certificate that it was made with.
type Made = (Vec<u8>, Client);

/// What speaks HTTP, made when it is needed first: the certificates of a system may take a second to read. It has the bytes of
/// the certificates beside it that it was made with: for others it is made anew.
#[derive(Clone, Default)]
pub(super) struct LazyClient(Arc<Mutex<Option<Made>>>);

/// A receiver.
#[derive(Clone)]
pub(super) struct Receiver {
    webhook: Webhook,
    client: LazyClient,
}

impl Receiver {
    pub(super) fn new(webhook: Webhook, client: LazyClient) -> Self {
        Self { webhook, client }
    }

    /// What webhooks with the same one can share a client for.
    pub(super) fn trusts(webhook: &Webhook) -> (bool, Option<PathBuf>) {
        (webhook.url.place().starts_with("https:"), webhook.certificate.clone())
    }

    /// The client for the certificates that the file has now: it may have been missing, or been renewed.
    async fn client(&self) -> Result<Client, String> {
        let (is_tls, certificate) = Self::trusts(&self.webhook);
        let pem = certificate.as_deref().map(read_certificates).transpose()?.unwrap_or_default();
        let mut made = self.client.0.lock().await;
        if let Some((of, client)) = &*made
            && *of == pem
        {
            return Ok(client.clone());
        }
        let of = pem.clone();
        let make = move || client(is_tls, certificates(&pem));
        let new = spawn_blocking(make).await.unwrap_or_else(|_| Err("xpxe is stopping".to_owned()))?;
        *made = Some((of, new.clone()));
        Ok(new)
    }

    /// Sends a delivery. What an error says has neither the URL nor a secret in it.
    pub(super) async fn send(self, delivery: Delivery) -> Result<(), String> {
        let client = self.client().await?;
        let secrets = secrets(&self.webhook.secret_file)?;
        let timestamp = clock::wall().as_secs();
        let signatures =
            secrets.iter().map(|secret| signature(secret, delivery.id, timestamp, &delivery.body));
        let signatures = signatures.collect::<Vec<_>>().join(" ");
        let request = client
            .post(self.webhook.url.reveal())
            .header("content-type", "application/json")
            .header("webhook-id", delivery.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures)
            .body(delivery.body);
        let answer = request.send().await.map_err(|error| reasons(&error.without_url()))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status if status.is_redirection() => {
                Err(format!("it answered {}: redirects are not followed, write the new URL", shown(status)))
            }
            status => Err(format!("it answered {}", shown(status))),
        }
    }
}

fn shown(status: StatusCode) -> String {
    status.canonical_reason().map_or_else(|| status.as_u16().to_string(), |_| status.to_string())
}

fn client(is_tls: bool, own: Vec<Certificate>) -> Result<Client, String> {
    // Whoever was first has chosen the same.
    rustls::crypto::ring::default_provider().install_default().ok();
    let builder = || {
        Client::builder()
            .user_agent(concat!("xpxe/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_WITHIN)
            .timeout(WITHIN)
            .redirect(Policy::none())
            .referer(false)
    };
    if !is_tls {
        return builder().tls_certs_only(own).build().map_err(|error| reasons(&error));
    }
    // A system without any certificates is enough for plain HTTP, and for those of our own.
    let with_systems = builder().tls_certs_merge(own.clone()).build();
    with_systems
        .or_else(|_| builder().tls_certs_only(own).build())
        .map_err(|error| format!("TLS cannot be prepared: {}", reasons(&error)))
}

/// What stands in a file of certificates, if there are any in it.
fn read_certificates(path: &Path) -> Result<Vec<u8>, String> {
    let pem = regular::read(path)
        .map_err(|error| format!("the certificate {} cannot be read: {error}", path.display()))?;
    if certificates(&pem).is_empty() {
        return Err(format!("{} has no certificates in PEM in it", path.display()));
    }
    Ok(pem)
}

fn certificates(pem: &[u8]) -> Vec<Certificate> {
    Certificate::from_pem_bundle(pem).unwrap_or_default()
}

/// Reads a webhook's URL as sending does.
///
/// # Errors
/// Why nothing can be sent there, without a word of the URL, and what to do.
pub(in crate::daemon) fn check_url(webhook: &Webhook) -> Result<(), String> {
    let wrong = |why: String| {
        format!("its url cannot be used: {why}; write a URL such as \"https://hooks.example.net/xpxe\"")
    };
    let url = Url::parse(webhook.url.reveal()).map_err(|error| wrong(error.to_string()))?;
    if url.port() == Some(0) {
        return Err(wrong("nobody listens on port 0".to_owned()));
    }
    Ok(())
}

/// What is wrong with the files of a webhook.
pub(in crate::daemon) fn wrong_files(webhook: &Webhook) -> Vec<String> {
    let secret = secrets(&webhook.secret_file).err();
    let certificate = webhook.certificate.as_deref().and_then(|path| read_certificates(path).err());
    secret.into_iter().chain(certificate).collect()
}

/// An error with its causes: reqwest's own text has none.
fn reasons(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let mut texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.dedup();
    texts.join(": ")
}

/// The secrets of a file, one a line. While two are there, deliveries are signed with both, so that a receiver can change over.
///
/// # Errors
/// Why deliveries cannot be signed, and what to do.
fn secrets(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    let name = path.display();
    let make = format!("(echo whsec_$(openssl rand -base64 32) >{name}; chmod 600 {name})");
    let file = regular::read_private(path).map_err(|error| format!("the secret {name}: {error} {make}"))?;
    let text = String::from_utf8(file).map_err(|_| format!("the secret {name} is no text {make}"))?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let secrets: Vec<_> = lines
        .map(|line| match line.strip_prefix(ENCODED) {
            Some(encoded) => decode_block(encoded).unwrap_or_default(),
            None => line.as_bytes().to_vec(),
        })
        .collect();
    if secrets.is_empty() || secrets.iter().any(|secret| secret.len() < SHORTEST) {
        return Err(format!("{name} has no secret of {SHORTEST} bytes or more on each of its lines {make}"));
    }
    Ok(secrets)
}

/// `v1,` and HMAC-SHA256 of `ID.TIMESTAMP.BODY` in base64.
fn signature(secret: &[u8], id: u64, timestamp: u64, body: &str) -> String {
    let tag = sign(&Key::new(HMAC_SHA256, secret), format!("{id}.{timestamp}.{body}").as_bytes());
    format!("v1,{}", encode_block(tag.as_ref()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use openssl::asn1::Asn1Time;
    use openssl::bn::BigNum;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::x509::{X509Builder, X509Name};

    use super::*;

    /// Another certificate each time.
    fn authority() -> Vec<u8> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_nid(Nid::COMMONNAME, "authority").unwrap();
        let name = name.build();
        let mut builder = X509Builder::new().unwrap();
        builder.set_version(2).unwrap();
        builder.set_serial_number(&BigNum::from_u32(7).unwrap().to_asn1_integer().unwrap()).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(30).unwrap()).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        builder.build().to_pem().unwrap()
    }

    #[test]
    fn a_secret_is_a_line_of_a_file_that_nobody_else_can_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let write = |text: &str, mode: u32| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            secrets(&path)
        };
        assert!(secrets(&path).unwrap_err().contains("openssl rand"), "it is missing");
        let plain = "a secret of enough bytes";
        assert_eq!(write(&format!("{plain}\n"), 0o600).unwrap(), [plain.as_bytes()]);
        let encoded = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let both = write(&format!("{encoded}\n\n{plain}\n"), 0o640).unwrap();
        assert_eq!((both.len(), both[0].len()), (2, 24));
        for (text, mode, why) in [
            ("", 0o600, "has no secret of 16 bytes"),
            ("short\n", 0o600, "has no secret of 16 bytes"),
            ("whsec_%%%%\n", 0o600, "has no secret of 16 bytes"),
            (plain, 0o644, "can be read by everybody"),
        ] {
            let said = write(text, mode).unwrap_err();
            assert!(said.contains(why) && !said.contains("enough"), "{said}");
        }
    }

    fn webhook(extra: &str) -> Webhook {
        let text = format!(
            "[[interface]]\nname = 'eth1'\ndhcp = 'off'\n[[webhook]]\nname = 'w'\nevents = 'state'\n\
             secret_file = '/nowhere/secret'\n{extra}\n"
        );
        boot_engine::config::parse(&text, "test").unwrap().webhooks.remove(0)
    }

    #[test]
    fn a_certificate_that_is_there_later_or_is_another_one_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let hook = webhook(&format!("url = 'http://h.example/'\ncertificate = {path:?}"));
        let receiver = Receiver::new(hook.clone(), LazyClient::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = || runtime.block_on(receiver.client());
        let made_of = || runtime.block_on(receiver.client.0.lock()).as_ref().map(|(pem, _)| pem.clone());
        assert!(client().unwrap_err().contains("cannot be read"));
        assert!(wrong_files(&hook).iter().any(|why| why.contains("ca.pem cannot be read")));
        fs::write(&path, "no certificate").unwrap();
        assert!(client().unwrap_err().contains("no certificates in PEM"));
        for _ in 0..2 {
            let pem = authority();
            fs::write(&path, &pem).unwrap();
            client().unwrap();
            assert_eq!(made_of(), Some(pem));
        }
        assert!(wrong_files(&hook).iter().all(|why| !why.contains("ca.pem")));
    }

    #[test]
    fn a_url_is_read_as_for_sending_before_anything_is_sent() {
        assert_eq!(check_url(&webhook("url = 'https://me:hunter2@h.example:8443/x?k=v'")), Ok(()));
        for (url, why) in [
            ("http://me:hunter2@127.0.0.1:99999/x", "port"),
            ("http://h:port/hunter2", "port"),
            ("http://h:0/hunter2", "port 0"),
            ("http://%00/hunter2", "domain"),
        ] {
            let said = check_url(&webhook(&format!("url = '{url}'"))).unwrap_err();
            assert!(said.contains(why) && !said.contains("hunter2"), "{said}");
        }
    }

    /// The example of the specification of Standard Webhooks.
    #[test]
    fn the_signature_is_that_of_the_specification() {
        let secret = decode_block("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let key = Key::new(HMAC_SHA256, &secret);
        let tag = sign(&key, b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}");
        assert_eq!(encode_block(tag.as_ref()), "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        let same = signature(&secret, 7, 1_614_265_330, "{}");
        assert_ne!(same, signature(&secret, 8, 1_614_265_330, "{}"));
        assert!(same.starts_with("v1,") && same.len() == 3 + 44);
    }
}
