use lintas_config::os_entropy;
use lintas_proto::{canonical, frame::FrameType, schema::Submission};

use crate::{
    core::inbox::Verdict,
    shell::{
        clock,
        desk::{Desk, Heard, How, Step},
    },
    testing::{AMBER, Region, draft},
};

#[test]
fn nothing_is_judged_and_no_key_changes_before_a_broker_agrees() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let draft = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    thailand.send(&draft, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    let bytes = thailand.next_submission().unwrap().unwrap().bytes;
    let packet: Submission = canonical::decode(&bytes, lintas_proto::limits::FRAME_BYTES_MAX).unwrap();
    let payload = canonical::encode(&region.delivery(&packet, 0, 1));
    let deliver = || {
        let heard = Heard { kind: FrameType::Delivery, payload: payload.clone() };
        cambodia.settle(cambodia.judge(vec![heard])).unwrap()
    };
    let now_ms = clock::now_ms();
    let keys = || cambodia.keys().epochs().map(|(_, epoch)| epoch).collect::<Vec<_>>();
    let before = keys();
    for agree in [false, true] {
        if agree {
            cambodia.compare_clocks(now_ms, now_ms);
        } else {
            cambodia.doubt_clock();
        }
        cambodia.rotate_or_tell(now_ms + if agree { 0 } else { 8 * 86_400_000 });
        let settled = deliver();
        assert_eq!((settled.broken.is_none(), settled.acknowledgements.len()), (agree, usize::from(agree)));
        assert_eq!(cambodia.inbox(9).unwrap().packets.len(), usize::from(agree));
        if !agree {
            assert_eq!(keys(), before);
        }
    }
    // Another time than the broker's, though it let this node in; and a clock that was set since.
    cambodia.compare_clocks(now_ms, now_ms + 6 * 60_000);
    assert!(deliver().broken.is_some());
    cambodia.compare_clocks(now_ms - 86_400_000, now_ms - 86_400_000);
    assert!(deliver().broken.is_some() && cambodia.clock_set_by().is_some());
}

#[test]
fn what_comes_is_judged_by_the_time_that_was_looked_at_and_by_no_later_look() {
    let region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    send(&thailand);
    let bytes = thailand.next_submission().unwrap().unwrap().bytes;
    let packet: Submission = canonical::decode(&bytes, lintas_proto::limits::FRAME_BYTES_MAX).unwrap();
    let payload = canonical::encode(&region.delivery(&packet, 0, 1));
    let now_ms = clock::now_ms();
    for (now_ms, taken) in [(now_ms, true), (now_ms + 400 * 86_400_000, false), (now_ms, true)] {
        let heard = Heard { kind: FrameType::Delivery, payload: payload.clone() };
        let step = cambodia.judge_at(heard, now_ms);
        let accepted = matches!(step, Step::Verdict { verdict: Verdict::Accept(_), .. });
        assert_eq!(accepted, taken, "{step:?}");
    }
}

fn send(desk: &Desk) -> crate::core::view::Kept {
    let draft = draft(&["KH/KH-AHT"], "t", AMBER, "NONE");
    desk.send(&draft, &[], &[], None, &How::default(), &mut os_entropy()).unwrap()
}

#[test]
fn an_officer_who_seals_by_a_clock_in_doubt_is_told_so() {
    let region = Region::new();
    let desk = region.desk("TH");
    let (now_ms, day_ms) = (clock::now_ms(), 86_400_000);
    let warned = |with: &str| {
        let warnings = send(&desk).warnings;
        assert!(warnings.len() == 1 && warnings[0].contains(with), "{warnings:?}");
    };
    assert!(send(&desk).warnings.is_empty());
    desk.doubt_clock();
    warned("a broker did not agree");
    desk.compare_clocks(now_ms, now_ms + 6 * 60_000);
    warned("a broker did not agree");
    desk.compare_clocks(now_ms + day_ms, now_ms + day_ms);
    warned("minutes since a broker agreed");
    desk.compare_clocks(now_ms, now_ms);
    assert!(send(&desk).warnings.is_empty());
}
