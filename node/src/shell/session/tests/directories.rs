//! Directories over the link, from honest hubs and others.

use lintas_config::issue::fresh_seed;
use lintas_config::os_entropy;

use super::*;
use crate::shell::{directory_link, join};

fn version(desk: &Desk) -> u64 {
    desk.directory().roster().version
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_directory_is_fetched_and_the_session_goes_on() {
    let mut region = Region::new();
    let (second, third) = (region.next(|_| {}), region.next(|_| {}));
    let directories = vec![region.open(&second), region.open(&third)];
    let (hub, address) = Hub::start(region);
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let running = run(&thailand);
    soon("first session", || hub.held.lock().unwrap().live.len() == 1).await;
    assert_eq!((version(&thailand), hub.held.lock().unwrap().questions), (1, 0));
    hub.held.lock().unwrap().directories = directories;
    // What a notice does.
    let newest = hub.directory();
    thailand.hear_of_directory(newest.roster().version, newest.hash());
    soon("the third roster", || version(&thailand) == 3).await;
    assert_eq!(hub.held.lock().unwrap().hellos, 1);
    running.abort();
    let _ = running.await;
    // It is durable, though directory.bin is still the first one.
    soon("the desk is free", || Arc::strong_count(&thailand) == 1).await;
    drop(thailand);
    let thailand = hub.region.desk_at("TH", &address.to_string());
    assert_eq!(version(&thailand), 3);
    let Ok(Reply::Status(status)) = thailand.answer(Request::Status) else { panic!("no status") };
    assert_eq!(status.warnings, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_names_at_the_hello_is_fetched_at_once() {
    let mut region = Region::new();
    let second = region.next(|_| {});
    let directories = vec![region.open(&second)];
    let (hub, address) = Hub::start(region);
    hub.held.lock().unwrap().directories = directories;
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let running = run(&thailand);
    soon("the second roster", || version(&thailand) == 2).await;
    let held = hub.held.lock().unwrap();
    assert_eq!((held.hellos, held.roster_version), (1, 1));
    drop(held);
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_about_the_directory_changes_nothing_and_is_told() {
    let mut region = Region::new();
    let stranger = Region::new();
    let second = region.next(|_| {});
    let second = region.open(&second);
    let (hub, address) = Hub::start(region);
    let lie = Region::update(&stranger.directory(), &[&stranger.directory()]);
    hub.held.lock().unwrap().lie = Some(DirectoryUpdate {
        rosters: vec![stranger.directory().signed_roster().unwrap()],
        keysets: vec![],
        ..lie
    });
    hub.held.lock().unwrap().directories = vec![second];
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let running = run(&thailand);
    soon("trouble", || thailand.link().trouble.contains("a directory that is not believed")).await;
    assert_eq!(version(&thailand), 1);
    assert!(thailand.link().connected);
    // It is asked again, and once it tells the truth that is taken.
    hub.held.lock().unwrap().lie = None;
    soon("the second roster", || version(&thailand) == 2).await;
    assert!(hub.held.lock().unwrap().questions <= 4);
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_a_new_key_is_asked_for_the_directory_that_names_it() {
    let mut region = Region::new();
    let seed = fresh_seed(&mut os_entropy());
    let key = TransportKey::from_seed(&seed).unwrap().public();
    let second = region.next(|roster| roster.brokers[0].transport_key = Bytes::copy_from_slice(&key));
    let second = region.open(&second);
    let (hub, address) = Hub::start_with(region, &seed);
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let running = run(&thailand);
    // It has no directory that names its key: nobody says hello to it.
    soon("trouble", || thailand.link().trouble.contains("is not a broker of this region; its key: ")).await;
    assert_eq!((version(&thailand), hub.held.lock().unwrap().hellos), (1, 0));
    hub.held.lock().unwrap().directories = vec![second];
    thailand.reconnect();
    soon("a session", || hub.held.lock().unwrap().live.len() == 1).await;
    assert_eq!(version(&thailand), 2);
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_gets_its_first_directory_from_the_broker() {
    let mut region = Region::new();
    let second = region.next(|_| {});
    let second = region.open(&second);
    let (hub, address) = Hub::start(region);
    let desk = hub.region.desk("TH");
    let bootstrap = hub.region.bootstrap.clone();
    std::thread::scope(|scope| {
        let first = scope.spawn(|| join::fetch(address, &desk.keys(), &bootstrap)).join().unwrap().unwrap();
        assert_eq!(first.hash(), hub.region.directory().hash());
    });
    hub.held.lock().unwrap().directories = vec![second];
    std::thread::scope(|scope| {
        let first = scope.spawn(|| join::fetch(address, &desk.keys(), &bootstrap)).join().unwrap().unwrap();
        assert_eq!(first.roster().version, 2);
    });
    // Another region's broker cannot give it another region's directory.
    let other = Region::new().bootstrap;
    std::thread::scope(|scope| {
        let refused = scope.spawn(|| join::fetch(address, &desk.keys(), &other)).join().unwrap().unwrap_err();
        assert!(refused.message.contains("is not believed"), "{refused}");
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_keyset_is_brought_and_a_refusal_is_told_in_the_brokers_words() {
    let (hub, address) = Hub::start(Region::new());
    let desk = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let session = Session::new(Arc::clone(&desk)).unwrap();
    let connection = session.client.connect(address).await.unwrap();
    let _session = greet(&connection, &desk.hello()).await.unwrap();
    hub.held.lock().unwrap().keyset_reason = Some(Reason::StaleDirectory);
    let keyset = Bytes::from_static(b"a keyset");
    let bring = async || {
        let streams = connection.open_stream().await.unwrap();
        directory_link::bring(streams, keyset.clone()).await
    };
    let refused = bring().await.unwrap_err();
    assert!(!refused.ends_connection());
    let text = refused.to_string();
    assert!(
        text.contains("does not take this agency's new keyset") && text.contains("version 1 is older\\u{1b}"),
        "{text}"
    );
    hub.held.lock().unwrap().keyset_reason = Some(Reason::Accepted);
    bring().await.unwrap();
}
