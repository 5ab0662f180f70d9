//! A copy of a packet comes while the first one has no place yet: a session broke, and the next one submits it again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

use lintas_broker::{
    core::earlier::{Earlier, Taken},
    sim::{AuditDisk, Hands, Settings, SimBroker},
};
use lintas_config::clock::Reading;
use lintas_journal::{Depth, SimDisk};
use lintas_node::sim::{self, SimNode};
use lintas_proto::frame::FrameType;
use lintas_sim::{
    dice::Dice,
    machine::limits,
    region::{AGENCIES, BEGIN_MS, REGION, Region, unit},
};

#[test]
fn a_copy_that_comes_too_late_for_its_directory_gets_the_receipt_of_the_first() {
    let (mut region, mut dice) = (Region::new(), Dice::new(1, 2));
    let settings = Settings {
        secrets: region.broker.clone(),
        region: REGION.to_owned(),
        limits: limits(),
        submissions_per_minute: 0,
        queue_entries_max: 20,
        credit: 4,
    };
    let (disk, audit) = (SimDisk::new(1, 512), AuditDisk::default());
    let (now, boot_ms) = (Reading { wall_ms: BEGIN_MS, boot_ms: 0 }, 0);
    let known = region.rules.directory();
    let mut broker = SimBroker::open(disk, &audit, &settings, Depth::Whole, now, known).unwrap();
    let (directory, policies) = region.for_node(0);
    let file = region.files[0].clone();
    let mut node = SimNode::open(SimDisk::new(2, 512), limits(), file, &directory, BEGIN_MS).unwrap();
    let (from, to) = (unit(0, false), unit(1, false));
    let draft = format!(
        r#"{{ "kind": "ALERT", "from": "{}", "to": ["{}/{}"], "onward": "ONWARD_NONE", "deliver_within_hours": 24,
            "label": {{ "tlp": "TLP_GREEN", "handling": ["HANDLING_CODE_H0"], "purposes": ["PURPOSE_INVESTIGATION"] }},
            "body": {{ "title": [{{ "language": "en", "text": "twice" }}],
                       "urgency": "URGENCY_URGENT", "pap": "PAP_AMBER", "origin": "ORIGIN_HUMAN", "alert": {{
                       "suspected": ["OFFENCE_TRAFFICKING_IN_PERSONS"] }} }} }}"#,
        from.unit, to.agency, to.unit
    );
    let (entropy, now_ms) = (dice.entropy(), BEGIN_MS);
    let hands = sim::Hands { directory: &directory, policies: &policies, now_ms, boot_ms, entropy };
    node.send(&draft, hands).unwrap().unwrap();
    let packet = node.next(BEGIN_MS).unwrap().unwrap();
    // Another directory is in force, and the packet's own may still be named; a moment later it may not.
    let mut earlier = Earlier::default();
    let (hash, roster_version) = (*directory.hash(), directory.roster().version);
    earlier.take(Taken { hash, since_ms: BEGIN_MS - 1, roster_version, cause: String::new() });
    region.set_active(4, false);
    let hash = *region.rules.directory().hash();
    earlier.take(Taken {
        hash,
        since_ms: BEGIN_MS,
        roster_version: roster_version + 1,
        cause: String::new(),
    });
    let later = Earlier::default();
    for (session, earlier) in [(1, &earlier), (2, &later)] {
        let hands = Hands { rules: &region.rules, earlier, now_ms, boot_ms, entropy: dice.entropy() };
        assert!(broker.hello(session, AGENCIES[0], now_ms, &hands));
        broker.hear(session, FrameType::Submission, &packet, &hands).unwrap();
    }
    let mut hands = Hands { rules: &region.rules, earlier: &later, now_ms, boot_ms, entropy: dice.entropy() };
    broker.round(&mut hands).unwrap();
    while broker.write().unwrap() {}
    let mut answers = [1, 2].map(|session| broker.out(session, &hands).unwrap());
    assert_eq!(answers[0].len(), 1);
    assert_eq!((answers[0][0].0, answers[1].len()), (FrameType::Receipt, 1));
    assert_eq!(answers[0].pop(), answers[1].pop());
}
