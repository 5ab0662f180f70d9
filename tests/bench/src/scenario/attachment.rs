//! A file of 4 GiB between two real nodes: sealed, up to the broker, down to the recipient, beside what one stream,
//! SHA-256 and the disk can do with as many bytes.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use lintas_proto::envelope::blob::blob_length;
use lintas_tests::{case::titled, region::Region};

use crate::{
    bench::Bench,
    bulk,
    report::{Outcome, Row, Target},
    statistics::median,
};

const MIB: u64 = 1 << 20;
const BYTES_MAX: u64 = 4 << 30;
/// A transfer goes at least so fast, bytes in a second: what fits into the time is measured.
const PER_SECOND_MIN: u64 = 300_000_000;
/// Bytes of one measurement of a limit.
const LIMIT_BYTES: u64 = 1 << 30;
/// Of the slowest limit.
const RATIO_MIN: f64 = 0.8;
/// Most memory of each who takes part.
const PEAK_BYTES_MAX: f64 = 64e6;
/// How often it is looked how far a transfer is.
const LOOK: Duration = Duration::from_millis(2);
/// Longest wait for one step.
const PATIENCE: Duration = Duration::from_secs(600);
/// Who takes part: processes of the region.
const PARTS: [&str; 3] = ["TH", "broker", "KH"];

pub(super) fn run(bench: &Bench) -> Outcome {
    let bytes = BYTES_MAX.min(3 * bench.seconds * PER_SECOND_MIN) / MIB * MIB;
    let folder = bench.folder("attachment-");
    let mut limits = Limits::default();
    limits.measure(bench, folder.path(), bytes.min(LIMIT_BYTES));
    let root = folder.path().join("region");
    let mut region = Region::found(&bench.program, &root, &["KH", "TH"]);
    region.start_broker();
    region.start_node("TH");
    region.start_node("KH");
    let file = folder.path().join("seized-phone.img");
    bench.says("a file");
    write_random(&file, bytes / MIB);
    // What opening the key files took is over.
    let forgotten = PARTS.map(|part| forget_peak(&region, part));
    bench.says("seal, upload, download");
    let seen = thread::scope(|scope| {
        let (region, begun) = (&region, Moment::now(&region));
        let watching = scope.spawn(move || Seen::watch(region, begun));
        let to = titled(folder.path(), "large");
        let said = region.lintas("TH", &["--json", "send", &to, "--attach", file.to_str().unwrap()]).ok();
        fs::remove_file(&file).unwrap();
        let packet = said.json()["packet_id"].as_str().unwrap().to_owned();
        let seen = watching.join().unwrap();
        while !is_delivered(region, &packet) {
            assert!(seen.begun.at.elapsed() < PATIENCE, "the packet was not acknowledged");
        }
        Seen { down_end: Moment::now(region), ..seen }
    });
    let peaks = PARTS.map(|part| region.peak_kib(part) as f64 * 1_024.0);
    drop(region);
    limits.measure(bench, folder.path(), bytes.min(LIMIT_BYTES));
    let mut rows = seen.rows(bytes, &limits);
    for (part, (peak, forgotten)) in PARTS.iter().zip(peaks.into_iter().zip(forgotten)) {
        let note = if forgotten { "" } else { "with its start" };
        rows.push(
            Row::new(format!("attachment.peak.{part}"), peak, "bytes")
                .must_be(Target::AtMost(PEAK_BYTES_MAX))
                .note(note),
        );
    }
    rows.extend(limits.rows());
    rows.into()
}

/// A moment, and the processor time that each had used by then, seconds.
#[derive(Debug, Clone, Copy)]
struct Moment {
    at: Instant,
    cpu: [f64; 3],
}

impl Moment {
    fn now(region: &Region) -> Self {
        Self { at: Instant::now(), cpu: PARTS.map(|part| cpu_seconds(region.process(part).id())) }
    }
}

/// When each step began and ended.
#[derive(Debug, Clone, Copy)]
struct Seen {
    begun: Moment,
    up_begin: Moment,
    up_end: Moment,
    down_begin: Moment,
    down_end: Moment,
}

impl Seen {
    /// Watches the folders until the recipient has all of it.
    fn watch(region: &Region, begun: Moment) -> Self {
        let there = |folder: &str, is_part: bool| {
            let folder = region.root().join(folder);
            let entries = fs::read_dir(folder).into_iter().flatten().map(Result::unwrap);
            entries.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(".part") == is_part)
        };
        let until = |done: &dyn Fn() -> bool| {
            while !done() {
                assert!(begun.at.elapsed() < PATIENCE, "the transfer takes too long");
                sleep(LOOK);
            }
            Moment::now(region)
        };
        let (broker, recipient) = ("broker/blobs/TH", "KH/blobs/in");
        let up_begin = until(&|| there(broker, true));
        let up_end = until(&|| there(broker, false));
        let down_begin = until(&|| there(recipient, true));
        let down_end = until(&|| there(recipient, false));
        Self { begun, up_begin, up_end, down_begin, down_end }
    }

    fn rows(&self, bytes: u64, limits: &Limits) -> Vec<Row> {
        let sealed = blob_length(bytes).unwrap() as f64;
        let size = format!("{} MiB", bytes / MIB);
        let seconds = |from: &Moment, to: &Moment| (to.at - from.at).as_secs_f64();
        let cpu = |part: usize, from: &Moment, to: &Moment| to.cpu[part] - from.cpu[part];
        let (name, slowest) = limits.slowest();
        let rate = |what: &str, from: &Moment, to: &Moment| {
            let each = PARTS
                .iter()
                .enumerate()
                .map(|(at, part)| format!("{part} {:.2}", cpu(at, from, to) * 1e9 / sealed));
            Row::new(format!("attachment.{what}.rate"), sealed / seconds(from, to), "bytes/s")
                .beside(name.clone(), slowest)
                .must_be(Target::RatioAtLeast(RATIO_MIN))
                .note(format!("{size}; CPU seconds a GB: {}", each.collect::<Vec<_>>().join(", ")))
        };
        vec![
            Row::new("attachment.seal.rate", bytes as f64 / seconds(&self.begun, &self.up_begin), "bytes/s")
                .note(size.clone()),
            Row::new("attachment.seal.cpu", cpu(0, &self.begun, &self.up_begin) * 1e9 / bytes as f64, "s/GB"),
            rate("upload", &self.up_begin, &self.up_end),
            rate("download", &self.down_begin, &self.down_end),
        ]
    }
}

/// What the machine can do, before and after.
#[derive(Debug, Default)]
struct Limits {
    stream: Vec<f64>,
    sha256: Vec<f64>,
    disk: Vec<f64>,
}

impl Limits {
    fn measure(&mut self, bench: &Bench, folder: &Path, bytes: u64) {
        bench.says("limits: stream, SHA-256, disk");
        for _ in 0..2 {
            self.stream.push(bulk::stream_per_second(bench, bytes));
            self.sha256.push(bulk::sha256_per_second(bytes));
            self.disk.push(bulk::disk_per_second(folder, bytes));
        }
    }

    fn each(&self) -> [(&'static str, f64); 3] {
        [("stream", &self.stream), ("sha256", &self.sha256), ("disk", &self.disk)]
            .map(|(name, rates)| (name, median(rates.clone())))
    }

    fn slowest(&self) -> (String, f64) {
        let slowest = self.each().into_iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        (slowest.0.to_owned(), slowest.1)
    }

    fn rows(&self) -> Vec<Row> {
        let note = |name| match name {
            "stream" => "one stream of the link, two processes",
            "sha256" => "ring, on both ends at once, the slower one",
            _ => "write, then fdatasync",
        };
        let row =
            |(name, rate)| Row::new(format!("attachment.limit.{name}"), rate, "bytes/s").note(note(name));
        self.each().into_iter().map(row).collect()
    }
}

/// Bytes that nothing compresses or repeats: splitmix64.
fn write_random(path: &Path, mib: u64) {
    let (mut file, mut state) = (File::create(path).unwrap(), 7u64);
    for _ in 0..mib {
        let mut piece = Vec::with_capacity(1 << 20);
        while piece.len() < 1 << 20 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            piece.extend_from_slice(&(z ^ (z >> 31)).to_be_bytes());
        }
        file.write_all(&piece).unwrap();
    }
    // Else what is measured would wait for it.
    file.sync_all().unwrap();
}

fn is_delivered(region: &Region, packet: &str) -> bool {
    let said = region.lintas("TH", &["--json", "outbox"]).ok().json();
    let packets = said["packets"].as_array().unwrap();
    let entry = packets.iter().find(|entry| entry["packet_id"] == packet).unwrap();
    entry["recipients"][0]["state"] == "delivered"
}

/// Lets the most memory that a process has had be what it has now; false where the system does not allow it.
fn forget_peak(region: &Region, part: &str) -> bool {
    fs::write(format!("/proc/{}/clear_refs", region.process(part).id()), "5").is_ok()
}

/// Processor time that a process has used, seconds.
fn cpu_seconds(process: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // Behind the name, which may hold anything: the 12th and 13th, in hundredths.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}
