use bytes::Bytes;
use lintas_config::os_entropy;
use lintas_proto::{
    canonical,
    frame::FrameType,
    id::hex,
    limits,
    schema::{Submission, UnitRef},
    sign::{KeyRole, key_id},
};

use super::{send::How, *};
use crate::testing::{AMBER, Region, core, draft};

/// Thailand has sent a packet to Cambodia and one to Indonesia; both came.
struct World {
    region: Region,
    thailand: Desk,
    cambodia: Desk,
    to_cambodia: Submission,
}

fn world() -> World {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let post = |to: &str, title: &str| -> Submission {
        thailand
            .send(&draft(&[to], title, AMBER, "NONE"), &[], &[], None, &How::default(), &mut os_entropy())
            .unwrap();
        let next = thailand.next_submission().unwrap().unwrap();
        canonical::decode(&next.bytes, limits::FRAME_BYTES_MAX).unwrap()
    };
    let (to_cambodia, _) = (post("KH/KH-AHT", "A boat"), post("ID/ID-CID", "A lorry"));
    let delivery = (FrameType::Delivery, canonical::encode(&region.delivery(&to_cambodia, 0, 1)));
    let heard = vec![Heard { kind: delivery.0, payload: delivery.1 }];
    assert_eq!(cambodia.settle(cambodia.judge(heard)).unwrap().acknowledgements.len(), 1);
    World { region, thailand, cambodia, to_cambodia }
}

fn ids(found: &crate::core::exposure::Exposure) -> Vec<&str> {
    found.packets.iter().map(|packet| packet.packet_id.as_str()).collect()
}

#[test]
fn the_loss_of_an_encryption_key_exposes_what_was_sealed_to_it_on_both_sides() {
    let world = world();
    let packet_id = core(&world.to_cambodia.header).packet_id.to_string();
    let digits = hex(&world.to_cambodia.openings[0].enc_key_id);
    for (desk, direction) in [(&world.thailand, "sent"), (&world.cambodia, "received")] {
        for digits in [digits.as_str(), digits.get(..12).unwrap()] {
            let found = desk.exposure(digits, None, false).unwrap();
            assert_eq!(ids(&found), [packet_id.as_str()], "the packet to Indonesia is not exposed");
            assert_eq!((found.contents, found.signatures, found.unread), (1, 0, 0));
            let packet = &found.packets[0];
            assert_eq!((packet.direction.as_str(), packet.from.as_str()), (direction, "TH/TH-MAR"));
            assert!(packet.contents && !packet.signature && packet.title.is_none(), "no title unasked");
            assert!(found.known_as[0].contains("encryption key of KH/KH-AHT"), "{:?}", found.known_as);
            assert!(found.advice[0].contains("reads them"), "{:?}", found.advice);
        }
    }
    let with_titles = world.cambodia.exposure(&digits, None, true).unwrap();
    assert_eq!(with_titles.packets[0].title.as_deref(), Some("A boat"));
}

#[test]
fn the_loss_of_a_signing_key_exposes_no_contents_but_its_signatures() {
    let world = world();
    let public = world.region.packet_key("TH").public_key();
    let digits = hex(&key_id(KeyRole::Packet, &public));
    let found = world.cambodia.exposure(&digits, None, false).unwrap();
    assert_eq!((found.contents, found.signatures), (0, 1));
    assert!(found.advice[0].contains("proves nothing"), "{:?}", found.advice);
    assert_eq!(world.thailand.exposure(&digits, None, false).unwrap().signatures, 2);
    let other = hex(&key_id(KeyRole::Packet, &world.region.packet_key("KH").public_key()));
    assert!(world.cambodia.exposure(&other, None, false).unwrap().packets.is_empty());
}

#[test]
fn units_epochs_and_the_node_itself_can_be_lost() {
    let world = world();
    let count = |desk: &Desk, lost: &str| {
        let found = desk.exposure(lost, None, false).unwrap();
        (found.contents, found.signatures)
    };
    assert_eq!(count(&world.thailand, "node"), (2, 2));
    assert_eq!(count(&world.cambodia, "node"), (1, 0));
    assert_eq!(count(&world.thailand, "unit:KH-AHT"), (1, 0));
    assert_eq!(count(&world.thailand, "unit:KH/KH-AHT"), (1, 0));
    assert_eq!(count(&world.thailand, "unit:ID/KH-AHT"), (0, 0));
    assert_eq!(count(&world.cambodia, "unit:KH-AHT"), (1, 0));
    assert_eq!(count(&world.cambodia, "unit:TH-MAR"), (0, 0), "what a unit sends is sealed to others");
    let epoch = clock::now_ms() / limits::EPOCH_MS;
    assert_eq!(count(&world.thailand, &format!("epoch:{epoch}")), (2, 0));
    assert_eq!(count(&world.thailand, &format!("epoch:{}", epoch + 1)), (0, 0));
}

#[test]
fn a_time_bounds_the_question_and_an_unknown_key_is_called_unknown() {
    let world = world();
    let later = world.thailand.exposure("node", Some(clock::now_ms() + 60_000), false).unwrap();
    assert_eq!((later.looked_at, later.contents), (0, 0));
    let unknown = world.thailand.exposure("0123456789ab", None, false).unwrap();
    assert_eq!((unknown.looked_at, unknown.packets.len()), (2, 0));
    assert!(unknown.advice.iter().any(|text| text.contains("compare the digits")), "{:?}", unknown.advice);
    assert_eq!(world.thailand.exposure("0123", None, false).unwrap_err().code, Code::Usage);
}

#[test]
fn a_key_that_is_listed_no_longer_belongs_to_the_week_of_its_packets() {
    let world = world();
    let directory = world.region.directory();
    let listed = crate::core::listed::keysets(&directory).unwrap();
    let packet = crate::core::exposure::Packet {
        sent: true,
        core: core(&world.to_cambodia.header),
        sealed_to: vec![(UnitRef { agency: "KH".to_owned(), unit: "KH-AHT".to_owned() }, [7; 32])],
    };
    let epoch = u32::try_from(packet.core.created_ms / limits::EPOCH_MS).unwrap();
    let loss =
        |epoch| crate::core::exposure::loss(&crate::core::exposure::Lost::Epoch(epoch), &packet, &listed);
    assert!(loss(epoch).contents && !loss(epoch - 1).contents);
    let held = Bytes::from_static(&[0; 32]);
    assert!(listed.iter().all(|keys| !keys.packet.contains(&held) && keys.packet.len() == 1));
}
