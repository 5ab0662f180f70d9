use lintas_config::os_entropy;
use lintas_proto::{audit::leaf::open_event, schema::Reason};

use super::*;
use crate::{
    core::{
        outcome::How,
        plan::Verdict,
        snapshot::{decode, encode},
    },
    testing::{Book, NOW, World, unit},
};

fn order(book: &Book, world: &World, indices: &[u64], packets: &[PacketId]) -> Result<Fact, EraseError> {
    let (packets, order) = (packets.iter().copied().collect(), Bytes::from_static(b"signed order"));
    let erasure = Erasure { agency: "TH", indices, packets: &packets, order: &order };
    let mut scribe = Scribe::new(&book.ledger, world.rules.generation(), book.now_ms);
    erasure.record(&book.ledger, &mut scribe, &mut os_entropy())
}

#[test]
fn what_somebody_waits_for_is_not_erased_and_afterwards_the_receipt_is_gone() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    let packet = world.packet("TH", &[unit("KH", "A")]);
    let id = world.admit(&packet).unwrap().header().core().packet_id;
    book.submit(&world, &[&packet]);
    assert_eq!(
        order(&book, &world, &[0, 1], &[id]),
        Err(EraseError::Waits { packet: id, agency: "KH".to_owned() })
    );
    book.end(&world, "KH", 1, &world.acknowledgement(&packet, &unit("KH", "A")));
    assert_eq!(
        order(&book, &world, &[0, 1], &[id]),
        Err(EraseError::Untaken { packet: id, agency: "TH".to_owned() })
    );
    book.end(&world, "TH", 1, &How::Taken);
    assert!(!book.ledger.spent().contains(2, u64::MAX), "the receipt may be asked for");
    let fact = order(&book, &world, &[0, 1], &[id]).unwrap();
    let Fact::Erasure(erasure) = &fact else { panic!() };
    let event = open_event(erasure.events[0].event.as_ref().unwrap()).unwrap();
    assert_eq!((erasure.events.len(), event.r#type), (1, EventType::Erased as i32));
    assert_eq!((event.first_index, event.count), (0, 2));
    assert_eq!(event.evidence_digest, sha256(&[b"signed order"]).as_slice());
    book.apply(fact).unwrap();
    assert_eq!(book.ledger.audit().erased(), book.last());
    assert!(
        !book.ledger.spent().contains(2, 1) && book.ledger.spent().contains(2, 2),
        "once it is published"
    );
    let (verdicts, group) = book.submit(&world, &[&packet]);
    let Verdict::Refused(refused) = &verdicts[0] else { panic!("{:?}", verdicts[0]) };
    assert_eq!((refused.reason, group.facts.len()), (Reason::Replay, 0));
    assert!(refused.text.contains("erased by the order of an agency"), "{}", refused.text);
    assert_eq!(decode(&encode(&book.ledger)).unwrap(), book.ledger);
}

#[test]
fn an_order_that_names_nothing_is_refused() {
    let (world, mut book) = (World::new(NOW), Book::at(NOW));
    book.submit(&world, &[&world.packet("TH", &[unit("KH", "A")])]);
    let many: Vec<u64> = (0..=limits::ERASURE_INDICES_MAX as u64).collect();
    for indices in [&[][..], &[1, 0], &[1, 1], &[2], &many] {
        assert_eq!(order(&book, &world, indices, &[]), Err(EraseError::Indices), "{indices:?}");
    }
    order(&book, &world, &[0, 1], &[]).unwrap();
}

#[test]
fn runs_name_every_index_once() {
    assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [(0, 3), (5, 1), (7, 2)]);
    assert!(runs(&[]).is_empty());
}
