//! The disk says EIO to one sync, anywhere: no promise may stand on it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use lintas_tests::{
    case::{self, titled},
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

/// What a process that ends says: the system's words, or the broker's about its disk.
const SAYS: [&str; 2] = [EIO, "disk failed"];
/// What may go on without a sync: whose folder, the class of the file in it, what is said, and why no promise stands on it.
const GOES_ON: [(&str, &str, &str, &str); 9] = [
    ("broker", "index/db", "", "a stamp that is lost is only older"),
    ("node", "witness", EIO, "what is not kept is not cosigned"),
    ("node", "witness/.hub.mekong_audit.part", EIO, "what is not kept is not cosigned"),
    ("node", "seen/keysets", EIO, "evidence of that time may lack keys; nobody was given any"),
    ("node", "seen/keysets/*", EIO, "evidence of that time may lack keys; nobody was given any"),
    ("node", ".node.keys.part", EIO, "no page was made ahead; nothing is sealed under one that is not kept"),
    (
        "node",
        "node.keys",
        "could not be overwritten",
        "the new file counts already; the old bytes are wiped at the next start",
    ),
    ("node", "", EIO, "as .node.keys.part"),
    ("node", "blobs/out", EIO, "the officer is told that the packet was not kept"),
];
const EIO: &str = "Input/output error";

/// A region on one disk, of which each run takes a copy.
struct Machine {
    region: Region,
    disk: Option<Image>,
    root: TempDir,
}

/// What one run has seen.
struct Run {
    kept: BTreeSet<String>,
    /// The process under strace ended by itself.
    by_itself: bool,
    /// With which code it ended.
    code: Option<i32>,
    said: String,
}

impl Machine {
    fn new() -> Self {
        let root = cut::folder();
        let mut image = Image::new(&root.path().join("fresh.img"), &root.path().join("site"), IMAGE_MIB);
        let region = Region::found(Path::new(PROGRAM), &root.path().join("site"), &["KH", "TH"]);
        region.is_small();
        image.unmount();
        Self { region, disk: None, root }
    }

    /// The region as it was founded.
    fn begin(&mut self) {
        self.disk = None;
        let copy = self.root.path().join("copy.img");
        let copied = std::process::Command::new("cp")
            .arg("--sparse=always")
            .arg(self.root.path().join("fresh.img"))
            .arg(&copy)
            .status();
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
            let photograph = case::file("vessel.jpg").display().to_string();
            let said = self.region.lintas("TH", &["--json", "send", &draft, "--attach", &photograph]);
            if said.code == 0 {
                kept.insert(said.json()["packet_id"].as_str().unwrap().to_owned());
            }
        }
        if up {
            let region = &mut self.region;
            wait(|| {
                let delivered = listed(region, "TH", "outbox")
                    .iter()
                    .all(|packet| packet["recipients"][0]["state"] == "delivered");
                delivered || region.has_ended(victim)
            });
        }
        let by_itself = self.region.has_ended(victim);
        let code =
            if by_itself { self.region.end_of(victim).code() } else { self.region.stop(victim).code() };
        let said = self.region.said(victim);
        self.region.kill_all();
        Run { kept, by_itself, code, said }
    }

    /// Everything runs, and nothing is traced.
    fn start(&mut self) {
        ALL.iter().for_each(|name| self.region.start(name));
    }

    /// The power of all goes, and comes back.
    fn cut(&mut self) {
        let disk = self.disk.as_mut().unwrap();
        disk.cut(Loss::Everything);
        disk.restore();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Before their disk goes.
        self.region.kill_all();
    }
}

/// What a process syncs: classes of files and folders, numbers and agencies alike, with every file of the class that was
/// synced and how often by one thread.
fn sites(machine: &mut Machine, victim: &str) -> BTreeMap<String, Vec<(PathBuf, u64)>> {
    machine.begin();
    let trace = Trace::syncs(&machine.root.path().join("syncs.log"));
    let run = machine.run(victim, &trace);
    assert_eq!((run.by_itself, run.code, run.kept.len()), (false, Some(0), PACKETS), "{}", run.said);
    let mut classes: BTreeMap<String, Vec<(PathBuf, u64)>> = BTreeMap::new();
    for (path, count) in trace.synced() {
        let Ok(path) = path.strip_prefix(machine.site()) else { continue };
        classes.entry(class(path)).or_default().push((path.to_owned(), count));
    }
    classes
}

/// Numbers, hashes and agencies are as good as others of their kind.
fn class(path: &Path) -> String {
    let names = path.iter().enumerate().map(|(at, name)| {
        let name = name.to_str().unwrap();
        let is_agency = at > 0 && name.len() <= 3 && name.chars().all(|letter| letter.is_ascii_uppercase());
        let is_hash = name.len() > 40;
        if is_agency || is_hash {
            return "*".to_owned();
        }
        name.chars().map(|letter| if letter.is_ascii_digit() { '#' } else { letter }).collect::<String>()
    });
    names.collect::<Vec<_>>().join("/")
}

/// The K-th sync of one file of each class, for every K that there is: `(file, K)`. Not of attachments on their way, whose
/// names no second run has; what becomes of those has a test in `broker::shell::upload`.
fn all(classes: &BTreeMap<String, Vec<(PathBuf, u64)>>, dice: &mut Dice) -> Vec<(PathBuf, u64)> {
    let mut sites = Vec::new();
    let of_attachments = |class: &str| class.contains("/blobs/") && class.contains(".part");
    for files in classes.iter().filter(|(class, _)| !of_attachments(class)).map(|(_, files)| files) {
        let most = files.iter().map(|(_, count)| *count).max().unwrap_or(0);
        for nth in 1..=most {
            let synced: Vec<_> = files.iter().filter(|(_, count)| *count >= nth).collect();
            sites.push((dice.pick(&synced).0.clone(), nth));
        }
    }
    sites
}

/// So many of `all`, each of another class as long as there are.
fn some(all: Vec<(PathBuf, u64)>, count: usize, dice: &mut Dice) -> Vec<(PathBuf, u64)> {
    let mut left = all;
    let mut chosen: Vec<(PathBuf, u64)> = Vec::new();
    while chosen.len() < count && !left.is_empty() {
        let is_new = |(path, _): &(PathBuf, u64)| chosen.iter().all(|(known, _)| class(known) != class(path));
        let fresh: Vec<usize> = (0..left.len()).filter(|at| is_new(&left[*at])).collect();
        let any: Vec<usize> = (0..left.len()).collect();
        let at = *dice.pick(if fresh.is_empty() { &any } else { &fresh });
        chosen.push(left.swap_remove(at));
    }
    chosen
}

/// One run in which one sync fails. Whoever it belongs to ends and says why, or goes on without what stood on it. Then the
/// power is cut, at once or after a recovery: whatever was promised to anybody is there.
fn fails_at(
    machine: &mut Machine,
    victim: &str,
    (path, nth): &(PathBuf, u64),
    dice: &mut Dice,
    about: &str,
) -> bool {
    let about = format!("{about}: {victim}: sync {nth} of {}", path.display());
    machine.begin();
    let trace = Trace::sync_fails(&machine.site().join(path), *nth, &machine.root.path().join("trace.log"));
    let run = machine.run(victim, &trace);
    let class = class(path);
    if trace.has_failed() {
        let whose = if victim == "broker" { victim } else { "node" };
        let inner = class.trim_start_matches(victim).trim_start_matches('/');
        let goes_on = GOES_ON.iter().find(|(known, file, ..)| (*known, *file) == (whose, inner));
        let stopped =
            run.code.is_some_and(|code| code != 0) && SAYS.iter().any(|word| run.said.contains(word));
        let went_on = run.code == Some(0) && goes_on.is_some_and(|(_, _, says, _)| run.said.contains(says));
        assert!(stopped || went_on, "{about}: code {:?}, and it said:\n{}", run.code, run.said);
    }
    let is_cut_at_once = dice.roll(2) == 0;
    println!("{about}: hit: {}, code {:?}, cut at once: {is_cut_at_once}", trace.has_failed(), run.code);
    if !is_cut_at_once {
        // What recovery says is there must be there for good.
        machine.start();
        machine.region.kill_all();
    }
    machine.cut();
    machine.start();
    load::has_arrived(&machine.region, &run.kept, &about);
    load::log_holds(&machine.region, &about);
    load::ends_whole(&mut machine.region, &about);
    trace.has_failed()
}

#[test]
fn no_promise_stands_on_a_sync_that_failed() {
    if !trace::is_there() || !cut::is_possible() {
        return;
    }
    let mut dice = Dice::of("sync errors");
    let about = format!("LINTAS_SEED={}", dice.seed());
    let count = usize::try_from(dice::rounds("LINTAS_SYNC_SITES", 3)).unwrap();
    let mut machine = Machine::new();
    for victim in ALL {
        let all = all(&sites(&mut machine, victim), &mut dice);
        let (sites, mut hit) = (all.len(), 0);
        let share = if victim == "broker" { 2 } else { 1 };
        let chosen = some(all, count.saturating_mul(share), &mut dice);
        let tried = chosen.len();
        for site in chosen {
            hit += usize::from(fails_at(&mut machine, victim, &site, &mut dice, &about));
        }
        println!("{victim}: {hit} of {tried} tried failed, of {sites} there are");
        assert!(
            hit * 2 >= tried,
            "{about}: {victim}: too few syncs failed to prove anything: {hit} of {tried}"
        );
    }
}
