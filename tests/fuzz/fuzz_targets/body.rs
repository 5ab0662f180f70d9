//! The body, after a hostile member has sealed and signed it: padding, gate, rules, and the JSON in which it is shown.

#![no_main]

use std::collections::BTreeSet;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{
    draws::Draws,
    edit::edited,
    fixtures::{Fixtures, Packet, fixtures},
    shaped,
};
use lintas_proto::{
    canonical::encode,
    envelope::{
        open::reopen,
        pad::{pad, unpad},
    },
    limits,
    schema::{Body, Kind},
};

fuzz_target!(|data: &[u8]| {
    let (mut draws, all) = (Draws::new(data), fixtures());
    let how = draws.byte();
    let packet = &all.kinds[draws.below(all.kinds.len())];
    let valid = encode(&packet.body);
    match how % 6 {
        0 => opened(&all, packet, draws.rest()),
        1 => {
            let plain = edited(&pad(&valid).unwrap(), &mut draws);
            opened(&all, packet, &plain);
        }
        2 => opened(&all, packet, &pad(draws.rest()).unwrap()),
        3 => opened(&all, packet, &pad(&edited(&valid, &mut draws)).unwrap()),
        4 => opened(&all, packet, &pad(&shaped::built::<Body>(&mut draws)).unwrap()),
        _ => opened(&all, packet, &pad(&shaped::changed::<Body>(&valid, &mut draws)).unwrap()),
    }
});

/// What a recipient makes of this plaintext.
fn opened(all: &Fixtures, packet: &Packet, plain: &[u8]) {
    let unpadded = unpad(plain);
    if let Ok(body) = unpadded {
        assert_eq!(*pad(body).unwrap(), plain, "two paddings");
    }
    assert!(plain.len() <= limits::BODY_PLAIN_BYTES_MAX);
    let (header, key, sealed) = all.body_of_a_member(&packet.header.core, plain);
    let Ok(body) = reopen(&header, &key, &sealed) else { return };
    assert_eq!(unpadded.map(Bytes::copy_from_slice), Ok(encode(&body)), "another body than was sealed");
    keeps_the_rules(&body, packet);
    let shown = serde_json::to_string(&body).expect("a body that cannot be shown was accepted");
    assert_eq!(serde_json::from_str::<Body>(&shown).unwrap(), body, "it is shown otherwise than it is");
}

/// What the nodes that show and store a body rely on.
fn keeps_the_rules(body: &Body, packet: &Packet) {
    let core = packet.verified.core();
    let parts = [
        (Kind::Alert, body.alert.is_some()),
        (Kind::Notice, body.notice.is_some()),
        (Kind::Request, body.request.is_some()),
        (Kind::Reply, body.reply.is_some()),
        (Kind::Recall, body.recall.is_some()),
    ];
    assert!(parts.iter().all(|(kind, there)| (*kind == core.kind) == *there));
    assert!(
        body.title.iter().any(|title| !title.text.is_empty())
            && body.title.iter().all(|t| t.language.len() <= 35)
    );
    assert!(!body.handling_restriction.is_empty(), "the label holds H3");
    assert_eq!(body.attachments.len(), core.attachments.len());
    assert!(
        body.attachments.iter().all(|key| key.key.len() == 32 && (1..=255).contains(&key.file_name.len()))
    );
    assert!(body.audience.is_empty() || body.audience == packet.submission.openings);
    let places: BTreeSet<u32> = body.locations.iter().map(|location| location.id).collect();
    assert!(!places.contains(&0) && places.len() == body.locations.len());
    let legs = body.routes.iter().flat_map(|route| &route.legs);
    assert!(legs.flat_map(|leg| [leg.from_location_id, leg.to_location_id]).all(|id| places.contains(&id)));
    assert!(body.relations.iter().all(|relation| relation.confidence <= 100));
    let born = body.persons.iter().filter_map(|person| person.born.as_ref());
    assert!(
        born.into_iter()
            .all(|date| (1_800..=2_300).contains(&date.year) && date.month <= 12 && date.day <= 31)
    );
}
