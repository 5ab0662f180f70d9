//! Who may connect, and until when.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use lintas_proto::{frame::FrameType, schema::Hello};
use rustls::sign::CertifiedKey;
use tokio::time::Instant;

use super::{Book, Region, any_port, broker_key, key, member_key, soon};
use crate::{Client, CloseCode, Limits, LinkError, greet};

#[tokio::test]
async fn a_member_connects_and_both_sides_know_whom_they_speak_to() {
    let mut region = Region::new(Limits::default());
    let (node, broker) = region.connect().await;
    assert_eq!(node.peer_key(), broker_key().public());
    assert_eq!(broker.peer_key(), member_key().public());

    let (mut to_broker, mut from_broker) = node.open_stream().await.unwrap();
    to_broker.send(FrameType::Submission, Bytes::from_static(b"question")).await.unwrap();
    let (mut to_node, mut from_node) = soon(broker.accept_stream()).await.unwrap();
    let (kind, payload) = soon(from_node.next()).await.unwrap().unwrap();
    assert_eq!((kind, payload.as_ref()), (FrameType::Submission, b"question".as_ref()));
    to_node.send(FrameType::Receipt, Bytes::from_static(b"answer")).await.unwrap();
    let (kind, payload) = soon(from_broker.next()).await.unwrap().unwrap();
    assert_eq!((kind, payload.as_ref()), (FrameType::Receipt, b"answer".as_ref()));

    soon(to_node.finish()).await.unwrap();
    assert!(soon(from_broker.next()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_stranger_learns_in_the_hello_that_its_key_is_unknown() {
    let mut region = Region::new(Limits::default());
    let stranger = region.client_of(&key(66));
    let told = match soon(stranger.connect(region.address)).await {
        Ok(connection) => soon(greet(&connection, &Hello::default())).await.unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(told, LinkError::NotAdmitted), "{told:?}");
    assert!(told.to_string().contains("the broker does not know this node's key"));
    let seen = region.accepted().await.unwrap_err();
    assert!(matches!(seen, LinkError::UnknownPeer), "{seen:?}");
    assert_eq!(region.server.live(), 0);
}

#[tokio::test]
async fn a_false_broker_is_refused_by_the_node() {
    let mut region = Region::new(Limits::default());
    let brokers = Book::of(&[&key(101)]);
    let client = Client::bind(any_port(), &member_key(), brokers.clone()).unwrap();
    let refused = soon(client.connect(region.address)).await.unwrap_err();
    assert!(matches!(refused, LinkError::UnknownPeer), "{refused:?}");
    assert_eq!(brokers.asked(), 1);
    assert!(region.accepted().await.is_err());
}

#[tokio::test]
async fn a_members_public_key_without_its_private_key_is_refused() {
    let mut region = Region::new(Limits::default());
    let mut thief = key(66);
    let shown = member_key().certified.cert.clone();
    thief.certified = Arc::new(CertifiedKey::new(shown, Arc::clone(&thief.certified.key)));
    let told = match soon(region.client_of(&thief).connect(region.address)).await {
        Ok(connection) => soon(connection.closed()).await,
        Err(error) => error,
    };
    // The same answer as for an unknown key: nobody can try out who is a member.
    assert!(matches!(told, LinkError::NotAdmitted), "{told:?}");
    assert!(matches!(region.accepted().await.unwrap_err(), LinkError::UnknownPeer));
    assert_eq!(region.members.asked(), 1, "the key itself is a member's");
}

#[tokio::test]
async fn a_key_that_leaves_the_directory_loses_its_live_connections() {
    let mut region = Region::new(Limits::default());
    let (first, broker) = region.connect().await;
    let (second, _broker) = region.connect().await;
    // The broker's session may keep nothing but the streams.
    let (mut to_broker, _from_broker) = first.open_stream().await.unwrap();
    to_broker.send(FrameType::Hello, Bytes::new()).await.unwrap();
    let (_to_node, mut from_node) = soon(broker.accept_stream()).await.unwrap();
    soon(from_node.next()).await.unwrap().unwrap();
    // Sent by a member and not yet read when it is one no longer.
    to_broker.send_many([0; 3].map(|_| (FrameType::Receipt, Bytes::new()))).await.unwrap();
    soon(from_node.next()).await.unwrap().unwrap();
    drop(broker);

    assert_eq!(region.server.recheck(), 0);
    region.members.clear();
    let changed = Instant::now();
    assert_eq!(region.server.recheck(), 2);
    for node in [first, second] {
        let why = soon(node.closed()).await;
        assert!(matches!(why, LinkError::Closed { code: CloseCode::DirectoryChanged, .. }), "{why:?}");
    }
    assert!(changed.elapsed() < Duration::from_secs(1));
    assert!(matches!(soon(from_node.next()).await, Err(LinkError::ClosedHere)));

    let again = match soon(region.client.connect(region.address)).await {
        Ok(connection) => soon(connection.closed()).await,
        Err(error) => error,
    };
    assert!(matches!(again, LinkError::NotAdmitted), "{again:?}");
}

#[tokio::test]
async fn a_key_that_goes_to_another_peer_takes_no_live_connection_along() {
    let mut region = Region::new(Limits::default());
    region.members.peers.lock().unwrap().insert(member_key().public(), "TH".to_owned());
    let (node, _broker) = region.connect().await;
    assert_eq!(region.server.recheck(), 0);
    // One directory takes the key from TH and gives it to KH: what was begun as TH ends.
    region.members.peers.lock().unwrap().insert(member_key().public(), "KH".to_owned());
    assert_eq!(region.server.recheck(), 1);
    let why = soon(node.closed()).await;
    assert!(matches!(why, LinkError::Closed { code: CloseCode::DirectoryChanged, .. }), "{why:?}");
}

#[tokio::test]
async fn a_node_leaves_a_broker_that_left_the_directory() {
    let mut region = Region::new(Limits::default());
    let (node, broker) = region.connect().await;
    region.brokers.clear();
    assert_eq!(region.client.recheck(), 1);
    assert!(matches!(soon(node.closed()).await, LinkError::ClosedHere));
    let why = soon(broker.closed()).await;
    assert!(matches!(why, LinkError::Closed { code: CloseCode::DirectoryChanged, .. }), "{why:?}");
}

#[tokio::test]
async fn a_directory_that_changes_during_the_handshake_is_heeded() {
    let mut region = Region::new(Limits::default());
    region.members.no_from.store(2, Ordering::SeqCst);
    let node = soon(region.client.connect(region.address)).await.unwrap();
    assert!(matches!(region.accepted().await.unwrap_err(), LinkError::UnknownPeer));
    assert!(matches!(soon(node.closed()).await, LinkError::NotAdmitted));
    assert_eq!((region.members.asked(), region.server.live()), (2, 0));
}

#[tokio::test]
async fn every_reconnect_asks_the_directory() {
    let mut region = Region::new(Limits::default());
    for round in 1..=3 {
        let (node, broker) = region.connect().await;
        // Time for a ticket to arrive, were there one.
        let (mut to_broker, _) = node.open_stream().await.unwrap();
        to_broker.send(FrameType::Hello, Bytes::new()).await.unwrap();
        soon(broker.accept_stream()).await.unwrap();
        node.close(CloseCode::Done, "");
        soon(broker.closed()).await;
        // Once in the handshake and once on taking a seat, on each side.
        assert_eq!((region.members.asked(), region.brokers.asked()), (2 * round, 2 * round));
    }
}

#[tokio::test]
async fn one_connection_too_many_of_a_key_ends_its_oldest() {
    let limits = Limits { connections_per_peer_max: 2, ..Limits::default() };
    let mut region = Region::new(limits);
    // The node has the same limit, so each connection gets a client of its own.
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let client = region.client_of(&member_key());
        let node = soon(client.connect(region.address)).await.unwrap();
        nodes.push((client, node, region.accepted().await.unwrap()));
    }
    let why = soon(nodes[0].1.closed()).await;
    assert!(matches!(why, LinkError::Closed { code: CloseCode::Superseded, .. }), "{why:?}");
    assert_eq!(region.server.live(), 2);
    nodes.clear();
    assert_eq!(region.server.live(), 0, "dropped connections give their seats back");
}

#[tokio::test]
async fn the_connections_of_an_agency_count_together_whatever_their_keys() {
    let limits = Limits { connections_per_peer_max: 2, ..Limits::default() };
    let mut region = Region::new(limits);
    let agency = [member_key(), key(2), key(3)];
    region.members.keys.lock().unwrap().extend([key(2).public(), key(3).public(), key(4).public()]);
    let names = agency.iter().map(|key| (key.public(), "ID-POLRI".to_owned()));
    region.members.peers.lock().unwrap().extend(names);
    let mut nodes = Vec::new();
    for key in [&key(4), &agency[0], &agency[1], &agency[2]] {
        let client = region.client_of(key);
        let node = soon(client.connect(region.address)).await.unwrap();
        nodes.push((client, node, region.accepted().await.unwrap()));
    }
    let why = soon(nodes[1].1.closed()).await;
    assert!(matches!(why, LinkError::Closed { code: CloseCode::Superseded, .. }), "{why:?}");
    assert_eq!(region.server.live(), 3, "the other agency keeps its place");
}

#[tokio::test]
async fn a_full_broker_says_so_and_a_free_seat_is_taken() {
    let limits = Limits { connections_max: 1, ..Limits::default() };
    let mut region = Region::new(limits);
    region.members.keys.lock().unwrap().insert(key(2).public());
    let (_node, broker) = region.connect().await;
    let other = region.client_of(&key(2));
    let turned_away = soon(other.connect(region.address)).await.unwrap();
    assert!(matches!(region.accepted().await.unwrap_err(), LinkError::Full { max: 1 }));
    assert!(matches!(soon(turned_away.closed()).await, LinkError::Busy));
    broker.close(CloseCode::Done, "");
    drop(turned_away);
    soon(other.connect(region.address)).await.unwrap();
    assert_eq!(region.accepted().await.unwrap().peer_key(), key(2).public());
}
