//! The simulator, over many seeds. `LINTAS_SIM_SEEDS` says how many (200), `LINTAS_SIM_SEED` names one.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "test code")]

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use lintas_sim::{Run, STEPS, run, world::Counts};

/// Lines of the log that are shown of a seed that fails.
const SHOWN: usize = 60;
/// Threads; each seed is one thread's.
const THREADS: usize = 2;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, and is `{text}`")))
}

/// How to see it again.
fn told(seed: u64, run: &Run) -> Option<String> {
    let violation = run.violation.as_ref()?;
    let from = run.log.len().saturating_sub(SHOWN);
    let log = run.log[from..].join("\n");
    Some(format!(
        "{log}\n\nseed {seed}: {violation}\nAgain: LINTAS_SIM_SEED={seed} cargo test -p lintas-sim --test seeds every_seed -- \
         --nocapture"
    ))
}

#[test]
fn every_seed_holds() {
    if let Some(seed) = number("LINTAS_SIM_SEED") {
        let run = run(seed, STEPS);
        run.log.iter().for_each(|line| println!("{line}"));
        println!("{:?}", run.counts);
        if let Some(why) = told(seed, &run) {
            panic!("{why}");
        }
        return;
    }
    let seeds = number("LINTAS_SIM_SEEDS").unwrap_or(200);
    let (next, failed, sum) = (AtomicU64::new(0), Mutex::new(Vec::new()), Mutex::new(Counts::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let run = run(seed, STEPS);
            failed.lock().unwrap().extend(told(seed, &run).map(|why| (seed, why)));
            *sum.lock().unwrap() += run.counts;
        }
    };
    thread::scope(|scope| (0..THREADS).for_each(|_| drop(scope.spawn(work))));
    let (sum, mut failed) = (*sum.lock().unwrap(), failed.into_inner().unwrap());
    println!("{seeds} seeds: {sum:?}");
    failed.sort();
    let all: Vec<u64> = failed.iter().map(|(seed, _)| *seed).collect();
    if let Some((_, why)) = failed.first() {
        for (_, why) in &failed {
            println!("{}", why.lines().find(|line| line.starts_with("seed ")).unwrap_or_default());
        }
        panic!("{} of {seeds} seeds fail: {all:?}\n{why}", all.len());
    }
    // A simulator that does little proves little.
    let n = usize::try_from(seeds).unwrap();
    assert!(sum.admitted >= 5 * n && sum.delivered >= 5 * n && sum.crashes >= 5 * n, "{sum:?}");
    assert!(sum.cuts >= 10 * n && sum.jumps >= n && sum.changes >= n && sum.epochs >= n as u64, "{sum:?}");
    assert!(n < 100 || sum.believed_late > 0, "{sum:?}");
    assert!(sum.refused >= n, "{sum:?}");
}

#[test]
fn the_same_seed_does_the_same() {
    for seed in 0..5 {
        let (one, two) = (run(seed, STEPS), run(seed, STEPS));
        let differs = one.log.iter().zip(&two.log).position(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}");
        assert_eq!((one.log.len(), one.counts), (two.log.len(), two.counts), "seed {seed}");
    }
}
