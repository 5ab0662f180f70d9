//! Peers that want to harm: what they can take, and that others do not notice.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use lintas_proto::frame::{FrameType, header};
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, timeout},
};

use super::{Book, Pipe, Region, any_port, broker_key, key, member_key, soon};
use crate::{
    Client, Connection, FrameReader, FrameWriter, Limits, LinkError,
    limits::{SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES, STREAMS_MAX},
};

/// Sends one frame there and back.
async fn echo(
    (writer, reader): &mut (FrameWriter, FrameReader),
    (back_writer, back_reader): &mut (FrameWriter, FrameReader),
) {
    writer.send(FrameType::Submission, Bytes::from_static(b"there")).await.unwrap();
    assert_eq!(soon(back_reader.next()).await.unwrap().unwrap().1.as_ref(), b"there");
    back_writer.send(FrameType::Receipt, Bytes::from_static(b"back")).await.unwrap();
    assert_eq!(soon(reader.next()).await.unwrap().unwrap().1.as_ref(), b"back");
}

/// A stream of an honest node, from both ends, after a first exchange.
async fn honest(
    node: &Connection,
    broker: &Connection,
) -> ((FrameWriter, FrameReader), (FrameWriter, FrameReader)) {
    let mut near = node.open_stream().await.unwrap();
    near.0.send(FrameType::Hello, Bytes::new()).await.unwrap();
    let mut far = soon(broker.accept_stream()).await.unwrap();
    soon(far.1.next()).await.unwrap().unwrap();
    (near, far)
}

/// The first datagrams of so many connections that will never go on: what a client sends to somebody who never
/// answers.
async fn first_flights(count: usize) -> Vec<Vec<u8>> {
    let hole = UdpSocket::bind(any_port()).await.unwrap();
    let address = hole.local_addr().unwrap();
    let client = Arc::new(Client::bind(any_port(), &key(66), Book::of(&[&broker_key()])).unwrap());
    let (mut flights, mut waiting) = (Vec::new(), tokio::task::JoinSet::new());
    for _ in 0..count {
        let client = Arc::clone(&client);
        waiting.spawn(async move { client.connect(address).await });
        let mut datagram = vec![0; 2_048];
        while let Ok(Ok((length, _))) = timeout(Duration::from_millis(5), hole.recv_from(&mut datagram)).await
        {
            flights.push(datagram[..length].to_vec());
        }
    }
    flights
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn junk_and_handshakes_that_stop_hold_up_nobody() {
    let limits = Limits { handshake_ms_max: 60_000, ..Limits::default() };
    let mut region = Region::new(limits);
    region.members.keys.lock().unwrap().insert(key(2).public());
    let (node, broker) = region.connect().await;
    let (mut near, mut far) = honest(&node, &broker).await;
    let (flights, stranger) = (first_flights(100).await, UdpSocket::bind(any_port()).await.unwrap());
    // Most attempts that are neither retried nor refused stay in the handshake for as long as the test.
    for (number, flight) in flights.iter().enumerate() {
        stranger.send_to(flight, region.address).await.unwrap();
        let mut junk = flight.clone();
        for (at, byte) in junk.iter_mut().enumerate().skip(number % 40) {
            *byte = byte.wrapping_mul(31).wrapping_add(u8::try_from((at + number) % 256).unwrap());
        }
        for length in [1, 20, 1_200, junk.len()] {
            let length = length.min(junk.len());
            stranger.send_to(&junk[..length], region.address).await.unwrap();
        }
        if number % 20 == 0 {
            echo(&mut near, &mut far).await;
        }
    }
    // Asked to prove its address, as the handshakes of the stranger would have been.
    let other = region.client_of(&key(2));
    let again = soon(other.connect(region.address)).await.unwrap();
    let broker_again = region.accepted().await.unwrap();
    assert_eq!(broker_again.peer_key(), key(2).public());
    assert_eq!(region.server.live(), 2, "no stranger is a connection");
    echo(&mut near, &mut far).await;
    drop(again);
}

#[tokio::test]
async fn handshakes_have_a_rate_and_a_node_that_waits_gets_in() {
    let limits =
        Limits { starts_per_address_burst: 4, starts_per_address_per_second_max: 2, ..Limits::default() };
    let mut region = Region::new(limits);
    let mut validated = Vec::new();
    let mut in_time = 0;
    let begun = Instant::now();
    for _ in 0..12 {
        if let Ok(node) = soon(region.client.connect(region.address)).await {
            in_time += 1;
            validated.push((node, region.accepted().await.unwrap()));
        }
    }
    let most = 5 + usize::try_from(begun.elapsed().as_millis() / 500).unwrap();
    assert!((4..=most).contains(&in_time), "{in_time} were let in");
    let refused = soon(region.client.connect(region.address)).await;
    assert!(
        matches!(refused, Err(LinkError::Busy)) || begun.elapsed() > Duration::from_millis(400),
        "{refused:?}"
    );
    sleep(Duration::from_millis(700)).await;
    soon(region.client.connect(region.address)).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_opens_every_stream_and_sends_nothing_is_dropped_and_others_are_served() {
    let limits = Limits { stall_ms_max: 300, ..Limits::default() };
    let mut region = Region::new(limits);
    region.members.keys.lock().unwrap().insert(key(2).public());
    let (node, broker) = region.connect().await;
    let (mut near, mut far) = honest(&node, &broker).await;
    let client = region.client_of(&key(2));
    let hostile = soon(client.connect(region.address)).await.unwrap();
    let victim = region.accepted().await.unwrap();
    let mut held = Vec::new();
    for _ in 0..STREAMS_MAX {
        let (mut writer, reader) = soon(hostile.open_stream()).await.unwrap();
        // Announces the longest frame there is, and leaves it at that.
        let announced = header(FrameType::Submission, FrameType::Submission.bytes_max()).unwrap();
        writer.write_raw(Bytes::copy_from_slice(&announced)).await.unwrap();
        held.push((writer, reader));
    }
    let more = timeout(Duration::from_millis(200), hostile.open_stream()).await;
    assert!(more.is_err(), "one stream more than allowed");
    let mut waiting = Vec::new();
    for _ in 0..STREAMS_MAX {
        let (_writer, mut reader) = soon(victim.accept_stream()).await.unwrap();
        waiting.push(tokio::spawn(async move { reader.next().await }));
    }
    echo(&mut near, &mut far).await;
    for stream in waiting {
        let end = soon(stream).await.unwrap();
        assert!(matches!(end, Err(LinkError::Stalled { ms_max: 300 })), "{end:?}");
    }
    echo(&mut near, &mut far).await;
}

#[tokio::test]
async fn a_reader_that_never_reads_is_sent_no_more_than_the_windows_and_given_up() {
    const FRAME_BYTES: usize = 1_000_000;
    let mut pipe = Pipe::new(Limits { stall_ms_max: 300, ..Limits::default() }, b"").await;
    let mut taken = 0;
    let end = loop {
        let sent = pipe.to_node.send(FrameType::Delivery, Bytes::from(vec![1; FRAME_BYTES])).await;
        match soon(async { sent }).await {
            Ok(()) => taken += FRAME_BYTES,
            Err(error) => break error,
        }
        assert!(taken < 1_000 * FRAME_BYTES, "no end of it");
    };
    assert!(matches!(end, LinkError::Stalled { ms_max: 300 }), "{end:?}");
    let most = u64::from(STREAM_WINDOW_BYTES) + SEND_WINDOW_BYTES;
    assert!(u64::try_from(taken).unwrap() <= most, "{taken} bytes for a peer that reads nothing");
}

#[tokio::test]
async fn a_first_frame_in_single_bytes_has_the_time_of_a_hello() {
    let limits = Limits { hello_ms_max: 400, ..Limits::default() };
    let mut region = Region::new(limits);
    let client = region.client_of(&member_key());
    let node = soon(client.connect(region.address)).await.unwrap();
    let broker = region.accepted().await.unwrap();
    let dripping = tokio::spawn(async move {
        let (mut writer, _reader) = node.open_stream().await.unwrap();
        let announced = header(FrameType::Hello, 300).unwrap();
        let mut due = announced.into_iter().chain(std::iter::repeat_n(0, 300));
        while let Some(byte) = due.next()
            && writer.write_raw(Bytes::copy_from_slice(&[byte])).await.is_ok()
        {
            sleep(Duration::from_millis(20)).await;
        }
        node.closed().await
    });
    let missed = soon(crate::receive_hello(&broker)).await.unwrap_err();
    assert!(matches!(missed, LinkError::HelloTimeout { ms_max: 400 }), "{missed:?}");
    let told = soon(dripping).await.unwrap();
    assert!(matches!(told, LinkError::Closed { code: crate::CloseCode::HelloTimeout, .. }), "{told:?}");
}

#[tokio::test]
async fn one_address_that_floods_does_not_keep_another_out() {
    let limits =
        Limits { starts_per_address_burst: 4, starts_per_address_per_second_max: 1, ..Limits::default() };
    let mut region = Region::new(limits);
    let bind = |host: u8| SocketAddr::from(([127, 0, 0, host], 0));
    let flood = Client::bind_with(bind(2), &key(66), region.brokers.clone(), limits).unwrap();
    let mut busy = 0;
    for _ in 0..20 {
        match soon(flood.connect(region.address)).await {
            Ok(connection) => drop(soon(connection.closed()).await),
            Err(error) => busy += usize::from(matches!(error, LinkError::Busy)),
        }
        while region.accepted.try_recv().is_ok() {}
    }
    assert!(busy >= 10, "{busy} attempts of the flood were refused unseen");
    let member = Client::bind_with(bind(3), &member_key(), region.brokers.clone(), limits).unwrap();
    let node = soon(member.connect(region.address)).await.unwrap();
    let broker = loop {
        if let Ok(broker) = region.accepted().await {
            break broker;
        }
    };
    honest(&node, &broker).await;
}
