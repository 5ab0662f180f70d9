//! Old directories, lying hubs, newcomers: what is sealed, and to whom.

use bytes::Bytes;
use lintas_config::{Directory, os_entropy};
use lintas_proto::{
    canonical,
    frame::FrameType,
    schema::{DirectoryUpdate, Submission},
};

use super::*;
use crate::{
    core::view::{Kept, Status},
    testing::{AMBER, Region, core, draft},
};

fn try_send(desk: &Desk, to: &[&str], how: &How) -> Result<Kept, Failure> {
    desk.send(&draft(to, "t", AMBER, "NONE"), &[], &[], None, how, &mut os_entropy())
}

fn sealed(desk: &Desk) -> Submission {
    let next = desk.next_submission().unwrap().unwrap();
    canonical::decode(&next.bytes, lintas_proto::limits::FRAME_BYTES_MAX).unwrap()
}

/// Cambodia seals a packet for Thailand.
fn from_cambodia(desk: &Desk) -> Submission {
    let text =
        draft(&["TH/TH-MAR"], "t", AMBER, "NONE").replacen("\"from\": \"TH-MAR\"", "\"from\": \"KH-AHT\"", 1);
    desk.send(&text, &[], &[], None, &How::default(), &mut os_entropy()).unwrap();
    sealed(desk)
}

fn deliver(region: &Region, desk: &Desk, packet: &Submission) -> usize {
    let payload = canonical::encode(&region.delivery(packet, 0, 1));
    let steps = desk.judge(vec![Heard { kind: FrameType::Delivery, payload }]);
    desk.settle(steps).unwrap().acknowledgements.len()
}

fn take(desk: &Desk, through: &[&Directory]) -> bool {
    desk.take_update(&Region::update(&desk.directory(), through)).unwrap()
}

fn status(desk: &Desk) -> Status {
    desk.status()
}

#[test]
fn a_verified_packet_that_names_a_newer_roster_stops_sealing_until_it_is_here() {
    let mut region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    try_send(&thailand, &["KH/KH-AHT"], &How::default()).unwrap();
    let second = region.next(|_| {});
    let second = region.open(&second);
    assert!(take(&cambodia, &[&second]));
    let packet = from_cambodia(&cambodia);
    // One whose signature does not hold stops nothing.
    let forged = Submission { signature: Bytes::from(vec![1; 64]), ..packet.clone() };
    deliver(&region, &thailand, &forged);
    try_send(&thailand, &["KH/KH-AHT"], &How::default()).unwrap();
    assert_eq!(deliver(&region, &thailand, &packet), 1);
    let refused = try_send(&thailand, &["KH/KH-AHT"], &How::default()).unwrap_err();
    assert_eq!(refused.code, Code::Stale);
    let id = core(&packet.header).packet_id.to_string();
    assert!(refused.message.contains(&id) && refused.message.contains("signed by KH"), "{refused}");
    assert!(status(&thailand).warnings[0].contains("roster version 2"), "{:?}", status(&thailand).warnings);
    // What was sealed before goes on.
    assert_eq!(status(&thailand).waiting, 2);
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(try_send(&thailand, &["KH/KH-AHT"], &How::default()).unwrap_err().code, Code::Stale);
    let how = How { despite_stale: true, ..How::default() };
    let kept = try_send(&thailand, &["KH/KH-AHT"], &how).unwrap();
    assert!(thailand.standing(&kept.packet_id).unwrap().despite_stale);
    assert!(take(&thailand, &[&second]));
    let kept = try_send(&thailand, &["KH/KH-AHT"], &how).unwrap();
    assert!(!thailand.standing(&kept.packet_id).unwrap().despite_stale);
    assert_eq!(status(&thailand).warnings, [""; 0]);
}

#[test]
fn a_newer_keyset_is_wanted_and_its_packet_taken_once_it_is_here() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    region.rotate("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    let cambodia = region.desk("KH");
    assert!(take(&cambodia, &[&second]));
    let packet = from_cambodia(&cambodia);
    // It waits at the broker. Nobody could verify it, so it stops nothing.
    assert_eq!(deliver(&region, &thailand, &packet), 0);
    assert!(thailand.link().trouble.contains("the node fetches the newest"), "{}", thailand.link().trouble);
    try_send(&thailand, &["ID"], &How::default()).unwrap();
    assert!(take(&thailand, &[&second]));
    assert_eq!(deliver(&region, &thailand, &packet), 1);
    assert_eq!(status(&thailand).received, 1);
}

#[test]
fn a_hub_that_lies_about_the_directory_is_not_believed() {
    let mut region = Region::new();
    let first = region.directory();
    let thailand = region.desk("TH");
    region.rotate("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    assert!(take(&thailand, &[&second]));
    let newcomer = Directory::first_question(&region.bootstrap);
    let honest = Region::update(&first, &[&second]);
    let lies = [
        // An older roster, alone and with all of its keysets.
        (DirectoryUpdate { rosters: vec![first.signed_roster().unwrap()], ..honest.clone() }, "rolled back"),
        (first.answer(&newcomer, vec![first.signed_roster().unwrap()]).unwrap(), "rolled back"),
        // A keyset withheld, and an old one in the place of the new.
        (
            DirectoryUpdate {
                unchanged: vec!["ID".to_owned(), "TH".to_owned()],
                ..DirectoryUpdate::default()
            },
            "missing",
        ),
        (Region::update(&second, &[&first]), "rolled back"),
    ];
    for (lie, expected) in lies {
        let refused = thailand.take_update(&lie).unwrap_err();
        assert!(refused.message.contains(expected), "{expected}: {refused}");
        assert_eq!(thailand.directory().hash(), second.hash());
    }
    drop(thailand);
    assert_eq!(region.desk("TH").directory().hash(), second.hash());
}

#[test]
fn a_broker_that_was_put_back_from_a_backup_is_brought_the_newer_keysets() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    region.rotate("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    assert!(take(&thailand, &[&second]));
    assert_eq!(thailand.keysets_to_bring(), [""; 0]);
    // The newest roster, with the keysets of the day of the backup.
    let newest = region.put_back("KH");
    let third = region.next(|_| {});
    let put_back = region.open(&third);
    let update = Region::update(&second, &[&put_back]);
    assert!(thailand.take_update(&update).unwrap_err().message.contains("rolled back"));
    let brought = thailand.keysets_to_bring();
    assert_eq!(brought, [canonical::encode(&newest)]);
    let mended = put_back.with_keyset(&newest).unwrap();
    assert!(take(&thailand, &[&mended]));
    assert_eq!((thailand.directory().roster().version, thailand.keysets_to_bring().len()), (3, 0));
}

#[test]
fn a_swapped_identity_key_is_held_until_an_officer_confirms_it() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    region.rekey("KH");
    let second = region.next(|_| {});
    let second = region.open(&second);
    assert!(take(&thailand, &[&second]));
    let held = status(&thailand).held;
    assert!(held[0].contains("KH has a new identity key"), "{held:?}");
    let refused = try_send(&thailand, &["KH/KH-AHT"], &How::default()).unwrap_err();
    assert!(refused.message.contains("until then take KH out"), "{refused}");
    try_send(&thailand, &["ID"], &How::default()).unwrap();
    let contact = thailand.contact("KH").unwrap();
    assert!(contact.held && !contact.confirmed);
    thailand.confirm("KH", &contact.identity_key.words, &[]).unwrap();
    try_send(&thailand, &["KH/KH-AHT"], &How::default()).unwrap();
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!((status(&thailand).held, status(&thailand).unconfirmed), (vec![], vec![]));
    try_send(&thailand, &["KH/KH-AHT"], &How::default()).unwrap();
}

#[test]
fn who_is_new_gets_nothing_until_an_officer_confirms_it() {
    let mut region = Region::new();
    let thailand = region.desk("TH");
    region.join("VN", &["SEA"]);
    let second = region.next(|roster| {
        let at = roster.members.iter().position(|member| member.agency == "ID").unwrap();
        roster.members[at].groups = vec!["SEA".to_owned()];
        let at = roster.members.iter().position(|member| member.agency == "TH").unwrap();
        roster.members[at].groups = vec!["SEA".to_owned()];
    });
    assert!(take(&thailand, &[&region.open(&second)]));
    let unconfirmed = status(&thailand).unconfirmed;
    assert_eq!(unconfirmed.len(), 2, "{unconfirmed:?}");
    assert!(unconfirmed[0].contains("ID (Police of ID) is new in SEA"), "{unconfirmed:?}");
    assert!(unconfirmed[1].contains("lintas confirm VN"), "{unconfirmed:?}");
    // Directly: only who is known. Through the group: nobody, or with the officer's leave nobody who is new in it.
    let refused = try_send(&thailand, &["VN"], &How::default()).unwrap_err();
    assert!(refused.message.contains("run `lintas confirm VN`"), "{refused}");
    try_send(&thailand, &["ID"], &How::default()).unwrap();
    let refused = try_send(&thailand, &["group:SEA"], &How::default()).unwrap_err();
    assert!(refused.message.contains("confirm ID`") && refused.message.contains("confirm VN`"), "{refused}");
    let others = How { without_unconfirmed: true, ..How::default() };
    assert!(try_send(&thailand, &["group:SEA"], &others).unwrap_err().message.contains("0 recipients"));
    assert_eq!(thailand.confirm("VN", &"0".repeat(64), &[]).unwrap_err().code, Code::NotSetUp);
    let key = thailand.contact("ID").unwrap().identity_key;
    assert_eq!(thailand.confirm("ID", &key.digits, &["NO".to_owned()]).unwrap_err().code, Code::Usage);
    thailand.confirm("ID", &key.digits, &["SEA".to_owned()]).unwrap();
    let kept = try_send(&thailand, &["group:SEA", "KH/KH-AHT", "ID"], &others).unwrap_err();
    assert!(kept.message.contains("ID/ID-NCB is named twice"), "{kept}");
    let kept = try_send(&thailand, &["ID", "group:SEA", "KH/KH-AHT"], &others).unwrap();
    assert_eq!(
        (kept.to, kept.left_out),
        (vec!["ID/ID-NCB".to_owned(), "KH/KH-AHT".to_owned()], vec!["VN".to_owned()])
    );
    thailand.confirm("VN", &thailand.contact("VN").unwrap().identity_key.words, &[]).unwrap();
    drop(thailand);
    let thailand = region.desk("TH");
    assert_eq!(status(&thailand).unconfirmed, [""; 0]);
    let kept = try_send(&thailand, &["group:SEA"], &How::default()).unwrap();
    assert_eq!(kept.to, ["ID/ID-NCB", "VN/VN-NCB"]);
    assert!(try_send(&thailand, &["group:XXX"], &How::default()).is_err());
}

#[test]
fn whoever_names_a_version_that_does_not_exist_stops_nobody_once_it_is_suspended() {
    let mut region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let mut lie = core(&from_cambodia(&cambodia).header);
    lie.roster_version = 1_000_000;
    thailand.sighted().note(&lie);
    assert!(thailand.behind().unwrap().to_string().contains("signed by KH, names roster version 1000000"));
    let second = region.next(|roster| {
        let liar = roster.members.iter_mut().find(|member| member.agency == "KH").unwrap();
        liar.status = lintas_proto::schema::MemberStatus::Suspended as i32;
    });
    let second = region.open(&second);
    assert!(take(&thailand, &[&second]));
    assert_eq!(thailand.behind(), None);
}

/// Whether the session is to be opened anew; asking takes the sign away.
fn reconnects(desk: &Desk) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::pin!(desk.renewed()).poll(&mut context).is_ready()
}

#[test]
fn what_stays_with_the_broker_comes_again_although_its_directory_came_before_it_was_left() {
    let mut region = Region::new();
    let (thailand, cambodia) = (region.desk("TH"), region.desk("KH"));
    let packet = from_cambodia(&cambodia);
    let mut delivery = region.delivery(&packet, 0, 1);
    delivery.opening.as_mut().unwrap().unit = "TH-NEW".to_owned();
    let judge = || {
        let payload = canonical::encode(&delivery);
        thailand.judge(vec![Heard { kind: FrameType::Delivery, payload }])
    };
    let mut next = || {
        let next = region.next(|_| {});
        let next = region.open(&next);
        assert!(take(&thailand, &[&next]));
    };
    // Left, then the directory comes.
    assert_eq!(thailand.settle(judge()).unwrap().acknowledgements, []);
    assert!(!reconnects(&thailand));
    next();
    assert!(reconnects(&thailand));
    // Judged, then the directory comes, then it is left.
    let steps = judge();
    next();
    assert!(!reconnects(&thailand));
    assert_eq!(thailand.settle(steps).unwrap().acknowledgements, []);
    assert!(reconnects(&thailand));
}
