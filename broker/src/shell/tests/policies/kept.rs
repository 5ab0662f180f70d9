//! Policies over time, crashes and keys.

use super::*;
use crate::testing::put;

/// A broker that does not start says why.
async fn does_not_start(folder: &Path) -> String {
    let outcome = soon(run(&Folder::at(folder), std::future::pending(), |_| panic!("it runs"))).await;
    outcome.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_begin_when_their_time_comes_and_not_before() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let mut author = Author::new(&world, "TH");
    accepted(&th.connection, author.next()).await;
    let begins_ms = clock::shown_ms() + 3_000;
    assert_eq!(accepted(&th.connection, author.next_with(|said| said.not_before_ms = begins_ms)).await, 2);
    let present = in_force(&broker, "TH");
    assert!(present == Some(1) || clock::shown_ms() >= begins_ms, "in force too early: {present:?}");
    // One that would overtake it.
    let early = canonical::encode(&author.sign(&PolicyBundle { not_before_ms: 0, ..author.draft() }));
    let (reason, text) = refused(&th.connection, early).await;
    assert_eq!(reason, Reason::Malformed, "{text}");
    broker.drop_dead().await;
    let broker = Broker::start(folder.path()).await;
    let present = in_force(&broker, "TH");
    assert!(present == Some(1) || clock::shown_ms() >= begins_ms, "in force too early: {present:?}");
    comes(&broker, "TH", 2).await;
    assert!(clock::shown_ms() >= begins_ms);
    // So many may wait, and no more.
    let th = Node::connect(&world, &broker, "TH").await;
    let far_ms = clock::shown_ms() + 3_600_000;
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
    // Behind the mark a forged one counts for nothing.
    let mut damaged = bundles[2].to_vec();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    put(&path(3), &damaged);
    let broker = Broker::start(folder.path()).await;
    assert_eq!(in_force(&broker, "TH"), Some(2));
    assert_eq!(std::fs::read(&mark).unwrap(), marked);
    broker.drop_dead().await;
    // Power failed between the file and its mark: it was verified, and it follows.
    put(&path(3), &bundles[2]);
    let broker = Broker::start(folder.path()).await;
    assert_eq!(in_force(&broker, "TH"), Some(3));
    let hash = author.hash.unwrap();
    soon(async {
        while broker.shared.ledger().audit().policy("TH") != Some(&hash) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
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
    // An older folder is not the one that the log was told of.
    put(&mark, &marked);
    assert!(does_not_start(folder.path()).await.contains("an older backup will not do"));
    put(&mark, &newest);
    put(&path(3), &bundles[2]);
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
    let now_ms = clock::shown_ms();
    let store = Folder::at(folder.path()).policies(&world.directory, now_ms).unwrap();
    let mut first = Bytes::new();
    for _ in 0..66 {
        let bundle = lintas_config::policy::Bundle::open(&author.next(), &world.directory).unwrap();
        if bundle.version() == 1 {
            first = bundle.bytes().clone();
        }
        store.keep(&bundle, now_ms).unwrap();
    }
    assert_eq!(std::fs::read_dir(folder.path().join("policies/TH")).unwrap().count(), 64);
    assert_eq!(store.live(&world.roster, now_ms).len(), 1);
    let (newest, paths) = store.above("TH", 0).unwrap();
    assert_eq!((newest.version(), paths.len()), (66, 64));
    let store = Folder::at(folder.path()).policies(&world.directory, now_ms).unwrap();
    assert_eq!(store.newest("TH").unwrap().version(), 66);
    // One that could not be deleted in its time is no reason not to start; one that is missing among the kept is.
    let path = |n: u64| folder.path().join(format!("policies/TH/{n}.bin"));
    put(&path(1), &first);
    let again = Folder::at(folder.path()).policies(&world.directory, now_ms).unwrap();
    assert_eq!(again.above("TH", 0).unwrap().1.len(), 64);
    let tenth = std::fs::read(path(10)).unwrap();
    std::fs::remove_file(path(10)).unwrap();
    let error = Folder::at(folder.path()).policies(&world.directory, now_ms).unwrap_err();
    assert!(error.to_string().contains("TH/10.bin is missing"), "{error}");
    put(&path(10), &tenth);
    // What the log was told must be there.
    let (hash, never) = (author.hash.unwrap(), [7; 32]);
    let agrees = |agency: &'static str, told: Digest| {
        store.agrees_with_log(&world.roster, |member| (member == agency).then_some(told))
    };
    agrees("TH", hash).unwrap();
    agrees("KH", [0; 32]).unwrap();
    for (agency, told) in [("TH", never), ("KH", hash)] {
        let error = agrees(agency, told).unwrap_err();
        assert!(error.to_string().contains("an older backup will not do"), "{error}");
    }
}

/// Puts a world's directory in force as an operator does.
async fn rules_by(world: &World, broker: &Broker, folder: &Path) {
    place(&folder.join("directory.bin"), world.directory.bytes());
    let taken = async {
        while broker.shared.directory().hash() != world.directory.hash() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    soon(taken).await;
}

fn version_at(broker: &Broker, now_ms: u64) -> Option<u64> {
    broker.shared.rules_at(now_ms).policies().bundle("TH").map(|bundle| bundle.version())
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_begin_for_whoever_asks_first_after_their_moment() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let mut author = Author::new(&world, "TH");
    accepted(&th.connection, author.next()).await;
    let begins_ms = clock::shown_ms() + 3_600_000;
    accepted(&th.connection, author.next_with(|said| said.not_before_ms = begins_ms)).await;
    assert_eq!(version_at(&broker, begins_ms - 1), Some(1));
    // The keeper's own clock says that there is an hour left.
    assert_eq!(version_at(&broker, begins_ms), Some(2));
    assert_eq!(in_force(&broker, "TH"), Some(2), "a clock that goes back takes nothing out of force");
    let hash = author.hash.unwrap();
    soon(async {
        while broker.shared.ledger().audit().policy("TH") != Some(&hash) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_to_come_outlive_rosters_keysets_a_suspension_and_a_crash() {
    let (mut world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let begins_ms = clock::shown_ms() + 3_600_000;
    let hash = {
        let th = Node::connect(&world, &broker, "TH").await;
        let mut author = Author::new(&world, "TH");
        accepted(&th.connection, author.next()).await;
        accepted(&th.connection, author.next_with(|said| said.not_before_ms = begins_ms)).await;
        author.hash.unwrap()
    };
    world.member("TH").status = MemberStatus::Suspended as i32;
    world.publish_next();
    rules_by(&world, &broker, folder.path()).await;
    assert_eq!(
        (in_force(&broker, "TH"), broker.shared.policies.to_come("TH", clock::shown_ms())),
        (Some(1), 1)
    );
    broker.drop_dead().await;
    // Nothing of a suspended member is lost at a start, and its signature is not asked for again.
    let broker = Broker::start(folder.path()).await;
    assert_eq!(in_force(&broker, "TH"), Some(1));
    let next = world.next_keyset("KH");
    world.put_keyset(next);
    rules_by(&world, &broker, folder.path()).await;
    world.member("TH").status = MemberStatus::Active as i32;
    world.publish_next();
    rules_by(&world, &broker, folder.path()).await;
    assert_eq!((in_force(&broker, "TH"), version_at(&broker, begins_ms - 1)), (Some(1), Some(1)));
    let rules = broker.shared.rules_at(begins_ms);
    assert_eq!(rules.policies().bundle("TH").map(|bundle| *bundle.hash()), Some(hash));
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_policies_that_are_not_what_the_broker_kept() {
    let (world, folder) = bare_scene();
    let broker = Broker::start(folder.path()).await;
    let th = Node::connect(&world, &broker, "TH").await;
    let mut author = Author::new(&world, "TH");
    let bundles = [author.next(), author.next()];
    let path = |name: &str| folder.path().join(name);
    accepted(&th.connection, bundles[0].clone()).await;
    let marked = std::fs::read(path("policies.mark")).unwrap();
    accepted(&th.connection, bundles[1].clone()).await;
    let hash = author.hash.unwrap();
    soon(async {
        while broker.shared.ledger().audit().policy("TH") != Some(&hash) {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    broker.stop().await.unwrap();
    let check = || {
        let report = super::super::super::check(&Folder::at(folder.path())).unwrap();
        (report.json()["count"].clone(), report.plain())
    };
    let (count, plain) = check();
    assert!(count == 0 && plain.contains("policies: agencies: 1, versions: 2"), "{plain}");
    let newest = std::fs::read(path("policies.mark")).unwrap();
    put(&path("policies/TH/2.bin"), &bundles[1][1..]);
    let (count, plain) = check();
    assert!(count == 1 && plain.contains("DAMAGED: policies/TH") && plain.contains("2.bin"), "{plain}");
    std::fs::remove_file(path("policies/TH/2.bin")).unwrap();
    assert!(check().1.contains("2.bin is missing"));
    // A backup that is whole, and older than the log.
    put(&path("policies.mark"), &marked);
    let (count, plain) = check();
    assert!(count == 1 && plain.contains("the log was told of the policies with SHA-256"), "{plain}");
    put(&path("policies.mark"), &newest[1..]);
    assert!(check().1.contains("policies.mark is damaged"));
}
