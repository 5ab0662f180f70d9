//! What the machine can do.

use std::time::{Duration, Instant};

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::{
    bench::Bench,
    quiet::fdatasync,
    report::{Outcome, Row},
};

/// Bytes of a message that is verified: about a packet's header.
const SIGNED_BYTES: usize = 1_024;

pub(super) fn run(bench: &Bench) -> Outcome {
    bench.says("Ed25519");
    let one = verify_per_second(1, bench.time().min(Duration::from_secs(3)));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let all = verify_per_second(cores, bench.time().min(Duration::from_secs(3)));
    bench.says("fdatasync");
    let folder = bench.folder("limits-");
    let syncs = fdatasync(folder.path(), 4_096, 2_000);
    vec![
        Row::new("limits.ring.verify.1", one, "1/s"),
        Row::new(format!("limits.ring.verify.{cores}"), all, "1/s"),
        Row::new("limits.fdatasync.p50", syncs.p50_us(), "us"),
        Row::new("limits.fdatasync.p99", syncs.p99_us(), "us"),
    ]
    .into()
}

/// Ed25519 signatures that ring verifies in a second on `threads` threads together.
pub(crate) fn verify_per_second(threads: usize, time: Duration) -> f64 {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap();
    let message = vec![1; SIGNED_BYTES];
    let signature = key.sign(&message);
    let public = UnparsedPublicKey::new(&ED25519, key.public_key().as_ref());
    let counts: u64 = std::thread::scope(|scope| {
        let work = || {
            let (began, mut count) = (Instant::now(), 0_u64);
            while began.elapsed() < time {
                public.verify(&message, signature.as_ref()).unwrap();
                count += 1;
            }
            count
        };
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    counts as f64 / time.as_secs_f64()
}
