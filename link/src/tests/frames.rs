//! Frames and raw bytes: whole, in order, in time.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::{BufMut as _, Bytes, BytesMut};
use lintas_proto::{
    frame::{FrameError, FrameType, header},
    limits,
    schema::{Acknowledgement, BlobGet},
};
use tokio::time::{Instant, sleep, timeout};

use super::{Pipe, soon};
use crate::{CloseCode, Limits, LinkError, TakeError, decode, limits::RAW_GROUP_BYTES, take_raw};

/// The same numbers in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % end
    }

    fn bytes(&mut self, length: usize) -> Bytes {
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

fn quick() -> Limits {
    Limits { stall_ms_max: 200, ..Limits::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_frames_echo_with_64_in_flight() {
    const FRAMES: usize = 10_000;
    const IN_FLIGHT: usize = 64;
    let Pipe { mut to_broker, mut from_broker, mut to_node, mut from_node, _region, .. } =
        Pipe::new(Limits::default(), b"").await;
    let echo = tokio::spawn(async move {
        let mut echoed = 0;
        while let Some((kind, payload)) = from_node.next().await.unwrap() {
            to_node.send(kind, payload).await.unwrap();
            echoed += 1;
        }
        soon(to_node.finish()).await.unwrap();
        echoed
    });
    let payload = |number: usize| Dice(number as u64).bytes(number % 300);
    let first = (0..IN_FLIGHT).map(|number| (FrameType::Acknowledgement, payload(number)));
    to_broker.send_many(first).await.unwrap();
    for number in 0..FRAMES {
        let (kind, echoed) = soon(from_broker.next()).await.unwrap().unwrap();
        assert_eq!((kind, echoed), (FrameType::Acknowledgement, payload(number)), "frame {number}");
        if number + IN_FLIGHT < FRAMES {
            to_broker.send(FrameType::Acknowledgement, payload(number + IN_FLIGHT)).await.unwrap();
        }
    }
    soon(to_broker.finish()).await.unwrap();
    assert!(soon(from_broker.next()).await.unwrap().is_none());
    assert_eq!(soon(echo).await.unwrap(), FRAMES);
}

#[tokio::test]
async fn frames_in_arbitrary_pieces_survive_cancelled_reads() {
    let Pipe { mut to_broker, mut from_node, _region, .. } = Pipe::new(Limits::default(), b"").await;
    let mut dice = Dice(7);
    let sent: Vec<_> = (0..40).map(|_| (FrameType::Submission, 1 + dice.below(3_000))).collect();
    let sent: Vec<_> = sent.into_iter().map(|(kind, length)| (kind, dice.bytes(length))).collect();
    let mut wire = BytesMut::new();
    for (kind, payload) in &sent {
        wire.put_slice(&header(*kind, payload.len()).unwrap());
        wire.put_slice(payload);
    }
    let mut wire = wire.freeze();
    let writing = tokio::spawn(async move {
        while !wire.is_empty() {
            let piece = wire.split_to((1 + dice.below(700)).min(wire.len()));
            to_broker.write_raw(piece).await.unwrap();
            // Lets the piece leave in a packet of its own.
            sleep(Duration::from_micros(500)).await;
        }
        soon(to_broker.finish()).await.unwrap();
    });
    let (mut received, mut cancelled, mut inside) = (Vec::new(), 0, 0);
    loop {
        tokio::select! {
            biased;
            frame = from_node.next() => match frame.unwrap() {
                Some(frame) => received.push(frame),
                None => break,
            },
            () = tokio::task::yield_now() => {
                cancelled += 1;
                inside += usize::from(from_node.is_inside_frame());
            }
        }
    }
    soon(writing).await.unwrap();
    assert_eq!(received, sent);
    assert!(cancelled > 100 && inside > 40, "{cancelled} reads cancelled, {inside} of them inside a frame");
}

#[tokio::test]
async fn a_cancelled_send_never_breaks_the_frames() {
    let Pipe { mut to_broker, mut from_node, _region, .. } = Pipe::new(Limits::default(), b"").await;
    let sending = tokio::spawn(async move {
        let mut cancelled = 0;
        for number in 0..60u8 {
            let payload = Bytes::from(vec![number; 1_000_000]);
            let sent = timeout(Duration::from_millis(1), to_broker.send(FrameType::Delivery, payload)).await;
            match sent {
                Ok(sent) => sent.unwrap(),
                Err(_) => cancelled += 1,
            }
        }
        soon(to_broker.finish()).await.unwrap();
        cancelled
    });
    // Until the windows are full.
    sleep(Duration::from_millis(300)).await;
    let (mut last, mut frames) = (None, 0);
    while let Some((kind, payload)) = soon(from_node.next()).await.unwrap() {
        assert_eq!((kind, payload.len()), (FrameType::Delivery, 1_000_000));
        assert!(payload.iter().all(|byte| *byte == payload[0]));
        assert!(last < Some(payload[0]), "in order, none twice");
        last = Some(payload[0]);
        frames += 1;
    }
    let cancelled = soon(sending).await.unwrap();
    assert!(cancelled > 0 && frames >= 60 - cancelled, "{cancelled} cancelled, {frames} received");
}

#[tokio::test]
async fn a_writer_dropped_in_the_middle_is_no_clean_end() {
    let mut pipe = Pipe::new(Limits::default(), b"").await;
    let frames = (0..40).map(|_| (FrameType::Delivery, Bytes::from(vec![1; 1_000_000])));
    // Nobody reads, so the windows fill.
    timeout(Duration::from_millis(500), pipe.to_broker.send_many(frames)).await.unwrap_err();
    drop(pipe.to_broker);
    let end = loop {
        match soon(pipe.from_node.next()).await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Err(LinkError::StreamReset(0))), "{end:?}");
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_by_its_header() {
    let mut pipe = Pipe::new(Limits::default(), &[0xff, 0xff, 0xff, 0xff, FrameType::Submission as u8]).await;
    for _ in 0..2 {
        let refused = soon(pipe.from_node.next()).await.unwrap_err();
        let LinkError::Frame(FrameError::TooLarge { have, max }) = refused else { panic!("{refused:?}") };
        assert_eq!((have, max), (0xffff_ffff, limits::FRAME_BYTES_MAX));
    }
    let long = Bytes::from(vec![0; limits::HELLO_BYTES_MAX + 1]);
    let unsent = pipe.to_broker.send(FrameType::Hello, long).await.unwrap_err();
    assert!(matches!(unsent, LinkError::Unsendable(FrameError::TooLarge { .. })), "{unsent:?}");
}

#[tokio::test]
async fn an_unknown_type_is_refused_and_closes_as_a_violation() {
    let mut pipe = Pipe::new(Limits::default(), &[0, 0, 0, 1, 200, 0]).await;
    let refused = soon(pipe.from_node.next()).await.unwrap_err();
    assert!(matches!(refused, LinkError::Frame(FrameError::UnknownType(200))), "{refused:?}");
    pipe.broker.fail(&refused);
    let told = soon(pipe.node.closed()).await;
    assert!(matches!(told, LinkError::Closed { code: CloseCode::ProtocolViolation, .. }), "{told:?}");
}

#[tokio::test]
async fn only_the_types_that_belong_are_let_in() {
    let mut pipe = Pipe::new(Limits::default(), &[0, 0, 0, 1, 9, 1, 0, 0, 0, 1, 3]).await;
    let kinds = [FrameType::BlobPut, FrameType::BlobGet];
    let (kind, payload) = soon(pipe.from_node.next_of(&kinds)).await.unwrap().unwrap();
    assert_eq!((kind, payload.as_ref()), (FrameType::BlobPut, [1].as_ref()));
    let refused = soon(pipe.from_node.next_of(&kinds)).await.unwrap_err();
    assert!(matches!(refused, LinkError::UnexpectedFrame { have: FrameType::Submission }), "{refused:?}");
}

#[tokio::test]
async fn a_stream_that_ends_inside_a_frame_is_truncated() {
    let mut pipe = Pipe::new(Limits::default(), &[0, 0, 0, 9, 3, 1, 2]).await;
    soon(pipe.to_broker.finish()).await.unwrap();
    let end = soon(pipe.from_node.next()).await.unwrap_err();
    assert!(matches!(end, LinkError::Truncated { missing: 7 }), "{end:?}");
}

#[tokio::test]
async fn a_peer_that_stalls_inside_a_frame_is_dropped() {
    let mut pipe = Pipe::new(quick(), &[0, 0, 0, 9, 3, 1]).await;
    let waiting = Instant::now();
    // Cancelled reads do not start the time anew.
    let stalled = loop {
        if let Ok(end) = timeout(Duration::from_millis(20), pipe.from_node.next()).await {
            break end.unwrap_err();
        }
        assert!(waiting.elapsed() < Duration::from_secs(5), "never dropped");
    };
    assert!(matches!(stalled, LinkError::Stalled { ms_max: 200 }), "{stalled:?}");
    assert!(waiting.elapsed() >= Duration::from_millis(190));
    pipe.broker.fail(&stalled);
    let told = soon(pipe.node.closed()).await;
    assert!(matches!(told, LinkError::Closed { code: CloseCode::Stalled, .. }), "{told:?}");
}

#[tokio::test]
async fn a_peer_that_drips_is_dropped_too() {
    let slow = Limits { frame_bytes_per_second_min: 1_000_000, ..quick() };
    let Pipe { mut to_broker, mut from_node, _region, .. } = Pipe::new(slow, &[0, 0, 1, 0, 3]).await;
    let dripping = tokio::spawn(async move {
        // Never as long a pause as the limit.
        while to_broker.write_raw(Bytes::from_static(b".")).await.is_ok() {
            sleep(Duration::from_millis(20)).await;
        }
    });
    let dropped = soon(from_node.next()).await.unwrap_err();
    assert!(matches!(dropped, LinkError::Stalled { .. }), "{dropped:?}");
    drop(from_node);
    soon(dripping).await.unwrap();
}

#[tokio::test]
async fn silence_between_frames_is_no_stall_and_each_frame_has_its_own_time() {
    let Pipe { mut to_broker, mut from_node, _region, .. } = Pipe::new(quick(), b"").await;
    for _ in 0..2 {
        to_broker.write_raw(Bytes::from_static(&[0, 0, 0])).await.unwrap();
        let inside = timeout(Duration::from_millis(50), from_node.next()).await;
        assert!(inside.is_err() && from_node.is_inside_frame());
        to_broker.write_raw(Bytes::from_static(&[1, 4, b'x'])).await.unwrap();
        assert_eq!(soon(from_node.next()).await.unwrap().unwrap().1.as_ref(), b"x");
        assert!(timeout(Duration::from_millis(600), from_node.next()).await.is_err(), "waits on");
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_stalls_the_writer() {
    let mut pipe = Pipe::new(quick(), b"").await;
    let frames = (0..60).map(|_| (FrameType::Delivery, Bytes::from(vec![1; 1_000_000])));
    let stalled = soon(pipe.to_broker.send_many(frames)).await.unwrap_err();
    assert!(matches!(stalled, LinkError::Stalled { ms_max: 200 }), "{stalled:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_mebibytes_follow_their_first_frame() {
    const BYTES: usize = 16 * 1024 * 1024;
    let mut pipe = Pipe::new(Limits::default(), b"").await;
    let block = Dice(3).bytes(64 * 1024);
    let sent: Bytes = (0..BYTES / block.len()).flat_map(|_| block.clone()).collect();
    let mut rest = sent.clone();
    let uploading = tokio::spawn(async move {
        let first = BlobGet { blob_id: Bytes::from_static(&[7; 32]), ..BlobGet::default() };
        pipe.to_broker.send_message(FrameType::BlobGet, &first).await.unwrap();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(100_000));
            pipe.to_broker.write_raw(piece).await.unwrap();
        }
        soon(pipe.to_broker.finish()).await.unwrap();
        pipe.node
    });
    let first: BlobGet = soon(pipe.from_node.next_message(FrameType::BlobGet)).await.unwrap();
    assert_eq!(first.blob_id.as_ref(), [7; 32]);
    let mut received = BytesMut::with_capacity(BYTES);
    while let Some(piece) = soon(pipe.from_node.read_raw(50_000)).await.unwrap() {
        assert!(!piece.is_empty() && piece.len() <= 50_000);
        received.put_slice(&piece);
    }
    assert!(received == sent, "{} bytes differ from what was sent", received.len());
    soon(uploading).await.unwrap();
}

#[tokio::test]
async fn a_raw_transfer_that_pauses_too_long_is_stalled() {
    let mut pipe = Pipe::new(quick(), b"some").await;
    assert_eq!(soon(pipe.from_node.read_raw(3)).await.unwrap().unwrap().as_ref(), b"som");
    assert_eq!(soon(pipe.from_node.read_raw(3)).await.unwrap().unwrap().as_ref(), b"e");
    let stalled = soon(pipe.from_node.read_raw(3)).await.unwrap_err();
    assert!(matches!(stalled, LinkError::Stalled { ms_max: 200 }), "{stalled:?}");
}

#[tokio::test]
async fn what_is_taken_is_what_was_sent_and_no_more_than_was_asked_for() {
    const BYTES: usize = 1_000_000;
    const FIRST: usize = 700_001;
    let sent: Vec<u8> = (0..=250).cycle().take(BYTES).collect();
    let mut pipe = Pipe::new(Limits::default(), &[]).await;
    let whole = Bytes::from(sent.clone());
    let sending = tokio::spawn(async move {
        pipe.to_broker.write_raw(whole).await.unwrap();
        soon(pipe.to_broker.finish()).await.unwrap();
        pipe.node
    });
    let write = |sink: &mut Vec<u8>, bytes: &[u8]| {
        assert!(!bytes.is_empty() && bytes.len() <= RAW_GROUP_BYTES);
        sink.extend_from_slice(bytes);
        Ok::<_, &str>(())
    };
    let mut seen = 0;
    let reader = &mut pipe.from_node;
    let first = soon(take_raw(reader, FIRST as u64, Vec::new(), write, |count| seen += count)).await.unwrap();
    assert!(first == sent[..FIRST] && seen == FIRST as u64);
    // A disk that fails is told, and nobody waits for it.
    let full = |_: &mut (), _: &[u8]| Err("the disk is full");
    let failed = soon(take_raw(reader, 100_000, (), full, |_| {})).await.unwrap_err();
    assert!(matches!(failed, TakeError::Write("the disk is full")), "{failed:?}");
    // What came before the end is written.
    let all: Arc<Mutex<Vec<u8>>> = Arc::default();
    let keep = |sink: &mut Arc<Mutex<Vec<u8>>>, bytes: &[u8]| {
        sink.lock().unwrap().extend_from_slice(bytes);
        Ok::<_, &str>(())
    };
    let cut = soon(take_raw(reader, BYTES as u64, Arc::clone(&all), keep, |_| {})).await.unwrap_err();
    assert!(matches!(cut, TakeError::Cut), "{cut:?}");
    let all = all.lock().unwrap().clone();
    assert!(all.len() >= BYTES - FIRST - 100_000 && sent.ends_with(&all), "{}", all.len());
    soon(sending).await.unwrap();
}

#[tokio::test]
async fn what_came_before_a_transfer_stalled_is_written() {
    let mut pipe = Pipe::new(quick(), b"some").await;
    let all: Arc<Mutex<Vec<u8>>> = Arc::default();
    let keep = |sink: &mut Arc<Mutex<Vec<u8>>>, bytes: &[u8]| {
        sink.lock().unwrap().extend_from_slice(bytes);
        Ok::<_, ()>(())
    };
    let stalled = soon(take_raw(&mut pipe.from_node, 9, Arc::clone(&all), keep, |_| {})).await.unwrap_err();
    assert!(matches!(stalled, TakeError::Link(LinkError::Stalled { ms_max: 200 })), "{stalled:?}");
    assert_eq!(*all.lock().unwrap(), b"some");
}

#[test]
fn only_the_canonical_encoding_is_decoded() {
    let payload = Bytes::from_static(&[0x08, 0x05]);
    let message: Acknowledgement = decode(FrameType::Acknowledgement, &payload).unwrap();
    assert_eq!(message.queue_sequence, 5);
    let twice = Bytes::from_static(&[0x08, 0x05, 0x08, 0x05]);
    let refused = decode::<Acknowledgement>(FrameType::Acknowledgement, &twice).unwrap_err();
    assert!(matches!(refused, LinkError::Decode(_)), "{refused:?}");
}
