//! The own policy, here and at hubs that have none, less, more, or another one.

use super::*;
use crate::{
    core::view::PolicyView,
    shell::desk::policy::NewPolicy,
    testing::{ALERT_GOES, alerts},
};

fn new(desk: &Desk, why: &str) -> NewPolicy {
    NewPolicy {
        policies: alerts(why),
        cases: ALERT_GOES.to_owned(),
        note: why.to_owned(),
        not_before_ms: None,
        after: desk.shelf().newest(),
    }
}

fn publish(desk: &Desk, why: &str) -> PolicyView {
    let Ok(Reply::Policy(view)) = desk.answer(Request::PublishPolicy(new(desk, why))) else {
        panic!("not published");
    };
    *view
}

fn view(desk: &Desk) -> PolicyView {
    let Ok(Reply::Policy(view)) = desk.answer(Request::Policy) else { panic!("no view") };
    *view
}

fn at_hub(hub: &Hub) -> usize {
    hub.held.lock().unwrap().policies.get("TH").map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_offline_is_brought_in_order_and_the_next_one_at_once() {
    let (hub, address) = Hub::start(Region::new());
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    publish(&thailand, "first");
    assert_eq!(publish(&thailand, "second").in_force, Some(2), "at home it counts at once");
    assert_eq!(view(&thailand).broker, None);
    let running = run(&thailand);
    soon("both versions", || view(&thailand).broker == Some(2)).await;
    publish(&thailand, "third");
    soon("the third", || at_hub(&hub) == 3 && view(&thailand).broker == Some(3)).await;
    let shown = view(&thailand);
    assert_eq!((shown.trouble, shown.forked), (None, false));
    let standing: Vec<_> =
        shown.versions.iter().map(|one| (one.here.as_str(), one.at_broker.as_deref())).collect();
    assert_eq!(standing, [("over", Some("over")), ("over", Some("over")), ("in_force", Some("in_force"))]);
    assert_eq!(hub.held.lock().unwrap().policy_puts, 3, "each is brought once");
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_made_anew_takes_what_the_broker_has_and_goes_on_from_there() {
    let (hub, address) = Hub::start(Region::new());
    let mut chain = vec![hub.region.policy("TH", None, 1, &alerts("1"))];
    for number in 2..=5 {
        let next = hub.region.policy("TH", chain.last(), number, &alerts(&number.to_string()));
        chain.push(next);
    }
    hub.held.lock().unwrap().policies.insert("TH".to_owned(), chain.clone());
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let running = run(&thailand);
    soon("five versions", || view(&thailand).in_force == Some(5)).await;
    let policies = thailand.policies(&thailand.directory()).unwrap();
    assert_eq!(policies.bundle("TH").unwrap().bytes(), &chain[4]);
    assert_eq!(publish(&thailand, "6").newest, 6);
    soon("the sixth", || at_hub(&hub) == 6).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bundle_of_the_same_version_is_an_alarm_and_nothing_is_published_beside_it() {
    let (hub, address) = Hub::start(Region::new());
    let other = hub.region.policy("TH", None, 1, &alerts("of another machine"));
    let after = hub.region.policy("TH", Some(&other), 2, &alerts("and after it"));
    for chain in [vec![other.clone()], vec![other, after]] {
        hub.held.lock().unwrap().policies.insert("TH".to_owned(), chain);
        let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
        if thailand.shelf().newest() == 0 {
            publish(&thailand, "of this one");
        }
        let running = run(&thailand);
        soon("the alarm", || view(&thailand).forked).await;
        let Ok(Reply::Status(status)) = thailand.answer(Request::Status) else { panic!("no status") };
        let told = status.policy.unwrap().trouble.unwrap();
        assert!(
            told.contains("two different bundles of the same version") && told.contains("move the folder")
        );
        let Ok(Reply::Doctor(checks)) = thailand.answer(Request::Doctor) else { panic!("no doctor") };
        let check = checks.iter().find(|check| check.check == "policy").unwrap();
        assert_eq!(check.mark, crate::core::health::Mark::Wrong, "{check:?}");
        let refused = thailand.answer(Request::PublishPolicy(new(&thailand, "more"))).unwrap_err();
        assert!(refused.message.contains("two different bundles"), "{refused}");
        assert_eq!(view(&thailand).in_force, Some(1), "here the own one counts");
        running.abort();
        let _ = running.await;
        soon("the desk is free", || Arc::strong_count(&thailand) == 1).await;
    }
    assert_eq!(hub.held.lock().unwrap().policy_puts, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_refuses_is_told_in_its_words_and_tried_again_without_haste() {
    let (hub, address) = Hub::start(Region::new());
    hub.held.lock().unwrap().policy_refusal = Some((Reason::Policy, "first"));
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    publish(&thailand, "first");
    let running = run(&thailand);
    // While it is being tried again it counts as missing: what is looked at is a view in which it is refused.
    let shown = Mutex::new(view(&thailand));
    let refused = |shown: &PolicyView| shown.versions[0].at_broker.as_deref() == Some("refused");
    soon("the refusal", || {
        let mut shown = shown.lock().unwrap();
        *shown = view(&thailand);
        refused(&shown)
    })
    .await;
    let told = shown.into_inner().unwrap().trouble.unwrap();
    assert!(
        told.contains("does not take version 1 of this agency's policy") && told.contains("no\\u{1b}"),
        "{told}"
    );
    assert!(hub.held.lock().unwrap().policy_puts <= 2);
    assert!(told.contains("takes the place of version 1"), "{told}");
    // What is published next is tried at once, whatever the pause; and nothing refused stands before it.
    assert_eq!(publish(&thailand, "second").newest, 1);
    soon("the second", || at_hub(&hub) == 1 && view(&thailand).trouble.is_none()).await;
    assert_eq!(view(&thailand).versions.iter().map(|one| one.note.as_str()).collect::<Vec<_>>(), ["second"]);
    assert_eq!(publish(&thailand, "third").newest, 2, "what the broker has is never replaced");
    soon("the third", || at_hub(&hub) == 2).await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_the_broker_refuses_does_not_keep_later_ones_from_it() {
    let (hub, address) = Hub::start(Region::new());
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    for why in ["first", "signed with keys that are replaced", "behind it"] {
        publish(&thailand, why);
    }
    hub.held.lock().unwrap().policy_refusal = Some((Reason::BadSignature, "replaced"));
    let running = run(&thailand);
    let standing = || view(&thailand).versions.iter().map(|one| one.at_broker.clone()).collect::<Vec<_>>();
    let told = ["in_force", "refused", "missing"].map(|word| Some(word.to_owned()));
    soon("the refusal", || standing() == told).await;
    assert_eq!(view(&thailand).in_force, Some(3), "at home it counts all the same");
    assert_eq!(publish(&thailand, "mended").newest, 2);
    soon("the mended one", || at_hub(&hub) == 2 && view(&thailand).trouble.is_none()).await;
    assert_eq!((view(&thailand).in_force, view(&thailand).newest), (Some(2), 2));
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_makes_up_a_policy_is_not_believed() {
    let (hub, address) = Hub::start(Region::new());
    let first = hub.region.policy("TH", None, 1, &alerts("first"));
    // Another region's agency of the same name has other keys.
    let lie = Region::new().policy("TH", Some(&first), 2, &alerts("a lie"));
    hub.held.lock().unwrap().policies.insert("TH".to_owned(), vec![first.clone()]);
    let thailand = Arc::new(hub.region.desk_at("TH", &address.to_string()));
    let running = run(&thailand);
    soon("the first", || view(&thailand).in_force == Some(1)).await;
    hub.held.lock().unwrap().policies.insert("TH".to_owned(), vec![first, lie]);
    hub.held.lock().unwrap().live[0].close(CloseCode::Done, "");
    soon("trouble", || view(&thailand).trouble.is_some_and(|why| why.contains("not believed"))).await;
    assert_eq!((view(&thailand).newest, view(&thailand).in_force), (1, Some(1)));
    running.abort();
}
