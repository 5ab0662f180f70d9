//! The packet core and its label: what is parsed is written again as it came, and the rules of the format hold.

#![no_main]

use std::collections::BTreeSet;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use lintas_fuzz::{draws::Draws, edit::edited, fixtures::fixtures, shaped};
use lintas_proto::{
    envelope::{chunk, core::Core, segment::blob_id},
    id::{check_code, check_name},
    label, limits,
    schema::{self, Caveat, Kind, Label, Onward, Tlp},
};

fuzz_target!(|data: &[u8]| {
    let (mut draws, all) = (Draws::new(data), fixtures());
    let how = draws.byte();
    let packet = &all.kinds[draws.below(all.kinds.len())];
    let valid = &packet.header.core;
    match how % 4 {
        0 => parse(Bytes::copy_from_slice(draws.rest())),
        1 => parse(edited(valid, &mut draws).into()),
        2 => parse(shaped::changed::<schema::Core>(valid, &mut draws).into()),
        _ => {
            let valid = lintas_proto::canonical::encode(&packet.verified.core().label);
            let label = Bytes::from(shaped::changed::<Label>(&valid, &mut draws));
            if let Ok(label) = lintas_proto::canonical::decode::<Label>(&label, limits::CORE_BYTES_MAX) {
                assert_eq!(label::check(&label).is_ok(), is_sound(&label), "{label:?}");
            }
        }
    }
});

fn parse(bytes: Bytes) {
    let Ok(core) = Core::parse(&bytes) else { return };
    assert_eq!(core.to_bytes().as_ref(), Ok(&bytes), "written otherwise than it was read");
    assert!(bytes.len() <= limits::CORE_BYTES_MAX);
    assert!(is_sound(&core.label));
    assert!(core.kind != Kind::Unspecified && core.onward != Onward::Unspecified);
    assert!(check_code(&core.originator.agency).is_ok() && check_code(&core.originator.unit).is_ok());
    assert!(check_name(&core.region).is_ok() && core.roster_version > 0 && core.keyset_version > 0);
    assert_eq!(core.packet_id.created_ms(), core.created_ms);
    assert!(core.created_ms <= core.not_before_ms && core.not_before_ms < core.deliver_by_ms);
    assert!(core.deliver_by_ms - core.created_ms <= limits::DELIVER_WITHIN_MS_MAX);
    let recipients: BTreeSet<_> = core.recipient_commit.iter().collect();
    assert_eq!(recipients.len(), core.recipient_commit.len());
    assert!((1..=limits::RECIPIENTS_MAX).contains(&recipients.len()));
    assert_eq!(core.kind == Kind::Recall, core.refers_to.is_some());
    let blobs: BTreeSet<_> = core.attachments.iter().map(|attachment| &attachment.blob_id).collect();
    assert!(blobs.len() == core.attachments.len() && blobs.len() <= limits::ATTACHMENTS_MAX);
    for attachment in &core.attachments {
        let root = attachment.root.as_ref().try_into().unwrap();
        assert_eq!(attachment.blob_id, blob_id(&root, attachment.length).as_slice());
        assert!(attachment.length <= limits::BLOB_BYTES_MAX);
        assert!(chunk::plain_length(attachment.length).is_some());
    }
}

/// The table "Label" of the format, read a second time.
fn is_sound(label: &Label) -> bool {
    let ascending = |list: &[i32]| list.is_sorted_by(|a, b| a < b) && !list.contains(&0);
    let lists = [&label.handling, &label.caveats, &label.purposes, &label.offences, &label.data];
    let codes = label.classification.iter().flat_map(|marking| [&marking.scheme, &marking.value]);
    Tlp::try_from(label.tlp).is_ok_and(|tlp| tlp != Tlp::Unspecified)
        && lists.into_iter().all(|list| ascending(list))
        && !label.handling.is_empty()
        && !label.purposes.is_empty()
        && label.caveats.contains(&(Caveat::RelTo as i32)) != label.rel_to.is_empty()
        && label.rel_to.is_sorted_by(|a, b| a < b)
        && label.rel_to.iter().chain(codes).all(|code| check_code(code).is_ok())
}
