use lintas_link::LinkError;
use lintas_proto::{limits, schema::Reason};

use super::*;

async fn refused(world: &World, broker: &Broker, agency: &str, hello: &Hello) -> (Reason, String) {
    match connect_as(world, broker.address, &world.transport(agency), hello).await {
        Err(LinkError::Refused { reason, text }) => (reason, text),
        Err(other) => panic!("{other:?}"),
        Ok(_) => panic!("admitted"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_hello_is_told_why_and_no_more() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let region = Hello { region: "elsewhere".to_owned(), ..hello("TH") };
    assert_eq!(refused(&world, &broker, "TH", &region).await.0, Reason::WrongRegion);
    let (reason, text) = refused(&world, &broker, "TH", &hello("KH")).await;
    assert_eq!(reason, Reason::UnknownSender);
    assert!(!text.contains("TH") && !text.contains("KH"), "{text}");
    for time_ms in [0, clock::shown_ms() + limits::CLOCK_SKEW_MS_MAX + 60_000, u64::MAX] {
        let (reason, text) = refused(&world, &broker, "TH", &Hello { time_ms, ..hello("TH") }).await;
        assert_eq!(reason, Reason::Clock, "{text}");
    }
    let protocol = Hello { protocol: 9, ..hello("TH") };
    assert_eq!(refused(&world, &broker, "TH", &protocol).await.0, Reason::Malformed);
    let long = Hello { software: "\u{1b}[2J".repeat(1_000), ..hello("TH") };
    connect_as(&world, broker.address, &world.transport("TH"), &long).await.unwrap();
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_and_a_suspended_member_are_not_admitted() {
    let (mut world, folder) = scene();
    world.roster.members[0].status = lintas_proto::schema::MemberStatus::Suspended as i32;
    world.publish();
    world.write(folder.path());
    let broker = Broker::start(folder.path()).await;
    let stranger = TransportKey::from_seed(&[77; 32]).unwrap();
    for key in [stranger, world.transport("KH")] {
        let refused = connect_as(&world, broker.address, &key, &hello("KH")).await.err().unwrap();
        assert!(matches!(refused, LinkError::NotAdmitted), "{refused:?}");
    }
    Node::connect(&world, &broker, "VN").await.silence().await;
    broker.stop().await.unwrap();
}
