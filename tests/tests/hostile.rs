//! Strangers and members that want to harm a broker, as real processes on loopback: honest ones do not notice.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{
    fs,
    net::UdpSocket,
    path::Path,
    thread::{sleep, spawn},
    time::Duration,
};

use bytes::Bytes;
use lintas_link::{CloseCode, LinkError};
use lintas_proto::{
    canonical,
    schema::{Reason, UnitRef},
};
use lintas_tests::{
    case::titled,
    crowd::Crowd,
    member::{Answer, Member, Session},
    process::wait,
    region::{Region, now_ms},
    stranger,
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const MIB: u64 = 1 << 20;

/// A broker, two honest nodes, and two members whose keys the test holds.
struct World {
    root: TempDir,
    region: Region,
    sender: Member,
    reader: Member,
}

impl World {
    fn with(settings: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = lintas_config::source::mekong().unwrap();
        let (sender, reader) = (Member::of(&source, "VN"), Member::of(&source, "LA"));
        let held = [&sender, &reader];
        let mut region =
            Region::found_with(Path::new(PROGRAM), root.path(), &["KH", "TH"], &held, |broker| broker);
        let path = region.folder("broker").join("broker.toml");
        let listen = format!("listen = \"{}\"\n", region.broker_address());
        fs::write(path, format!("{listen}{settings}")).unwrap();
        region.start_broker();
        region.start_node("KH");
        region.start_node("TH");
        Self { root, region, sender, reader }
    }

    fn session(&self, member: &Member) -> Session {
        let hello = member.hello(&self.region.directory());
        let mut session = None;
        // A broker that is busy says so, and lets it in a little later.
        let open = wait(|| match member.connect(self.region.broker_address(), &hello) {
            Ok((opened, _)) => session.replace(opened).is_none(),
            Err(LinkError::Busy) => false,
            Err(other) => panic!("{other:?}"),
        });
        assert!(open, "never let in");
        session.unwrap()
    }

    /// Sealed packets of the member whose keys the test holds, `count` to each of `to`.
    fn sealed(&self, count: usize, to: &[&UnitRef]) -> Vec<Bytes> {
        let directory = self.region.directory();
        let seal = |to: &&UnitRef| self.sender.seal(self.sender.draft(&directory, to)).submission;
        (0..count)
            .flat_map(|_| to.iter().map(|to| canonical::encode(&seal(to))).collect::<Vec<_>>())
            .collect()
    }

    /// An honest officer's alert.
    fn send(&self, title: &str) {
        let draft = titled(self.root.path(), title);
        let _ = self.region.lintas("TH", &["--json", "send", &draft]).ok();
    }

    fn received(&self) -> u64 {
        self.region.lintas("KH", &["--json", "status"]).ok().json()["received"].as_u64().unwrap()
    }

    /// Whether everything that TH has sent was accepted.
    fn all_accepted(&self) -> bool {
        let said = self.region.lintas("TH", &["--json", "outbox", "--limit", "100"]).ok();
        said.json()["packets"].as_array().unwrap().iter().all(|packet| packet["state"] == "accepted")
    }
}

fn kh() -> UnitRef {
    UnitRef { agency: "KH".to_owned(), unit: "KH-AHT".to_owned() }
}

#[test]
fn strangers_at_the_door_do_not_stop_a_node_that_is_inside() {
    const PACKETS: u64 = 15;
    let world = World::with("");
    let address = world.region.broker_address();
    world.send("before");
    assert!(wait(|| world.received() == 1));
    let before = world.region.broker_resident_bytes();
    let flights = stranger::first_flights(2_000);
    let flood = spawn(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for (number, flight) in flights.iter().enumerate() {
            socket.send_to(flight, address).unwrap();
            // The same, spoilt: no packet of any protocol.
            let spoilt: Vec<u8> = flight.iter().rev().copied().collect();
            socket.send_to(&spoilt, address).unwrap();
            if number % 10 == 0 {
                sleep(Duration::from_millis(10));
            }
        }
    });
    let storm = spawn(move || stranger::storm(address, 200));
    for number in 0..PACKETS {
        world.send(&format!("during {number}"));
    }
    assert!(wait(|| world.received() == 1 + PACKETS), "{} arrived", world.received());
    flood.join().unwrap();
    let (refused, unseen) = storm.join().unwrap();
    assert_eq!(refused + unseen, 200, "no stranger is served");
    let grown = world.region.broker_resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "the broker grew by {} MiB", grown / MIB);
    // What the recipient has, the sender hears of a moment later.
    assert!(wait(|| world.all_accepted()));
    // And a member that was not connected gets in.
    let mut session = world.session(&world.sender);
    let answers = world.sender.submit_all(&mut session, world.sealed(1, &[&kh()]));
    assert!(matches!(answers.as_slice(), [Answer::Receipt(_)]), "{answers:?}");
}

#[test]
fn a_member_that_reads_nothing_costs_the_broker_little_and_others_nothing() {
    let world = World::with("credit = 64\n");
    let mut deaf = world.session(&world.reader);
    let mut session = world.session(&world.sender);
    let la = world.reader.unit.clone();
    let before = world.region.broker_resident_bytes();
    let mut waiting = world.sealed(2_000, &[&la]);
    for (number, packet) in world.sealed(20, &[&kh()]).into_iter().enumerate() {
        waiting.insert(number * 101, packet);
    }
    let answers = world.sender.submit_all(&mut session, waiting);
    let accepted = answers.iter().filter(|answer| matches!(answer, Answer::Receipt(_))).count();
    assert_eq!(accepted, 2_020);
    assert!(wait(|| world.received() == 20), "{} arrived elsewhere", world.received());
    let grown = world.region.broker_resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "the broker grew by {} MiB", grown / MIB);
    assert_eq!(world.reader.count_deliveries(&mut deaf), 64, "no more than the credit was handed over");
}

#[test]
fn a_member_beyond_its_quota_is_told_until_when_and_others_are_not_refused() {
    let world = World::with("submissions_per_minute = 60\n");
    let mut session = world.session(&world.sender);
    let answers = world.sender.submit_all(&mut session, world.sealed(150, &[&kh()]));
    let refusals: Vec<_> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Refusal(refusal) => Some(refusal),
            Answer::Receipt(_) => None,
        })
        .collect();
    let accepted = answers.len() - refusals.len();
    assert!((60..90).contains(&accepted), "{accepted} accepted");
    for refusal in refusals {
        assert_eq!(Reason::try_from(refusal.reason), Ok(Reason::Quota), "{}", refusal.text);
        assert!(refusal.retry && refusal.text.contains("try again in"), "{}", refusal.text);
    }
    for number in 0..5 {
        world.send(&format!("honest {number}"));
    }
    let all = u64::try_from(accepted).unwrap() + 5;
    assert!(wait(|| world.received() == all), "{} of {all} arrived", world.received());
    // What the recipient has, the sender hears of a moment later.
    assert!(wait(|| world.all_accepted()));
}

#[test]
fn a_burst_of_junk_and_many_strangers_cost_the_broker_little_and_others_nothing() {
    const JUNK: usize = 10_000;
    let strangers = std::env::var("LINTAS_STRANGERS").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let seed = now_ms();
    println!("seed {seed}, {strangers} strangers (LINTAS_STRANGERS)");
    let world = World::with("");
    let address = world.region.broker_address();
    world.send("before");
    assert!(wait(|| world.received() == 1));
    let before = world.region.broker_resident_bytes();
    let storm = spawn(move || stranger::storm(address, strangers));
    let junk = stranger::junk_initials(JUNK, seed);
    let sockets: Vec<UdpSocket> = (0..4).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    for (datagram, socket) in junk.iter().zip(sockets.iter().cycle()) {
        socket.send_to(datagram, address).unwrap();
    }
    for number in 0..5 {
        world.send(&format!("during {number}"));
    }
    assert!(wait(|| world.received() == 6), "{} arrived", world.received());
    let (refused, unseen) = storm.join().unwrap();
    assert_eq!(refused + unseen, strangers, "no stranger is served");
    println!("{refused} refused for their key, {unseen} turned away unseen");
    let grown = world.region.broker_resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "the broker grew by {} MiB", grown / MIB);
    assert!(wait(|| world.all_accepted()));
}

#[test]
fn a_member_that_repeats_itself_without_end_costs_the_broker_little_and_others_nothing() {
    const REPEATED: usize = 200;
    let world = World::with("");
    let mut session = world.session(&world.sender);
    let sealed = world.sealed(20, &[&kh()]);
    let before = world.region.broker_resident_bytes();
    for round in 0..REPEATED {
        if round % 40 == 0 {
            world.send(&format!("honest {round}"));
        }
        let answers = world.sender.submit_all(&mut session, sealed.clone());
        assert!(answers.iter().all(|answer| matches!(answer, Answer::Receipt(_))), "{answers:?}");
    }
    let all = u64::try_from(sealed.len() + REPEATED / 40).unwrap();
    assert!(wait(|| world.received() == all), "{} of {all} arrived", world.received());
    assert!(wait(|| world.all_accepted()));
    assert_eq!(world.received(), all, "nothing twice");
    let grown = world.region.broker_resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "the broker grew by {} MiB", grown / MIB);
}

#[test]
fn two_hundred_live_connections_end_when_their_members_are_revoked() {
    const REVOKED: usize = 200;
    let root = tempfile::tempdir().unwrap();
    let crowd = Crowd::found(Path::new(PROGRAM), root.path(), REVOKED + 2);
    let mut guests = crowd.connect(0..REVOKED + 2);
    let before = crowd.broker().resident_bytes();
    crowd.revoke(0..REVOKED);
    let (revoked, honest) = guests.split_at_mut(REVOKED);
    for (number, ended) in crowd.ends(revoked).into_iter().enumerate() {
        let changed = matches!(ended, Some(LinkError::Closed { code: CloseCode::DirectoryChanged, .. }));
        assert!(changed, "{number}: {ended:?}");
    }
    assert!(honest.iter_mut().all(|guest| crowd.goes_on(guest)), "others lost their sessions");
    assert!(matches!(crowd.refused(0), Some(LinkError::NotAdmitted)), "{:?}", crowd.refused(0));
    assert!(crowd.refused(REVOKED).is_none());
    let grown = crowd.broker().resident_bytes().saturating_sub(before);
    assert!(grown < 64 * MIB, "the broker grew by {} MiB", grown / MIB);
}
