//! What a peer says when it closes a connection is safe to print, and connection ids are recognised by their maker only.

#![no_main]

use aws_lc_rs::hmac;
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{draws::Draws, edit::edited};
use lintas_link::{CloseCode, LinkError};
use lintas_proto::limits::SENTENCE_BYTES_MAX;
use quinn::{
    ApplicationClose, ConnectionClose, ConnectionError, ConnectionId, ConnectionIdGenerator as _,
    TransportErrorCode, VarInt,
};

/// Link's own file: its ids are not public.
#[allow(dead_code, reason = "an endpoint asks more of them")]
#[path = "../../../link/src/connection_ids.rs"]
mod connection_ids;

fuzz_target!(|data: &[u8]| {
    let mut draws = Draws::new(data);
    match draws.byte() % 3 {
        0 => closed(&mut draws),
        1 => broken(&mut draws),
        _ => ids(&mut draws),
    }
});

/// An application close: any code, any bytes.
fn closed(draws: &mut Draws<'_>) {
    let number = draws.number() & ((1 << 62) - 1);
    let error_code = VarInt::from_u64(if draws.flag() { number % 12 } else { number }).unwrap();
    let number = error_code.into_inner();
    let reason = Bytes::copy_from_slice(draws.clone().rest());
    let error = LinkError::from(ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason }));
    is_safe(&error);
    let code = CloseCode::from_wire(number);
    assert!(code.is_none_or(|code| code as u64 == number));
    match error {
        LinkError::ClosedUnknown(found) => assert!(code.is_none() && found == number),
        LinkError::Closed { code: found, .. } => assert_eq!(Some(found), code),
        other => assert!(matches!(code, Some(CloseCode::NotAMember | CloseCode::Busy)), "{other:?}"),
    }
}

/// A close by the peer's transport or TLS.
fn broken(draws: &mut Draws<'_>) {
    let error_code = if draws.flag() {
        TransportErrorCode::crypto(draws.byte())
    } else {
        [TransportErrorCode::CONNECTION_REFUSED, TransportErrorCode::PROTOCOL_VIOLATION][draws.below(2)]
    };
    let reason = Bytes::copy_from_slice(draws.clone().rest());
    let close = ConnectionClose { error_code, frame_type: None, reason };
    is_safe(&LinkError::from(ConnectionError::ConnectionClosed(close)));
}

fn is_safe(error: &LinkError) {
    let told = error.to_string();
    assert!(!told.chars().any(char::is_control), "{told:?}");
    // No text runs the other way (Unicode, "Bidirectional Algorithm") or hides.
    assert!(!told.contains(['\u{202e}', '\u{2066}', '\u{200b}', '\u{feff}']), "{told:?}");
    // Each character is escaped as ten at most; the rest is ours.
    assert!(told.len() <= 10 * SENTENCE_BYTES_MAX + 500, "{} bytes", told.len());
}

/// Half of an id is the HMAC of the other half, and no part of an id, and no longer one, is an id.
fn ids(draws: &mut Draws<'_>) {
    let key = |seed| hmac::Key::new(hmac::HMAC_SHA256, &[seed; 32]);
    let ids = |seed| connection_ids::RecognisedIds::new(key(seed));
    let made = ids(1).generate_cid();
    assert!(ids(1).validate(&made).is_ok() && ids(2).validate(&made).is_err());
    let came = edited(&made, draws);
    // quinn reads no longer one.
    let came = &came[..came.len().min(20)];
    let holds = came.split_first_chunk::<8>().is_some_and(|(random, tag)| {
        let whole = hmac::sign(&key(1), random);
        tag == &whole.as_ref()[..8]
    });
    assert_eq!(ids(1).validate(&ConnectionId::new(came)).is_ok(), holds);
}
