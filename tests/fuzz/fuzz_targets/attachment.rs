//! Attachments: a ciphertext opens as what was sealed, in pieces of any size, or not at all; nothing that it gives on the
//! way differs from the file; and a hostile member's attachment is the one that core and body name.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{
    draws::Draws,
    edit::edited,
    fixtures::{entropy, fixtures},
};
use lintas_proto::{
    envelope::{
        blob::{BlobError, BlobOpener, BlobSealer, blob_length},
        chunk::{self, ContentKey},
        pad::padme,
        segment::{SegmentRoot, blob_id, boundary, segment_root},
    },
    id::{PacketId, sha256},
    limits,
    schema::{AttachmentKey, AttachmentRef},
};

fuzz_target!(|data: &[u8]| {
    let mut draws = Draws::new(data);
    match draws.byte() % 4 {
        0 => lengths(draws.number()),
        1 => hostile(&mut draws),
        _ => changed(&mut draws),
    }
});

fn packet_id() -> PacketId {
    fixtures().packet.verified.core().packet_id
}

/// Lengths of plaintext, padding and ciphertext fit each other, and nothing overflows.
fn lengths(length: u64) {
    if let Some(sealed) = chunk::sealed_length(length) {
        assert_eq!(chunk::plain_length(sealed), Some(length));
    }
    if let Some(plain) = chunk::plain_length(length) {
        assert_eq!(chunk::sealed_length(plain), Some(length));
    }
    assert!(blob_length(length).is_none_or(|sealed| sealed > length && sealed <= limits::BLOB_BYTES_MAX));
    let at = boundary(length);
    assert!(at <= length && length - at < 1_049_656 && boundary(at) == at);
}

/// What a file of the fuzzer's bytes becomes, some of it changed.
fn changed(draws: &mut Draws<'_>) {
    let index = u32::from(draws.byte() & 3);
    let (pieces, file) = (draws.some(15), repeated(draws));
    let mut blob = Vec::new();
    let mut sealer =
        BlobSealer::new(packet_id(), index, file.len() as u64, &mut entropy("blob"), &mut blob).unwrap();
    chunks(&file, pieces, |piece| sealer.update(piece, &mut blob).unwrap());
    let (reference, key) = sealer.finish(&mut blob).unwrap();
    assert_eq!(Some(blob.len() as u64), blob_length(file.len() as u64));
    let came = edited(&blob, draws);
    let asked = index ^ u32::from(draws.byte() == 1);
    let (whole, given) = opened(asked, &came, &reference, &key, &[]);
    let (by_piece, given_by_piece) = opened(asked, &came, &reference, &key, pieces);
    assert_eq!(whole.is_ok(), asked == index && came == blob, "{whole:?}");
    assert_eq!(whole, by_piece, "pieces make a difference");
    assert!(file.starts_with(&given) && file.starts_with(&given_by_piece), "bytes that are not the file's");
    assert!(whole.is_err() || given == file);
    let mut root = SegmentRoot::default();
    chunks(&came, pieces, |piece| root.update(piece));
    assert_eq!(root.finish(), (segment_root(&came), came.len() as u64));
}

/// A member seals any plaintext and names any length: it is opened if it is a file, zeros, and nothing else.
fn hostile(draws: &mut Draws<'_>) {
    let (length, says_root) = (length(draws), draws.byte() != 1);
    let few = draws.some(24);
    let mut plain: Vec<u8> =
        few.iter().copied().cycle().take(if few.is_empty() { 0 } else { length }).collect();
    let length = length as u64;
    plain.resize(usize::try_from(padme(length)).unwrap(), 0);
    match (draws.byte() % 8, draws.below(plain.len())) {
        (0, _) => {}
        (1, at) => plain.truncate(at),
        (2, _) => plain.push(draws.byte()),
        (3 | 4, at) if at < plain.len() => plain[at] ^= draws.byte(),
        _ => plain.iter_mut().next_back().into_iter().for_each(|last| *last ^= draws.byte()),
    }
    let key = ContentKey::new([7; 32]);
    let context = [b"lintas/v1/blob\0".as_slice(), packet_id().as_bytes(), &0u32.to_be_bytes()].concat();
    let blob = chunk::seal(&key, &[8; 24], &context, &plain).unwrap();
    assert_eq!(chunk::open(&key, &context, &blob).map(|opened| opened.to_vec()), Ok(plain.clone()));
    let root = if says_root { segment_root(&blob) } else { [0; 32] };
    let reference = AttachmentRef {
        blob_id: Bytes::copy_from_slice(&blob_id(&root, blob.len() as u64)),
        length: blob.len() as u64,
        root: Bytes::copy_from_slice(&root),
    };
    let (file, padding) = plain.split_at(plain.len().min(usize::try_from(length).unwrap()));
    let named = AttachmentKey {
        key: Bytes::from_static(&[7; 32]),
        length,
        sha256: Bytes::copy_from_slice(&sha256(&[file])),
        ..AttachmentKey::default()
    };
    let sound = says_root && padme(length) == plain.len() as u64 && padding.iter().all(|byte| *byte == 0);
    let (result, given) = opened(0, &blob, &reference, &named, &[]);
    assert_eq!(result.is_ok(), sound, "{result:?}");
    assert!(given.len() as u64 <= length && file.starts_with(&given));
}

/// Mostly less than a chunk.
fn length(draws: &mut Draws<'_>) -> usize {
    let most = if draws.byte() < 64 { 40_000 } else { 700 };
    draws.below(most)
}

/// Up to 24 bytes, or these again and again over some chunks, or zeros behind them.
fn repeated(draws: &mut Draws<'_>) -> Vec<u8> {
    let (how, few) = (draws.byte(), draws.some(24).to_vec());
    let length = length(draws);
    match how % 4 {
        0 | 1 => few,
        2 => few.iter().copied().cycle().take(if few.is_empty() { 0 } else { length }).collect(),
        _ => few.into_iter().chain([0].into_iter().cycle()).take(length).collect(),
    }
}

fn opened(
    index: u32,
    blob: &[u8],
    reference: &AttachmentRef,
    key: &AttachmentKey,
    pieces: &[u8],
) -> (Result<(), BlobError>, Vec<u8>) {
    let mut out = Vec::new();
    let mut opener = match BlobOpener::new(packet_id(), index, reference, key) {
        Ok(opener) => opener,
        Err(error) => return (Err(error), out),
    };
    let mut result = Ok(());
    chunks(blob, pieces, |piece| {
        let now = opener.update(piece, &mut out);
        result = result.and(now);
    });
    let result = result.and_then(|()| opener.finish(&mut out));
    (result, out)
}

/// `bytes` in pieces of 97 times these lengths, and 1, but no more than some hundred; at once without any.
fn chunks(bytes: &[u8], lengths: &[u8], mut each: impl FnMut(&[u8])) {
    let (mut rest, mut lengths) = (bytes, lengths.iter().cycle());
    while !rest.is_empty() {
        let length = lengths
            .next()
            .map_or(rest.len(), |length| (97 * usize::from(*length) + 1).max(bytes.len() / 200));
        let (piece, after) = rest.split_at(length.min(rest.len()));
        each(piece);
        rest = after;
    }
}
