//! What a scan says of a whole log, of damaged ones, and of lies.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::{
    audit::{epoch::RootEntry, files::LogFile, note::Checkpoint},
    schema::EventType,
};

use super::{
    anchor::Trust,
    finding::{Finding, Kind, Proof},
    own::{Promised, compare},
    verify::{Asked, Report, Verdict, Watch, verify},
};
use crate::shell::clock;
use crate::testing::{
    BROKER,
    whole_log::{Files, LogBuilder, region, unit},
};

const NOW: u64 = 1_900_000_000_000;

struct Nobody;

impl Watch for Nobody {
    fn progress(&mut self, _: u64, _: u64) {}

    fn is_due(&mut self) -> bool {
        false
    }

    fn keep(&mut self, _: &[u8]) {}
}

fn scan(files: &Files, directory: &Directory, agencies: &[&str]) -> Report {
    let agencies: Vec<String> = agencies.iter().map(|agency| (*agency).to_owned()).collect();
    let origin = format!("{BROKER}/audit");
    let asked = Asked {
        trust: Trust::Directory(directory),
        origin: &origin,
        agencies: &agencies,
        since_ms: 0,
        now_ms: u64::MAX / 2,
        threads: 2,
        extract: false,
    };
    verify(files, &asked, None, &mut Nobody).unwrap().into_report()
}

const ALL: [&str; 3] = ["ID", "KH", "TH"];

/// More than 600 epochs and entries, so that there are full and partial tiles of two levels, a second roster, an erasure.
fn honest() -> (LogBuilder, Directory) {
    let (mut region, witnesses) = region();
    let mut log = LogBuilder::new(&region, witnesses, NOW);
    log.traffic(400);
    let bytes = region.next(|roster| roster.reads_told_after_days = 30);
    let directory = region.directory().succeed(&bytes, &[]).unwrap();
    log.roster(&directory);
    log.traffic(300);
    log.erase("KH", 3, 2);
    log.epoch();
    (log, directory)
}

fn kinds(report: &Report) -> BTreeMap<Kind, u64> {
    report.counts.clone()
}

#[test]
fn an_honest_log_is_whole() {
    let (log, directory) = honest();
    let report = scan(&log.finish(), &directory, &ALL);
    assert_eq!(report.verdict, Verdict::Whole, "{:#?}", report.findings);
    assert_eq!((report.epochs, report.attested_epochs), (701, 701));
    let kh = report.sub_logs.iter().find(|sub| sub.agency == "KH").unwrap();
    assert!(kh.entries > 600, "{}", kh.entries);
    assert_eq!((kh.erased, kh.opened, kh.slots), (2, kh.entries - 2, 701));
    assert_eq!(kh.policies["none named"], kh.events["released"] + kh.events["received"]);
}

/// Whether a finding names the file, or the one that took its place.
fn names(report: &Report, owner: Option<&str>, file: LogFile) -> bool {
    let log = owner.map_or_else(|| format!("{BROKER}/audit"), |agency| format!("{BROKER}/audit/{agency}"));
    report.findings.iter().any(|finding| finding.log == log && finding.files.contains(&file.to_string()))
}

/// The least scope in which a file is read. `rosters` is in no tree: the sub-logs say when a roster came.
fn scope(owner: Option<&str>, file: LogFile) -> Vec<&str> {
    if file == LogFile::Rosters { ALL.to_vec() } else { owner.into_iter().collect() }
}

#[test]
fn a_byte_flipped_in_any_file_is_found_and_the_file_is_named() {
    let (log, directory) = honest();
    let files = log.finish();
    let classes: Vec<(Option<String>, LogFile)> = files.0.keys().cloned().collect();
    assert!(classes.len() > 60, "{}", classes.len());
    for (owner, file) in classes {
        let length = files.0[&(owner.clone(), file)].len();
        if length == 0 {
            assert_eq!((owner.as_deref(), file), (Some("TH"), LogFile::SlotKeys));
        }
        // TH's files are of the same kinds as KH's.
        if owner.as_deref() == Some("TH") {
            continue;
        }
        for at in [0, length / 2 + 5, length - 1] {
            let mut damaged = files.clone();
            damaged.0.get_mut(&(owner.clone(), file)).unwrap()[at.min(length - 1)] ^= 0x20;
            let before = clock::moment();
            let report = scan(&damaged, &directory, &scope(owner.as_deref(), file));
            assert!(before.elapsed().as_secs() < 20, "{owner:?} {file} {at}");
            assert_ne!(report.verdict, Verdict::Whole, "{owner:?} {file} at {at}");
            assert!(
                names(&report, owner.as_deref(), file),
                "{owner:?} {file} at {at}: {:#?}",
                report.findings
            );
        }
    }
}

#[test]
fn a_file_that_is_cut_or_gone_is_found_and_named() {
    let (log, directory) = honest();
    let files = log.finish();
    for (owner, file) in files.0.keys().cloned().collect::<Vec<_>>() {
        let length = files.0[&(owner.clone(), file)].len();
        if owner.as_deref() == Some("TH") {
            continue;
        }
        let mut gone = files.clone();
        gone.0.remove(&(owner.clone(), file));
        let report = scan(&gone, &directory, &scope(owner.as_deref(), file));
        assert_ne!(report.verdict, Verdict::Whole, "{owner:?} {file} gone");
        // Nobody can tell that a file of checkpoints was there: then the times are not attested, and the file is named.
        assert!(names(&report, owner.as_deref(), file), "{owner:?} {file} gone: {:#?}", report.findings);
        for left in [length / 2, length - 1] {
            let mut cut = files.clone();
            cut.0.get_mut(&(owner.clone(), file)).unwrap().truncate(left);
            let report = scan(&cut, &directory, &scope(owner.as_deref(), file));
            assert_ne!(report.verdict, Verdict::Whole, "{owner:?} {file} cut to {left}");
            assert!(names(&report, owner.as_deref(), file), "{owner:?} {file} cut: {:#?}", report.findings);
        }
    }
}

#[test]
fn nothing_but_the_roots_is_read_where_nobody_is_in_scope() {
    let (log, directory) = honest();
    let mut files = log.finish();
    files.0.retain(|(owner, _), _| owner.is_none());
    let report = scan(&files, &directory, &[]);
    assert_eq!(report.verdict, Verdict::Whole, "{:#?}", report.findings);
}

/// The one finding of that kind.
fn the(report: &Report, kind: Kind) -> &Finding {
    report
        .findings
        .iter()
        .find(|finding| finding.kind == kind)
        .unwrap_or_else(|| panic!("{:#?}", report.findings))
}

#[test]
fn two_trees_of_one_size_are_a_fork_and_evidence() {
    let (mut log, directory) = honest();
    let size = 300;
    let lie = Checkpoint { origin: format!("{BROKER}/audit"), size, root: [9; 32] };
    let time_s = (NOW + size * 10_000) / 1_000;
    let note = log.sign(lie, Some(time_s));
    log.cosigned.insert(usize::try_from(size / 5).unwrap() - 1, note);
    let report = scan(&log.finish(), &directory, &ALL);
    let finding = the(&report, Kind::Fork);
    assert_eq!((finding.proof, finding.epochs), (Proof::Evidence, Some((size - 1, size - 1))));
    assert_eq!(report.verdict, Verdict::Damaged);
}

#[test]
fn a_log_that_is_shorter_than_what_was_cosigned_is_a_rollback() {
    let (log, directory) = honest();
    let mut longer = log.clone();
    longer.traffic(60);
    let mut files = log.finish();
    let later = longer.finish();
    for index in 0..2 {
        if let Some(bytes) = later.0.get(&(None, LogFile::Cosigned(index))) {
            files.0.insert((None, LogFile::Cosigned(index)), bytes.clone());
        }
    }
    let report = scan(&files, &directory, &ALL);
    assert_eq!(the(&report, Kind::Rollback).proof, Proof::Evidence);
    // A mirror that was made while the broker published is a little behind, and well.
    let mut little = log.clone();
    little.traffic(3);
    let mut files = log.finish();
    files.0.insert((None, LogFile::Cosigned(0)), little.finish().0[&(None, LogFile::Cosigned(0))].clone());
    assert_eq!(scan(&files, &directory, &ALL).verdict, Verdict::Whole);
}

#[test]
fn times_that_go_back_or_that_nobody_attested_are_found() {
    let (mut log, directory) = honest();
    // An event that is put into an epoch long after its time.
    let right = log.time_ms;
    log.time_ms = right - 3_600_000;
    log.submit("ID", &["TH"]);
    log.time_ms = right;
    log.epoch();
    log.epoch();
    let report = scan(&log.finish(), &directory, &ALL);
    assert!(kinds(&report)[&Kind::BackDated] >= 2, "{:#?}", report.findings);
    // No witness for a while.
    let (mut log, directory) = honest();
    log.cosign_every = 0;
    log.traffic(40);
    log.cosign_every = 1;
    log.traffic(10);
    let report = scan(&log.finish(), &directory, &ALL);
    assert_eq!(report.verdict, Verdict::NotAttested, "{:#?}", report.findings);
    let (first, last) = the(&report, Kind::TimeNotAttested).epochs.unwrap();
    assert!(last - first < 40 && last - first > 25, "{first} {last}");
    assert_eq!(kinds(&report)[&Kind::TimeNotAttested], 1, "ranges, not each");
    // The whole log was signed later than it says.
    let mut files = log.finish();
    let mut later = log.clone();
    later.cosigned.clear();
    files.0.retain(|(_, file), _| !matches!(file, LogFile::Cosigned(_)));
    files.0.insert((None, LogFile::Checkpoint), later.checkpoint(None, Some(2_000_000_000)).to_vec());
    let report = scan(&files, &directory, &ALL);
    assert_eq!(report.attested_epochs, 0);
    let entry = RootEntry::parse(&log.root.bytes[5]).unwrap();
    assert_eq!(entry.epoch, 5);
}

#[test]
fn another_sub_log_than_the_slots_say_is_found() {
    let (log, directory) = honest();
    // The broker shows KH a log in which one event is another one; its root log is as it was.
    let mut other = log.clone();
    let sub = other.subs.get_mut("KH").unwrap();
    let (mut changed, before) = (crate::testing::whole_log::Entries::default(), sub.entries.bytes.clone());
    for (at, entry) in before.iter().enumerate() {
        let mut entry = entry.to_vec();
        if at == 400 {
            entry[40] ^= 1;
        }
        changed.push(Bytes::from(entry));
    }
    sub.entries = changed;
    let report = scan(&other.finish(), &directory, &ALL);
    let finding = the(&report, Kind::WrongSlot);
    assert!(finding.epochs.unwrap().1 == 700, "{finding:?}");
    assert!(finding.log.ends_with("/KH"));
}

#[test]
fn events_that_contradict_each_other_are_found() {
    let (mut log, directory) = honest();
    let by = unit("ID");
    // Received without having been released; released without having been submitted; ended twice.
    log.event(&log.about("TH", EventType::Received, 7_000, &by, Some(&unit("TH"))));
    log.event(&log.about("ID", EventType::Released, 8_000, &by, Some(&unit("KH"))));
    log.event(&log.about("KH", EventType::Received, 8_000, &by, Some(&unit("KH"))));
    log.end(EventType::Acknowledged, 8_000, "ID", "KH");
    log.end(EventType::Acknowledged, 8_000, "ID", "KH");
    log.epoch();
    let report = scan(&log.finish(), &directory, &ALL);
    assert_eq!(kinds(&report)[&Kind::NoCounterpart], 1, "{:#?}", report.findings);
    // KH has lost events, so what is missing there is not missed; ID has all of them.
    let of_id = report.findings.iter().filter(|finding| finding.log.ends_with("/ID"));
    assert_eq!(
        of_id.filter(|finding| finding.kind == Kind::Contradiction).count(),
        2,
        "{:#?}",
        report.findings
    );
    // Whoever sees TH's sub-log alone cannot know that ID lacks it.
    assert_eq!(scan(&log.finish(), &directory, &["TH"]).verdict, Verdict::Whole);
}

#[test]
fn an_opening_may_go_only_with_an_event() {
    let (mut log, directory) = honest();
    log.subs.get_mut("ID").unwrap().keys[17] = [0; 32];
    let report = scan(&log.finish(), &directory, &ALL);
    let finding = the(&report, Kind::OpeningGone);
    assert_eq!((finding.entries, finding.proof), (Some((17, 17)), Proof::Accusation));
    log.erase("ID", 17, 1);
    log.epoch();
    assert_eq!(scan(&log.finish(), &directory, &ALL).verdict, Verdict::Whole);
}

/// What a node keeps of the event at that place: the leaf that the broker promised.
fn promised(log: &LogBuilder, index: u64, deadline_ms: u64) -> Promised {
    let events = &log.subs["KH"].events;
    let leaf = usize::try_from(index).ok().and_then(|at| events.get(at)).map(|event| event.leaf.to_vec());
    Promised {
        origin: format!("{BROKER}/audit/KH"),
        index,
        leaf: leaf.unwrap_or_else(|| vec![1; 58]),
        packet: "a packet".to_owned(),
        deadline_ms,
    }
}

/// What a scan says together with what the node was promised.
fn with_own(files: &Files, directory: &Directory, own: &[Promised]) -> (u64, Report) {
    let (agencies, origin) = (["KH".to_owned()], format!("{BROKER}/audit"));
    let trust = Trust::Directory(directory);
    let (since_ms, now_ms) = (0, u64::MAX / 2);
    let asked =
        Asked { trust, origin: &origin, agencies: &agencies, since_ms, now_ms, threads: 1, extract: false };
    let mut scanned = verify(files, &asked, None, &mut Nobody).unwrap();
    let mut found = std::mem::take(&mut scanned.findings);
    let compared = compare(files, &scanned.anchor, &scanned.sizes, own, &mut found);
    scanned.findings = found;
    (compared, scanned.into_report())
}

#[test]
fn what_was_promised_stands_there_or_the_broker_lied() {
    let (log, directory) = honest();
    let (files, size) = (log.finish(), log.subs["KH"].entries.size());
    let all: Vec<Promised> = (0..size).map(|index| promised(&log, index, NOW)).collect();
    let (compared, report) = with_own(&files, &directory, &all);
    assert_eq!((compared, report.verdict), (size, Verdict::Whole), "{:#?}", report.findings);
    // It may still come.
    let (_, report) = with_own(&files, &directory, &[promised(&log, size, log.time_ms)]);
    assert_eq!(report.verdict, Verdict::Whole, "{:#?}", report.findings);
    let (_, report) = with_own(&files, &directory, &[promised(&log, size, NOW)]);
    assert_eq!(the(&report, Kind::Omitted).proof, Proof::Evidence);
    let mut other = promised(&log, 300, NOW);
    other.leaf[40] ^= 1;
    let (_, report) = with_own(&files, &directory, &[other]);
    assert_eq!(the(&report, Kind::OtherLeaf).proof, Proof::Evidence);
}

#[test]
fn a_sub_log_that_was_not_fetched_for_long_is_no_broken_promise() {
    let (log, directory) = honest();
    let mut later = log.clone();
    later.traffic(100);
    let (old, mut files) = (log.finish(), later.finish());
    // The root log was mirrored again, this agency's sub-log was not.
    files.0.retain(|(owner, _), _| owner.as_deref() != Some("KH"));
    files.0.extend(old.0.into_iter().filter(|((owner, _), _)| owner.as_deref() == Some("KH")));
    let all: Vec<Promised> = (0..later.subs["KH"].entries.size())
        .map(|index| promised(&later, index, log.time_ms + 20_000))
        .collect();
    let (_, report) = with_own(&files, &directory, &all);
    assert_eq!(report.verdict, Verdict::Incomplete, "{:#?}", report.findings);
    assert_eq!(kinds(&report).keys().collect::<Vec<_>>(), [&Kind::Missing]);
}

/// Keeps every state, and ends the scan by giving up there.
struct Keeps(Vec<Vec<u8>>);

impl Watch for Keeps {
    fn progress(&mut self, done: u64, total: u64) {
        assert!(done <= total);
    }

    fn is_due(&mut self) -> bool {
        true
    }

    fn keep(&mut self, state: &[u8]) {
        self.0.push(state.to_vec());
    }
}

#[test]
fn an_interrupted_scan_goes_on_and_finds_the_same() {
    let (mut log, directory) = honest();
    log.subs.get_mut("ID").unwrap().keys[17] = [0; 32];
    let files = log.finish();
    let origin = format!("{BROKER}/audit");
    let agencies = ALL.map(str::to_owned);
    let asked = Asked {
        trust: Trust::Directory(&directory),
        origin: &origin,
        agencies: &agencies,
        since_ms: 0,
        now_ms: u64::MAX / 2,
        threads: 1,
        extract: false,
    };
    let mut keeps = Keeps(Vec::new());
    let whole = verify(&files, &asked, None, &mut keeps).unwrap().into_report();
    assert_eq!(keeps.0.len(), 3);
    for state in &keeps.0 {
        let resumed = verify(&files, &asked, Some(state), &mut Nobody).unwrap().into_report();
        assert!(resumed.resumed_ms.is_some());
        assert_eq!(resumed.findings, whole.findings);
        assert_eq!(resumed.attested_epochs, whole.attested_epochs);
        assert_eq!(resumed.cosigned_checkpoints, whole.cosigned_checkpoints);
        let entries = |report: &Report| -> Vec<(u64, u64, u64)> {
            report.sub_logs.iter().map(|sub| (sub.entries, sub.opened, sub.slots)).collect()
        };
        assert_eq!(entries(&resumed), entries(&whole));
        let mut damaged = state.clone();
        let at = damaged.len() - 40;
        damaged[at] ^= 1;
        assert!(verify(&files, &asked, Some(&damaged), &mut Nobody).unwrap().report.resumed_ms.is_none());
    }
    let less = Asked { agencies: &agencies[..1], ..asked };
    assert!(verify(&files, &less, Some(&keeps.0[0]), &mut Nobody).unwrap().report.resumed_ms.is_none());
}

#[test]
fn a_bootstrap_file_is_enough() {
    let (log, _) = honest();
    let (region, _) = region();
    let origin = format!("{BROKER}/audit");
    let asked = Asked {
        trust: Trust::Bootstrap(&region.bootstrap),
        origin: &origin,
        agencies: &[],
        since_ms: 0,
        now_ms: u64::MAX / 2,
        threads: 1,
        extract: false,
    };
    // Another region's authorities vouch for none of it.
    assert!(verify(&log.finish(), &asked, None, &mut Nobody).is_err());
}
