//! How fast the log is folded and written. Run by hand, in release:
//! `cargo test --release -p lintas-broker fold_and_files -- --ignored --nocapture`.

use std::time::Instant;

use super::super::{disk::Files, files::LogFiles};
use crate::testing::{BROKER, Facts, TempFolder, unit};

#[test]
#[ignore = "measures"]
#[allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "a measurement, for people")]
fn fold_and_files() {
    const PACKETS: usize = 50_000;
    const PER_EPOCH: usize = 5_000;
    let agencies: Vec<String> = (0..50).map(|number| format!("A{number}")).collect();
    let mut facts = Facts::new();
    facts.members(&agencies.iter().map(String::as_str).collect::<Vec<_>>());
    for packet in 0..PACKETS {
        let to = unit(&agencies[(packet * 7 + 1) % agencies.len()], "A");
        facts.packet(&agencies[packet % agencies.len()], &[to]);
        if packet % PER_EPOCH == PER_EPOCH - 1 {
            facts.epoch();
        }
    }
    let folder = TempFolder::new();
    let disk = Files::open(folder.path().join("audit")).unwrap();
    let (mut files, mut fold) = LogFiles::resume(disk, BROKER).unwrap();
    let (mut entropy, begun) = (lintas_config::os_entropy(), Instant::now());
    let mut writing = std::time::Duration::ZERO;
    for (sequence, fact) in (1..).zip(&facts.all) {
        if let Some(publication) = fold.apply(sequence, fact, &mut entropy).unwrap() {
            let began = Instant::now();
            files.publish(publication).unwrap();
            writing += began.elapsed();
        }
    }
    let (all, events) = (begun.elapsed(), facts.events.values().map(Vec::len).sum::<usize>());
    let rate = events as f64 / all.as_secs_f64();
    println!("{events} events of {PACKETS} packets in {all:?} ({writing:?} of it files): {rate:.0} events/s");
    let began = Instant::now();
    let disk = Files::open(folder.path().join("audit")).unwrap();
    LogFiles::resume(disk, BROKER).unwrap();
    println!("resumed in {:?}", began.elapsed());
}
