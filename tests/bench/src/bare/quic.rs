//! Plain quinn, tuned as the broker's transport is, with larger windows (16 MiB): sockets of 8 MiB, segmentation offload, TLS 1.3
//! with X25519MLKEM768 and a raw Ed25519 key. Path MTU is discovered as on any network, not set to that of loopback.

use std::{net::SocketAddr, sync::Arc};

use quinn::{
    ClientConfig, Connection, Endpoint, EndpointConfig, ServerConfig, TransportConfig, VarInt,
    crypto::rustls::{QuicClientConfig, QuicServerConfig},
};
use rustls::{
    DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature_with_raw_key},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime},
    server::AlwaysResolvesServerRawPublicKeys,
    sign::CertifiedKey,
    version::TLS13,
};
use socket2::{Domain, Protocol, Socket, Type};

const WINDOW_BYTES: u32 = 16 * 1024 * 1024;
const SOCKET_BYTES: usize = 8 * 1024 * 1024;
/// An Ed25519 private key in PKCS#8 up to the seed (RFC 8410 section 7).
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// Listens on `address`.
pub(crate) fn server(address: SocketAddr) -> Endpoint {
    let pkcs8 = [PKCS8_PREFIX.as_slice(), &[7; 32]].concat();
    let key = aws_lc_rs::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(pkcs8)).unwrap();
    let spki = CertificateDer::from(key.public_key().unwrap().as_ref().to_vec());
    let certified = Arc::new(CertifiedKey::new(vec![spki], key));
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified)));
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport()));
    endpoint(address, Some(config))
}

/// A connection of its own socket to `address`.
pub(crate) async fn connect(address: SocketAddr) -> (Endpoint, Connection) {
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyKey))
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    config.transport_config(Arc::new(transport()));
    let endpoint = endpoint(SocketAddr::from(([127, 0, 0, 1], 0)), None);
    let connection = endpoint.connect_with(config, address, "bare").unwrap().await.unwrap();
    (endpoint, connection)
}

fn provider() -> Arc<CryptoProvider> {
    let kx_groups = vec![aws_lc_rs::kx_group::X25519MLKEM768];
    Arc::new(CryptoProvider { kx_groups, ..aws_lc_rs::default_provider() })
}

fn transport() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .stream_receive_window(VarInt::from_u32(WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        .enable_segmentation_offload(true);
    config
}

fn endpoint(address: SocketAddr, server: Option<ServerConfig>) -> Endpoint {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP)).unwrap();
    socket.set_nonblocking(true).unwrap();
    // What the kernel gives of it, as it does to the broker.
    socket.set_recv_buffer_size(SOCKET_BYTES).unwrap();
    socket.set_send_buffer_size(SOCKET_BYTES).unwrap();
    socket.bind(&address.into()).unwrap();
    let runtime = quinn::default_runtime().unwrap();
    Endpoint::new(EndpointConfig::default(), server, socket.into(), runtime).unwrap()
}

/// Believes any key that the server can sign for.
#[derive(Debug)]
struct AnyKey;

impl ServerCertVerifier for AnyKey {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(rustls::PeerIncompatible::Tls13RequiredForQuic))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        spki: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let spki = SubjectPublicKeyInfoDer::from(spki.as_ref());
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &spki, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
