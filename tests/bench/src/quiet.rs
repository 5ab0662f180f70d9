//! Whether the machine is quiet: a benchmark beside other work measures the other work.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    time::Instant,
};

use crate::{report::Row, statistics::Durations};

/// Writes of the probe.
const PROBES: usize = 200;
/// Bytes of one write.
const PROBE_BYTES: usize = 4_096;
/// Above it something else is busy with disk or processors: a quiet machine of the kind that the targets were set on
/// takes 90 to 200 microseconds.
const QUIET_US_MAX: f64 = 500.0;

/// Looks at the machine before anything is measured.
pub(crate) fn look(work: &Path) -> Vec<Row> {
    let syncs = fdatasync(work, PROBE_BYTES, PROBES);
    let p50 = syncs.p50_us();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load: f64 = load.split(' ').next().and_then(|first| first.parse().ok()).unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as f64;
    let quiet =
        if p50 <= QUIET_US_MAX { "quiet" } else { "NOT quiet: ratios may hold, absolute numbers do not" };
    vec![
        Row::new("quiet.fdatasync.p50", p50, "us").note(quiet),
        Row::new("quiet.fdatasync.p99", syncs.p99_us(), "us"),
        Row::new("quiet.load", load, "processes").beside("cores", cores),
    ]
}

/// How long it takes to append `bytes` and make them durable, `count` times.
pub(crate) fn fdatasync(work: &Path, bytes: usize, count: usize) -> Durations {
    let path = work.join("fdatasync.probe");
    let mut file = File::create(&path).unwrap();
    // As in a journal: the place is there already, so that only data is synced.
    file.write_all(&vec![0; bytes * count]).unwrap();
    file.sync_all().unwrap();
    drop(file);
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let block = vec![7; bytes];
    let once = |file: &mut File| {
        let began = Instant::now();
        file.write_all(&block).unwrap();
        file.sync_data().unwrap();
        began.elapsed()
    };
    let durations = (0..count).map(|_| once(&mut file)).collect();
    fs::remove_file(path).unwrap();
    durations
}
