//! Asking a broker that the directory does not know; and what a node may begin with.

use std::time::Duration;

use bytes::Bytes;
use lintas_proto::{
    frame::{FrameType, header},
    schema::Hello,
};

use super::{Book, Region, any_port, key, member_key, soon};
use crate::{Client, CloseCode, First, Limits, LinkError, receive_first};

const QUESTIONS: [FrameType; 2] = [FrameType::DirectoryGet, FrameType::KeysetPut];

#[tokio::test]
async fn a_node_whose_directory_is_too_old_can_ask_for_one_and_do_nothing_else() {
    let mut region = Region::new(Limits::default());
    // Its directory knows another broker.
    let client = Client::bind(any_port(), &member_key(), Book::of(&[&key(101)])).unwrap();
    assert!(matches!(soon(client.connect(region.address)).await, Err(LinkError::UnknownPeer)));
    assert!(region.accepted().await.is_err());

    let node = soon(client.connect_to_anyone(region.address)).await.unwrap();
    let broker = region.accepted().await.unwrap();
    assert_eq!(node.peer_key(), super::broker_key().public());
    let (mut to_broker, mut from_broker) = soon(node.open_stream()).await.unwrap();
    for kind in [FrameType::Hello, FrameType::Submission, FrameType::KeysetPut] {
        let unsent = to_broker.send(kind, Bytes::from_static(b"secret")).await;
        assert!(matches!(unsent, Err(LinkError::UntrustedPeer)), "{kind:?}: {unsent:?}");
    }
    let raw = to_broker.write_raw(Bytes::from_static(b"secret")).await;
    assert!(matches!(raw, Err(LinkError::UntrustedPeer)), "{raw:?}");

    to_broker.send(FrameType::DirectoryGet, Bytes::from_static(b"?")).await.unwrap();
    let (first, mut to_node, mut from_node) = soon(receive_first(&broker, &QUESTIONS)).await.unwrap();
    assert_eq!(first, First::Other(FrameType::DirectoryGet, Bytes::from_static(b"?")));
    to_node.send(FrameType::DirectoryHead, Bytes::from_static(b"!")).await.unwrap();
    let told = soon(from_broker.next_of(&[FrameType::DirectoryHead])).await.unwrap().unwrap();
    assert_eq!(told.1.as_ref(), b"!");
    soon(to_broker.finish()).await.unwrap();
    assert!(soon(from_node.next()).await.unwrap().is_none(), "nothing else was sent");

    // The broker gets no stream of its own to it.
    let opened = tokio::time::timeout(Duration::from_millis(200), broker.open_stream()).await;
    assert!(opened.is_err(), "the untrusted peer opened a stream");
    node.close(CloseCode::Done, "");
    assert!(matches!(soon(broker.closed()).await, LinkError::Closed { code: CloseCode::Done, .. }));
}

#[tokio::test]
async fn to_ask_anyone_one_must_be_a_member_oneself() {
    let mut region = Region::new(Limits::default());
    let stranger = region.client_of(&key(66));
    let told = match soon(stranger.connect_to_anyone(region.address)).await {
        Ok(connection) => soon(connection.closed()).await,
        Err(error) => error,
    };
    assert!(matches!(told, LinkError::NotAdmitted), "{told:?}");
    assert!(matches!(region.accepted().await, Err(LinkError::UnknownPeer)));
}

#[tokio::test]
async fn a_node_begins_with_a_hello_or_with_a_question_that_belongs() {
    let mut region = Region::new(Limits::default());
    let hello = Hello { protocol: 1, agency: "ID-POLRI".to_owned(), ..Hello::default() };
    let (node, broker) = region.connect().await;
    let (mut writer, _reader) = node.open_stream().await.unwrap();
    writer.send_message(FrameType::Hello, &hello).await.unwrap();
    let (first, ..) = soon(receive_first(&broker, &QUESTIONS)).await.unwrap();
    assert_eq!(first, First::Hello(Box::new(hello)));

    let (node, broker) = region.connect().await;
    let (mut writer, _reader) = node.open_stream().await.unwrap();
    // By its header: nothing of the megabyte is waited for.
    let announced = header(FrameType::Submission, 1_000_000).unwrap();
    writer.write_raw(Bytes::copy_from_slice(&announced)).await.unwrap();
    let refused = soon(receive_first(&broker, &QUESTIONS)).await.unwrap_err();
    assert!(matches!(refused, LinkError::UnexpectedFrame { have: FrameType::Submission }), "{refused:?}");
    let told = soon(node.closed()).await;
    assert!(matches!(told, LinkError::Closed { code: CloseCode::ProtocolViolation, .. }), "{told:?}");
}
