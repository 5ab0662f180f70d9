//! A packet at the broker and at the recipient: nothing changed is verified or opened, and what a member signs, however
//! odd, is read as it came.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{
    draws::Draws,
    edit::edited,
    fixtures::{Fixtures, Packet, decoded, fixtures},
    shaped,
};
use lintas_proto::{
    canonical::{decode, encode},
    envelope::{
        open::Parts, open::open, segment::segment_root, verify::VerifiedHeader, verify::verify_header,
    },
    id::sha256,
    limits,
    schema::{self, Opening, Submission},
};

fuzz_target!(|data: &[u8]| {
    let (mut draws, all) = (Draws::new(data), fixtures());
    let how = draws.byte();
    let packet = &all.kinds[draws.below(all.kinds.len())];
    let sent = &packet.submission;
    match how % 8 {
        0 => submitted(&all, packet, &Bytes::copy_from_slice(draws.rest())),
        1 => submitted(&all, packet, &edited(&encode(sent), &mut draws).into()),
        2 => submitted(&all, packet, &shaped::changed::<Submission>(&encode(sent), &mut draws).into()),
        3 => {
            let signature = Bytes::from(edited(&sent.signature, &mut draws));
            let verified = verify_header(&sent.header, &signature, all.directory());
            assert_eq!(verified.is_ok(), signature == sent.signature);
        }
        4 => by_a_member(&all, packet, &edited(&sent.header, &mut draws).into()),
        5 => by_a_member(&all, packet, &shaped::changed::<schema::Header>(&sent.header, &mut draws).into()),
        6 => {
            let core = Bytes::from(shaped::changed::<schema::Core>(&packet.header.core, &mut draws));
            by_a_member(&all, packet, &encode(&schema::Header { core, ..packet.header.clone() }));
        }
        _ => delivered(&all, packet, &mut draws),
    }
});

/// What the broker asks of a submission before it asks a policy.
fn submitted(all: &Fixtures, packet: &Packet, bytes: &Bytes) {
    let Ok(submission) = decode::<Submission>(bytes, limits::FRAME_BYTES_MAX) else { return };
    let verified = verify_header(&submission.header, &submission.signature, all.directory());
    let Ok(verified) = verified else { return };
    // Whatever the fuzzer holds, it holds no key.
    let known =
        all.kinds.iter().chain([&all.packet]).find(|known| known.submission.header == submission.header);
    let known = known.expect("a header that nobody signed was verified");
    assert_eq!(known.submission.signature, submission.signature);
    if verified.check_parts(&submission.openings, &submission.wraps, &submission.body).is_ok() {
        assert_eq!(submission, known.submission, "parts that the header does not name");
    }
    assert_eq!(submission == packet.submission, *bytes == encode(&packet.submission));
}

/// A header that its member has really signed: the signature tells nothing, the rules must.
fn by_a_member(all: &Fixtures, packet: &Packet, header: &Bytes) {
    let Ok(verified) = all.signed_by_a_member(header) else { return };
    let wire: schema::Header = decoded(header);
    assert_eq!(encode(&wire), header);
    assert_eq!(verified.core().to_bytes().as_ref(), Ok(&wire.core));
    assert_eq!((verified.digest(), verified.context()), (&sha256(&[header]), &sha256(&[&wire.core])));
    assert_eq!(wire.wrap_sha256.len(), verified.core().recipient_commit.len());
    assert!(verified.body_length() <= limits::BODY_BYTES_MAX as u64);
    let sent = &packet.submission;
    let names = |at: usize| {
        wire.wrap_sha256.get(at).is_some_and(|digest| sha256(&[&sent.wraps[at]]) == digest.as_ref())
    };
    let body =
        segment_root(&sent.body) == wire.body_root.as_ref() && sent.body.len() as u64 == wire.body_length;
    let recipients = verified.core().recipient_commit == packet.verified.core().recipient_commit;
    let parts = verified.check_parts(&sent.openings, &sent.wraps, &sent.body);
    assert_eq!(parts.is_ok(), recipients && (0..sent.wraps.len()).all(names) && body, "{parts:?}");
    // Body and wrap are bound to the core: no other one opens them. Of the others' wraps a recipient knows nothing.
    let same = wire.core == packet.header.core && names(0) && body;
    let opened = opens(all, &verified, 0, &sent.openings[0], &sent.wraps[0], &sent.body);
    assert_eq!(opened, same.then(|| packet.body.clone()));
}

/// What a recipient gets, some of it changed.
fn delivered(all: &Fixtures, packet: &Packet, draws: &mut Draws<'_>) {
    let sent = &packet.submission;
    let which = draws.byte();
    let change = |bit: u8, bytes: &Bytes, draws: &mut Draws<'_>| {
        if which & bit == 0 { bytes.clone() } else { Bytes::from(edited(bytes, draws)) }
    };
    let opening = change(1, &encode(&sent.openings[0]), draws);
    let (wrap, body) = (change(2, &sent.wraps[0], draws), change(4, &sent.body, draws));
    let index = usize::from(which >> 6);
    let same =
        index == 0 && opening == encode(&sent.openings[0]) && wrap == sent.wraps[0] && body == sent.body;
    let opening = decode::<Opening>(&opening, 1_024).unwrap_or_default();
    let opened = opens(all, &packet.verified, index, &opening, &wrap, &body);
    assert_eq!(opened, same.then(|| packet.body.clone()), "something changed was opened");
}

fn opens(
    all: &Fixtures,
    verified: &VerifiedHeader,
    index: usize,
    opening: &Opening,
    wrap: &[u8],
    body: &[u8],
) -> Option<schema::Body> {
    open(verified, Parts { index, opening, wrap, body }, &all.kh).ok().map(|opened| opened.body)
}
