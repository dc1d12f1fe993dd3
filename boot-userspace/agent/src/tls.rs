//! TLS to the one server, which is known by its key.
//!
//! The digest of the key is in the kernel's command line, and came there as the URL and its token did. So nothing else matters:
//! not the date, which a machine's clock may have wrong, and no issuer, which an initrd would have to be built anew for.

use std::net::{IpAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme,
    StreamOwned,
};
use sha2::{Digest as _, Sha256};

/// The server has another key than the one that the machine was booted with.
#[derive(Debug)]
pub(crate) struct OtherKey;

impl std::fmt::Display for OtherKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "the server has another key than when this machine was booted: it has a new certificate, and the machine has to \
             boot again; or another host has its address",
        )
    }
}

impl std::error::Error for OtherKey {}

/// For a server with this key: `sha256:` and the digest of its SubjectPublicKeyInfo.
pub(crate) fn config(key: &str) -> Result<Arc<ClientConfig>> {
    let digits = key.strip_prefix("sha256:").filter(|digits| digits.len() == 64 && digits.is_ascii());
    let digits =
        digits.with_context(|| format!("{key} is no key: it is sha256: and 64 hexadecimal digits"))?;
    let mut digest = [0; 32];
    for (byte, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        let two = digits.get(at..at + 2).unwrap_or_default();
        *byte = u8::from_str_radix(two, 16)
            .with_context(|| format!("{key} has other than hexadecimal digits"))?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier = Arc::new(OnlyKey { digest, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let config = config.dangerous().with_custom_certificate_verifier(verifier);
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Shakes hands.
pub(crate) fn begin(
    config: &Arc<ClientConfig>,
    address: IpAddr,
    mut stream: TcpStream,
) -> Result<StreamOwned<ClientConnection, TcpStream>> {
    let mut connection = ClientConnection::new(Arc::clone(config), ServerName::from(address))?;
    while connection.is_handshaking() {
        if let Err(error) = connection.complete_io(&mut stream) {
            let why = error.get_ref().and_then(|why| why.downcast_ref::<Error>());
            if why == Some(&Error::InvalidCertificate(OTHER)) {
                bail!(OtherKey);
            }
            return Err(error).with_context(|| format!("begin HTTPS with {address}"));
        }
    }
    Ok(StreamOwned::new(connection, stream))
}

const OTHER: CertificateError = CertificateError::ApplicationVerificationFailure;

/// Believes who has the key.
#[derive(Debug)]
struct OnlyKey {
    digest: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for OnlyKey {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = ParsedCertificate::try_from(own)?.subject_public_key_info();
        match Sha256::digest(&key)[..] == self.digest {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(Error::InvalidCertificate(OTHER)),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, own, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, own, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
