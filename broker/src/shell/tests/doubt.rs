//! A broker whose clock is set while it runs.

use std::sync::atomic::Ordering;

use lintas_config::clock::Reading;
use lintas_link::LinkError;
use lintas_proto::schema::{ErasurePut, ErasureStatus};

use super::*;

const DAY_MS: i64 = 86_400_000;

fn set_clock(broker: &Broker, by_ms: i64) {
    broker.shared.clock.skew_ms.store(by_ms, Ordering::Relaxed);
}

/// As a node whose clock says the same as the broker's.
fn hello_at(broker: &Broker, agency: &str) -> Hello {
    let skew_ms = broker.shared.clock.skew_ms.load(Ordering::Relaxed);
    let hello = hello(agency);
    Hello { time_ms: hello.time_ms.saturating_add_signed(skew_ms), ..hello }
}

async fn is_refused(world: &World, broker: &Broker, hello: &Hello) {
    match connect_as(world, broker.address, &world.transport(&hello.agency), hello).await {
        Err(LinkError::Refused { reason: Reason::Clock, .. }) => {}
        other => panic!("{:?}", other.map(|_| "admitted")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_doubt_nothing_is_written_without_a_hello_either_and_what_waits_stays() {
    let (world, folder) = scene_with_epochs(100);
    let broker = Broker::start(folder.path()).await;
    let mut thailand = Node::connect(&world, &broker, "TH").await;
    thailand.receipt(&world.packet("TH", &[crate::testing::unit("KH", "A")])).await;
    let entries = broker.shared.ledger().entries();
    assert!(entries > 0, "it waits for KH");
    for by_ms in [400 * DAY_MS, -400 * DAY_MS] {
        set_clock(&broker, by_ms);
        assert_eq!(broker.shared.clock.agreed_ms(), None);
        // What the round before has handed in.
        sleep(Duration::from_millis(300)).await;
        let before = (broker.shared.ledger().time_at(0), *broker.shared.durable.borrow());
        for agency in ["TH", "KH"] {
            is_refused(&world, &broker, &hello(agency)).await;
        }
        let (alone, _client) = bare(&world, &broker, "KH").await;
        let (mut writer, mut reader) = alone.open_stream().await.unwrap();
        let put = ErasurePut { order: Bytes::from_static(b"x") };
        writer.send_message(FrameType::ErasurePut, &put).await.unwrap();
        let status: ErasureStatus = soon(reader.next_message(FrameType::ErasureStatus)).await.unwrap();
        assert_eq!(status.reason, Reason::Clock as i32, "{}", status.text);
        // Rounds go by.
        sleep(Duration::from_millis(2_500)).await;
        let after = (broker.shared.ledger().time_at(0), *broker.shared.durable.borrow());
        assert_eq!(after, before, "neither record nor time");
        assert_eq!(broker.shared.ledger().entries(), entries);
        set_clock(&broker, 0);
        assert!(broker.shared.clock.agreed_ms().is_some(), "set back");
    }
    set_clock(&broker, DAY_MS);
    is_refused(&world, &broker, &hello_at(&broker, "KH")).await;
    is_refused(&world, &broker, &hello_at(&broker, "KH")).await;
    // The second that says so makes it the time.
    let second = connect_as(&world, broker.address, &world.transport("TH"), &hello_at(&broker, "TH")).await;
    assert!(second.is_ok() && broker.shared.clock.agreed_ms().is_some());
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_was_signed_after_the_logs_last_time_is_taken_in_doubt_too() {
    let (mut world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    set_clock(&broker, 400 * DAY_MS);
    assert_eq!(broker.shared.clock.agreed_ms(), None);
    // It may be the one that ends the doubt: without it this broker's keys may be none any more.
    world.roster.not_before_ms = Reading::take().wall_ms + 3 * DAY_MS.unsigned_abs();
    world.roster.not_after_ms = world.roster.not_before_ms + 30 * DAY_MS.unsigned_abs();
    world.publish_next();
    place(&folder.path().join("directory.bin"), world.directory.bytes());
    let taken = async {
        while broker.shared.directory().hash() != world.directory.hash() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon(taken).await;
    assert_eq!(broker.shared.clock.agreed_ms(), None, "that says nothing about the clock");
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_word_ends_a_doubt_once_and_not_if_the_clock_was_set_since() {
    let (_, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let (home, clock) = (Folder::at(folder.path()), &broker.shared.clock);
    let agreed = async |wanted: bool| {
        let seen = async {
            while clock.agreed_ms().is_some() != wanted || home.path("clock.believed").exists() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        soon(seen).await;
    };
    set_clock(&broker, 400 * DAY_MS);
    // About the clock before.
    home.believe_clock(Reading::take()).unwrap();
    agreed(false).await;
    let now = Reading::take();
    home.believe_clock(Reading { wall_ms: now.wall_ms + 400 * DAY_MS.unsigned_abs(), ..now }).unwrap();
    agreed(true).await;
    set_clock(&broker, 0);
    agreed(false).await;
    place(&home.path("clock.believed"), b"yes\n");
    agreed(false).await;
    broker.stop().await.unwrap();
}
