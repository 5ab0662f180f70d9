//! A broker whose clock is set while it runs.

use std::sync::atomic::Ordering;

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
