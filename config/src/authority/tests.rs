use bytes::Bytes;
use lintas_proto::{
    envelope::verify::PacketKeys as _,
    schema::{BrokerKeys, JoinRequest, Member, MemberStatus, NodeSecrets, Roster, SignedKeyset, UnitRef},
    sign::{KeyRole, SigningKey, VerifyingKey},
};

use super::*;
use crate::{
    Bootstrap, Directory, DirectoryError,
    issue::{bundle, new_agency, new_broker, seed, sign_roster},
    os_entropy,
    source::{RegionSource, mekong},
    testing::{NOW, key},
};

struct Founding {
    source: RegionSource,
    requests: Vec<JoinRequest>,
    secrets: Vec<NodeSecrets>,
    brokers: Vec<BrokerKeys>,
    authorities: Vec<SigningKey>,
}

/// What everybody hands to the authority of the sample region.
fn founding() -> Founding {
    let source = mekong().unwrap();
    let mut entropy = os_entropy();
    let (mut requests, mut secrets) = (vec![], vec![]);
    // They arrive in no particular order.
    for member in source.members.iter().rev() {
        let asks = member.member(Bytes::new());
        let (_, secret, request) = new_agency(&source.region, asks, NOW, &mut entropy).unwrap();
        requests.push(request);
        secrets.push(secret);
    }
    let brokers = source.brokers.iter().map(|name| new_broker(name, &mut entropy).unwrap().1).collect();
    let authorities = source.authorities.iter().map(|_| key(KeyRole::Authority)).collect();
    Founding { source, requests, secrets, brokers, authorities }
}

impl Founding {
    fn keys(&self) -> Vec<VerifyingKey> {
        self.authorities.iter().map(|key| VerifyingKey::parse(&key.public_key()).unwrap()).collect()
    }

    fn found(&self) -> Result<(Roster, Vec<SignedKeyset>), FoundError> {
        found(&self.source, &self.requests, &self.brokers, &self.keys(), NOW)
    }

    fn request(&mut self, agency: &str) -> &mut Member {
        let mut members = self.requests.iter_mut().map(|request| request.member.as_mut().unwrap());
        members.find(|member| member.agency == agency).unwrap()
    }

    fn open(&self) -> Directory {
        let (roster, keysets) = self.found().unwrap();
        let signed = sign_roster(&roster, &self.authorities[..2]).unwrap();
        let bootstrap = Bootstrap { region: "mekong".to_owned(), authority_keys: self.keys(), threshold: 2 };
        Directory::open(&bundle(&signed, keysets), &bootstrap).unwrap()
    }
}

#[test]
fn the_sample_region_is_founded_from_requests() {
    let founding = founding();
    let directory = founding.open();
    assert!(directory.at(NOW).in_force());
    for secrets in &founding.secrets {
        let member = directory.member(&secrets.agency).unwrap();
        // A witness that does nothing else has no unit.
        assert_eq!(member.units.is_empty(), member.agency == "OMB");
        let Some(unit) = member.units.first() else { continue };
        let unit = UnitRef { agency: secrets.agency.clone(), unit: unit.unit.clone() };
        let packet = seed("packet", &secrets.packet_seed).unwrap();
        let packet = SigningKey::from_seed(KeyRole::Packet, &packet).unwrap();
        assert!(directory.at(NOW).packet_key(&unit, packet.id()).is_some());
        assert!(directory.at(NOW).encryption_key(&unit).is_some());
    }
    assert_eq!(directory.member("TH").unwrap().native_names, ["สำนักงานตำรวจแห่งชาติ"]);
}

#[test]
fn a_request_may_ask_for_less_and_gets_what_the_source_attests() {
    let mut founding = founding();
    let member = founding.request("TH");
    member.name = "Somebody else".to_owned();
    member.units[0].clearance = 0;
    member.units[0].functions.truncate(1);
    member.units.truncate(2);
    let (roster, _) = founding.found().unwrap();
    let th = roster.members.iter().find(|member| member.agency == "TH").unwrap();
    assert_eq!((th.name.as_str(), th.units.len()), ("Royal Thai Police", 5));
}

#[test]
fn a_request_that_asks_for_more_is_refused() {
    let more = |change: fn(&mut Member)| {
        let mut founding = founding();
        change(founding.request("TH"));
        founding.found().unwrap_err().to_string()
    };
    assert!(more(|th| th.units[0].clearance = 9).contains("higher clearance"));
    assert!(more(|th| th.units[0].functions = vec![9]).contains("function that the source does not attest"));
    assert!(more(|th| th.units[0].purposes = vec![8]).contains("purpose that the source does not attest"));
    let unknown = more(|th| th.units[0].unit = "TH-AAA".to_owned());
    assert!(unknown.contains("TH-AAA that the source does not know") && unknown.contains("th.toml"));
    assert!(
        more(|th| th.agency = "XX".to_owned()).contains("no file describes it; write one, e.g. `xx.toml`")
    );
}

#[test]
fn the_first_roster_has_the_baseline_and_the_schemes_of_its_source() {
    let mut founding = founding();
    let baseline = founding.source.baseline.clone().unwrap();
    let (roster, _) = founding.found().unwrap();
    assert_eq!((roster.baseline, roster.leaving.len()), (baseline.text.clone(), 0));
    assert_eq!(roster.schemes, founding.source.schemes);
    assert!(!roster.schemes.is_empty());
    // Without one the standard baseline is written out, so that new software does not forbid less.
    founding.source.baseline = None;
    assert_eq!(founding.found().unwrap().0.baseline, crate::policy::baseline::STANDARD);
}

#[test]
fn who_is_missing_doubled_or_false_is_named() {
    let mut twice = founding();
    twice.requests.push(twice.requests[0].clone());
    assert_eq!(twice.found().unwrap_err(), FoundError::Twice { agency: "VN".to_owned() });

    let mut missing = founding();
    missing.requests.remove(0);
    let file = "vn.toml".to_owned();
    assert_eq!(missing.found().unwrap_err(), FoundError::Missing { agency: "VN".to_owned(), file });

    let mut stolen = founding();
    let identity = stolen.request("KH").identity_key.clone();
    stolen.request("TH").identity_key = identity;
    assert!(matches!(stolen.found().unwrap_err(), FoundError::Directory(DirectoryError::Signature(_))));

    let mut elsewhere = founding();
    elsewhere.requests[0].region = "elsewhere".to_owned();
    assert!(matches!(elsewhere.found().unwrap_err(), FoundError::Region { .. }));

    let mut other = founding();
    other.brokers[0].name = "other".to_owned();
    assert_eq!(other.found().unwrap_err(), FoundError::Broker("other".to_owned()));
    other.brokers.clear();
    assert_eq!(other.found().unwrap_err(), FoundError::Broker("hub.mekong".to_owned()));

    let mut few = founding();
    few.authorities.pop();
    assert_eq!(few.found().unwrap_err(), FoundError::Authorities { have: 2, need: 3 });
}

#[test]
fn the_next_roster_follows_and_can_suspend() {
    let founding = founding();
    let first = founding.open();
    let later = NOW + 1_000;
    let roster = next_roster(&first, 30, later, |roster| {
        set_status(roster, "MM", MemberStatus::Suspended).unwrap();
        assert!(set_status(roster, "XX", MemberStatus::Revoked).is_err());
    })
    .unwrap();
    let signed = sign_roster(&roster, &founding.authorities[1..]).unwrap();
    let (_, keysets) = founding.found().unwrap();
    let second = first.succeed(&bundle(&signed, keysets), &[]).unwrap();
    assert!(second.member("MM").is_none() && second.member("TH").is_some());
}
