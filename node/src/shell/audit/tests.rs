//! A mirror of a log that grows, that lies, and in which an agency erases.

use std::collections::BTreeMap;

use bytes::Bytes;
use lintas_config::Directory;
use lintas_proto::audit::{files::LogFile, opening::ERASED};
use tempfile::TempDir;

use super::{
    folder::LogFolder,
    mirror::{Mirror, Mirrored, Source},
};
use crate::{
    core::audit::{
        anchor::Trust,
        finding::Kind,
        source::LogFiles,
        verify::{Asked, Report, Verdict, Watch, verify},
    },
    shell::failure::{Code, Failure},
    testing::{
        BROKER,
        whole_log::{Files, LogBuilder, region},
    },
};

/// A broker that gives out files, at most so many bytes an answer, and goes away after so many answers.
struct Broker {
    files: Files,
    piece: usize,
    answers: usize,
}

impl Source for Broker {
    fn get(&mut self, origin: &str, file: LogFile, offset: u64) -> Result<Option<(u64, Bytes)>, Failure> {
        self.answers =
            self.answers.checked_sub(1).ok_or_else(|| Failure::new(Code::NoAnswer, "the link broke"))?;
        let agency = origin.strip_prefix(&format!("{BROKER}/audit/")).map(str::to_owned);
        let Some(bytes) = self.files.0.get(&(agency, file)) else { return Ok(None) };
        let from = usize::try_from(offset).unwrap().min(bytes.len());
        let to = bytes.len().min(from + self.piece);
        Ok(Some((bytes.len() as u64, Bytes::copy_from_slice(&bytes[from..to]))))
    }
}

struct Nobody;

impl Watch for Nobody {
    fn progress(&mut self, _: u64, _: u64) {}

    fn is_due(&mut self) -> bool {
        false
    }

    fn keep(&mut self, _: &[u8]) {}
}

struct Scene {
    folder: TempDir,
    directory: Directory,
    log: LogBuilder,
}

const SCOPE: [&str; 2] = ["ID", "KH"];

impl Scene {
    fn new() -> Self {
        let (region, witnesses) = region();
        let log = LogBuilder::new(&region, witnesses, 1_900_000_000_000);
        Self { folder: TempDir::new().unwrap(), directory: region.directory(), log }
    }

    fn mirror_of(&self, files: Files, answers: usize) -> Result<Mirrored, Failure> {
        let mirror = Mirror {
            folder: self.files(),
            origin: format!("{BROKER}/audit"),
            directory: &self.directory,
            source: &mut Broker { files, piece: 3_000, answers },
            watch: &mut |_| {},
            done: Mirrored::default(),
        };
        mirror.run(&SCOPE.map(str::to_owned))
    }

    fn mirror(&self) -> Mirrored {
        self.mirror_of(self.log.finish(), usize::MAX).unwrap()
    }

    fn files(&self) -> LogFolder {
        LogFolder::in_mirror(self.folder.path(), BROKER)
    }

    fn verify(&self) -> Report {
        let files = self.files();
        let agencies = files.agencies();
        let origin = format!("{BROKER}/audit");
        let asked = Asked {
            trust: Trust::Directory(&self.directory),
            origin: &origin,
            agencies: &agencies,
            since_ms: 0,
            now_ms: u64::MAX / 2,
            threads: 1,
            extract: false,
        };
        verify(&files, &asked, None, &mut Nobody).unwrap().into_report()
    }
}

#[test]
fn a_mirror_follows_a_log_that_grows_and_is_whole_each_time() {
    let mut scene = Scene::new();
    for epochs in [1, 2, 270, 300] {
        scene.log.traffic(epochs);
        let done = scene.mirror();
        assert!(done.findings.is_empty(), "{:#?}", done.findings);
        assert_eq!(done.epochs, scene.log.root.size());
        let report = scene.verify();
        assert_eq!(report.verdict, Verdict::Whole, "{:#?}", report.findings);
        assert_eq!(report.epochs, scene.log.root.size());
        assert_eq!(report.sub_logs.len(), 2);
    }
    // Nothing new: hardly anything comes.
    let done = scene.mirror();
    assert!(done.bytes < 20_000, "{}", done.bytes);
    assert_eq!(scene.verify().verdict, Verdict::Whole);
}

#[test]
fn a_mirror_that_was_interrupted_goes_on() {
    let mut scene = Scene::new();
    scene.log.traffic(300);
    scene.mirror();
    scene.log.traffic(300);
    let mut answers = 1;
    let mut broken = 0;
    loop {
        match scene.mirror_of(scene.log.finish(), answers) {
            Ok(done) => {
                assert!(done.findings.is_empty(), "{:#?}", done.findings);
                break;
            }
            Err(failure) => assert_eq!(failure.code, Code::NoAnswer),
        }
        // What was mirrored before is still whole, but for what is newer than its checkpoint.
        let bad = scene.verify().findings.into_iter().filter(|finding| finding.kind != Kind::Note);
        let worse: Vec<_> = bad.filter(|finding| !matches!(finding.kind, Kind::Rollback)).collect();
        assert!(worse.is_empty(), "after {answers}: {worse:#?}");
        broken += 1;
        answers += 7;
    }
    assert!(broken > 2);
    assert_eq!(scene.verify().verdict, Verdict::Whole);
}

#[test]
fn a_fork_and_a_rollback_are_refused_and_both_checkpoints_are_kept() {
    let mut scene = Scene::new();
    scene.log.traffic(40);
    let mut fork = scene.log.clone();
    let before = scene.log.clone();
    scene.log.traffic(20);
    scene.mirror();
    fork.epoch_ms += 7;
    fork.traffic(40);
    for (lie, kind) in [(fork, Kind::Fork), (before, Kind::Rollback)] {
        let done = scene.mirror_of(lie.finish(), usize::MAX).unwrap();
        let finding = done.findings.iter().find(|finding| finding.kind == kind);
        let finding = finding.unwrap_or_else(|| panic!("{kind:?} {:#?}", done.findings));
        let other = finding.files.iter().find(|file| file.starts_with("other-checkpoint-")).unwrap();
        assert!(scene.files().root().join(other).exists());
        let kept = scene.files().read(None, LogFile::Checkpoint, 0, 4_096).unwrap().unwrap();
        assert_eq!(Some(&kept.to_vec()), scene.log.finish().0.get(&(None, LogFile::Checkpoint)));
    }
}

#[test]
fn keys_of_what_was_erased_go_here_too() {
    let mut scene = Scene::new();
    scene.log.traffic(30);
    scene.mirror();
    scene.log.erase("KH", 2, 3);
    scene.log.epoch();
    let done = scene.mirror();
    assert_eq!(done.sub_logs.iter().map(|sub| sub.erased).collect::<Vec<_>>(), [0, 3]);
    let keys = scene.files().read(Some("KH"), LogFile::Keys(0), 0, 8_192).unwrap().unwrap();
    let erased: Vec<usize> =
        keys.chunks(32).enumerate().filter(|(_, key)| *key == ERASED).map(|(at, _)| at).collect();
    assert_eq!(erased, [2, 3, 4]);
    let report = scene.verify();
    assert_eq!(report.verdict, Verdict::Whole, "{:#?}", report.findings);
    let erased: BTreeMap<&str, u64> =
        report.sub_logs.iter().map(|sub| (sub.agency.as_str(), sub.erased)).collect();
    assert_eq!(erased["KH"], 3);
}
