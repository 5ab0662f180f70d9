//! Grants: no changed one is verified, and what a relayer really signs keeps to the packet's `onward` and opens nothing
//! that was wrapped under other terms.

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
    canonical::encode,
    envelope::{
        grant::{SealedGrant, VerifiedGrant, open_granted, verify_grant},
        open::Parts,
    },
    id::sha256,
    schema::{self, Grant, GrantCore, Onward},
    sign::Signed,
};

fuzz_target!(|data: &[u8]| {
    let (mut draws, all) = (Draws::new(data), fixtures());
    let how = draws.byte();
    let at = draws.below(all.kinds.len());
    let packet = &all.kinds[at];
    let given = all.grants.iter().flatten().nth(draws.below(all.grants.len()) % 4).unwrap();
    let wire: Grant = decoded(&given.grant);
    let under = |core: Bytes| encode(&Grant { grant_core: core, ..wire.clone() });
    match how % 6 {
        0 => unsigned(&all, packet, &Bytes::copy_from_slice(draws.rest()), given),
        1 => unsigned(&all, packet, &edited(&given.grant, &mut draws).into(), given),
        2 => {
            let signature = edited(&given.signature, &mut draws);
            let verified = verified(&all, packet, &given.grant, &signature);
            assert!(verified.is_none() || signature == given.signature);
        }
        3 => signed(&all, packet, &edited(&given.grant, &mut draws).into(), given),
        4 => signed(&all, packet, &shaped::changed::<Grant>(&given.grant, &mut draws).into(), given),
        _ => {
            let core = shaped::changed::<GrantCore>(&wire.grant_core, &mut draws);
            signed(&all, packet, &under(core.into()), given);
        }
    }
});

fn verified(all: &Fixtures, packet: &Packet, grant: &Bytes, signature: &[u8]) -> Option<VerifiedGrant> {
    verify_grant(&packet.verified, grant, signature, all.directory()).ok()
}

/// With the signature of the grant as it was.
fn unsigned(all: &Fixtures, packet: &Packet, grant: &Bytes, given: &SealedGrant) {
    if verified(all, packet, grant, &given.signature).is_some() {
        assert_eq!(grant, &given.grant, "a grant that nobody signed was verified");
    }
}

/// With the signature of the relayer over just these bytes.
fn signed(all: &Fixtures, packet: &Packet, grant: &Bytes, given: &SealedGrant) {
    let signature = all.kh_signer.sign(Signed::Grant, grant);
    let Some(verified) = verified(all, packet, grant, &signature) else { return };
    let wire: Grant = decoded(grant);
    let core: GrantCore = decoded(&wire.grant_core);
    let (terms, of) = (verified.terms(), packet.verified.core());
    assert_eq!(core.header_digest, packet.verified.digest().as_slice(), "a grant for another packet");
    assert_eq!(verified.digest(), &sha256(&[grant]));
    assert_eq!(core.recipient_commit.len(), wire.wrap_sha256.len());
    assert!((1..=of.deliver_by_ms).contains(&terms.expires_ms));
    assert_eq!(terms.consent_digest.is_some(), of.onward == Onward::WithConsent);
    assert_ne!(of.onward, Onward::None, "passed on against the originator's word");
    let parts = verified.check_parts(&given.openings, &given.wraps);
    let given_wire: Grant = decoded(&given.grant);
    let given_core: GrantCore = decoded(&given_wire.grant_core);
    let named =
        core.recipient_commit == given_core.recipient_commit && wire.wrap_sha256 == given_wire.wrap_sha256;
    assert_eq!(parts.is_ok(), named);
    let parts =
        Parts { index: 0, opening: &given.openings[0], wrap: &given.wraps[0], body: &packet.submission.body };
    let opened = open_granted(&packet.verified, &verified, parts, &all.la).ok().map(|opened| opened.body);
    let same = named && wire.grant_core == given_wire.grant_core;
    assert_eq!(opened, same.then(|| packet.body.clone()) as Option<schema::Body>);
}
