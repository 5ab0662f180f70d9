//! Everything that can be wrong with a packet or a node gives an error of its own, in plain words, and nothing
//! is lost by it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{fs, path::Path};

use bytes::Bytes;
use lintas_link::LinkError;
use lintas_proto::{
    canonical,
    schema::{Reason, Refusal, Submission, UnitRef},
    sign::{KeyRole, Signed, SigningKey},
};
use lintas_tests::{
    case,
    member::{Answer, Member},
    process::wait,
    region::{Region, Said, now_ms},
};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A running broker, and a member whose keys the test holds.
struct World {
    root: TempDir,
    region: Region,
    member: Member,
}

impl World {
    fn new() -> Self {
        Self::with("")
    }

    /// A broker whose settings end with `settings`.
    fn with(settings: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let member = Member::of(&lintas_config::source::mekong().unwrap(), "VN");
        let region = Region::found_with(Path::new(PROGRAM), root.path(), &["KH", "TH"], &[&member], |b| b);
        let mut world = Self { root, region, member };
        let path = world.region.folder("broker").join("broker.toml");
        let listen = format!("listen = \"{}\"\n", world.region.broker_address());
        fs::write(path, format!("{listen}{settings}")).unwrap();
        world.region.start_broker();
        world
    }

    fn to() -> UnitRef {
        UnitRef { agency: "KH".to_owned(), unit: "KH-AHT".to_owned() }
    }

    /// Submits bytes over a session of its own.
    fn submit(&self, submission: Bytes) -> Answer {
        let hello = self.member.hello(&self.region.directory());
        let (mut session, _) = self.member.connect(self.region.broker_address(), &hello).unwrap();
        self.member.submit(&mut session, submission)
    }

    fn refused(&self, submission: &Submission) -> (Reason, Refusal) {
        match self.submit(canonical::encode(submission)) {
            Answer::Refusal(refusal) => (Reason::try_from(refusal.reason).unwrap(), refusal),
            Answer::Receipt(_) => panic!("accepted"),
        }
    }

    /// A draft as an officer writes it, changed by `change`; and what `lintas send` says of it.
    fn send(&self, change: impl FnOnce(&mut Value)) -> Said {
        let draft = case::draft(self.root.path(), "draft.json", change);
        self.region.lintas("TH", &["--json", "send", &draft])
    }

    fn outbox(&self) -> usize {
        let said = self.region.lintas("TH", &["--json", "outbox"]).ok();
        said.json()["packets"].as_array().unwrap().len()
    }
}

#[test]
fn a_broker_says_what_is_wrong_with_a_packet() {
    let world = World::new();
    let directory = world.region.directory();
    let sound = || world.member.draft(&directory, &World::to());

    // The same packet unspoilt is accepted: what follows is refused for what was spoilt.
    let sealed = world.member.seal(sound());
    assert!(matches!(world.submit(canonical::encode(&sealed.submission)), Answer::Receipt(_)));

    let mut expired = sound();
    let then = now_ms() - 2 * 3_600_000;
    expired.core.packet_id = lintas_proto::id::PacketId::new(then, &mut lintas_config::os_entropy());
    (expired.core.created_ms, expired.core.not_before_ms) = (then, then);
    expired.core.deliver_by_ms = then + 3_600_000;
    let (reason, refusal) = world.refused(&world.member.seal(expired).submission);
    assert_eq!(reason, Reason::Expired, "{}", refusal.text);
    assert!(!refusal.retry);

    let mut elsewhere = sound();
    elsewhere.core.region = "atlantis".to_owned();
    let (reason, refusal) = world.refused(&world.member.seal(elsewhere).submission);
    assert_eq!(reason, Reason::WrongRegion);
    assert!(refusal.text.contains("atlantis"), "{}", refusal.text);

    let mut stranger = world.member.seal(sound()).submission;
    let seed = lintas_config::issue::fresh_seed(&mut lintas_config::os_entropy());
    let unknown = SigningKey::from_seed(KeyRole::Packet, &seed).unwrap();
    let draft = sound();
    stranger.clone_from(
        &lintas_proto::envelope::seal::seal(draft, &unknown, &mut lintas_config::os_entropy())
            .unwrap()
            .submission,
    );
    assert_eq!(world.refused(&stranger).0, Reason::UnknownSender);

    let mut forged = world.member.seal(sound()).submission;
    forged.signature = Bytes::copy_from_slice(&unknown.sign(Signed::Header, &forged.header));
    assert_eq!(world.refused(&forged).0, Reason::BadSignature);

    let mut other = world.member.seal(sound()).submission;
    other.openings[0].unit = "KH-XXX".to_owned();
    assert_eq!(world.refused(&other).0, Reason::Malformed, "an opening that opens no commitment");
}

#[test]
fn an_unknown_value_of_a_code_is_refused_even_when_it_is_signed() {
    let world = World::new();
    let sealed = world.member.seal(world.member.draft(&world.region.directory(), &World::to()));
    let mut submission = sealed.submission;
    let mut header: lintas_proto::schema::Header = canonical::decode(&submission.header, 65_536).unwrap();
    let mut core: lintas_proto::schema::Core = canonical::decode(&header.core, 65_536).unwrap();
    core.label.as_mut().unwrap().tlp = 99;
    header.core = canonical::encode(&core);
    submission.header = canonical::encode(&header);
    let signature = world.member.packet_key().sign(Signed::Header, &submission.header);
    submission.signature = Bytes::copy_from_slice(&signature);
    let (reason, refusal) = world.refused(&submission);
    assert_eq!(reason, Reason::Malformed);
    assert!(refusal.text.contains("tlp") && refusal.text.contains("99"), "{}", refusal.text);
}

#[test]
fn a_broker_says_what_is_wrong_with_a_hello() {
    let world = World::new();
    let directory = world.region.directory();
    let refused = |change: &dyn Fn(&mut lintas_proto::schema::Hello)| {
        let mut hello = world.member.hello(&directory);
        change(&mut hello);
        match world.member.connect(world.region.broker_address(), &hello) {
            Err(LinkError::Refused { reason, text }) => (reason, text),
            other => panic!("{other:?}"),
        }
    };
    let (reason, text) = refused(&|hello| hello.time_ms -= DAY_MS);
    assert_eq!(reason, Reason::Clock);
    assert!(text.contains("clock") && text.contains("1440"), "{text}");
    assert_eq!(refused(&|hello| hello.region = "atlantis".to_owned()).0, Reason::WrongRegion);
    assert_eq!(refused(&|hello| hello.agency = "TH".to_owned()).0, Reason::UnknownSender);
}

#[test]
fn a_node_refuses_a_draft_before_anything_is_encrypted() {
    let world = World::new();
    let said = world.send(|draft| draft["to"] = json!(["XX/XX-A"]));
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.err.contains("XX"), "{said:?}");

    let said = world.send(|draft| {
        draft["body"]["summary"] = json!([{ "language": "en", "text": "x".repeat(1_100_000) }])
    });
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.err.contains("attachment"), "the remedy: {said:?}");

    let said = world.send(|draft| draft["label"]["tlp"] = json!("TLP_PURPLE"));
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.err.contains("TLP_PURPLE"), "{said:?}");

    assert_eq!(world.outbox(), 0, "nothing was kept of what was refused");
    assert_eq!(world.send(|_| ()).code, 0);
    assert_eq!(world.outbox(), 1);
}

#[test]
fn a_wrong_key_opens_nothing_and_harms_nothing() {
    let world = World::new();
    assert_eq!(world.send(|_| ()).code, 0);
    let key = world.region.key_file("TH");
    let right = fs::read(&key).unwrap();
    fs::write(&key, "00".repeat(32)).unwrap();
    let said = world.region.lintas("TH", &["--json", "outbox"]);
    assert_eq!(said.code, 4, "{said:?}");
    fs::write(&key, right).unwrap();
    assert_eq!(world.outbox(), 1);
}

#[test]
fn a_broker_that_cannot_be_reached_costs_nothing() {
    let mut world = World::new();
    world.region.kill_broker();
    world.region.start_node("TH");
    let said = world.send(|_| ());
    assert_eq!(said.code, 0, "{said:?}");
    let troubled = wait(|| {
        let status = world.region.lintas("TH", &["--json", "status"]).ok().json();
        status["link"]["connected"] == false
            && !status["link"]["trouble"].as_str().unwrap_or_default().is_empty()
    });
    assert!(troubled, "the status says nothing of the broker");
    world.region.start_broker();
    let accepted = wait(|| {
        let said = world.region.lintas("TH", &["--json", "outbox"]).ok();
        said.json()["packets"][0]["state"] == "accepted"
    });
    assert!(accepted);
}

#[test]
fn a_full_broker_says_so_drains_and_goes_on_without_a_restart() {
    let mut world = World::with("segment_mib = 16\njournal_mib_max = 128\n");
    let directory = world.region.directory();
    let hello = world.member.hello(&directory);
    let (mut session, _) = world.member.connect(world.region.broker_address(), &hello).unwrap();
    let mut large = || {
        let mut draft = world.member.draft(&directory, &World::to());
        draft.body.summary = draft.body.title.clone();
        draft.body.summary[0].text = "x".repeat(900_000);
        let submission = canonical::encode(&world.member.seal(draft).submission);
        world.member.submit(&mut session, submission)
    };
    // 128 MiB hold fewer than 140 such packets.
    let (mut accepted, mut refusal) = (0, None);
    for _ in 0..140 {
        match large() {
            Answer::Receipt(_) => accepted += 1,
            Answer::Refusal(refused) => {
                refusal = Some(refused);
                break;
            }
        }
    }
    let refusal = refusal.expect("the broker's journal never fills");
    assert_eq!(Reason::try_from(refusal.reason), Ok(Reason::DiskFull), "{}", refusal.text);
    assert!(refusal.retry && accepted > 20, "{accepted} accepted: {}", refusal.text);
    // The recipient comes back; acknowledgements go on, the queue drains, and there is room again.
    world.region.start_node("KH");
    let arrived = || {
        let said = world.region.lintas("KH", &["--json", "status"]).ok();
        said.json()["received"] == accepted
    };
    assert!(wait(arrived), "what was accepted does not arrive");
    assert!(wait(|| matches!(large(), Answer::Receipt(_))), "no room although the queue has drained");
}

#[test]
fn an_attachment_that_is_too_large_is_refused_with_the_remedy() {
    let world = World::new();
    let large = world.root.path().join("large.bin");
    // Sparse: it takes no room.
    fs::File::create(&large).unwrap().set_len(4 * 1024 * 1024 * 1024 + 1).unwrap();
    let draft = case::file("alert.json");
    let arguments = ["--json", "send", draft.to_str().unwrap(), "--attach", large.to_str().unwrap()];
    let said = world.region.lintas("TH", &arguments);
    assert_eq!(said.code, 6, "{said:?}");
    assert!(said.err.contains("4 GiB") && said.err.contains("parts"), "{said:?}");
    fs::File::create(&large).unwrap().set_len(17 * 1024 * 1024).unwrap();
    assert_eq!(world.region.lintas("TH", &arguments).code, 0);
    assert_eq!(world.outbox(), 1);
}
