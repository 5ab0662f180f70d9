use lintas_proto::{
    audit::note::{Checkpoint, SignedCheckpoint, witness_name},
    schema::{JoinRequest, Member, Role},
    sign::{KeyRole, SigningKey},
};

use super::*;
use crate::{
    Directory,
    directory::SuccessionError,
    issue::{new_agency, new_broker, seed},
    os_entropy,
    source::{RegionSource, mekong},
    testing::{NOW, Region, key, member, public, region},
};

/// The checkpoint of a log, cosigned by the members at these places.
fn checkpoint(region: &Region, directory: &Directory, origin: &str, by: &[usize]) -> SignedCheckpoint {
    let log = SigningKey::from_seed(KeyRole::Log, &seed("log", &region.broker.log_seed).unwrap()).unwrap();
    let said = Checkpoint { origin: origin.to_owned(), size: 42, root: [7; 32] };
    let mut signed = SignedCheckpoint::sign(said, &log).unwrap();
    for at in by {
        let secrets = &region.secrets[*at];
        let seed = seed("witness", &secrets.witness_seed).unwrap();
        let key = SigningKey::from_seed(KeyRole::Witness, &seed).unwrap();
        let name = witness_name("example", &secrets.agency);
        let witness = directory.witnesses().into_iter().find(|witness| witness.name == name).unwrap();
        signed.add_cosignature(&witness, &signed.clone().cosign(&key, NOW / 1_000).unwrap()).unwrap();
    }
    signed
}

fn ends(checkpoint: &SignedCheckpoint) -> Changes {
    let end = LogEnd { broker: "hub.example".to_owned(), checkpoint: checkpoint.clone() };
    Changes { end_logs: vec![end], ..Changes::default() }
}

/// The review of a change, and the directory that it makes.
fn made(region: &Region, from: &Directory, changes: &Changes) -> (Vec<String>, Directory) {
    let mut proposal = change(from, None, changes, NOW).unwrap();
    region.authorities[..2].iter().for_each(|key| proposal.sign(key));
    let said = review(&proposal, Some(from), &[]).unwrap().changes;
    let said = said.into_iter().map(|change| format!("{} {}", change.kind, change.text)).collect();
    (said, from.succeed(&proposal.to_bytes(), &[]).unwrap())
}

#[test]
fn a_log_ends_at_what_a_quorum_has_cosigned() {
    let region = region();
    let first = region.open().unwrap();
    let present = "hub.example/audit";
    let refused = |changes: &Changes| change(&first, None, changes, NOW).unwrap_err();
    // One of two witnesses is no quorum of them.
    let few = ends(&checkpoint(&region, &first, present, &[1]));
    let error = refused(&few);
    let (broker, of) = ("hub.example".to_owned(), 2);
    assert_eq!(error, ChangeError::Quorum { broker, have: 1, need: 2, of });
    assert!(error.to_string().contains("--without-quorum"));
    let (said, _) = made(&region, &first, &Changes { without_quorum: true, ..few });
    assert!(said[0].starts_with("log_ends the log hub.example/audit ends at size 42"), "{said:?}");

    let elsewhere = refused(&ends(&checkpoint(&region, &first, "hub.example.log2/audit", &[0, 1])));
    assert!(matches!(elsewhere, ChangeError::Checkpoint { .. }), "{elsewhere}");
    let mut forged = region;
    forged.broker = new_broker("hub.example", &mut os_entropy()).unwrap().0;
    let forged = refused(&ends(&checkpoint(&forged, &first, present, &[0, 1])));
    assert!(matches!(forged, ChangeError::Checkpoint { .. }), "{forged}");
}

#[test]
fn after_its_end_the_next_log_begins_and_ends_once_more() {
    let region = region();
    let first = region.open().unwrap();
    let whole = ends(&checkpoint(&region, &first, "hub.example/audit", &[0, 1]));
    let (said, second) = made(&region, &first, &whole);
    assert!(
        said[0].contains("hub.example.log2/audit begins, empty, and every node submits again"),
        "{said:?}"
    );
    assert_eq!(second.brokers()[0].root_origin(), "hub.example.log2/audit");
    assert_eq!(second.brokers()[0].ended_logs[0].size, 42);
    // The first log ended for good; the second may end in its turn, here with the broker's keys.
    assert!(change(&second, None, &whole, NOW).is_err());
    let broker = new_broker("hub.example", &mut os_entropy()).unwrap().1;
    let keys = Changes { brokers: vec![broker.clone()], ..Changes::default() };
    let two_keys = change(&second, None, &keys, NOW).unwrap_err();
    assert!(two_keys.to_string().contains("--end-log hub.example=CHECKPOINT"), "{two_keys}");
    let end = checkpoint(&region, &second, "hub.example.log2/audit", &[0, 1]);
    let (_, third) = made(&region, &second, &Changes { brokers: vec![broker.clone()], ..ends(&end) });
    let now = &third.brokers()[0];
    assert_eq!((now.ended_logs.len(), now.log_key.as_bytes().as_slice()), (2, broker.log_key.as_ref()));
    let found = inspect(&third, &[]).unwrap();
    let origins: Vec<&str> = found.brokers[0].ended_logs.iter().map(|log| log.origin.as_str()).collect();
    assert_eq!(origins, ["hub.example/audit", "hub.example.log2/audit"]);
    let vkey = found.brokers[0].log.vkey.as_ref().unwrap();
    assert!(vkey.starts_with("hub.example.log3/audit+"), "{vkey}");
}

/// A request of the sample region, without what a test takes out.
fn request(source: &RegionSource, agency: &str) -> JoinRequest {
    let described = source.members.iter().find(|member| member.agency == agency).unwrap();
    let asks = described.member(bytes::Bytes::new());
    new_agency(&source.region, asks, NOW, &mut os_entropy()).unwrap().2
}

#[test]
fn a_witness_is_who_the_source_says_and_whose_request_has_a_key() {
    let source = mekong().unwrap();
    let key_of = |agency| admit(&source, &request(&source, agency)).unwrap().0.witness_key;
    assert_eq!(key_of("TH").len(), 32);
    assert!(key_of("LA").is_empty(), "a key that nobody asked for is left out");
    let mut without = request(&source, "OMB");
    without.member.as_mut().unwrap().witness_key = bytes::Bytes::new();
    let refused = admit(&source, &without).unwrap_err();
    assert!(refused.to_string().contains("`omb.toml` says that OMB is a witness"), "{refused}");
    let auditor = admit(&source, &request(&source, "AUD")).unwrap().0;
    assert_eq!((auditor.audits, auditor.roles), (vec!["*".to_owned()], vec![Role::Auditor as i32]));
}

#[test]
fn witnesses_come_go_and_change_their_key() {
    let region = region();
    let first = region.open().unwrap();
    let drop_one = Changes { no_witness: vec!["TH".to_owned()], ..Changes::default() };
    let (said, second) = made(&region, &first, &drop_one);
    assert!(said.iter().any(|text| text.contains("1 witness watches the log")), "{said:?}");
    assert!(said.iter().any(|text| text == "witness is a witness of the log no longer"), "{said:?}");
    assert_eq!(second.witnesses().len(), 1);
    assert!(matches!(change(&second, None, &drop_one, NOW), Err(ChangeError::Already { .. })));

    // Its node was replaced: the same identity, another witness key.
    let fresh = key(KeyRole::Witness);
    let asks = Member { witness_key: public(&fresh), ..first.roster().members[1].clone() };
    let keyset = Some(region.keysets[1].clone());
    let request = JoinRequest { region: "example".to_owned(), member: Some(asks), keyset };
    let back = Changes { witness: vec![("TH".to_owned(), request.clone())], ..Changes::default() };
    let (said, third) = made(&region, &second, &back);
    let words = crate::words::fingerprint_words(&fresh.public_key());
    assert!(said.iter().any(|text| text.contains(&words)), "{said:?}");
    assert_eq!(third.witness("TH").unwrap().key.as_bytes(), &fresh.public_key());
    let (said, _) = made(&region, &first, &back);
    assert!(said[0].starts_with("witness new witness key: "), "{said:?}");

    let refused = |agency: &str, request: JoinRequest| {
        let witness = vec![(agency.to_owned(), request)];
        change(&first, None, &Changes { witness, ..Changes::default() }, NOW).unwrap_err()
    };
    assert_eq!(refused("KH", request.clone()), ChangeError::OtherRequest { agency: "KH".to_owned() });
    let stranger = new_agency("example", member("TH"), NOW, &mut os_entropy()).unwrap().2;
    assert_eq!(refused("TH", stranger), ChangeError::OtherRequest { agency: "TH".to_owned() });
    let mut none = request;
    none.member.as_mut().unwrap().witness_key = bytes::Bytes::new();
    assert_eq!(refused("TH", none), ChangeError::WitnessKey { agency: "TH".to_owned() });
}

#[test]
fn only_an_auditor_is_given_logs_to_read_and_only_of_members() {
    let mut region = region();
    region.roster.members[1].roles = vec![Role::Agency as i32, Role::Auditor as i32];
    let first = region.open().unwrap();
    let give = |agency: &str, audits: &[&str]| Changes {
        audits: vec![(agency.to_owned(), audits.iter().map(|code| (*code).to_owned()).collect())],
        reads_told_after_days: Some(7),
        ..Changes::default()
    };
    let (said, second) = made(&region, &first, &give("TH", &["*"]));
    assert!(said.contains(&"audits may read every agency's part of the log".to_owned()), "{said:?}");
    assert!(said.iter().any(|text| text.contains("told after 7 days")), "{said:?}");
    assert!(second.may_read("TH", "KH") && !second.may_read("KH", "TH"));
    let (_, third) = made(&region, &second, &give("TH", &["TH", "KH"]));
    assert_eq!(third.roster().members[1].audits, ["KH", "TH"]);
    let refused = |changes: &Changes| change(&first, None, changes, NOW).unwrap_err();
    assert!(matches!(refused(&give("KH", &["TH"])), ChangeError::Directory(_) | ChangeError::Issue(_)));
    assert_eq!(refused(&give("TH", &["XX"])), ChangeError::Stranger { agency: "XX".to_owned() });
}

#[test]
fn a_proposal_that_takes_back_an_end_is_named_and_refused() {
    let region = region();
    let first = region.open().unwrap();
    let (_, second) =
        made(&region, &first, &ends(&checkpoint(&region, &first, "hub.example/audit", &[0, 1])));
    let roster = next_roster(&second, 30, NOW, |roster| roster.brokers[0].ended_logs.clear()).unwrap();
    let proposal = Proposal::new(&roster, region.keysets).unwrap();
    let said = review(&proposal, Some(&second), &[]).unwrap().changes;
    assert!(said.iter().any(|change| change.kind == "log_ends" && change.text.contains("no node accepts")));
    let refused = second.proposed(&proposal.to_bytes()).unwrap_err();
    assert_eq!(refused, SuccessionError::LogReturned { broker: "hub.example".to_owned() });
}
