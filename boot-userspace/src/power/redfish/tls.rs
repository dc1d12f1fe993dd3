//! Whom a BMC has to be: it shows the certificate of the configuration, or any, or one of an authority that the host trusts.

use std::sync::Arc;

use reqwest::ClientBuilder;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use sha2::{Digest as _, Sha256};

use boot_engine::config::Bmc;

/// Has a client check certificates as the configuration says.
pub(super) fn prepare(builder: ClientBuilder, bmc: &Bmc) -> ClientBuilder {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    // What another part of xpxe has set is the same.
    rustls::crypto::ring::default_provider().install_default().ok();
    if bmc.certificate.is_none() && bmc.insecure != Some(true) {
        return builder;
    }
    let check = Arc::new(Check { pinned: bmc.certificate, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    match config {
        Ok(config) => {
            let config = config.dangerous().with_custom_certificate_verifier(check).with_no_client_auth();
            builder.tls_backend_preconfigured(config)
        }
        // With what rustls has by default, which this provider has, too.
        Err(_) => builder,
    }
}

/// Takes one certificate, or any.
#[derive(Debug)]
struct Check {
    pinned: Option<[u8; 32]>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Check {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let digest: [u8; 32] = Sha256::digest(shown).into();
        if self.pinned.is_none_or(|pinned| pinned == digest) {
            return Ok(ServerCertVerified::assertion());
        }
        let digits: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Err(Error::General(format!(
            "it shows another certificate than the one in the configuration; if it was replaced on purpose, write certificate = \"sha256:{digits}\""
        )))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        // Who takes any certificate learns nothing from its signature, and old BMCs have short keys.
        if self.pinned.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls12_signature(message, shown, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        shown: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.pinned.is_none() {
            return Ok(HandshakeSignatureValid::assertion());
        }
        verify_tls13_signature(message, shown, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
