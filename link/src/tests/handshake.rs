//! What the handshake negotiates, and what it may cost.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::{
    HandshakeKind, NamedGroup,
    crypto::{CryptoProvider, SupportedKxGroup, aws_lc_rs},
    pki_types::ServerName,
    quic::{ClientConnection, ServerConnection, Version},
};
use tokio::net::UdpSocket;

use super::{Book, Region, any_port, broker_key, member_key, soon};
use crate::{Client, Limits, LinkError, Server, tls};

fn only(group: &'static dyn SupportedKxGroup) -> CryptoProvider {
    CryptoProvider { kx_groups: vec![group], ..tls::provider() }
}

fn client_tls(provider: CryptoProvider) -> rustls::ClientConfig {
    tls::client_config(provider, &member_key(), Book::of(&[&broker_key()])).unwrap()
}

fn server_tls() -> rustls::ServerConfig {
    tls::server_config(tls::provider(), &broker_key(), Book::of(&[&member_key()])).unwrap()
}

/// Hands handshake bytes to and fro in memory, one encryption level at a time, until both sides are silent.
fn shake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), rustls::Error> {
    loop {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        let up_level = client.write_hs(&mut up).is_some();
        server.read_hs(&up)?;
        let down_level = server.write_hs(&mut down).is_some();
        client.read_hs(&down)?;
        if up.is_empty() && down.is_empty() && !up_level && !down_level {
            return Ok(());
        }
    }
}

#[test]
fn the_hybrid_group_is_negotiated_in_full_every_time() {
    let (client_config, server_config) = (Arc::new(client_tls(tls::provider())), Arc::new(server_tls()));
    for _ in 0..2 {
        let name = ServerName::try_from("broker.lintas").unwrap();
        let mut client = ClientConnection::new(client_config.clone(), Version::V1, name, Vec::new()).unwrap();
        let mut server = ServerConnection::new(server_config.clone(), Version::V1, Vec::new()).unwrap();
        shake(&mut client, &mut server).unwrap();
        assert!(!client.is_handshaking() && !server.is_handshaking());
        let groups = [client.negotiated_key_exchange_group(), server.negotiated_key_exchange_group()];
        assert_eq!(groups.map(|group| group.unwrap().name()), [NamedGroup::X25519MLKEM768; 2]);
        assert_eq!([client.handshake_kind(), server.handshake_kind()], [Some(HandshakeKind::Full); 2]);
        assert_eq!([client.alpn_protocol(), server.alpn_protocol()], [Some(b"lintas/1".as_ref()); 2]);
        assert_eq!(client.tls13_tickets_received(), 0);
        assert_eq!(server.server_name(), None, "the name is not sent");
    }
}

/// Connects a client with its own TLS settings.
async fn connect_with(tls: rustls::ClientConfig, address: SocketAddr) -> Result<(), LinkError> {
    let endpoint = quinn::Endpoint::client(any_port()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    let connection = soon(endpoint.connect_with(config, address, "broker.lintas").unwrap()).await?;
    connection.close(0u32.into(), b"");
    Ok(())
}

#[tokio::test]
async fn classical_key_exchange_and_other_protocols_are_refused() {
    let mut region = Region::new(Limits::default());
    connect_with(client_tls(only(aws_lc_rs::kx_group::X25519MLKEM768)), region.address).await.unwrap();
    region.accepted().await.unwrap();

    let mut other_protocol = client_tls(tls::provider());
    other_protocol.alpn_protocols = vec![b"h3".to_vec()];
    for config in [client_tls(only(aws_lc_rs::kx_group::X25519)), other_protocol] {
        let told = connect_with(config, region.address).await.unwrap_err();
        assert!(matches!(told, LinkError::Foreign), "{told:?}");
        let seen = region.accepted().await.unwrap_err();
        assert!(matches!(seen, LinkError::Foreign), "{seen:?}");
    }
}

#[tokio::test]
async fn a_classical_server_is_refused() {
    let config =
        tls::server_config(only(aws_lc_rs::kx_group::X25519), &broker_key(), Book::of(&[&member_key()]))
            .unwrap();
    let crypto = Arc::new(QuicServerConfig::try_from(config).unwrap());
    let server = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(crypto), any_port()).unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(
        async move { while server.accept().await.is_some_and(|incoming| incoming.accept().is_ok()) {} },
    );
    let client = Client::bind(any_port(), &member_key(), Book::of(&[&broker_key()])).unwrap();
    let refused = soon(client.connect(address)).await.unwrap_err();
    assert!(matches!(refused, LinkError::Foreign), "{refused:?}");
}

#[tokio::test]
async fn handshakes_in_progress_are_bounded_and_validated_under_load() {
    let limits = Limits { handshakes_max: 2, retry_above_handshakes: 1, ..Limits::default() };
    let members = Book::of(&[&member_key()]);
    let server = Server::bind_with(any_port(), &broker_key(), members, limits).unwrap();
    let address = server.local_addr().unwrap();
    let client = Arc::new(Client::bind(any_port(), &member_key(), Book::of(&[&broker_key()])).unwrap());
    let connect = || {
        let client = Arc::clone(&client);
        tokio::spawn(async move { client.connect(address).await })
    };

    // Two handshakes that nobody completes; the second had to show its address.
    let waiting = connect();
    let slow = soon(server.accept()).await.unwrap();
    assert!(!slow.is_validated());
    let second = connect();
    let second_handshake = soon(server.accept()).await.unwrap();
    assert!(second_handshake.is_validated());

    // No third: refused while the server looks for work.
    let third = connect();
    tokio::select! {
        _ = server.accept() => panic!("a third handshake was let in"),
        refused = soon(third) => assert!(matches!(refused.unwrap(), Err(LinkError::Busy))),
    }

    // The slow one holds up nobody: the second completes, and its slot serves a fourth.
    let broker = soon(second_handshake.complete()).await.unwrap();
    assert_eq!(broker.peer_key(), member_key().public());
    soon(second).await.unwrap().unwrap();
    let fourth = connect();
    soon(soon(server.accept()).await.unwrap().complete()).await.unwrap();
    soon(fourth).await.unwrap().unwrap();

    drop(slow);
    assert!(matches!(soon(waiting).await.unwrap(), Err(LinkError::Busy)));
}

#[tokio::test]
async fn a_peer_that_falls_silent_in_the_handshake_gives_its_slot_back() {
    let limits = Limits { handshake_ms_max: 300, handshakes_max: 1, ..Limits::default() };
    let mut region = Region::new(limits);
    // A wire that carries one flight up and nothing down.
    let wire = UdpSocket::bind(any_port()).await.unwrap();
    let (broken, target) = (wire.local_addr().unwrap(), region.address);
    tokio::spawn(async move {
        let mut datagram = vec![0; 2_048];
        for _ in 0..2 {
            let (length, _) = wire.recv_from(&mut datagram).await.unwrap();
            wire.send_to(&datagram[..length], target).await.unwrap();
        }
        std::future::pending::<()>().await;
    });
    let node = soon(region.client.connect(broken)).await.unwrap_err();
    assert!(matches!(node, LinkError::HandshakeTimeout { ms_max: 300 }), "{node:?}");
    let broker = region.accepted().await.unwrap_err();
    assert!(matches!(broker, LinkError::HandshakeTimeout { ms_max: 300 }), "{broker:?}");
    tokio::time::sleep(Duration::from_millis(50)).await;
    region.connect().await;
}
