use lintas_proto::{
    evidence::verify_evidence,
    schema::{Caveat, Reason},
};

use super::*;
use crate::testing::unit;

#[tokio::test(flavor = "multi_thread")]
async fn an_agency_beyond_its_rate_waits_and_nobody_else_does() {
    let (world, folder) = scene();
    set(folder.path(), "submissions_per_minute = 2");
    let broker = Broker::start(folder.path()).await;
    let (mut th, to) = (Node::connect(&world, &broker, "TH").await, unit("KH", "A"));
    let sealed: Vec<Sealed> = (0..3).map(|_| world.packet("TH", std::slice::from_ref(&to))).collect();
    let first = th.receipt(&sealed[0]).await;
    assert_eq!(th.receipt(&sealed[0]).await, first, "again, and not counted");
    th.receipt(&sealed[1]).await;
    th.submit(&sealed[2]).await;
    let refusal = th.refusal().await;
    assert_eq!((refusal.reason, refusal.retry), (Reason::Quota as i32, true));
    assert!(refusal.text.contains("2 packets a minute from TH; try again in "), "{}", refusal.text);
    assert_eq!(th.receipt(&sealed[0]).await, first, "still answered");
    let mut kh = Node::connect(&world, &broker, "KH").await;
    for (number, packet) in (1..).zip(&sealed[..2]) {
        kh.delivery().await;
        kh.acknowledge(&world, packet, &to, number).await;
        th.evidence().await;
        th.take(number).await;
    }
    for _ in 0..2 {
        kh.receipt(&world.packet("KH", &[unit("VN", "A")])).await;
    }
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_queue_refuses_until_its_agency_takes_some() {
    let (world, folder) = scene();
    set(folder.path(), "queue_entries_max = 5");
    let broker = Broker::start(folder.path()).await;
    let (mut th, to) = (Node::connect(&world, &broker, "TH").await, unit("KH", "A"));
    let (first, second) =
        (world.packet("TH", std::slice::from_ref(&to)), world.packet("TH", std::slice::from_ref(&to)));
    th.receipt(&first).await;
    th.submit(&second).await;
    let refusal = th.refusal().await;
    assert_eq!((refusal.reason, refusal.retry), (Reason::Quota as i32, true));
    assert!(refusal.text.contains("at most 1 of its own, 5 of all"), "{}", refusal.text);
    let mut kh = Node::connect(&world, &broker, "KH").await;
    kh.delivery().await;
    kh.acknowledge(&world, &first, &to, 1).await;
    th.evidence().await;
    th.receipt(&second).await;
    broker.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_baseline_denies_reaches_nobody() {
    let (world, folder) = scene();
    let broker = Broker::start(folder.path()).await;
    let mut th = Node::connect(&world, &broker, "TH").await;
    let to = [unit("VN", "B"), unit("KH", "A")];
    let sealed = world.packet_with("TH", &to, |core| core.label.caveats.push(Caveat::Noforn as i32));
    th.submit(&sealed).await;
    let refusal = th.refusal().await;
    assert_eq!((refusal.reason, refusal.retry), (Reason::Policy as i32, false));
    let signed = refusal.evidence.unwrap();
    let evidence = verify_evidence(&signed, |_, id| world.directory.receipt_key(id)).unwrap();
    assert_eq!(evidence.policy_id, "baseline/noforn");
    th.silence().await;
    Node::connect(&world, &broker, "KH").await.silence().await;
    broker.stop().await.unwrap();
}
