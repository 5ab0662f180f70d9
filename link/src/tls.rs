//! Who the peer is: TLS 1.3 with a raw Ed25519 key on both sides, and a directory that knows which count.
//!
//! | what | how | source |
//! |---|---|---|
//! | version | 1.3 only | RFC 8446, RFC 9001 section 4.2 |
//! | key exchange | X25519MLKEM768 only | draft-ietf-tls-ecdhe-mlkem |
//! | identity | raw public key, both sides, 44-byte SubjectPublicKeyInfo | RFC 7250, RFC 8410 section 4 |
//! | protocol | ALPN `lintas/1` | RFC 7301 |
//! | resumption | none: no tickets, no stored sessions, no 0-RTT | |
//!
//! A peer whose key is unknown and a peer that cannot sign for the key it shows get the same alert,
//! `access_denied`: nobody can try out whose public keys are members.

use std::{fmt, sync::Arc};

use lintas_proto::id::sha256;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::{AlwaysResolvesClientRawPublicKeys, Resumption, danger},
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::{
        AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use zeroize::Zeroizing;

use crate::error::LinkError;

/// Application protocol of every connection (RFC 7301).
pub(crate) const ALPN: &[u8] = b"lintas/1";

/// An Ed25519 SubjectPublicKeyInfo up to the key: RFC 8410 section 4 leaves no other encoding.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// An Ed25519 private key in PKCS#8 version 1 up to the seed (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Knows whose transport keys may connect. Asked in every handshake, by both sides, and again by `recheck`.
///
/// Called while a packet is being handled: answer from memory, without waiting.
pub trait PeerDirectory: Send + Sync + fmt::Debug {
    /// Whether the holder of this 32-byte Ed25519 public key may be spoken to.
    fn admits(&self, transport_key: &[u8; 32]) -> bool;

    /// Who holds this key, where one peer may hold several: its connections are counted together. None when the
    /// key stands for itself.
    fn peer(&self, _transport_key: &[u8; 32]) -> Option<Arc<str>> {
        None
    }
}

/// A node's own transport key pair. The secret half lives inside the TLS library, which wipes it.
#[derive(Clone)]
pub struct TransportKey {
    public: [u8; 32],
    pub(crate) certified: Arc<CertifiedKey>,
    /// Names connections and their resets, so that a process started again can tell its peers at once that it
    /// no longer knows them (RFC 9000 section 10.3).
    pub(crate) restart: Zeroizing<[u8; 32]>,
}

impl TransportKey {
    /// Key pair of a 32-byte Ed25519 seed (RFC 8032 section 5.1.5). Keeps no copy of the seed; the caller
    /// wipes its own.
    ///
    /// # Errors
    /// [`LinkError::Tls`] when the TLS library refuses the key.
    pub fn from_seed(seed: &[u8; 32]) -> Result<Self, LinkError> {
        // Sized beforehand: a vector that grows would leave an unwiped copy behind.
        let mut pkcs8 = Zeroizing::new(Vec::with_capacity(PKCS8_PREFIX.len() + seed.len()));
        pkcs8.extend_from_slice(&PKCS8_PREFIX);
        pkcs8.extend_from_slice(seed);
        let key = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8.as_slice()))?;
        let spki = key.public_key().ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let spki = CertificateDer::from(spki.as_ref().to_vec());
        let public = parse_spki(&spki)?;
        let restart = Zeroizing::new(sha256(&[b"lintas/v1/stateless-reset\0", seed]));
        Ok(Self { public, certified: Arc::new(CertifiedKey::new(vec![spki], key)), restart })
    }

    /// The public half, as the directory lists it.
    #[must_use]
    pub fn public(&self) -> [u8; 32] {
        self.public
    }
}

impl fmt::Debug for TransportKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// What both sides are willing to negotiate.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519MLKEM768], ..aws_lc_rs::default_provider() }
}

/// TLS of the side that accepts.
pub(crate) fn server_config(
    provider: CryptoProvider,
    key: &TransportKey,
    directory: Arc<dyn PeerDirectory>,
) -> Result<rustls::ServerConfig, LinkError> {
    let verifier = Arc::new(KeyVerifier::new(&provider, directory));
    let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(Arc::clone(&key.certified))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.max_early_data_size = 0;
    Ok(config)
}

/// TLS of the side that connects.
pub(crate) fn client_config(
    provider: CryptoProvider,
    key: &TransportKey,
    directory: Arc<dyn PeerDirectory>,
) -> Result<rustls::ClientConfig, LinkError> {
    let verifier = Arc::new(KeyVerifier::new(&provider, directory));
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(Arc::clone(
            &key.certified,
        ))));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    config.enable_sni = false;
    Ok(config)
}

/// [`server_config`] for QUIC.
pub(crate) fn quic_server(
    key: &TransportKey,
    directory: Arc<dyn PeerDirectory>,
) -> Result<QuicServerConfig, LinkError> {
    let config = server_config(provider(), key, directory)?;
    QuicServerConfig::try_from(config).map_err(|_| LinkError::InitialCipher)
}

/// [`client_config`] for QUIC.
pub(crate) fn quic_client(
    key: &TransportKey,
    directory: Arc<dyn PeerDirectory>,
) -> Result<QuicClientConfig, LinkError> {
    let config = client_config(provider(), key, directory)?;
    QuicClientConfig::try_from(config).map_err(|_| LinkError::InitialCipher)
}

/// The 32-byte key inside an Ed25519 SubjectPublicKeyInfo of exactly 44 bytes.
pub(crate) fn parse_spki(spki: &[u8]) -> Result<[u8; 32], Error> {
    let key = spki.strip_prefix(&SPKI_PREFIX).and_then(|key| key.try_into().ok());
    key.ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// Asks the directory, for either side.
#[derive(Debug)]
struct KeyVerifier {
    directory: Arc<dyn PeerDirectory>,
    algorithms: WebPkiSupportedAlgorithms,
}

const REFUSED: Error = Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);

impl KeyVerifier {
    fn new(provider: &CryptoProvider, directory: Arc<dyn PeerDirectory>) -> Self {
        Self { directory, algorithms: provider.signature_verification_algorithms }
    }

    /// One raw key and nothing else (RFC 7250 section 3), known to the directory.
    fn check_key(&self, spki: &[u8], chain: &[CertificateDer<'_>]) -> Result<(), Error> {
        if !chain.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
        }
        if self.directory.admits(&parse_spki(spki)?) { Ok(()) } else { Err(REFUSED) }
    }

    /// The proof that the peer holds the private key (RFC 8446 section 4.4.3).
    fn check_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(REFUSED);
        }
        let spki = SubjectPublicKeyInfoDer::from(spki.as_ref());
        verify_tls13_signature_with_raw_key(message, &spki, signed, &self.algorithms).map_err(|cause| {
            tracing::warn!(%cause, "a peer showed a known transport key that it cannot sign for");
            REFUSED
        })
    }
}

const TLS12_REFUSED: Error = Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic);

impl danger::ServerCertVerifier for KeyVerifier {
    fn verify_server_cert(
        &self,
        spki: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<danger::ServerCertVerified, Error> {
        self.check_key(spki, chain).map(|()| danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _spki: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, Error> {
        Err(TLS12_REFUSED)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, Error> {
        self.check_signature(message, spki, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for KeyVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        spki: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_key(spki, chain).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _spki: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, Error> {
        Err(TLS12_REFUSED)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<danger::HandshakeSignatureValid, Error> {
        self.check_signature(message, spki, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Everyone;

    impl PeerDirectory for Everyone {
        fn admits(&self, _: &[u8; 32]) -> bool {
            true
        }
    }

    fn spki() -> Vec<u8> {
        TransportKey::from_seed(&[1; 32]).unwrap().certified.cert[0].to_vec()
    }

    #[test]
    fn a_seed_gives_the_public_key_of_rfc_8032() {
        // RFC 8032 section 7.1, test 1.
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let public = hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let key = TransportKey::from_seed(&seed).unwrap();
        assert_eq!(key.public(), public);
        assert!(!format!("{key:?}").contains("157, 97, 177"), "the seed is not printed");
    }

    fn hex(text: &str) -> [u8; 32] {
        let digits: Vec<_> = text.chars().map(|digit| digit.to_digit(16).unwrap()).collect();
        std::array::from_fn(|at| u8::try_from(16 * digits[2 * at] + digits[2 * at + 1]).unwrap())
    }

    #[test]
    fn only_a_44_byte_ed25519_key_is_a_key() {
        assert!(parse_spki(&spki()).is_ok());
        for length in 0..spki().len() {
            assert!(parse_spki(&spki()[..length]).is_err(), "{length} bytes");
        }
        assert!(parse_spki(&[spki(), vec![0]].concat()).is_err());
        for at in 0..SPKI_PREFIX.len() {
            let mut other = spki();
            other[at] ^= 1;
            assert!(parse_spki(&other).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_chain_is_refused() {
        let verifier = KeyVerifier::new(&provider(), Arc::new(Everyone));
        let spki = spki();
        assert_eq!(verifier.check_key(&spki, &[]), Ok(()));
        assert!(verifier.check_key(&spki, &[CertificateDer::from(spki.clone())]).is_err());
    }
}
