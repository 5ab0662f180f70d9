//! The disk says EIO to one sync, anywhere: no promise may stand on it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lintas_tests::{
    case::titled,
    cut::{self, Image, Loss},
    dice::{self, Dice},
    load::{self, listed},
    process::wait,
    region::Region,
    trace::{self, Trace},
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lintas-demo");
const ALL: [&str; 3] = ["broker", "TH", "KH"];
const IMAGE_MIB: u64 = 768;
/// Packets of one run.
const PACKETS: usize = 3;

/// A region on one disk, of which each run takes a copy.
struct Machine {
    region: Region,
    disk: Option<Image>,
    root: TempDir,
}

/// What one run has seen.
struct Run {
    kept: BTreeSet<String>,
    /// The process under strace ended by itself; with which code.
    code: Option<i32>,
    said: String,
}

impl Machine {
    fn new() -> Self {
        let root = cut::folder();
        let mut image = Image::new(&root.path().join("fresh.img"), &root.path().join("site"), IMAGE_MIB);
        let region = Region::found(Path::new(PROGRAM), &root.path().join("site"), &["KH", "TH"]);
        region.has_small_segments();
        image.unmount();
        Self { region, disk: None, root }
    }

    /// The region as it was founded.
    fn begin(&mut self) {
        self.disk = None;
        let copy = self.root.path().join("copy.img");
        let copied = std::process::Command::new("cp").arg("--sparse=always").arg(self.root.path().join("fresh.img")).arg(&copy).status();
        assert!(copied.unwrap().success());
        self.disk = Some(Image::of(&copy, &self.root.path().join("site")));
    }

    fn site(&self) -> PathBuf {
        self.root.path().join("site")
    }

    /// One run, with `victim` under strace.
    fn run(&mut self, victim: &str, trace: &Trace) -> Run {
        let mut kept = BTreeSet::new();
        let mut up = true;
        for name in ALL {
            if name == victim {
                let before = self.region.starts(name);
                self.region.start_traced(name, trace);
                up = self.region.comes_up(name, before);
            } else {
                self.region.start(name);
            }
        }
        for number in 0..PACKETS {
            let draft = titled(self.root.path(), &format!("alert {number}"));
            let said = self.region.lintas("TH", &["--json", "send", &draft]);
            if said.code == 0 {
                kept.insert(said.json()["packet_id"].as_str().unwrap().to_owned());
            }
        }
        if up {
            let region = &mut self.region;
            wait(|| {
                let delivered = listed(region, "TH", "outbox").iter().all(|packet| packet["recipients"][0]["state"] == "delivered");
                delivered || region.has_ended(victim)
            });
        }
        let by_itself = self.region.has_ended(victim);
        let code = if by_itself { self.region.end_of(victim).code() } else { self.region.stop(victim).code() };
        let said = fs::read_to_string(self.region.log(victim)).unwrap();
        for name in ALL.iter().filter(|name| **name != victim) {
            self.region.kill(name);
        }
        Run { kept, code: by_itself.then_some(code.unwrap_or(-1)).or(code), said }
    }

    fn all(&mut self) {
        ALL.iter().for_each(|name| self.region.start(name));
    }

    fn none(&mut self) {
        self.region.kill_all();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Before their disk goes.
        self.region.kill_all();
    }
}

/// Every file and folder that a process syncs, and how often.
fn sites(machine: &mut Machine, victim: &str) -> Vec<(PathBuf, u64)> {
    machine.begin();
    let log = machine.root.path().join("syncs.log");
    let trace = Trace::syncs(&log);
    let run = machine.run(victim, &trace);
    assert_eq!((run.code, run.kept.len()), (Some(0), PACKETS), "{}", run.said);
    let site = machine.site();
    let of_site = |(path, count): (PathBuf, u64)| Some((path.strip_prefix(&site).ok()?.to_owned(), count));
    trace.synced().into_iter().filter_map(of_site).collect()
}

#[test]
fn observe() {
    if !trace::is_there() || !cut::is_possible() {
        return;
    }
    let mut machine = Machine::new();
    for victim in ["broker", "TH", "KH"] {
        let all = sites(&mut machine, victim);
        for (path, count) in &all {
            println!("SITE {victim} {} {count}", path.display());
        }
        println!("SUM {victim} {}", all.iter().map(|(_, count)| count).sum::<u64>());
    }
}
