//! Release policies on their way: brought by their own agency, refused with place and mend, in force without a session
//! noticing, and there again after a crash.

mod kept;
mod refused;

use lintas_config::policy::{bundle, schema_hash};
use lintas_proto::{
    id::{Digest, sha256},
    limits,
    schema::{
        MemberStatus, PolicyBundle, PolicyGet, PolicyHead, PolicyPut, PolicyStatus, PolicyUpdate,
        SignedPolicyBundle,
    },
};

use super::{
    operator::{free, get, shows},
    *,
};
use crate::testing::unit;

const PERMITS: &str = "@id(\"all\") @reason(\"everything may go\") permit (principal, action in Lintas::Action::\"transfer\", resource);";

/// Something that an agency lets go, and something that it takes.
fn cases(agency: &str) -> String {
    let (own, other) = (format!("{agency}/{agency}-A"), if agency == "VN" { "KH/KH-A" } else { "VN/VN-A" });
    let case = |name: &str, from: &str, to: &str| {
        format!("[[case]]\nname = \"{name}\"\nfrom = \"{from}\"\nto = \"{to}\"\nexpect = \"release\"\n")
    };
    let all = "[defaults]\npurposes = [\"INVESTIGATION\"]\n".to_owned();
    all + &case("goes", &own, other) + &case("comes", other, &own)
}

/// The chain of one agency's bundles, as its officer makes it.
struct Author<'w> {
    world: &'w World,
    agency: &'static str,
    said: PolicyBundle,
    /// Of the newest one.
    hash: Option<Digest>,
}

impl<'w> Author<'w> {
    fn new(world: &'w World, agency: &'static str) -> Self {
        let said = PolicyBundle {
            format: 1,
            region: REGION.to_owned(),
            owner: agency.to_owned(),
            version: 0,
            schema_hash: Bytes::copy_from_slice(&schema_hash()),
            policies: PERMITS.to_owned(),
            cases: cases(agency),
            ..PolicyBundle::default()
        };
        Self { world, agency, said, hash: None }
    }

    /// What the next one would say.
    fn draft(&self) -> PolicyBundle {
        let version = self.said.version + 1;
        let prev_hash = self.hash.map(|hash| Bytes::copy_from_slice(&hash)).unwrap_or_default();
        // No two are the same.
        PolicyBundle { version, prev_hash, policies: format!("{PERMITS} // {version}"), ..self.said.clone() }
    }

    fn sign(&self, said: &PolicyBundle) -> SignedPolicyBundle {
        bundle::sign(&self.world.secrets[self.agency], said).unwrap()
    }

    /// The next one, signed.
    fn next(&mut self) -> Bytes {
        self.next_with(|_| {})
    }

    fn next_with(&mut self, change: impl FnOnce(&mut PolicyBundle)) -> Bytes {
        let mut said = self.draft();
        change(&mut said);
        let signed = self.sign(&said);
        (self.said, self.hash) = (said, Some(sha256(&[&signed.bundle])));
        canonical::encode(&signed)
    }
}

/// A region in which nobody has published any policies yet.
fn bare_scene() -> (World, TempFolder) {
    let (world, folder) = scene();
    let _ = std::fs::remove_dir_all(folder.path().join("policies"));
    (world, folder)
}

async fn publish(connection: &Connection, bundle: Bytes) -> PolicyStatus {
    let (mut writer, mut reader) = connection.open_stream().await.unwrap();
    writer.send_message(FrameType::PolicyPut, &PolicyPut { bundle }).await.unwrap();
    // A debug build reads long texts slowly.
    timeout(Duration::from_secs(120), reader.next_message(FrameType::PolicyStatus)).await.unwrap().unwrap()
}

async fn accepted(connection: &Connection, bundle: Bytes) -> u64 {
    let status = publish(connection, bundle).await;
    assert_eq!(status.reason, Reason::Accepted as i32, "{}", status.text);
    status.version
}

async fn refused(connection: &Connection, bundle: Bytes) -> (Reason, String) {
    let status = publish(connection, bundle).await;
    assert!(status.text.len() <= limits::SENTENCE_BYTES_MAX);
    (Reason::try_from(status.reason).unwrap(), status.text)
}

async fn own(connection: &Connection, version: u64) -> (PolicyHead, Vec<Bytes>) {
    let (mut writer, mut reader) = connection.open_stream().await.unwrap();
    writer.send_message(FrameType::PolicyGet, &PolicyGet { version }).await.unwrap();
    let head: PolicyHead = soon(reader.next_message(FrameType::PolicyHead)).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(part) = soon(reader.read_raw(1 << 20)).await.unwrap() {
        bytes.extend(part);
    }
    assert_eq!(bytes.len() as u64, head.length);
    let update: PolicyUpdate = canonical::decode(&bytes.into(), 1 << 26).unwrap();
    (head, update.bundles)
}

/// Version of an agency's policies in force.
fn in_force(broker: &Broker, agency: &str) -> Option<u64> {
    broker.shared.rules().policies().bundle(agency).map(|bundle| bundle.version())
}

/// Waits until a version is in force.
async fn comes(broker: &Broker, agency: &str, version: u64) {
    let coming = async {
        while in_force(broker, agency) != Some(version) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    soon(coming).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_in_force_at_once_and_nobody_else_hears_of_them() {
    let (world, folder) = bare_scene();
    let address = free();
    set(folder.path(), &format!("metrics = \"{address}\""));
    let broker = Broker::start(folder.path()).await;
    let (mut th, mut kh) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let mut author = Author::new(&world, "TH");
    let before = *broker.shared.rules().policies().hash();
    let first = author.next();
    assert_eq!(accepted(&th.connection, first.clone()).await, 1);
    assert_eq!(in_force(&broker, "TH"), Some(1));
    assert_ne!(*broker.shared.rules().policies().hash(), before);
    assert_eq!(accepted(&th.connection, author.next()).await, 2);
    assert_eq!(in_force(&broker, "TH"), Some(2));
    // What is there is there, and changes nothing.
    let now = *broker.shared.rules().policies().hash();
    let again = Author {
        said: PolicyBundle { version: 1, ..author.said.clone() },
        hash: Some(sha256_of(&first)),
        ..author
    };
    assert_eq!(accepted(&th.connection, canonical::encode(&again.sign(&again.draft()))).await, 2);
    assert_eq!(*broker.shared.rules().policies().hash(), now);
    // The same sessions go on, and no node is told of another's policies.
    th.silence().await;
    kh.silence().await;
    for line in ["policy_changes_total 2", "policies_refused_total 0", "policies 1", "sessions 2"] {
        shows(address, line).await;
    }
    let page = get(address, "/policies").await;
    assert!(page.contains("TH 2 ") && page.contains("in force") && !page.contains("KH"), "{page}");
    broker.stop().await.unwrap();
}

fn sha256_of(signed: &Bytes) -> Digest {
    let signed: SignedPolicyBundle = canonical::decode(signed, limits::POLICY_BUNDLE_BYTES_MAX).unwrap();
    sha256(&[&signed.bundle])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_made_anew_gets_its_own_policies_back() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let (th, kh) = (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let (mut author, mut other) = (Author::new(&world, "TH"), Author::new(&world, "KH"));
    let mut bundles = Vec::new();
    for _ in 0..3 {
        bundles.push(author.next());
        accepted(&th.connection, bundles[bundles.len() - 1].clone()).await;
        accepted(&kh.connection, other.next()).await;
    }
    for have in [0, 2, 3, 9] {
        let (head, given) = own(&th.connection, have).await;
        assert_eq!((head.reason, head.version), (Reason::Accepted as i32, 3));
        assert_eq!(head.hash, author.hash.unwrap().as_slice());
        assert_eq!(given, bundles[usize::try_from(have.min(3)).unwrap()..], "above {have}");
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_flow_while_policies_change() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let (mut th, mut kh) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let (mut own, mut other) = (Author::new(&world, "TH"), Author::new(&world, "KH"));
    for round in 1..=6 {
        accepted(&th.connection, own.next()).await;
        accepted(&kh.connection, other.next()).await;
        let sealed = world.packet("TH", &[unit("KH", "A")]);
        th.receipt(&sealed).await;
        assert_eq!(kh.delivery().await.queue_sequence, round);
        kh.acknowledge(&world, &sealed, &unit("KH", "A"), round).await;
        let told = th.evidence().await.queue_sequence;
        th.take(told).await;
    }
    assert_eq!((in_force(&broker, "TH"), in_force(&broker, "KH")), (Some(6), Some(6)));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_on_their_way_while_policies_change_come_once_each_and_in_order() {
    const PACKETS: usize = 60;
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let (mut th, mut kh) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let packets: Vec<Sealed> = (0..PACKETS).map(|_| world.packet("TH", &[unit("KH", "A")])).collect();
    for (at, sealed) in packets.iter().enumerate() {
        th.submit(sealed).await;
        if at % 3 == 0 {
            world.set_policy("TH", &format!("{} // {at}", crate::testing::OPEN));
            broker.enforce(&world);
        }
    }
    // They are submitted again: nothing comes twice.
    for sealed in &packets {
        th.submit(sealed).await;
    }
    for (number, sealed) in (1..).zip(&packets) {
        let delivery = kh.delivery().await;
        assert_eq!((delivery.queue_sequence, &delivery.header), (number, &sealed.submission.header));
        kh.acknowledge(&world, sealed, &unit("KH", "A"), number).await;
    }
    for _ in 0..2 * PACKETS {
        th.next(FrameType::Receipt).await;
    }
    kh.silence().await;
    broker.stop().await.unwrap();
}
