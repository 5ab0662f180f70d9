//! Bad networks between nodes and broker: what was sent arrives exactly once, in order, whatever happens on the way. Real
//! processes, real QUIC, through shapers on loopback.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests"
)]

use std::{path::Path, thread::sleep, time::Duration};

use lintas_tests::{
    faketime::Clock,
    process::wait,
    shaped::{Shaped, rounds},
    shaper::{Shaper, Way, Weather},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const HOUR: i64 = 60 * 60;

fn shaped(nodes: &[&str]) -> Shaped {
    Shaped::found(Path::new(PROGRAM), nodes, Shaper::to)
}

const CUT: Weather = Weather {
    cut: true,
    loss: 0,
    duplicates: 0,
    reordered: 0,
    delay_ms: 0,
    jitter_ms: 0,
    rate: None,
    mtu: None,
};

#[test]
fn through_loss_delay_duplicates_and_reordering() {
    // 5 % lost, 1 % twice, 2 % overtaken, both ways; 100 ms there and back.
    let weather =
        Weather { loss: 50, duplicates: 10, reordered: 20, delay_ms: 50, jitter_ms: 5, ..Weather::default() };
    let mut world = shaped(&["KH", "TH", "VN"]);
    world.set(weather);
    world.start();
    for _ in 0..rounds() {
        for number in 0..6 {
            world.send("TH", "KH", (number == 2).then_some(1_024));
            world.send("VN", "KH", None);
            world.send("KH", "TH", (number == 3).then_some(256));
        }
        world.all_arrived_once_in_order();
    }
    let (lost, doubled) = (world.harmed(|counts| counts.lost), world.harmed(|counts| counts.duplicated));
    let overtaken = world.harmed(|counts| counts.reordered);
    println!("{lost} datagrams lost, {doubled} twice, {overtaken} overtaken");
    assert!(lost >= 50 && doubled >= 5 && overtaken >= 10, "{lost} {doubled} {overtaken}");
}

#[test]
fn while_addresses_change_in_the_middle_of_a_transfer() {
    const KIB: usize = 2 * 1_024;
    const CHANGES: usize = 10;
    let mut world = shaped(&["KH", "TH"]);
    world.start();
    let since = world.status("TH")["link"]["since_ms"].clone();
    for _ in 0..rounds() {
        // The file takes four seconds each way.
        world.set(Weather { rate: Some(512 * 1024), delay_ms: 5, ..Weather::default() });
        let (before, arrived) = (world.way("TH").counts(Way::Up).taken_bytes, world.inbox("KH").len());
        world.send("TH", "KH", Some(KIB));
        for change in 0..CHANGES {
            sleep(Duration::from_millis(250));
            ["KH", "TH"].iter().for_each(|node| world.way(node).change_addresses());
            assert!(change > 2 || world.inbox("KH").len() == arrived, "no transfer was hit");
        }
        world.send("TH", "KH", None);
        world.send("KH", "TH", None);
        world.all_arrived_once_in_order();
        let went = world.way("TH").counts(Way::Up).taken_bytes - before;
        assert!(went < 2 * KIB as u64 * 1_024, "{went} bytes: the transfer began anew");
    }
    let same = world.status("TH")["link"]["since_ms"] == since;
    println!("the session went on: {same}");
}

#[test]
fn after_a_cut_of_hours() {
    let mut world = shaped(&["KH", "TH"]);
    let Some(clock) = Clock::find(world.root(), "everybody") else { return };
    let clock = clock.that_passes();
    ["broker", "KH", "TH"].iter().for_each(|who| world.region.set_environment(who, clock.environment()));
    world.start();
    world.send("TH", "KH", None);
    world.all_arrived_once_in_order();
    for round in 1..=rounds() {
        let passed = HOUR * 5 * i64::try_from(round).unwrap();
        // In the middle of a transfer, which takes three seconds.
        world.set(Weather { rate: Some(256 * 1_024), ..Weather::default() });
        world.send("TH", "KH", Some(768));
        sleep(Duration::from_millis(500));
        world.set(CUT);
        for _ in 0..4 {
            world.send("TH", "KH", None);
            world.send("KH", "TH", None);
        }
        // For everybody: sessions die of silence, pauses end, epochs and deadlines pass.
        clock.set(passed);
        for node in ["KH", "TH"] {
            assert!(wait(|| world.status(node)["link"]["connected"] == false), "{}", world.status(node));
            world.send(node, if node == "KH" { "TH" } else { "KH" }, None);
        }
        assert_eq!(world.inbox("TH").len(), 5 * (round - 1), "the cut has a hole");
        world.set(Weather::default());
        ["KH", "TH"].iter().for_each(|node| world.region.hurry_node(node));
        world.all_arrived_once_in_order();
    }
    assert!(world.harmed(|counts| counts.cut) > 0);
}

#[test]
fn while_answers_are_lost_on_one_way() {
    const PACKETS: usize = 5;
    let mut world = shaped(&["KH", "TH"]);
    world.start();
    for round in 0..rounds() {
        // Receipts of TH are lost.
        world.way("TH").set_way(Way::Down, CUT);
        (0..PACKETS).for_each(|_| world.send("TH", "KH", None));
        let there = (2 * round + 1) * PACKETS;
        assert!(wait(|| world.inbox("KH").len() == there), "{}", world.inbox("KH").len());
        assert_eq!(world.standing("TH", "delivered"), there - PACKETS, "answers came through the cut");
        world.way("TH").set_way(Way::Down, Weather::default());
        world.all_arrived_once_in_order();
        // Acknowledgements of KH are lost, and KH is killed before it could say them again.
        world.way("KH").set_way(Way::Up, CUT);
        (0..PACKETS).for_each(|_| world.send("TH", "KH", None));
        assert!(wait(|| world.inbox("KH").len() == there + PACKETS), "{}", world.inbox("KH").len());
        assert_eq!(world.standing("TH", "delivered"), there, "acknowledgements came through the cut");
        world.region.kill_node("KH");
        world.way("KH").set_way(Way::Up, Weather::default());
        world.region.start_node("KH");
        world.all_arrived_once_in_order();
    }
}

#[test]
fn on_a_path_that_carries_1280_bytes_from_the_start_or_from_now_on() {
    let narrow = Weather { mtu: Some(1_280), delay_ms: 5, ..Weather::default() };
    let mut world = shaped(&["KH", "TH"]);
    world.way("TH").set(narrow);
    world.start();
    for _ in 0..rounds() {
        world.way("KH").set(Weather::default());
        // A session that met a narrow path does not seek a longer one for minutes.
        world.region.kill_node("KH");
        world.region.start_node("KH");
        world.send("TH", "KH", Some(512));
        world.all_arrived_once_in_order();
        // By now the broker sends KH longer datagrams; then they are too long.
        world.way("KH").set(narrow);
        let before = world.way("KH").counts(Way::Down).too_long;
        world.send("TH", "KH", Some(512));
        world.send("KH", "TH", Some(256));
        world.all_arrived_once_in_order();
        assert!(world.way("KH").counts(Way::Down).too_long > before, "nothing was too long");
    }
    assert!(world.way("TH").counts(Way::Up).too_long > 0, "no longer path was sought");
}
