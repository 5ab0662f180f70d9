//! What is refused, and what that changes: nothing.

use super::*;

/// A region in which one version of TH is in force, and what TH's officer might bring next.
struct Bad {
    world: World,
    folder: TempFolder,
    broker: Broker,
    th: Node,
    first: Bytes,
}

impl Bad {
    async fn new() -> Self {
        let (world, folder) = bare_scene();
        let broker = Broker::start(folder.path()).await;
        let th = Node::connect(&world, &broker, "TH").await;
        let first = Author::new(&world, "TH").next();
        accepted(&th.connection, first.clone()).await;
        Self { world, folder, broker, th, first }
    }

    /// The next version, changed before it was signed.
    fn made(&self, change: impl FnOnce(&mut PolicyBundle)) -> Bytes {
        let mut author = Author::new(&self.world, "TH");
        assert_eq!(author.next(), self.first);
        author.next_with(change)
    }

    fn hash(&self) -> Digest {
        *self.broker.shared.rules().policies().hash()
    }

    /// Each is refused for its reason, in words that say so, and nothing of it is kept.
    async fn refuses(self, cases: Vec<(&str, Bytes, Reason, &str)>) {
        let now = self.hash();
        for (what, bundle, reason, says) in cases {
            let (have, text) = refused(&self.th.connection, bundle).await;
            assert_eq!(have, reason, "{what}: {text}");
            assert!(text.contains(says), "{what}: {text}");
            assert_eq!(self.hash(), now, "{what}");
        }
        self.broker.drop_dead().await;
        let broker = Broker::start(self.folder.path()).await;
        assert_eq!(*broker.shared.rules().policies().hash(), now, "nothing that was refused is kept");
        broker.stop().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_policies_are_refused_with_place_and_mend_and_those_in_force_stay() {
    let bad = Bad::new().await;
    let text = |text: &str| bad.made(|said| text.clone_into(&mut said.policies));
    let when = |condition: &str| {
        let head =
            "@id(\"a\") @reason(\"b\")\npermit (principal, action in Lintas::Action::\"transfer\", resource)";
        text(&format!("{head}\nwhen {{ {condition} }};"))
    };
    let typo = text("@id(\"a\")\n@reason(\"b\")\npermt (principal, action, resource);");
    let line_3 = "line 3, column";
    let cases = vec![
        ("a typo", typo, "line 3, column 1"),
        ("a word that is in no list", when("resource.tlp == Lintas::Tlp::\"ORANGE\""), line_3),
        ("a look-alike letter", when("principal.agency == Lintas::Agency::\"\u{422}H\""), line_3),
        ("nothing that a packet has", when("resource.hops > 3"), line_3),
        ("an impossible condition", when("principal is Lintas::Packet"), "line "),
        ("the time as a number", when("context.now.toTime() < duration(\"1h\")"), "line "),
        ("no id", text("permit (principal, action, resource);"), "write @id("),
        ("no reason", text("@id(\"a\") permit (principal, action, resource);"), "write @reason("),
    ];
    let cases = cases.into_iter().map(|(what, bundle, says)| (what, bundle, Reason::Policy, says)).collect();
    bad.refuses(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bundles_of_a_wrong_form_or_place_are_refused_before_anybody_reads_their_text() {
    let bad = Bad::new().await;
    let filled = |more: usize| {
        bad.made(|said| {
            said.policies = " ".repeat(limits::POLICY_TEXT_BYTES_MAX);
            said.cases = " ".repeat(limits::POLICY_TEXT_BYTES_MAX + more);
        })
    };
    // One byte more than there may be.
    let whole = filled(1_000 + limits::POLICY_BUNDLE_BYTES_MAX + 1 - filled(1_000).len());
    assert_eq!(whole.len(), limits::POLICY_BUNDLE_BYTES_MAX + 1);
    let decoded = |bytes: &Bytes| -> SignedPolicyBundle { canonical::decode(bytes, 1 << 20).unwrap() };
    let forged = SignedPolicyBundle {
        bundle_signature: decoded(&bad.first).bundle_signature,
        ..decoded(&bad.made(|_| {}))
    };
    let long = |said: &mut PolicyBundle| said.policies = " ".repeat(limits::POLICY_TEXT_BYTES_MAX + 1);
    // What is wrong in its place and in its text, too: its place is told first.
    let gap = bad.made(|said| (said.version, said.policies) = (3, "?".to_owned()));
    let fork =
        bad.made(|said| (said.prev_hash, said.policies) = (Bytes::from_static(&[7; 32]), "?".to_owned()));
    let schema = Bytes::from_static(&[7; 32]);
    let cases = vec![
        ("no bundle", Bytes::from_static(b"\xff"), Reason::Malformed, "could not read"),
        ("too long", bad.made(long), Reason::TooLarge, "at most 262144"),
        ("both together too long", whole, Reason::TooLarge, "shorten"),
        ("forged", canonical::encode(&forged), Reason::BadSignature, "signature"),
        ("for elsewhere", bad.made(|said| said.region = "elsewhere".to_owned()), Reason::WrongRegion, REGION),
        (
            "old",
            bad.made(|said| (said.version, said.prev_hash) = (1, Bytes::new())),
            Reason::Replay,
            "as version 2",
        ),
        ("a fork", fork, Reason::Replay, "as the one before"),
        ("a gap", gap, Reason::StaleDirectory, "version 2 is missing"),
        ("another schema", bad.made(|said| said.schema_hash = schema), Reason::Policy, "update the software"),
        ("another format", bad.made(|said| said.format = 2), Reason::Malformed, "format must be 1"),
    ];
    bad.refuses(cases).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_name_nobody_or_do_not_do_what_their_cases_say_are_refused() {
    let bad = Bad::new().await;
    let named = |who: &str| {
        bad.made(|said| {
            said.policies =
                PERMITS.replace("principal,", &format!("principal in Lintas::Agency::\"{who}\",\n"));
        })
    };
    let cases = |text: &str| bad.made(|said| text.clone_into(&mut said.cases));
    let denied = cases(&super::cases("TH").replace("release", "deny"));
    let cases = vec![
        ("an agency that is none", named("KG"), Reason::Policy, "line 1, column"),
        ("a look-alike letter", named("K\u{41d}"), Reason::Policy, "line 1, column"),
        ("a case that comes out otherwise", denied, Reason::Policy, "in the cases"),
        ("cases that cannot be read", cases("[[case]]\nname = 3\n"), Reason::Policy, "in the cases"),
        ("no case", cases(""), Reason::Policy, "in the cases"),
    ];
    bad.refuses(cases).await;
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
