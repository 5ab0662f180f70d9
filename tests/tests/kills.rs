//! kill -9 of broker and nodes under load: at random moments, and just as they make a system call that matters.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{os::unix::process::ExitStatusExt as _, path::Path, thread::sleep, time::Duration};

use lintas_tests::{
    dice::{self, Dice},
    load::{self, EndsLoad, Load, PACKETS_MAX},
    region::{Region, faults::IN_USE},
    trace::{self, Trace},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const PROCESSES: [&str; 3] = ["broker", "KH", "TH"];
const SIGKILL: i32 = 9;
/// Calls between which something is on the disk and something is not yet, or is said and nobody has heard it yet; and
/// among how many of a thread the dice choose: what a start and a second of load make.
const OF_BROKER: [(&str, u64); 14] = [
    ("openat", 180),
    ("read", 150),
    ("pread64", 60),
    ("write", 30),
    ("pwrite64", 25),
    ("fdatasync", 25),
    ("fsync", 50),
    ("syncfs", 1),
    ("rename", 4),
    ("ftruncate", 6),
    ("unlink", 1),
    ("mkdir", 2),
    ("sendmsg", 30),
    ("recvmmsg", 40),
];
const OF_NODE: [(&str, u64); 12] = [
    ("openat", 120),
    ("read", 120),
    ("pread64", 90),
    ("write", 30),
    ("pwrite64", 25),
    ("fdatasync", 25),
    ("fsync", 2),
    ("renameat2", 1),
    ("unlink", 1),
    ("mkdir", 1),
    ("sendmsg", 30),
    ("recvmmsg", 60),
];
/// How long a failpoint may take to be reached, in steps of [`STEP`]; then the process is killed where it is.
const STEPS: u32 = 150;
const STEP: Duration = Duration::from_millis(10);

#[test]
fn kill_9_at_random_moments_and_at_every_call_that_matters_loses_nothing_and_doubles_nothing() {
    if !trace::is_there() {
        return;
    }
    let rounds = dice::rounds("LINTAS_KILL_ROUNDS", 20);
    let mut dice = Dice::of("kills");
    let about = format!("LINTAS_SEED={}", dice.seed());
    let root = tempfile::tempdir().unwrap();
    let mut region = Region::found(Path::new(PROGRAM), root.path(), &["KH", "TH"]);
    region.is_small();
    PROCESSES.iter().for_each(|name| region.start(name));
    let (officer, folder, load) = (region.officer("TH"), root.path().to_owned(), Load::default());
    let mut reached = 0;
    let kept = std::thread::scope(|threads| {
        let sends = threads.spawn(|| load.send(&officer, &folder));
        let _ends = EndsLoad(&load);
        for round in 0..rounds {
            load.more((PACKETS_MAX / usize::try_from(rounds).unwrap()).clamp(4, 12));
            sleep(Duration::from_millis(dice.roll(100)));
            let victim = *dice.pick(&PROCESSES);
            // At a random moment.
            region.kill(victim);
            // And at a failpoint, which may lie in the recovery from that.
            let (call, among) = *if victim == "broker" { dice.pick(&OF_BROKER) } else { dice.pick(&OF_NODE) };
            let nth = 1 + dice.roll(among);
            region.start_traced(victim, &Trace::kill(call, nth, &root.path().join("trace.log")));
            let is_reached = (0..STEPS).any(|_| {
                sleep(STEP);
                region.has_ended(victim)
            });
            let ended = is_reached.then(|| region.end_of(victim));
            // An officer's command had the folder.
            let ended = ended.filter(|ended| ended.code() != Some(IN_USE));
            if let Some(ended) = ended {
                assert_eq!(
                    ended.signal(),
                    Some(SIGKILL),
                    "{about}: round {round}: {victim}: {call} {nth}: {ended}"
                );
                reached += 1;
            } else if !is_reached {
                region.kill(victim);
            }
            println!(
                "round {round}: {victim} at {call} {nth}: {}",
                if ended.is_some() { "reached" } else { "not reached" }
            );
            region.start(victim);
        }
        load.end();
        sends.join().unwrap()
    });
    println!("{} packets were kept, {reached} failpoints of {rounds} were reached", kept.len());
    assert!(kept.len() as u64 >= rounds, "{about}: too little load to prove anything: {}", kept.len());
    assert!(reached * 4 >= rounds, "{about}: too few failpoints were reached to prove anything: {reached}");
    load::has_arrived(&region, &kept, &about);
    load::log_holds(&region, &about);
    load::ends_whole(&mut region, &about);
}
