//! Frames: a stream in pieces of any size gives what it gives at once, and each frame is the one message of its type.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{draws::Draws, messages::gate};
use lintas_link::decode;
use lintas_proto::{
    frame::{self, FrameError, FrameType, HEADER_BYTES},
    schema,
};

/// Link's own file: its assembler is not public.
#[path = "../../../link/src/assemble.rs"]
mod assemble;

/// What that file asks of its crate.
mod limits {
    pub(crate) use lintas_link::limits::READ_BYTES_MAX;
}

type Frames = (Vec<(FrameType, Bytes)>, Option<FrameError>, usize);

fuzz_target!(|data: &[u8]| {
    let mut draws = Draws::new(data);
    let cuts = draws.some(31);
    let wire = Bytes::copy_from_slice(draws.rest());
    let whole = assembled(&wire, &[]);
    assert_eq!(whole, assembled(&wire, cuts), "pieces make a difference");
    assert_eq!(whole, read_plainly(&wire), "not what the bytes say");
    let (frames, ..) = whole;
    let mut at = 0;
    for (kind, payload) in frames {
        assert!(payload.len() <= kind.bytes_max());
        let end = at + HEADER_BYTES + payload.len();
        let header = frame::header(kind, payload.len()).unwrap();
        assert_eq!(
            [header.as_slice(), &payload].concat(),
            wire[at..end],
            "written otherwise than it was read"
        );
        one_message(kind, &payload);
        at = end;
    }
});

/// Feeds `wire` in pieces of these lengths, again and again; at once without any.
fn assembled(wire: &Bytes, lengths: &[u8]) -> Frames {
    let (mut assembler, mut frames, mut rest) = (assemble::Assembler::default(), Vec::new(), wire.clone());
    let mut lengths = lengths.iter().cycle();
    // Empty pieces are allowed, but not for ever.
    for round in 0.. {
        let length = lengths.next().map_or(rest.len(), |length| usize::from(*length));
        let mut piece = rest.split_to(length.max(usize::from(round % 64 == 63)).min(rest.len()));
        loop {
            match assembler.push(&mut piece) {
                Ok(Some((kind, payload))) => {
                    let held = Vec::from(payload);
                    assert!(held.capacity() <= held.len().max(limits::READ_BYTES_MAX), "{}", held.capacity());
                    frames.push((kind, held.into()));
                }
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(
                        assembler.push(&mut Bytes::from_static(&[0; 9])),
                        Err(error),
                        "back into step"
                    );
                    return (frames, Some(error), 0);
                }
            }
        }
        assert!(piece.is_empty(), "what arrived was left");
        if rest.is_empty() {
            break;
        }
    }
    if let Some((kind, length)) = assembler.due() {
        assert!((1..=length).contains(&assembler.missing()) && length <= kind.bytes_max());
    }
    (frames, None, assembler.missing())
}

/// The same, read from the page of the format.
fn read_plainly(wire: &[u8]) -> Frames {
    let (mut frames, mut rest) = (Vec::new(), wire);
    loop {
        let Some((header, after)) = rest.split_first_chunk::<HEADER_BYTES>() else {
            let missing = if rest.is_empty() { 0 } else { HEADER_BYTES - rest.len() };
            return (frames, None, missing);
        };
        let (kind, length) = match frame::parse_header(*header) {
            Ok(found) => found,
            Err(error) => return (frames, Some(error), 0),
        };
        let announced = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
        assert_eq!((kind as u8, length), (header[4], announced as usize));
        let Some((payload, after)) = after.split_at_checked(length) else {
            return (frames, None, length - after.len());
        };
        frames.push((kind, Bytes::copy_from_slice(payload)));
        rest = after;
    }
}

macro_rules! by_type {
    ($kind:expr, $payload:expr, $($type:ident => $message:ident),+ $(,)?) => {
        match $kind {
            $(FrameType::$type => {
                let read = decode::<schema::$message>($kind, $payload).ok();
                assert_eq!(read.is_some(), gate::<schema::$message>($payload).is_some());
            })+
        }
    };
}

/// Link decodes what the gate lets through, as the message that the type names.
fn one_message(kind: FrameType, payload: &Bytes) {
    by_type!(
        kind, payload,
        Hello => Hello, HelloAck => HelloAck, Submission => Submission, Receipt => SignedReceipt,
        Refusal => Refusal, Delivery => Delivery, Evidence => EvidenceDelivery, Acknowledgement => Acknowledgement,
        BlobPut => BlobPut, BlobGet => BlobGet, BlobStatus => BlobStatus, DirectoryGet => DirectoryGet,
        DirectoryHead => DirectoryHead, KeysetPut => KeysetPut, KeysetStatus => KeysetStatus,
        DirectoryNotice => DirectoryNotice, WitnessRequest => WitnessRequest, WitnessAnswer => WitnessAnswer,
        LogGet => LogGet, LogHead => LogHead, ErasurePut => ErasurePut, ErasureStatus => ErasureStatus,
        PolicyPut => PolicyPut, PolicyStatus => PolicyStatus, PolicyGet => PolicyGet, PolicyHead => PolicyHead,
    );
}
