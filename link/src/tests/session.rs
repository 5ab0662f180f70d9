//! Hello and its answers.

use std::{net::Ipv4Addr, sync::Arc, time::Duration};

use bytes::Bytes;
use lintas_proto::{
    frame::{FrameType, header},
    schema::{Hello, HelloAck, Reason},
};
use tokio::time::{Instant, sleep, timeout};

use super::{Book, Region, any_port, broker_key, member_key, soon};
use crate::{Client, CloseCode, Limits, LinkError, Server, answer, greet, receive_hello, refuse};

fn hello() -> Hello {
    Hello { protocol: 1, agency: "ID-POLRI".to_owned(), ..Hello::default() }
}

fn ack(reason: Reason, text: &str) -> HelloAck {
    HelloAck { protocol: 1, reason: reason.into(), text: text.to_owned(), credit: 32, ..HelloAck::default() }
}

fn quick() -> Limits {
    Limits { hello_ms_max: 200, ..Limits::default() }
}

#[tokio::test]
async fn hello_and_answer_open_a_session() {
    let mut region = Region::new(Limits::default());
    let (node, broker) = region.connect().await;
    let greeting = tokio::spawn(async move { (greet(&node, &hello()).await.unwrap(), node) });
    let (said, mut to_node, mut from_node) = soon(receive_hello(&broker)).await.unwrap();
    assert_eq!((said.protocol, said.agency.as_str()), (1, "ID-POLRI"));
    answer(&mut to_node, &ack(Reason::Accepted, "")).await.unwrap();
    let ((answered, mut to_broker, _from_broker), _node) = soon(greeting).await.unwrap();
    assert_eq!(answered.credit, 32);
    to_broker.send(FrameType::Submission, Bytes::from_static(b"next")).await.unwrap();
    assert_eq!(soon(from_node.next()).await.unwrap().unwrap().0, FrameType::Submission);
}

#[tokio::test]
async fn a_refusal_arrives_with_reason_and_text() {
    let mut region = Region::new(Limits::default());
    let (node, broker) = region.connect().await;
    let greeting = tokio::spawn(async move { greet(&node, &hello()).await.unwrap_err() });
    let (_, writer, _reader) = soon(receive_hello(&broker)).await.unwrap();
    let text = "fetch the roster\u{1b}[2J";
    soon(refuse(&broker, writer, &ack(Reason::StaleDirectory, text))).await.unwrap();
    let told = soon(greeting).await.unwrap();
    let LinkError::Refused { reason, text } = told else { panic!("{told:?}") };
    assert_eq!(reason, Reason::StaleDirectory);
    assert_eq!(text, r"fetch the roster\u{1b}[2J", "safe to print");
    assert!(matches!(soon(broker.closed()).await, LinkError::ClosedHere));
}

#[tokio::test]
async fn an_answer_without_a_reason_is_refused() {
    let mut region = Region::new(Limits::default());
    let (node, broker) = region.connect().await;
    let greeting = tokio::spawn(async move { greet(&node, &hello()).await.unwrap_err() });
    let (_, mut writer, _reader) = soon(receive_hello(&broker)).await.unwrap();
    answer(&mut writer, &ack(Reason::Unspecified, "")).await.unwrap();
    let refused = soon(greeting).await.unwrap();
    assert!(matches!(refused, LinkError::UnknownReason(0)), "{refused:?}");
    let told = soon(broker.closed()).await;
    assert!(matches!(told, LinkError::Closed { code: CloseCode::ProtocolViolation, .. }), "{told:?}");
}

#[tokio::test]
async fn a_hello_that_never_comes_times_out() {
    let mut region = Region::new(quick());
    let (node, broker) = region.connect().await;
    let waiting = Instant::now();
    let missed = soon(receive_hello(&broker)).await.unwrap_err();
    assert!(matches!(missed, LinkError::HelloTimeout { ms_max: 200 }), "{missed:?}");
    assert!(waiting.elapsed() >= Duration::from_millis(190));
    let told = soon(node.closed()).await;
    assert!(matches!(told, LinkError::Closed { code: CloseCode::HelloTimeout, .. }), "{told:?}");
}

#[tokio::test]
async fn an_answer_that_never_comes_times_out() {
    let mut region = Region::new(quick());
    let (node, broker) = region.connect().await;
    let missed = soon(greet(&node, &hello())).await.unwrap_err();
    assert!(matches!(missed, LinkError::HelloTimeout { ms_max: 200 }), "{missed:?}");
    assert!(matches!(soon(broker.closed()).await, LinkError::Closed { code: CloseCode::HelloTimeout, .. }));
}

#[tokio::test]
async fn anything_but_a_hello_ends_the_connection() {
    let mut region = Region::new(Limits::default());
    let (node, broker) = region.connect().await;
    let (mut writer, _reader) = node.open_stream().await.unwrap();
    // By its header: nothing of the megabyte is waited for.
    let announced = header(FrameType::Submission, 1_000_000).unwrap();
    writer.write_raw(Bytes::copy_from_slice(&announced)).await.unwrap();
    let refused = soon(receive_hello(&broker)).await.unwrap_err();
    assert!(matches!(refused, LinkError::UnexpectedFrame { have: FrameType::Submission }), "{refused:?}");
    let told = soon(node.closed()).await;
    assert!(matches!(told, LinkError::Closed { code: CloseCode::ProtocolViolation, .. }), "{told:?}");
}

#[tokio::test]
async fn a_server_that_goes_down_tells_its_nodes() {
    let mut region = Region::new(Limits::default());
    let (node, _broker) = region.connect().await;
    region.server.close(CloseCode::ShuttingDown, "back at noon");
    let told = soon(node.closed()).await;
    let LinkError::Closed { code: CloseCode::ShuttingDown, text } = told else { panic!("{told:?}") };
    assert_eq!(text, "back at noon");
    soon(region.server.wait_idle()).await;
}

#[tokio::test]
async fn a_quiet_connection_lives_and_a_dead_one_ends() {
    let quiet = Limits { idle_ms_max: 400, keep_alive_ms: 100, ..Limits::default() };
    let mut region = Region::new(quiet);
    let (node, _broker) = region.connect().await;
    sleep(Duration::from_millis(1_000)).await;
    let (mut writer, _reader) = node.open_stream().await.unwrap();
    writer.send(FrameType::Hello, Bytes::new()).await.unwrap();

    let mut region = Region::new(Limits { keep_alive_ms: 60_000, ..quiet });
    let (_node, broker) = region.connect().await;
    assert!(matches!(soon(broker.closed()).await, LinkError::Silent));
}

#[tokio::test]
async fn addresses_that_cannot_work_say_so() {
    let region = Region::new(Limits::default());
    let nowhere = (Ipv4Addr::LOCALHOST, 0).into();
    let refused = soon(region.client.connect(nowhere)).await.unwrap_err();
    assert!(matches!(refused, LinkError::Address { address, .. } if address == nowhere), "{refused:?}");
    let taken = Server::bind(region.address, &broker_key(), Book::of(&[])).unwrap_err();
    assert!(matches!(taken, LinkError::Socket { .. }), "{taken:?}");
}

#[test]
fn without_a_runtime_there_is_an_error_and_no_panic() {
    let outside = Server::bind(any_port(), &broker_key(), Book::of(&[])).unwrap_err();
    assert!(matches!(outside, LinkError::NoRuntime), "{outside:?}");
}

#[tokio::test]
async fn no_connection_outlives_its_endpoint() {
    let mut region = Region::new(Limits::default());
    let (node, broker) = region.connect().await;
    drop(region.client);
    assert!(matches!(soon(node.closed()).await, LinkError::ClosedHere));
    assert!(matches!(soon(broker.closed()).await, LinkError::Closed { code: CloseCode::Done, .. }));
}

#[test]
fn close_codes_keep_their_numbers() {
    let codes: Vec<_> = (0..=10).map(CloseCode::from_wire).collect();
    for (number, code) in codes.iter().take(10).enumerate() {
        assert_eq!(code.map(|code| code.wire().into_inner()), Some(number as u64));
    }
    assert_eq!(codes[10], None);
    assert_eq!((CloseCode::NotAMember as u8, CloseCode::Stalled as u8), (1, 9));
}

#[test]
fn a_node_learns_soon_that_a_broker_was_killed_and_started_again() {
    let limits = Limits { keep_alive_ms: 100, ..Limits::default() };
    let (members, brokers) = (Book::of(&[&member_key()]), Book::of(&[&broker_key()]));
    let serve = |address| {
        let members = Arc::clone(&members);
        // A runtime that is shut down takes its endpoint along without a word to its peers: like kill -9.
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let server = {
            let _inside = runtime.enter();
            Arc::new(Server::bind_with(address, &broker_key(), members, limits).unwrap())
        };
        let accepting = Arc::clone(&server);
        runtime.spawn(async move {
            let mut live = Vec::new();
            while let Some(handshake) = accepting.accept().await {
                live.push(handshake.complete().await.unwrap());
            }
        });
        (runtime, server)
    };
    let (first, server) = serve(any_port());
    let address = server.local_addr().unwrap();
    let node = tokio::runtime::Runtime::new().unwrap();
    let (_client, connection) = node.block_on(async {
        let client = Client::bind_with(any_port(), &member_key(), brokers, limits).unwrap();
        let connection = soon(client.connect(address)).await.unwrap();
        (client, connection)
    });
    first.shutdown_background();
    drop(server);
    std::thread::sleep(Duration::from_millis(300));
    let (_second, _server) = serve(address);
    let ended = node.block_on(async { timeout(Duration::from_secs(3), connection.closed()).await });
    assert!(ended.is_ok(), "the node waits for the idle timeout");
}
