//! Receipts and the events in them: what is parsed is written again as it came, every event is the one that its leaf
//! commits to, and no changed receipt or proof is believed.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{
    draws::Draws,
    edit::edited,
    fixtures::{Fixtures, fixtures},
    shaped,
};
use lintas_proto::{
    audit::leaf::{log_event, open_event},
    canonical::{decode, encode},
    id::Digest,
    limits,
    receipt::{Receipt, sign_receipts, verify_receipt},
    schema::{self, AuditEvent, LoggedEvent, SignedReceipt},
    sign::VerifyingKey,
};

fuzz_target!(|data: &[u8]| {
    let (mut draws, all) = (Draws::new(data), fixtures());
    let valid = all.receipt.to_bytes();
    match draws.byte() % 8 {
        0 => parse(&Bytes::copy_from_slice(draws.rest())),
        1 => parse(&edited(&valid, &mut draws).into()),
        2 => parse(&shaped::changed::<schema::Receipt>(&valid, &mut draws).into()),
        3 => parse(&with_other_events(&all, &mut draws).to_bytes()),
        4 => event(&all, &mut draws),
        5 => believed(&all, &edited(&encode(&signed(&all, &valid)), &mut draws).into()),
        6 => {
            let changed = shaped::changed::<SignedReceipt>(&encode(&signed(&all, &valid)), &mut draws);
            believed(&all, &changed.into());
        }
        _ => believed(
            &all,
            &encode(&signed(&all, &shaped::changed::<schema::Receipt>(&valid, &mut draws).into())),
        ),
    }
});

fn parse(bytes: &Bytes) {
    let Ok((receipt, events)) = Receipt::parse(bytes) else { return };
    assert_eq!(receipt.to_bytes(), bytes, "written otherwise than it was read");
    assert!(!events.is_empty() && events.len() == receipt.events.len());
    assert!(receipt.events.is_sorted_by(|a, b| a.index < b.index));
    assert!(receipt.deadline_ms > receipt.time_ms && receipt.time_ms > 0);
    let (_, agency) = receipt.origin.split_once("/audit/").unwrap();
    for (event, logged) in events.iter().zip(&receipt.events) {
        let salt: Digest = logged.salt.as_ref().try_into().unwrap();
        assert_eq!(
            log_event(logged.index, salt, event),
            *logged,
            "an event that its leaf does not commit to"
        );
        assert_eq!(event.packet_id, receipt.packet_id.as_bytes().as_slice());
        assert_eq!(
            (event.header_digest.as_ref(), event.agency.as_str()),
            (receipt.header_digest.as_slice(), agency)
        );
    }
}

/// The receipt with other events under leaves that fit them.
fn with_other_events(all: &Fixtures, draws: &mut Draws<'_>) -> Receipt {
    let mut receipt = all.receipt.clone();
    for logged in &mut receipt.events {
        let event = Bytes::from(shaped::changed::<AuditEvent>(&logged.event, draws));
        if let Ok(event) = decode::<AuditEvent>(&event, limits::EVENT_BYTES_MAX) {
            *logged = log_event(logged.index.wrapping_add(draws.number() & 3), [draws.byte(); 32], &event);
        }
    }
    receipt
}

/// No other leaf, salt or event opens.
fn event(all: &Fixtures, draws: &mut Draws<'_>) {
    let logged = &all.receipt.events[draws.below(all.receipt.events.len())];
    let changed = LoggedEvent {
        index: logged.index,
        leaf: edited(&logged.leaf, draws).into(),
        salt: edited(&logged.salt, draws).into(),
        event: edited(&logged.event, draws).into(),
    };
    let opened = open_event(&changed).map(|event| encode(&event)).ok();
    assert_eq!(opened, (changed == *logged).then(|| logged.event.clone()));
}

/// In the middle of a group of three.
fn signed(all: &Fixtures, receipt: &Bytes) -> SignedReceipt {
    let other = Receipt { deadline_ms: all.receipt.deadline_ms + 1, ..all.receipt.clone() }.to_bytes();
    sign_receipts(&[other.clone(), receipt.clone(), other], &all.broker_signer).unwrap().swap_remove(1)
}

fn believed(all: &Fixtures, bytes: &Bytes) {
    let Ok(given) = decode::<SignedReceipt>(bytes, limits::RECEIPT_BYTES_MAX) else { return };
    let find =
        |id: &Digest| (id == all.broker_signer.id()).then_some(&all.broker_public) as Option<&VerifyingKey>;
    let Ok((receipt, _)) = verify_receipt(&given, find) else { return };
    assert_eq!(given, signed(all, &receipt.to_bytes()), "a receipt that nobody signed was believed");
    parse(&given.receipt);
}
