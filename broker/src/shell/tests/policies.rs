//! Release policies on their way: brought by their own agency, refused with place and mend, in force without a session
//! noticing, and there again after a crash.

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
use crate::testing::{put, unit};

const PERMITS: &str = "@id(\"all\") @reason(\"everything may go\") permit (principal, action in Lintas::Action::\"transfer\", resource);";

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
async fn bad_policies_are_refused_with_place_and_mend_and_those_in_force_stay() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let mut author = Author::new(&world, "TH");
    accepted(&th.connection, author.next()).await;
    let now = *broker.shared.rules().policies().hash();
    let made = |change: &dyn Fn(&mut PolicyBundle)| {
        let mut said = author.draft();
        change(&mut said);
        canonical::encode(&author.sign(&said))
    };
    let text = |text: &str| {
        let text = text.to_owned();
        made(&move |said| said.policies.clone_from(&text))
    };
    let filled = |more: usize| {
        made(&|said| {
            said.policies = " ".repeat(limits::POLICY_TEXT_BYTES_MAX);
            said.cases = " ".repeat(limits::POLICY_TEXT_BYTES_MAX + more);
        })
    };
    // One byte more than there may be.
    let whole = filled(1_000 + limits::POLICY_BUNDLE_BYTES_MAX + 1 - filled(1_000).len());
    assert_eq!(whole.len(), limits::POLICY_BUNDLE_BYTES_MAX + 1);
    let signed = author.sign(&author.draft());
    let forged =
        SignedPolicyBundle { bundle_signature: author.sign(&author.said).bundle_signature, ..signed };
    let cases = [
        ("no text", Bytes::from_static(b"\xff"), Reason::Malformed, "could not read"),
        (
            "a typo",
            text("@id(\"a\")\n@reason(\"b\")\npermt (principal, action, resource);"),
            Reason::Policy,
            "line 3, column 1",
        ),
        (
            "a word that is in no list",
            text(
                "@id(\"a\") @reason(\"b\")\npermit (principal, action in Lintas::Action::\"transfer\", resource)\nwhen { resource.tlp == Lintas::Tlp::\"ORANGE\" };",
            ),
            Reason::Policy,
            "line 3, column",
        ),
        (
            "a look-alike letter",
            text(
                "@id(\"a\") @reason(\"b\")\npermit (principal, action in Lintas::Action::\"transfer\", resource)\nwhen { principal.agency == Lintas::Agency::\"\u{422}H\" };",
            ),
            Reason::Policy,
            "line 3, column",
        ),
        (
            "an impossible condition",
            text(
                "@id(\"a\") @reason(\"b\")\npermit (principal, action in Lintas::Action::\"transfer\", resource)\nwhen { resource.hops > 3 };",
            ),
            Reason::Policy,
            "line 3, column",
        ),
        ("no id", text("permit (principal, action, resource);"), Reason::Policy, "write @id("),
        (
            "too long",
            text(&" ".repeat(limits::POLICY_TEXT_BYTES_MAX + 1)),
            Reason::TooLarge,
            "at most 262144",
        ),
        ("both together too long", whole, Reason::TooLarge, "shorten"),
        ("forged", canonical::encode(&forged), Reason::BadSignature, "signature"),
        ("another region", made(&|said| said.region = "elsewhere".to_owned()), Reason::WrongRegion, REGION),
        (
            "an old version",
            made(&|said| (said.version, said.prev_hash) = (1, Bytes::new())),
            Reason::Replay,
            "as version 2",
        ),
        (
            "a fork",
            made(&|said| said.prev_hash = Bytes::from_static(&[7; 32])),
            Reason::Replay,
            "as the one before",
        ),
        ("a gap", made(&|said| said.version = 3), Reason::StaleDirectory, "version 2 is missing"),
        (
            "another schema",
            made(&|said| said.schema_hash = Bytes::from_static(&[7; 32])),
            Reason::Policy,
            "update the software",
        ),
        ("no format", made(&|said| said.format = 2), Reason::Malformed, "format must be 1"),
    ];
    for (what, bundle, reason, says) in cases {
        let (have, text) = refused(&th.connection, bundle).await;
        assert_eq!(have, reason, "{what}: {text}");
        assert!(text.contains(says), "{what}: {text}");
        assert_eq!(*broker.shared.rules().policies().hash(), now, "{what}");
    }
    // One that is wrong in its place and in its text: its place first.
    let (have, _) =
        refused(&th.connection, made(&|said| (said.version, said.policies) = (3, "?".to_owned()))).await;
    assert_eq!(have, Reason::StaleDirectory);
    broker.drop_dead().await;
    let broker = Broker::start(folder.path()).await;
    assert_eq!(*broker.shared.rules().policies().hash(), now, "nothing that was refused is kept");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_made_to_exhaust_the_reader_is_refused_and_the_broker_lives() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let author = Author::new(&world, "TH");
    let head = "@id(\"a\") @reason(\"b\") permit (principal, action in Lintas::Action::\"transfer\", resource) when { ";
    for (open, close) in [("(", ")"), ("!", ""), ("[", "]"), ("if true then ", " else true"), ("{a: ", "}")] {
        let times = (limits::POLICY_TEXT_BYTES_MAX - 200) / (open.len() + close.len());
        let policies = format!("{head}{}true{} }};", open.repeat(times), close.repeat(times));
        let said = PolicyBundle { policies, ..author.draft() };
        let (reason, text) = refused(&th.connection, canonical::encode(&author.sign(&said))).await;
        assert_eq!(reason, Reason::Policy, "{open}: {text}");
    }
    th.silence().await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_agency_itself_brings_its_policies_and_only_while_it_is_active() {
    let (mut world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let (th, kh) = (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let first = Author::new(&world, "TH").next();
    let (reason, text) = refused(&kh.connection, first.clone()).await;
    assert_eq!(reason, Reason::UnknownSender);
    assert!(text.contains("only its own node"), "{text}");
    // Signed by another's keys in its own name.
    let said = PolicyBundle { owner: "KH".to_owned(), ..Author::new(&world, "TH").draft() };
    let forged = canonical::encode(&Author::new(&world, "TH").sign(&said));
    assert_eq!(refused(&kh.connection, forged).await.0, Reason::BadSignature);
    accepted(&th.connection, first.clone()).await;
    assert_eq!(
        own(&kh.connection, 0).await,
        (PolicyHead { reason: Reason::Accepted as i32, ..PolicyHead::default() }, vec![])
    );
    // Without a hello there are no policies.
    let (connection, _client) = bare(&world, &broker, "TH").await;
    ask(&connection, &world.directory.question().unwrap()).await.unwrap();
    let (mut writer, _reader) = connection.open_stream().await.unwrap();
    writer.send_message(FrameType::PolicyGet, &PolicyGet::default()).await.unwrap();
    let closed = soon(connection.closed()).await;
    assert!(
        matches!(closed, LinkError::Closed { code: lintas_link::CloseCode::ProtocolViolation, .. }),
        "{closed:?}"
    );
    // A suspended member's policies stay, and count again with it.
    world.set_status("TH", MemberStatus::Suspended);
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    soon(th.connection.closed()).await;
    assert_eq!(in_force(&broker, "TH"), Some(1));
    broker.drop_dead().await;
    let broker = Broker::start(folder.path()).await;
    assert_eq!(in_force(&broker, "TH"), Some(1));
    world.set_status("TH", MemberStatus::Active);
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    let mut kh = Node::connect(&world, &broker, "KH").await;
    if kh.notice().await.directory_hash != world.directory.hash().as_slice() {
        kh.told(&world).await;
    }
    let th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(own(&th.connection, 0).await.1, [first]);
    broker.stop().await.unwrap();
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
async fn policies_begin_when_their_time_comes_and_not_before() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let mut author = Author::new(&world, "TH");
    accepted(&th.connection, author.next()).await;
    let begins_ms = clock::now_ms() + 3_000;
    assert_eq!(accepted(&th.connection, author.next_with(|said| said.not_before_ms = begins_ms)).await, 2);
    assert_eq!(in_force(&broker, "TH"), Some(1));
    // One that would overtake it.
    let early = canonical::encode(&author.sign(&PolicyBundle { not_before_ms: 0, ..author.draft() }));
    let (reason, text) = refused(&th.connection, early).await;
    assert_eq!(reason, Reason::Malformed, "{text}");
    broker.drop_dead().await;
    let broker = Broker::start(folder.path()).await;
    let early = clock::now_ms() < begins_ms && in_force(&broker, "TH") == Some(2);
    assert!(!early || clock::now_ms() >= begins_ms, "in force too early");
    comes(&broker, "TH", 2).await;
    assert!(clock::now_ms() >= begins_ms);
    // So many may wait, and no more.
    let th = Node::connect(&world, &broker, "TH").await;
    let far_ms = clock::now_ms() + 3_600_000;
    for _ in 0..8 {
        accepted(&th.connection, author.next_with(|said| said.not_before_ms = far_ms)).await;
    }
    let (reason, text) = refused(&th.connection, author.next()).await;
    assert_eq!(reason, Reason::Quota);
    assert!(text.contains("still to come"), "{text}");
    assert_eq!(in_force(&broker, "TH"), Some(2));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_may_not_bring_policies_without_end() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let (th, kh) = (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    let mut author = Author::new(&world, "TH");
    for version in 1..=10 {
        assert_eq!(accepted(&th.connection, author.next()).await, version);
    }
    let (reason, text) = refused(&th.connection, author.next()).await;
    assert_eq!(reason, Reason::Quota);
    assert!(text.contains("takes the next one in"), "{text}");
    // Refused ones are paced, too.
    let mut reasons = Vec::new();
    for _ in 0..21 {
        reasons.push(refused(&kh.connection, Bytes::from_static(b"\xff")).await.0);
    }
    assert_eq!((reasons[19], reasons[20]), (Reason::Malformed, Reason::Quota));
    broker.stop().await.unwrap();
}

/// A broker that does not start says why.
async fn does_not_start(folder: &Path) -> String {
    let outcome = soon(run(&Folder::at(folder), std::future::pending(), |_| panic!("it runs"))).await;
    outcome.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_outlive_a_crash_and_nothing_older_takes_their_place() {
    let (mut world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let mut author = Author::new(&world, "TH");
    let bundles = [author.next(), author.next(), author.next()];
    for bundle in &bundles[..2] {
        accepted(&th.connection, bundle.clone()).await;
    }
    broker.drop_dead().await;
    let (path, mark) =
        (|n: u64| folder.path().join(format!("policies/TH/{n}.bin")), folder.path().join("policies.mark"));
    let (second, marked) = (std::fs::read(path(2)).unwrap(), std::fs::read(&mark).unwrap());
    assert_eq!(second, bundles[1]);
    // Power failed between the file and its mark: it was verified, and it follows.
    put(&path(3), &bundles[2]);
    let broker = Broker::start(folder.path()).await;
    assert_eq!(in_force(&broker, "TH"), Some(3));
    let th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(refused(&th.connection, bundles[1].clone()).await.0, Reason::Replay);
    assert_eq!(accepted(&th.connection, bundles[2].clone()).await, 3, "brought again");
    broker.drop_dead().await;
    // The newest is gone, one in the middle is gone, one is damaged, one is another's, the mark is of before, or damaged.
    std::fs::remove_file(path(3)).unwrap();
    let says = does_not_start(folder.path()).await;
    assert!(says.contains("TH/3.bin is missing") && says.contains("restore it from the backup"), "{says}");
    put(&path(3), &bundles[2]);
    std::fs::remove_file(path(2)).unwrap();
    assert!(does_not_start(folder.path()).await.contains("TH/2.bin is missing"));
    put(&path(2), &bundles[2]);
    assert!(does_not_start(folder.path()).await.contains("it holds version 3 of TH"));
    put(&path(2), &second);
    let mut damaged = bundles[2].to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    put(&path(3), &damaged);
    assert!(does_not_start(folder.path()).await.contains("TH/3.bin is damaged"));
    put(&path(3), &bundles[2]);
    let newest = std::fs::read(&mark).unwrap();
    put(&mark, &newest[1..]);
    assert!(does_not_start(folder.path()).await.contains("policies.mark is damaged"));
    // Without a mark the newest must vouch for itself.
    std::fs::remove_file(&mark).unwrap();
    put(&path(3), &damaged);
    assert!(does_not_start(folder.path()).await.contains("policies.mark is missing"));
    put(&mark, &marked);
    // Behind the mark a forged one counts for nothing.
    let broker = Broker::start(folder.path()).await;
    assert_eq!(in_force(&broker, "TH"), Some(2));
    assert_eq!(std::fs::read(&mark).unwrap(), marked);
    let th = Node::connect(&world, &broker, "TH").await;
    assert_eq!(accepted(&th.connection, bundles[2].clone()).await, 3);
    broker.stop().await.unwrap();
    // All keys of the agency are other ones: what was in force stays so.
    world.change_identity("TH");
    world.publish_next();
    put(&folder.path().join("directory.bin"), world.directory.bytes());
    let broker = Broker::start(folder.path()).await;
    assert_eq!(in_force(&broker, "TH"), Some(3));
    broker.stop().await.unwrap();
    let broker = Broker::start(folder.path()).await;
    assert_eq!(in_force(&broker, "TH"), Some(3));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_agency_the_newest_64_are_kept() {
    let (world, folder) = bare_scene();
    let mut author = Author::new(&world, "TH");
    let now_ms = clock::now_ms();
    let store = Folder::at(folder.path()).policies(&world.directory, now_ms).unwrap();
    for _ in 0..66 {
        let bundle = lintas_config::policy::Bundle::open(&author.next(), &world.directory).unwrap();
        store.keep(&bundle, now_ms).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path().join("policies/TH")).unwrap().count(), 64);
    assert_eq!(store.live(&world.roster, now_ms).len(), 1);
    let (newest, paths) = store.above("TH", 0).unwrap();
    assert_eq!((newest.version(), paths.len()), (66, 64));
    let store = Folder::at(folder.path()).policies(&world.directory, now_ms).unwrap();
    assert_eq!(store.newest("TH").unwrap().version(), 66);
    // What the log was told must be there.
    let (hash, never) = (author.hash.unwrap(), [7; 32]);
    store.agrees_with_log([("TH", &hash), ("KH", &[0; 32])].into_iter()).unwrap();
    for told in [("TH", &never), ("KH", &hash)] {
        let error = store.agrees_with_log([told].into_iter()).unwrap_err();
        assert!(error.to_string().contains("an older backup will not do"), "{error}");
    }
}
