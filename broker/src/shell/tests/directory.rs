//! New directories while the broker runs: where they come from, and how nodes get them.

use lintas_config::{
    Directory,
    policy::{baseline::STANDARD, loosening::leaving},
};

use super::{
    operator::{free, get, shows},
    *,
};
use crate::testing::{DAY, put, unit};

#[tokio::test(flavor = "multi_thread")]
async fn a_keyset_that_a_member_brings_reaches_everybody_and_outlives_a_crash() {
    let (mut world, folder) = scene();
    let mut broker = Broker::start(folder.path()).await;
    let (mut th, vn) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "VN").await);
    let (first, before) = (world.directory.clone(), world.keysets.clone());
    let sealed_before = world.packet("TH", &[unit("KH", "A")]);
    let next = world.next_keyset("KH");
    // KH is not there: VN brings it.
    assert_eq!(bring_signed(&vn.connection, &next).await, (Reason::Accepted, String::new()));
    world.put_keyset(next.clone());
    th.told(&world).await;
    let update = ask(&th.connection, &first.question().unwrap()).await.unwrap();
    assert_eq!((update.rosters.len(), update.unchanged.len(), update.keysets.len()), (0, 2, 1));
    assert_eq!(first.take(&update).unwrap().hash(), world.directory.hash());
    assert_eq!(bring_signed(&vn.connection, &next).await.0, Reason::Accepted, "it is there");
    th.silence().await;
    broker.drop_dead().await;
    broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let update = ask(&th.connection, &first.question().unwrap()).await.unwrap();
    assert_eq!(first.take(&update).unwrap().hash(), world.directory.hash(), "durable");
    let own = std::fs::read(folder.path().join("directory.bin")).unwrap();
    assert_eq!(&own, first.bytes(), "the operator's file is not touched");
    // The region authority gathered its keysets before: the newer one stays.
    let newest = std::mem::replace(&mut world.keysets, before);
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    world.keysets = newest;
    world.publish();
    th.told(&world).await;
    let update = ask(&th.connection, &first.question().unwrap()).await.unwrap();
    assert_eq!(first.take(&update).unwrap().hash(), world.directory.hash());
    // Sealed before and after; KH has the same keys in both.
    th.receipt(&sealed_before).await;
    th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn keysets_that_do_not_follow_are_refused_with_the_reason() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let (first, next) = (world.keyset("KH", 1, &[]), world.next_keyset("KH"));
    assert_eq!(bring_signed(&th.connection, &next).await.0, Reason::Accepted);
    world.put_keyset(next.clone());
    let follows = world.next_keyset("KH");
    let forged = SignedKeyset { keyset_signature: next.keyset_signature.clone(), ..follows.clone() };
    let mut other = World::new(world.now_ms);
    other.join("LA");
    other.publish_next();
    let cases = [
        ("rolled back", canonical::encode(&first), Reason::StaleDirectory, "version 1 was rolled back"),
        (
            "fork",
            canonical::encode(&world.keyset("KH", 3, &[7; 32])),
            Reason::StaleDirectory,
            "does not follow",
        ),
        (
            "another",
            canonical::encode(&world.keyset("KH", 2, &[7; 32])),
            Reason::StaleDirectory,
            "two different",
        ),
        ("forged", canonical::encode(&forged), Reason::BadSignature, "signature"),
        (
            "of a stranger",
            canonical::encode(&other.next_keyset("LA")),
            Reason::UnknownSender,
            "no active member",
        ),
        ("another's", canonical::encode(&other.next_keyset("KH")), Reason::BadSignature, "signature"),
        ("nothing", Bytes::from_static(b"\xff"), Reason::Malformed, "could not read"),
    ];
    for (what, keyset, reason, says) in cases {
        let (have, text) = bring(&th.connection, keyset).await;
        assert_eq!(have, reason, "{what}: {text}");
        assert!(text.contains(says), "{what}: {text}");
    }
    // None of them has changed anything.
    let update = ask(&th.connection, &world.directory.question().unwrap()).await.unwrap();
    assert!(update.keysets.is_empty() && update.rosters.is_empty());
    assert_eq!(bring_signed(&th.connection, &follows).await.0, Reason::Accepted);
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_may_not_make_new_directories_without_end_but_always_take_itself_out() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let (th, kh) = (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "KH").await);
    for _ in 0..10 {
        let next = world.next_keyset("KH");
        assert_eq!(bring_signed(&th.connection, &next).await.0, Reason::Accepted);
        world.put_keyset(next);
    }
    let (reason, text) = bring_signed(&th.connection, &world.next_keyset("KH")).await;
    assert_eq!(reason, Reason::Quota);
    assert!(text.contains("takes the next one in"), "{text}");
    let vn = world.next_keyset("VN");
    assert_eq!(bring_signed(&th.connection, &vn).await.0, Reason::Accepted, "others are not concerned");
    assert_eq!(bring_signed(&th.connection, &world.revocation("KH")).await.0, Reason::Accepted);
    let closed = soon(kh.connection.closed()).await;
    assert!(
        matches!(closed, LinkError::Closed { code: lintas_link::CloseCode::DirectoryChanged, .. }),
        "{closed:?}"
    );
    let again = connect_as(&world, broker.address, &world.transport("KH"), &hello("KH")).await.err();
    assert!(matches!(again, Some(LinkError::NotAdmitted)), "{again:?}");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_several_rosters_behind_gets_them_all_also_without_a_hello() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let first = world.directory.clone();
    let mut th = Node::connect(&world, &broker, "TH").await;
    for _ in 0..3 {
        world.publish_next();
        place(&folder.path().join("directory.bin"), world.directory.bytes());
        th.told(&world).await;
    }
    let (connection, _client) = bare(&world, &broker, "VN").await;
    for (have, rosters) in [(Some(&first), 3), (None, 4)] {
        let newcomer = Directory::first_question(&world.bootstrap);
        let get = have.map_or(newcomer, |have| have.question().unwrap());
        let update = ask(&connection, &get).await.unwrap();
        assert_eq!(update.rosters.len(), rosters);
        let taken = match have {
            Some(have) => have.take(&update).unwrap(),
            None => Directory::take_first(&update, &world.bootstrap).unwrap(),
        };
        assert_eq!(taken.hash(), world.directory.hash());
    }
    let refused = |get: DirectoryGet, reason: Reason| {
        let connection = &connection;
        async move {
            let head = ask(connection, &get).await.unwrap_err();
            assert_eq!(head.reason, reason as i32, "{}", head.text);
            assert!(!head.text.is_empty());
        }
    };
    let known = world.directory.question().unwrap();
    refused(DirectoryGet { region: "elsewhere".to_owned(), ..known.clone() }, Reason::WrongRegion).await;
    refused(DirectoryGet { roster_version: 9, ..known.clone() }, Reason::StaleDirectory).await;
    let next = world.next_keyset("VN");
    assert_eq!(bring_signed(&connection, &next).await.0, Reason::Accepted, "keysets too");
    // Nothing else goes without a hello.
    let (mut writer, _reader) = connection.open_stream().await.unwrap();
    writer.send_message(FrameType::Hello, &hello("VN")).await.unwrap();
    let closed = soon(connection.closed()).await;
    assert!(
        matches!(closed, LinkError::Closed { code: lintas_link::CloseCode::ProtocolViolation, .. }),
        "{closed:?}"
    );
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_directory_changes_nothing_and_the_operator_sees_it() {
    let (mut world, folder) = scene();
    let (path, address) = (folder.path().join("directory.bin"), free());
    set(folder.path(), &format!("metrics = \"{address}\""));
    let first = world.directory.bytes().clone();
    world.publish_next();
    put(&path, world.directory.bytes());
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    place(&path, &first);
    shows(address, "directory_refused_total{what=\"directory\"} 1").await;
    let health = get(address, "/health").await;
    assert!(health.starts_with("HTTP/1.1 200"), "{health}");
    assert!(health.contains("directory.bin is not taken: roster version 1 was rolled back"), "{health}");
    assert!(health.contains("Roster version 2 stays in force"), "{health}");
    th.receipt(&world.packet("TH", &[unit("KH", "A")])).await;
    th.silence().await;
    // Not valid yet.
    let (roster, now_ms) = (world.roster.clone(), clock::shown_ms());
    world.roster.not_before_ms = now_ms + 60_000;
    world.publish_next();
    place(&path, world.directory.bytes());
    shows(address, "directory_refused_total{what=\"directory\"} 2").await;
    assert!(get(address, "/health").await.contains("version 3 is not valid now"));
    world.roster = roster;
    world.publish();
    world.publish_next();
    place(&path, world.directory.bytes());
    shows(address, "roster_version 3").await;
    th.told(&world).await;
    shows(address, "directory_changes_total{by=\"roster\"} 1").await;
    assert!(get(address, "/health").await.ends_with("\r\n\r\nok\n"));
    // A broker that the roster no longer names ends.
    let other = World::new(world.now_ms);
    world.roster.brokers.clone_from(&other.roster.brokers);
    world.roster.brokers[0].name = "hub2.mekong".to_owned();
    world.publish_next();
    place(&path, world.directory.bytes());
    let ended = soon(broker.task).await.unwrap();
    assert!(matches!(ended, Err(RunError::NotListed(_))), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_under_another_name_than_the_directory_s_are_refused_with_what_to_do() {
    let (_world, folder) = scene();
    Broker::start(folder.path()).await.stop().await.unwrap();
    let path = folder.path().join("broker.keys");
    let bytes = Bytes::from(std::fs::read(&path).unwrap());
    let mut secrets: lintas_proto::schema::BrokerSecrets = canonical::decode(&bytes, 4_096).unwrap();
    let listed = secrets.name.clone();
    secrets.name.replace_range(..1, "i");
    place(&path, &canonical::encode(&secrets));
    let ended = soon(run(&Folder::at(folder.path()), std::future::pending(), |_| {})).await;
    let said = ended.unwrap_err().to_string();
    assert!(said.contains("backup of broker.keys") && said.contains(&listed), "{said}");
    place(&path, &bytes);
    Broker::start(folder.path()).await.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn notices_are_rare_and_about_the_newest() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let (mut th, vn) =
        (Node::connect(&world, &broker, "TH").await, Node::connect(&world, &broker, "VN").await);
    for _ in 0..6 {
        let next = world.next_keyset("KH");
        assert_eq!(bring_signed(&vn.connection, &next).await.0, Reason::Accepted);
        world.put_keyset(next);
    }
    let mut notices = 1;
    while th.notice().await.directory_hash != world.directory.hash().as_slice() {
        notices += 1;
    }
    assert!(notices < 6, "{notices} notices of 6 changes");
    th.silence().await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_makes_the_broker_look_at_a_file_that_seems_the_same() {
    let (mut world, folder) = scene();
    let path = folder.path().join("directory.bin");
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    world.publish_next();
    place(&path, world.directory.bytes());
    th.told(&world).await;
    let (modified, length) = {
        let there = std::fs::metadata(&path).unwrap();
        (there.modified().unwrap(), there.len())
    };
    world.publish_next();
    let next = folder.path().join("next");
    put(&next, world.directory.bytes());
    std::fs::File::options().write(true).open(&next).unwrap().set_modified(modified).unwrap();
    assert_eq!(std::fs::metadata(&next).unwrap().len(), length);
    place_file(&next, &path);
    // Some looks later.
    sleep(Duration::from_millis(1_200)).await;
    th.silence().await;
    let me = std::process::id().to_string();
    assert!(std::process::Command::new("kill").args(["-HUP", &me]).status().unwrap().success());
    th.told(&world).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_put_back_from_a_backup_takes_the_newer_keysets_from_any_member() {
    let (mut world, folder) = scene();
    Broker::start(folder.path()).await.stop().await.unwrap();
    let files = ["directory.current", "directory.mark"].map(|name| folder.path().join(name));
    let backup = files.clone().map(|file| std::fs::read(file).unwrap());
    let broker = Broker::start(folder.path()).await;
    let kh = Node::connect(&world, &broker, "KH").await;
    for _ in 0..2 {
        let next = world.next_keyset("KH");
        assert_eq!(bring_signed(&kh.connection, &next).await.0, Reason::Accepted);
        world.put_keyset(next);
    }
    broker.stop().await.unwrap();
    for (file, bytes) in files.iter().zip(&backup) {
        put(file, bytes);
    }
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let get = DirectoryGet { region: REGION.to_owned(), ..DirectoryGet::default() };
    // What a node does that has seen more.
    let lacking = world.directory.newer_than(&ask(&th.connection, &get).await.unwrap()).unwrap();
    assert_eq!(lacking.len(), 1);
    assert_eq!(bring(&th.connection, lacking[0].clone()).await.0, Reason::Accepted);
    th.told(&world).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loosened_baseline_is_taken_while_all_can_see_it_coming_and_not_when_it_was_dated_back() {
    let (mut world, folder) = scene();
    let (path, page) = (folder.path().join("directory.bin"), free());
    set(folder.path(), &format!("metrics = \"{page}\""));
    // In force for weeks, so that the next one may say that it began long ago.
    world.roster.not_before_ms -= 20 * DAY;
    world.publish();
    put(&path, world.directory.bytes());
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let (roster, directory) = (world.roster.clone(), world.directory.clone());
    let less = STANDARD.replacen("@id(\"noforn\")", "@id(\"no-foreigners\")", 1);
    for (begins_ms, taken) in [(world.now_ms - 10 * DAY, false), (world.now_ms, true)] {
        (world.roster, world.directory) = (roster.clone(), directory.clone());
        world.roster.baseline = less.clone();
        world.roster.not_before_ms = begins_ms;
        world.roster.leaving = leaving(&roster, &less, begins_ms);
        world.publish_next();
        assert!(directory.succeed(world.directory.bytes(), &[]).is_ok(), "by its dates it follows");
        place(&path, world.directory.bytes());
        if taken {
            th.told(&world).await;
        } else {
            let refused = shows(page, "directory_refused_total{what=\"directory\"} 1").await;
            assert!(get(page, "/health").await.contains("baseline/noforn"), "{refused}");
            th.silence().await;
        }
    }
    broker.stop().await.unwrap();
}
